// The announcer over maps and programs that refuse: rows, frames and groups are what the machine said, and nothing is thrown.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Announcement, createAnnouncer } from "../../src/agent/announcer.ts";
import { ANNOUNCED_KEY, ANNOUNCEMENT, readAnnouncement } from "../../src/datapath/layout.gen.ts";
import type { GroupChange } from "../../src/l2/solicited-groups.ts";
import { KernelError } from "../../src/lib/errors.ts";
import type { Log } from "../../src/lib/log.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const announcement = (address: string, given: Partial<Announcement> = {}): Announcement => ({
  ...{ address, service: "default/web", device: "eth0", ifindex: 2, mac: MAC },
  ...given,
});

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function bench(maxEntries = 4096) {
  const rows = new Map<string, Uint8Array>();
  const world = { refuse: "", sendRefused: "" };
  const frames: { readonly ifindex: number; readonly mac: string }[] = [];
  const logged: string[] = [];
  const groups: string[] = [];
  const say = (_: unknown, text: string): void => void logged.push(text);
  const refuse = (operation: string): void => {
    if (world.refuse !== "") throw new KernelError(operation, "announced", 1, world.refuse);
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
    },
  };
  const dataplane = {
    map: () => map,
    program: (name: string) => (name === "tc_renew" ? renewal : program),
  } as unknown as Parameters<typeof createAnnouncer>[0];
  const announcer = createAnnouncer(
    dataplane,
    { info: say, warn: say, error: say } as unknown as Log,
    async (changes) => {
      groups.push(...changes.map(({ verb, group, ifindex }: GroupChange) => `${verb} ${group}%${ifindex}`));
      return changes.map(() => "");
    },
  );
  return { announcer, rows, world, frames, logged, groups };
}

const sound = (): boolean => true;

test("an announcement gets a row with three times, frames by its device, and for IPv6 its group", async () => {
  const { announcer, rows, frames, groups, logged } = bench();
  announcer.set([announcement("192.168.122.101"), announcement("fd00::aa:1", { ifindex: 3 })]);
  await vi.advanceTimersByTimeAsync(100);
  const times = readAnnouncement([...rows.values()][0]!);
  expect([times.stale - times.renewed, times.silent - times.renewed, times.conflict]).toEqual([
    3_000_000_000n,
    60_000_000_000n,
    0n,
  ]);
  expect(frames.map(({ ifindex }) => ifindex)).toEqual([2, 2, 3]);
  expect(groups).toEqual(["join ff02::1:ffaa:1%3"]);
  expect(logged).toEqual(["announcing", "announcing"]);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(frames).toHaveLength(18);
  announcer.set([]);
  await vi.advanceTimersByTimeAsync(100_000);
  expect([rows.size, frames.length, groups[1]]).toEqual([0, 18, "leave ff02::1:ffaa:1%3"]);
  announcer.stop();
});

test("more announcements than `announced` holds are a notice, neither when they come nor in any second after", async () => {
  const { announcer, rows } = bench();
  const many = Array.from({ length: 4200 }, (_, i) => announcement(`10.0.${i >> 8}.${i & 255}`));
  announcer.set(many);
  announcer.renew(sound);
  expect(rows.size).toBe(4096);
  expect(announcer.announced()).toHaveLength(4096);
  expect(announcer.notices().map(({ reason }) => reason)).toEqual(["table-full"]);
  announcer.stop();
});

describe("what the kernel refuses", () => {
  test("is a notice until it is taken", () => {
    const { announcer, rows, world, frames } = bench();
    world.refuse = "EPERM";
    announcer.set([announcement("192.168.122.101")]);
    announcer.renew(sound);
    expect(announcer.notices().map(({ reason }) => reason)).toEqual(["not-announced", "not-announced"]);
    expect([rows.size, frames.length, announcer.announced().length]).toEqual([0, 0, 0]);
    world.refuse = "";
    vi.advanceTimersByTime(2_000);
    announcer.renew(sound);
    expect(announcer.notices()).toEqual([]);
    expect([rows.size, frames.length > 0]).toEqual([1, true]);
    announcer.stop();
  });

  test("of frames is said once, and the address is answered for all the same", async () => {
    const { announcer, rows, world, logged, frames } = bench();
    world.sendRefused = "ENODEV";
    announcer.set([announcement("192.168.122.101")]);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(rows.size).toBe(1);
    expect(logged.filter((text) => text.startsWith("could not send"))).toHaveLength(1);
    world.sendRefused = "";
    await vi.advanceTimersByTimeAsync(60_000);
    expect(frames).toHaveLength(2);
    announcer.stop();
  });
});

test("after stop() nothing is said any more, and what is announced stays", async () => {
  const { announcer, rows, frames } = bench();
  announcer.set([announcement("192.168.122.101")]);
  announcer.stop();
  const before = frames.length;
  await vi.advanceTimersByTimeAsync(200_000);
  expect([rows.size, frames.length]).toEqual([1, before]);
});
