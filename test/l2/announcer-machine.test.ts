// What a node's announcer does: which rows it writes and removes, which frames it sends, and when.
import { describe, expect, test } from "vitest";
import {
  type Announcement,
  createAnnouncerMachine,
  type KernelRow,
  placeText,
} from "../../src/l2/announcer-machine.ts";
import { type Random, seedOfRun, withSeed } from "../model/random.ts";

const OLD = Uint8Array.of(2, 0, 0, 0, 0, 1);
const NEW = Uint8Array.of(2, 0, 0, 0, 0, 2);
const A = "192.168.122.101";
const B = "192.168.122.102";
const SIX = "fd00:192:168:122::101";

const announcement = (given: Partial<Announcement> = {}): Announcement => ({
  address: A,
  service: "default/web",
  device: "eth0",
  ifindex: 2,
  mac: OLD,
  ...given,
});

/** The machine over a small kernel: rows that take what is written, up to a capacity of their own. */
function bench(given: { capacity?: number; refuse?: (one: Announcement) => string } = {}) {
  const machine = createAnnouncerMachine(given.capacity ?? 8);
  const rows = new Map<string, KernelRow>();
  const written: string[] = [];
  const sent: string[] = [];
  const world = { nowMs: 1_000, refuse: given.refuse ?? (() => ""), isSound: (_: Announcement) => true };

  function take({ remove, write }: ReturnType<typeof machine.set>): void {
    for (const place of remove) if (!rows.delete(placeText(place))) throw new Error(`no row ${placeText(place)}`);
    for (const one of write) {
      const full = rows.size >= (given.capacity ?? 8) && !rows.has(placeText(one)) ? "E2BIG" : "";
      const refusal = world.refuse(one) || full;
      if (refusal === "") {
        rows.set(placeText(one), { address: one.address, ifindex: one.ifindex, conflict: false });
        written.push(placeText(one));
      }
      machine.wrote(one, refusal, world.nowMs);
    }
    speak();
  }

  function speak(): void {
    for (const { announcement: of, frames } of machine.dueFrames(world.nowMs)) {
      const macs = new Set(frames.map((frame) => frame[11]));
      sent.push(`${world.nowMs - 1_000} ${of.address} ${of.device} mac ${[...macs].join()}`);
    }
  }

  return {
    world,
    rows,
    machine,
    set: (...announcements: Announcement[]) => take(machine.set(announcements, [...rows.values()], world.nowMs)),
    /** Time goes by: frames when they are due, and a tick each second. */
    pass(ms: number) {
      for (const end = world.nowMs + ms; world.nowMs < end; ) {
        world.nowMs += 100;
        if (world.nowMs % 1_000 === 0) take(machine.tick([...rows.values()], world.isSound, world.nowMs));
        else speak();
      }
    },
    hear(address: string, ifindex = 2) {
      rows.set(`${address}%${ifindex}`, { address, ifindex, conflict: true });
    },
    /** Since it was asked last. */
    written: () => written.splice(0),
    sent: () => sent.splice(0),
    reasons: () => machine.notices().map(({ reason }) => reason),
  };
}

describe("an announcement", () => {
  test("is written at once, announced six times in 4.4 seconds and each minute after that", () => {
    const { set, pass, sent, written } = bench();
    set(announcement());
    expect(written()).toEqual([`${A}%2`]);
    pass(130_000);
    expect(sent().map((line) => Number(line.split(" ")[0]))).toEqual([
      0, 200, 1_100, 2_200, 3_300, 4_400, 64_400, 124_400,
    ]);
  });

  test("is renewed each second while it is sound", () => {
    const { set, pass, written, world } = bench();
    set(announcement(), announcement({ address: B, ifindex: 3, device: "eth1" }));
    written();
    world.isSound = ({ device }) => device === "eth0";
    pass(3_000);
    expect(written()).toEqual([`${A}%2`, `${A}%2`, `${A}%2`]);
  });

  test("that is not sound says nothing, and when it is again announces itself anew", () => {
    const { set, pass, sent, world } = bench();
    set(announcement());
    pass(10_000);
    sent();
    world.isSound = () => false;
    pass(120_000);
    expect(sent()).toEqual([]);
    world.isSound = () => true;
    pass(2_000);
    expect(sent()).toEqual([`131000 ${A} eth0 mac 1`, `131200 ${A} eth0 mac 1`]);
  });

  test("that is withdrawn loses its row and is heard of no more", () => {
    const { set, pass, sent, rows, machine } = bench();
    set(announcement(), announcement({ address: B }));
    set(announcement({ address: B }));
    sent();
    pass(70_000);
    expect([...rows.keys()]).toEqual([`${B}%2`]);
    expect(sent().filter((line) => line.includes(A))).toEqual([]);
    expect(machine.announced()).toEqual([announcement({ address: B })]);
  });

  test("of another device of the same name is another announcement", () => {
    const { set, rows, sent } = bench();
    set(announcement());
    sent();
    set(announcement({ ifindex: 7 }));
    expect([...rows.keys()]).toEqual([`${A}%7`]);
    expect(sent()).toEqual([`0 ${A} eth0 mac 1`]);
  });

  test.each<{ name: string; next: Partial<Announcement>; said: string }>([
    { name: "another MAC", next: { mac: NEW }, said: `${A} eth0 mac 2` },
    { name: "another name", next: { device: "lan0" }, said: `${A} lan0 mac 1` },
  ])("whose device gets $name is announced with it at once, and never again as before", ({ next, said }) => {
    const { set, pass, sent, written } = bench();
    set(announcement());
    pass(600);
    sent();
    written();
    set(announcement(next));
    expect(sent()).toEqual([`600 ${said}`]);
    pass(130_000);
    const later = sent();
    expect(later).toHaveLength(7);
    expect(later.filter((line) => !line.endsWith(said))).toEqual([]);
  });

  test("in another Service's name goes on as it was", () => {
    const { set, pass, sent, machine } = bench();
    set(announcement());
    pass(10_000);
    sent();
    set(announcement({ service: "default/other" }));
    pass(1_000);
    expect(sent()).toEqual([]);
    expect(machine.announced()[0]?.service).toBe("default/other");
  });
});

