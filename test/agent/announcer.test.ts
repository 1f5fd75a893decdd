// The announcer over maps and programs that refuse: rows, frames and groups are what the machine said, and nothing is thrown.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type AnnouncerParts, createAnnouncer } from "../../src/agent/announcer.ts";
import type { LivenessAnswer } from "../../src/agent/liveness-link.ts";
import { createTimers } from "../../src/agent/timers.ts";
import { ANNOUNCED_KEY, ANNOUNCEMENT, readAnnouncement, writeAnnouncement } from "../../src/datapath/layout.gen.ts";
import type { Candidacy } from "../../src/l2/announcement.ts";
import type { Soundness } from "../../src/l2/announcer-machine.ts";
import { nodeIdOf } from "../../src/l2/liveness-message.ts";
import type { GroupChange } from "../../src/l2/solicited-groups.ts";
import { KernelError } from "../../src/lib/errors.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const candidacy = (address: string, given: Partial<Candidacy> = {}): Candidacy => ({
  ...{ address, service: "default/web", device: "eth0", ifindex: 2, mac: MAC, above: [], below: [] },
  ...given,
});

const SOUND = new Map<number, Soundness>([
  [2, "sound"],
  [3, "sound"],
]);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function bench(maxEntries = 4096, gratuitousSeconds = 60) {
  const rows = new Map<string, Uint8Array>();
  const world = {
    refuse: "",
    defect: "",
    defects: 0,
    clockless: false,
    sendRefused: "",
    retval: 0,
    liveness: false,
    askRefused: false,
  };
  const frames: { readonly ifindex: number; readonly mac: string }[] = [];
  const logged: string[] = [];
  const groups: string[] = [];
  const failures: string[] = [];
  const timers = createTimers((error) => void failures.push(String(error)));
  const say = (_: unknown, text: string): void => void logged.push(text);
  const refuse = (operation: string): void => {
    if (world.refuse !== "") throw new KernelError(operation, "announced", 1, world.refuse);
  };
  const breakDown = (): void => {
    if (world.defect === "") return;
    world.defects++;
    throw new Error(world.defect);
  };
  const hex = (key: Uint8Array): string => Buffer.from(key).toString("hex");
  const map = {
    maxEntries,
    *entries() {
      refuse("iterate");
      for (const [key, value] of rows) yield [Uint8Array.from(Buffer.from(key, "hex")), value];
    },
    update(key: Uint8Array, value: Uint8Array) {
      refuse("update a row of");
      breakDown();
      if (rows.size >= maxEntries && !rows.has(hex(key)))
        throw new KernelError("update a row of", "announced", 7, "E2BIG");
      rows.set(hex(key), value.slice());
    },
    delete(key: Uint8Array) {
      refuse("delete a row of");
      return rows.delete(hex(key));
    },
  };
  const renewal = {
    testRun({ data }: { data: Uint8Array }) {
      refuse("renew rows of");
      breakDown();
      let found = 0;
      for (let i = 0; 24 + i * ANNOUNCED_KEY.size < data.length; i++) {
        const key = data.subarray(24 + i * ANNOUNCED_KEY.size, 24 + (i + 1) * ANNOUNCED_KEY.size);
        const row = rows.get(hex(key));
        if (row === undefined) continue;
        row.set(data.subarray(0, 24), ANNOUNCEMENT.renewed);
        found |= 1 << i;
      }
      return { retval: found };
    },
  };
  const program = {
    testRun({ data, context }: { data: Uint8Array; context: Uint8Array }) {
      if (world.sendRefused !== "") throw new KernelError("run", "tc_send", 19, world.sendRefused);
      frames.push({ ifindex: new DataView(context.buffer).getUint32(40, true), mac: hex(data.subarray(6, 12)) });
      return { retval: world.retval };
    },
  };
  const asked: string[] = [];
  let reads = 0;
  let tell: (answer: LivenessAnswer) => void = () => undefined;
  const nodes = new Map([["node2", { internalAddresses: ["192.168.122.12"] }]]);
  const parts = {
    dataplane: { map: () => map, program: (name: string) => (name === "tc_renew" ? renewal : program) },
    nodeName: "node1",
    nodes: () => nodes,
    liveness: {
      link: {
        ask(address: string, unsent: () => void) {
          asked.push(address);
          if (world.askRefused) setImmediate(unsent);
          return "0".repeat(16);
        },
        onAnswer: (next: typeof tell) => {
          tell = next;
        },
      },
      isOn: () => world.liveness,
    },
    gratuitousSeconds,
    timers,
    log: { info: say, warn: say, error: say },
    nowNs() {
      if (world.clockless) throw new Error("no clock");
      reads++;
      return BigInt(Math.round(performance.now() * 1e6)) + 1_000_000_000_000n;
    },
    changeGroups: async (changes: readonly GroupChange[]) => {
      groups.push(...changes.map(({ verb, group, ifindex }) => `${verb} ${group}%${ifindex}`));
      return changes.map(() => "");
    },
  } as unknown as AnnouncerParts;
  const announcer = createAnnouncer(parts);
  announcer.renew(SOUND);
  const answer = (given: Partial<LivenessAnswer> = {}): void =>
    tell({
      ...{ kind: "answer", nonce: "", nodeId: nodeIdOf("node2"), incarnation: 1, ageMs: 10, isSound: true },
      ...{ isLeaving: false, macs: ["02:00:00:00:00:02"], from: "192.168.122.12", askedMs: 0, receivedMs: 0 },
      ...given,
    });
  const seconds = async (count: number, each: () => void = () => undefined): Promise<void> => {
    for (let i = 0; i < count * 10; i++) {
      await vi.advanceTimersByTimeAsync(100);
      each();
      if (i % 10 === 9) announcer.renew(SOUND);
    }
  };
  return {
    announcer,
    rows,
    world,
    frames,
    logged,
    groups,
    failures,
    timers,
    asked,
    answer,
    seconds,
    nodes,
    clockReads: () => reads,
  };
}

