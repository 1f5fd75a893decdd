// A watch of the network sees every kind of change, ends when it is told to and with its process, leaves libuv's threads to others, and
// listens anew when it cannot.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { readNetwork, watchNetwork } from "../../../src/agent/network.ts";
import { createTimers } from "../../../src/agent/timers.ts";
import type { Log } from "../../../src/lib/log.ts";
import { patience } from "../../../src/lib/patience.ts";
import { createWakeup, listenToNetwork } from "../../../src/libbpf/mod.ts";
import { createNamespace, type Namespace } from "../datapath/namespace.ts";
import { allDescriptors } from "../libbpf/fixture.ts";
import { describeKernel } from "../require-kernel.ts";

function recordingLog(): Log & { readonly lines: string[] } {
  const lines: string[] = [];
  const write = (level: string) => (first: unknown, second?: unknown) => void lines.push(`${level} ${second ?? first}`);
  return { lines, debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") } as never;
}

const timers = createTimers((error) => {
  throw error;
});
const NO_RESCAN = { rescanMs: 1e9, firstRetryMs: 10, lastRetryMs: 40 };
const within = { timeout: patience(10_000), interval: 5 };
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
      const watch = watchNetwork(() => void changes++, timers, log, listenToNetwork, NO_RESCAN);
      try {
        await vi.waitFor(() => expect(changes).toBe(1), within);
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
      } finally {
        watch.stop();
      }
    });
    await vi.waitFor(() => expect(descriptors()).toEqual(before), within);
    expect(log.lines).toEqual([]);
  });

  it("gathers a burst, also one that is too much for its socket", async () => {
    await namespace.inside(async () => {
      let changes = 0;
      const log = recordingLog();
      const watch = watchNetwork(() => void changes++, timers, log, listenToNetwork, NO_RESCAN);
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
        expect((await readNetwork()).devices.map(({ name }) => name)).toContain("last");
        expect(log.lines).toEqual([]);
      } finally {
        watch.stop();
      }
    });
  });

  const timersSource = JSON.stringify(join(import.meta.dirname, "../../../src/agent/timers.ts"));
  const source = JSON.stringify(join(import.meta.dirname, "../../../src/agent/network.ts"));
  it.each([
    ["by a stop", "4", "await readNetwork(); watch.stop();"],
    ["by process.exit", "4", "await readNetwork(); process.exit(0);"],
    ["by what nobody catches", "4", "await readNetwork(); throw new Error('out of luck');"],
    ["by a stop, after others had libuv's only thread", "1", "await readFile('/dev/null'); watch.stop();"],
  ])("ends with its process: %s", async (_name, size, then) => {
    const watching = `
      import { readFile } from "node:fs/promises";
      import { readNetwork, watchNetwork } from ${source};
      import { createTimers } from ${timersSource};
      const watch = watchNetwork(async () => { ${then} }, createTimers(console.error), console);
    `;
    const began = performance.now();
    // Where nothing changes that would wake the thread.
    const started = namespace.inside(() =>
      promisify(execFile)(process.execPath, ["--input-type=module", "-e", watching], {
        timeout: patience(30_000),
        env: { ...process.env, UV_THREADPOOL_SIZE: size },
      }),
    );
    const ended = await started.catch((error: { killed: boolean; stderr: string }) => error);
    expect("killed" in ended && ended.killed).toBe(false);
    expect(performance.now() - began).toBeLessThan(patience(8_000));
  });
});

describeKernel("a watch that cannot listen", () => {
  /** Listeners that have something to say; those of `failing` fail, first when they are made, then when they are heard. */
  function listeners(failing: number) {
    let made = 0;
    let open = 0;
    const listen = () => {
      const number = ++made;
      if (number <= failing && number % 2 === 1) throw new Error("no socket");
      const said = createWakeup();
      said.wake();
      open++;
      return {
        fd: said.fd,
        drain() {
          if (number <= failing) throw new Error("no hearing");
        },
        [Symbol.dispose]() {
          open--;
          said.close();
        },
      };
    };
    return { listen, made: () => made, open: () => open };
  }

  it("tries again, with one line in the log however often, and has a problem until it can", async () => {
    const log = recordingLog();
    const { listen, open, made } = listeners(6);
    let changes = 0;
    const watch = watchNetwork(() => void changes++, timers, log, listen, NO_RESCAN);
    expect(watch.problem()).toBe("");
    await vi.waitFor(() => expect(watch.problem()).toMatch(/every ten seconds only: no (socket|hearing)$/), within);
    await vi.waitFor(() => expect([watch.problem(), made()]).toEqual(["", 7]), within);
    expect(log.lines.map((line) => line.split(" ")[0])).toEqual(["warn", "info"]);
    const last = changes;
    await vi.waitFor(() => expect(changes).toBeGreaterThan(last), within);
    watch.stop();
    await vi.waitFor(() => expect(open()).toBe(0), within);
  });

  it("does not try again once it was told to end", async () => {
    const { listen, made } = listeners(100);
    const before = descriptors();
    const watch = watchNetwork(() => {}, timers, recordingLog(), listen, {
      ...NO_RESCAN,
      firstRetryMs: 200,
      lastRetryMs: 200,
    });
    await vi.waitFor(() => expect(watch.problem()).not.toBe(""), within);
    watch.stop();
    await vi.waitFor(() => expect(descriptors().length).toBeLessThanOrEqual(before.length), within);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(made()).toBe(1);
  });
});