describe("rows that an agent before left", () => {
  test("go when nobody claims them, and count as held when somebody does", () => {
    const { set, rows } = bench({ capacity: 1 });
    rows.set(`${B}%2`, { address: B, ifindex: 2, conflict: false });
    set(announcement(), announcement({ address: B }));
    expect([...rows.keys()]).toEqual([`${B}%2`]);
    set(announcement());
    expect([...rows.keys()]).toEqual([`${A}%2`]);
  });

  test("go on until it is known what ought to be announced", () => {
    const { pass, rows, set } = bench();
    rows.set(`${B}%2`, { address: B, ifindex: 2, conflict: false });
    pass(120_000);
    expect([...rows.keys()]).toEqual([`${B}%2`]);
    set();
    expect([...rows.keys()]).toEqual([]);
  });

  test("go too when they turn up later", () => {
    const { set, pass, rows } = bench();
    set(announcement());
    rows.set(`${B}%2`, { address: B, ifindex: 2, conflict: false });
    pass(1_000);
    expect([...rows.keys()]).toEqual([`${A}%2`]);
  });

  test("that somebody took away are written again", () => {
    const { set, pass, rows } = bench();
    set(announcement());
    rows.clear();
    pass(1_000);
    expect([...rows.keys()]).toEqual([`${A}%2`]);
  });
});

describe("another MAC that claimed the address meanwhile", () => {
  test("is answered by a sound announcement: row, frames, and a notice that ends with the announcement", () => {
    const { set, pass, hear, sent, rows, machine, reasons } = bench();
    set(announcement());
    pass(10_000);
    sent();
    hear(A);
    pass(1_000);
    expect(rows.get(`${A}%2`)?.conflict).toBe(false);
    expect(sent()).toEqual([`11000 ${A} eth0 mac 1`]);
    expect(machine.notices()[0]).toMatchObject({ object: "Service default/web", reason: "address-in-use" });
    expect(machine.notices()[0]?.message).toMatch(/announcing it again$/);
    set();
    expect(reasons()).toEqual([]);
    set(announcement());
    expect(reasons()).toEqual([]);
  });

  test("is no news any more when it was silent for five minutes", () => {
    const { set, pass, hear, reasons } = bench();
    set(announcement());
    pass(1_000);
    hear(A);
    pass(299_000);
    expect(reasons()).toEqual(["address-in-use"]);
    pass(2_000);
    expect(reasons()).toEqual([]);
  });

  test("while no agent ran keeps the address until the self-check was asked", () => {
    const { set, pass, hear, written, reasons } = bench();
    hear(A);
    set(announcement());
    expect([written(), reasons()]).toEqual([[], []]);
    pass(1_000);
    expect([written(), reasons()]).toEqual([[`${A}%2`], ["address-in-use"]]);
  });

  test.each(["carrier is down", "programs are off", "the last apply failed", "the loop is late"])(
    "is left the address while the self-check fails (%s), and has to give it back after",
    () => {
      const { set, pass, hear, sent, written, rows, machine, world } = bench();
      set(announcement());
      pass(10_000);
      sent();
      written();
      world.isSound = () => false;
      hear(A);
      pass(5_000);
      expect([written(), sent(), rows.get(`${A}%2`)?.conflict]).toEqual([[], [], true]);
      expect(machine.notices()[0]?.message).toMatch(/left to it until this node is sound again$/);
      expect(machine.announced()).toEqual([]);
      world.isSound = () => true;
      pass(1_000);
      expect([written(), sent()]).toEqual([[`${A}%2`], [`16000 ${A} eth0 mac 1`]]);
    },
  );
});

