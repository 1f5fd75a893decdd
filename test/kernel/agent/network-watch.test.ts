// The thread that watches the network: it sees every kind of change, reads in order, ends when it is told to and with its process, and
// is started anew when it dies.
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { type NetworkThread, startNetworkThread } from "../../../src/agent/network-thread.ts";
import type { Log } from "../../../src/lib/log.ts";
import { patience } from "../../../src/lib/patience.ts";
import { createNamespace, type Namespace } from "../datapath/namespace.ts";
import { allDescriptors } from "../libbpf/fixture.ts";
import { describeKernel } from "../require-kernel.ts";

function recordingLog(): Log & { readonly lines: string[] } {
  const lines: string[] = [];
  const write = (level: string) => (first: unknown, second?: unknown) => void lines.push(`${level} ${second ?? first}`);
  return { lines, debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") } as never;
}

const within = { timeout: patience(10_000), interval: 5 };
const threads = (): number => readdirSync("/proc/self/task").length;
const descriptors = (): string[] => allDescriptors().filter((line) => /eventfd|socket/.test(line));

describeKernel("a watch of the network", () => {
  let namespace: Namespace;
  beforeAll(() => {
    namespace = createNamespace();
  });
  afterAll(() => namespace?.[Symbol.dispose]());

  it("says that links, addresses, routes, rules and next hops changed, and reads what it is then", async () => {
    const before = descriptors();
    const log = recordingLog();
    await namespace.inside(async () => {
      let changes = 0;
      // Not watchNetwork: that one looks again every ten seconds.
      const thread = startNetworkThread(() => changes++, log);
      try {
        await vi.waitFor(() => expect(changes).toBe(1), within);
        const empty = await thread.read();
        expect(empty?.devices.map(({ name }) => name)).toEqual(["lo"]);
        // What has not changed is the very same.
        expect(await thread.read()).toBe(empty);
        for (const words of [
          "link add br0 type bridge",
          "link set br0 up",
          "address add 192.0.2.1/24 dev br0",
          "-6 address add 2001:db8::1/64 dev br0 nodad",
          "route add 10.1.0.0/16 dev br0",
          "-6 route add fd00:1::/64 dev br0",
          "rule add from 10.9.0.0/16 table 77",
          "-6 rule add from fd00:9::/64 table 77",
          "nexthop add id 1 blackhole",
          "link set br0 down",
          "link del br0",
        ]) {
          // IPv6 finishes what the one before began.
          await vi.waitFor(async () => {
            const last = changes;
            await new Promise((resolve) => setTimeout(resolve, 100));
            expect(changes).toBe(last);
          }, within);
          const last = changes;
          namespace.ip(words);
          await vi.waitFor(() => expect(changes, words).toBeGreaterThan(last), within);
        }
        expect((await thread.read())?.routesBySource).toBe(true);
      } finally {
        thread.stop();
      }
    });
    await vi.waitFor(() => expect(descriptors()).toEqual(before), within);
    expect(log.lines).toEqual([]);
  });

  it("gathers a burst, also one that is too much for its socket", async () => {
    await namespace.inside(async () => {
      let changes = 0;
      const log = recordingLog();
      const thread = startNetworkThread(() => changes++, log);
      try {
        await vi.waitFor(() => expect(changes).toBe(1), within);
        const lines = Array.from(
          { length: 3000 },
          (_, i) => `route add blackhole 10.${100 + (i >> 8)}.${i & 255}.0/24`,
        );
        const directory = mkdtempSync(join(tmpdir(), "millrace-routes-"));
        const file = join(directory, "batch");
        writeFileSync(file, lines.join("\n"));
        // This thread stands still meanwhile, so that nobody asks.
        namespace.ip(`-batch ${file}`);
        rmSync(directory, { recursive: true });
        await vi.waitFor(() => expect(changes).toBeGreaterThan(1), within);
        await new Promise((resolve) => setTimeout(resolve, 300));
        expect(changes).toBeLessThan(100);
        namespace.ip("link add last type bridge");
        const last = changes;
        await vi.waitFor(() => expect(changes).toBeGreaterThan(last), within);
        expect((await thread.read())?.devices.map(({ name }) => name)).toContain("last");
        expect(log.lines).toEqual([]);
      } finally {
        thread.stop();
      }
    });
  });

  const source = JSON.stringify(join(import.meta.dirname, "../../../src/agent/network-thread.ts"));
  // As a bundle: threads strip no types.
  const url = JSON.stringify(new URL("../../../src/agent/network-worker.ts", import.meta.url).href);
  it.each([
    ["by itself, when nothing else is to be done", ""],
    ["by a stop of the watch", "thread.stop();"],
    ["by process.exit", "process.exit(0);"],
    ["by what nobody catches", "throw new Error('out of luck');"],
  ])("ends with its process at once: %s", async (_name, then) => {
    const watching = `
      import { startNetworkThread } from ${source};
      const busy = setInterval(() => {}, 100_000);
      const then = () => { clearInterval(busy); ${then} };
      const thread = startNetworkThread(() => thread.read().then(then), console, new URL(${url}));
    `;
    const began = performance.now();
    // Where nothing changes that would wake the thread.
    const started = namespace.inside(() =>
      promisify(execFile)(process.execPath, ["--input-type=module", "-e", watching], { timeout: patience(30_000) }),
    );
    const ended = await started.catch((error: { killed: boolean; stderr: string }) => error);
    expect("killed" in ended && ended.killed).toBe(false);
    // The thread turns every ten seconds by itself.
    expect(performance.now() - began).toBeLessThan(patience(8_000));
  });
});

describeKernel("a thread that dies", () => {
  let directory: string;
  let thread: NetworkThread | undefined;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "millrace-network-"));
  });
  afterEach(() => {
    thread?.stop();
    rmSync(directory, { recursive: true });
  });
  function start(deaths: number, log: Log, soundMs: number) {
    const file = join(directory, "deaths");
    writeFileSync(file, String(deaths));
    process.env["DEATHS"] = file;
    const url = new URL("./mortal-network-worker.ts", import.meta.url);
    const seen = { changes: 0 };
    const times = { firstRestartMs: 10, lastRestartMs: 40, soundMs };
    thread = startNetworkThread(() => seen.changes++, log, url, times);
    return { thread, seen };
  }

  it("is started anew, with one line in the log however often, and a problem until one stays", async () => {
    const log = recordingLog();
    const { thread, seen } = start(5, log, 300);
    await vi.waitFor(() => expect(seen.changes).toBe(1), within);
    expect(thread.problem()).toMatch(/^the thread that watches the network ended \(out of luck\)/);
    // Whoever asks a thread that dies has no answer, and reads himself.
    expect(await thread.read()).toBeUndefined();
    await vi.waitFor(() => expect(seen.changes).toBe(2), within);
    expect(await thread.read()).toEqual({ devices: [], routes: [], routesBySource: false });
    await vi.waitFor(() => expect(thread.problem()).toBe(""), within);
    expect(log.lines.map((line) => line.split(" ")[0])).toEqual(["warn", "info"]);
  });

  it("is not started anew once it was told to end", async () => {
    const log = recordingLog();
    const { thread, seen } = start(0, log, 300);
    await vi.waitFor(() => expect(seen.changes).toBe(1), within);
    const before = threads();
    thread.stop();
    await vi.waitFor(() => expect(threads()).toBeLessThan(before), within);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect([seen.changes, log.lines]).toEqual([1, []]);
  });

  it("is asked once at a time", async () => {
    const { thread, seen } = start(0, recordingLog(), 300);
    await vi.waitFor(() => expect(seen.changes).toBe(1), within);
    const first = thread.read();
    await expect(thread.read()).rejects.toThrow("twice at once");
    expect(await first).toBeDefined();
  });
});