const timesOf = (row: Uint8Array | undefined) => readAnnouncement(row!);

test("an address is asked for before it gets its three times, frames by its device, and for IPv6 its group", async () => {
  const { announcer, rows, frames, groups, logged, seconds } = bench();
  announcer.set([candidacy("192.168.122.101"), candidacy("fd00::aa:1", { ifindex: 3 })]);
  expect([...rows.values()].map((row) => timesOf(row).silent)).toEqual([0n, 0n]);
  expect(announcer.standings().map(({ phase }) => phase)).toEqual(["checking", "checking"]);
  await seconds(1);
  const times = timesOf([...rows.values()][0]);
  expect([times.stale - times.renewed, times.silent - times.renewed]).toEqual([3_000_000_000n, 60_000_000_000n]);
  // Three probes, and two gratuitous forms twice, on the first; one form on the second.
  expect(frames.filter(({ ifindex }) => ifindex === 2)).toHaveLength(7);
  expect(frames.filter(({ ifindex }) => ifindex === 3)).toHaveLength(5);
  expect(groups).toEqual(["join ff02::1:ffaa:1%3"]);
  expect(logged).toEqual(["announcing", "announcing"]);
  const { length } = frames;
  announcer.set([]);
  await seconds(10);
  // Who waits for them is told by a probe of each.
  expect([rows.size, frames.length - length, groups[1]]).toEqual([0, 2, "leave ff02::1:ffaa:1%3"]);
  announcer.stop();
});

test("more addresses than `announced` holds are a notice, neither when they come nor in any second after", async () => {
  const { announcer, rows, seconds } = bench();
  announcer.set(Array.from({ length: 4200 }, (_, i) => candidacy(`10.0.${i >> 8}.${i & 255}`)));
  await seconds(3);
  expect(rows.size).toBe(4096);
  expect(announcer.announced()).toHaveLength(4096);
  expect(announcer.notices().map(({ reason }) => reason)).toEqual(["table-full"]);
  announcer.stop();
});