describe("what does not fit", () => {
  const many = ["192.168.122.9", "192.168.122.5", "192.168.122.7"].map((address) => announcement({ address }));

  test("is left out by address, said in one notice, and comes when there is room", () => {
    const { set, pass, rows, machine } = bench({ capacity: 2 });
    set(...many);
    expect([...rows.keys()].sort()).toEqual(["192.168.122.5%2", "192.168.122.7%2"]);
    expect(machine.notices()).toMatchObject([{ object: "Map announced", reason: "table-full", severity: "error" }]);
    expect(machine.notices()[0]?.message).toBe(
      '2 of 3 addresses are announced, as map "announced" is full: not 192.168.122.9 of default/web',
    );
    pass(5_000);
    expect(rows.size).toBe(2);
    set(...many.slice(0, 2));
    expect([...rows.keys()].sort()).toEqual(["192.168.122.5%2", "192.168.122.9%2"]);
    expect(machine.notices()).toEqual([]);
  });

  test("never pushes out what is announced", () => {
    const { set, rows } = bench({ capacity: 1 });
    set(many[0]!);
    set(...many);
    expect([...rows.keys()]).toEqual(["192.168.122.9%2"]);
  });
});

describe("a row that the kernel refuses", () => {
  test("is tried again less and less often, with a notice and without a frame, until it is taken", () => {
    const tries: number[] = [];
    const { set, pass, sent, machine, world } = bench();
    world.refuse = () => {
      tries.push(world.nowMs - 1_000);
      return "EPERM";
    };
    set(announcement());
    pass(60_000);
    expect(tries).toEqual([0, 1_000, 6_000, 26_000]);
    expect(sent()).toEqual([]);
    expect(machine.announced()).toEqual([]);
    expect(machine.wanted()).toHaveLength(1);
    expect(machine.notices()).toMatchObject([{ reason: "not-announced", severity: "error" }]);
    world.refuse = () => "";
    pass(30_000);
    expect(sent()[0]).toBe(`86000 ${A} eth0 mac 1`);
    expect(machine.notices()).toEqual([]);
  });
});

test("frames of many announcements go in parts, all of them, and each once", () => {
  const machine = createAnnouncerMachine(1_000);
  const announcements = Array.from({ length: 300 }, (_, i) => announcement({ address: `10.0.${i >> 8}.${i & 255}` }));
  for (const one of machine.set(announcements, [], 0).write) machine.wrote(one, "", 0);
  const parts: string[][] = [];
  while (machine.nextMs() <= 0) parts.push(machine.dueFrames(0).map(({ announcement: of }) => of.address));
  expect(Math.max(...parts.map((part) => part.length))).toBeLessThan(100);
  expect(parts.flat().sort()).toEqual(announcements.map(({ address }) => address).sort());
  expect(machine.nextMs()).toBe(200);
});

const SEED = seedOfRun();
test.each([0, 1, 2, 3])("whatever happens, what is said is true (history %i)", (n) =>
  withSeed(SEED + n, (random: Random) => {
    const capacity = 3;
    const around = bench({ capacity });
    const { world, rows, machine } = around;
    const addresses = [A, B, SIX, "192.168.122.103", "192.168.122.104"];
    const macs = new Map([
      [2, OLD],
      [3, OLD],
    ]);
    let wanted: Announcement[] = [];
    for (let step = 0; step < 300; step++) {
      const what = random.below(8);
      if (what <= 2) {
        if (what === 0) macs.set(2 + random.below(2), random.pick([OLD, NEW]));
        wanted = addresses
          .filter(() => random.chance(0.6))
          .map((address) => {
            const ifindex = 2 + random.below(2);
            return announcement({ address, ifindex, device: `eth${ifindex}`, mac: macs.get(ifindex)! });
          });
        around.set(...wanted);
      } else if (what === 3)
        world.isSound = random.pick([() => true, () => false, (one: Announcement) => one.ifindex === 2]);
      else if (what === 4) world.refuse = random.pick([() => "", () => "", () => "EPERM"]);
      else if (what === 5 && rows.size > 0) {
        const { address, ifindex } = random.pick([...rows.values()]);
        around.hear(address, ifindex);
      }
      around.sent();
      around.pass(100 + 100 * random.below(30));

      const texts = new Set(wanted.map(placeText));
      const held = [...rows.keys()];
      const note = `step ${step}`;
      if (world.nowMs % 1_000 === 0)
        expect(
          held.filter((text) => !texts.has(text)),
          note,
        ).toEqual([]);
      expect(machine.wanted().length, note).toBe(Math.min(capacity, wanted.length));
      for (const one of machine.announced()) expect(held, note).toContain(placeText(one));
      for (const line of around.sent()) {
        const [, address, device, , mac] = line.split(" ");
        const of = wanted.find((one) => one.address === address && one.device === device);
        expect(of, `${note}: ${line}`).toBeDefined();
        expect(Number(mac), `${note}: ${line}`).toBe(of!.mac[5]);
        expect(held, `${note}: ${line}`).toContain(placeText(of!));
      }
    }
  }),
);