describe("other nodes", () => {
  const behind = candidacy("192.168.122.101", { above: ["node2"] });

  test("that come first are asked five times a second, and followed within 850 ms of their last answer", async () => {
    const { announcer, asked, answer, seconds, world, rows } = bench();
    world.liveness = true;
    announcer.set([behind]);
    await seconds(10, () => answer());
    expect(asked.length).toBeGreaterThanOrEqual(48);
    expect(asked.length).toBeLessThanOrEqual(52);
    expect([rows.size, announcer.peers()]).toMatchObject([0, [{ node: "node2", state: "alive" }]]);
    expect(announcer.standings()[0]).toMatchObject({ phase: "standby", holder: "node2" });
    await vi.advanceTimersByTimeAsync(850);
    expect(announcer.announced()).toHaveLength(1);
    expect(announcer.counts()).toMatchObject({ claims: 1, takeovers: 1 });
    announcer.stop();
  });

  test("of a large cluster are asked in parts, so that their answers do not meet in the receive buffer", async () => {
    const { announcer, asked, nodes, world, rows } = bench();
    world.liveness = true;
    const names = Array.from({ length: 300 }, (_, i) => `worker${i}`);
    for (const [i, name] of names.entries()) nodes.set(name, { internalAddresses: [`10.1.${i >> 8}.${i & 255}`] });
    announcer.set(names.map((name, i) => candidacy(`10.0.${i >> 8}.${i & 255}`, { above: [name] })));
    let [before, most] = [0, 0];
    for (let i = 0; i < 400; i++) {
      await vi.advanceTimersByTimeAsync(1);
      most = Math.max(most, asked.length - before);
      before = asked.length;
    }
    expect([most, new Set(asked).size, rows.size]).toEqual([64, 300, 0]);
    announcer.stop();
  });

  test("are not gone by questions that could not be sent, nor by the loss of their address", async () => {
    const { announcer, answer, seconds, world, nodes } = bench();
    world.liveness = true;
    announcer.set([behind]);
    await seconds(2, () => answer());
    world.askRefused = true;
    await seconds(3);
    expect(announcer.peers()).toMatchObject([{ node: "node2", state: "alive", missed: 0 }]);
    world.askRefused = false;
    await seconds(1, () => answer());
    nodes.set("node2", { internalAddresses: [] });
    await seconds(3);
    expect(announcer.peers()).toMatchObject([{ node: "node2", state: "alive", missed: 0 }]);
    // After a while nothing is known of it: what answers on the wire tells.
    await seconds(4);
    expect(announcer.peers()).toMatchObject([{ node: "node2", state: "doubtful", missed: 0 }]);
    announcer.stop();
  });

  test("are not known by an answer in another node's name", async () => {
    const { announcer, answer, seconds, world } = bench();
    world.liveness = true;
    announcer.set([behind]);
    await seconds(2, () => answer({ nodeId: nodeIdOf("node3") }));
    expect(announcer.peers()).toMatchObject([{ node: "node2", state: "unheard" }]);
    announcer.stop();
  });

  test("that are heard to have the address keep it", async () => {
    const { announcer, answer, seconds, world, rows } = bench();
    world.liveness = true;
    announcer.set([candidacy("192.168.122.101", { below: ["node2"] })]);
    const hear = (): void => {
      answer();
      for (const [key, row] of rows) {
        const now = BigInt(Math.round(performance.now() * 1e6)) + 1_000_000_000_000n;
        const mac = Uint8Array.of(2, 0, 0, 0, 0, 2, 0, Number((now >> 20n) & 0xffn));
        const value = readAnnouncement(row);
        const claimant = [new DataView(mac.buffer).getBigUint64(0, true), 0n];
        writeAnnouncement(row, 0, { ...value, claimant, claimed: [now, 0n] });
        rows.set(key, row);
      }
    };
    await seconds(5, hear);
    expect(announcer.announced()).toEqual([]);
    expect(announcer.standings()[0]).toMatchObject({ phase: "waiting", holder: "node2" });
    announcer.stop();
  });

  test("are not asked without a key", async () => {
    const { announcer, asked, seconds } = bench();
    announcer.set([behind]);
    await seconds(5);
    expect([asked, announcer.announced()]).toEqual([[], []]);
    announcer.stop();
  });
});

describe("what the kernel refuses", () => {
  test("is a notice until it is taken", async () => {
    const { announcer, rows, world, frames, seconds } = bench();
    world.refuse = "EPERM";
    announcer.set([candidacy("192.168.122.101")]);
    await seconds(2);
    expect(announcer.notices().map(({ reason }) => reason)).toEqual(["not-announced", "not-announced"]);
    expect([rows.size, frames.length, announcer.announced().length]).toEqual([0, 0, 0]);
    world.refuse = "";
    await seconds(10);
    expect(announcer.notices()).toEqual([]);
    expect([rows.size, frames.length > 0]).toEqual([1, true]);
    announcer.stop();
  });

  test("of frames is said once, and an address that is announced is answered for all the same", async () => {
    const { announcer, rows, world, logged, frames, seconds } = bench();
    announcer.set([candidacy("192.168.122.101")]);
    await seconds(2);
    const { length } = frames;
    world.sendRefused = "ENODEV";
    await seconds(5);
    expect([rows.size, announcer.announced().length]).toEqual([1, 1]);
    expect(logged.filter((text) => text.startsWith("could not send"))).toHaveLength(1);
    world.sendRefused = "";
    await seconds(60);
    expect(frames).toHaveLength(length + 2);
    announcer.stop();
  });

  test.each([
    ["an error", { sendRefused: "ENODEV" }, "ENODEV"],
    ["what the program returns", { retval: 4294967196 }, "ENETDOWN"],
    ["a queue that drops it", { retval: 2 }, "its device dropped it"],
  ])("of a probe, by %s, is no question: the address is not claimed before it was asked for", async (_, given, why) => {
    const { announcer, world, frames, seconds } = bench();
    Object.assign(world, given);
    announcer.set([candidacy("192.168.122.101")]);
    await seconds(10);
    expect(announcer.announced()).toEqual([]);
    // One in a second.
    expect(frames.length).toBeLessThanOrEqual(11);
    expect(announcer.notices()).toMatchObject([{ reason: "not-announced", object: "Service default/web" }]);
    expect(announcer.notices()[0]?.message).toContain(why);
    Object.assign(world, { sendRefused: "", retval: 0 });
    frames.length = 0;
    await seconds(2);
    expect([announcer.announced().length, frames.length, announcer.notices()]).toEqual([1, 7, []]);
    announcer.stop();
  });
});

test("a defect that shows when something is due ends nobody: it is said, and tried again", async () => {
  const { announcer, world, failures, timers } = bench();
  announcer.set([candidacy("192.168.122.101")]);
  world.defect = "out of luck";
  await vi.advanceTimersByTimeAsync(900);
  expect([failures, world.defects]).toEqual([["Error: out of luck"], 1]);
  timers.every(1_000, () => void announcer.renew(SOUND));
  await vi.advanceTimersByTimeAsync(3_500);
  expect([world.defects, announcer.announced()]).toEqual([4, []]);
  world.defect = "";
  await vi.advanceTimersByTimeAsync(3_000);
  expect([announcer.announced().length, failures.length, announcer.notices()]).toEqual([1, 1, []]);
  timers.stop();
  announcer.stop();
});

test("a defect that shows when another node answers, or cannot be asked, ends nobody either", async () => {
  const { announcer, world, answer, failures } = bench();
  world.liveness = true;
  world.askRefused = true;
  announcer.set([candidacy("192.168.122.101", { above: ["node2"] })]);
  await vi.advanceTimersByTimeAsync(300);
  world.clockless = true;
  answer();
  await Promise.resolve();
  expect(failures).toEqual(["Error: no clock"]);
  await vi.advanceTimersByTimeAsync(1_000);
  announcer.stop();
});

test("an interval that is longer than any timer is one of weeks, not a timer that ends at once", async () => {
  const { announcer, seconds, frames, clockReads } = bench(4096, 2_147_483_647);
  announcer.set([candidacy("192.168.122.101")]);
  await seconds(20);
  const before = clockReads();
  const { length } = frames;
  await vi.advanceTimersByTimeAsync(60_000);
  expect([clockReads() - before, frames.length - length]).toEqual([0, 0]);
  announcer.stop();
});

test("after stop() nothing is said any more, and what is announced stays", async () => {
  const { announcer, rows, frames, seconds } = bench();
  announcer.set([candidacy("192.168.122.101")]);
  await seconds(1);
  announcer.stop();
  const before = frames.length;
  await vi.advanceTimersByTimeAsync(200_000);
  expect([rows.size, frames.length]).toEqual([1, before]);
});
