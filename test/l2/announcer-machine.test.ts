// What a node's announcer does when no other node is there: which rows it writes and removes, which frames it sends, and when.
import { describe, expect, test } from "vitest";
import { type Candidacy, type KernelRow, placeText } from "../../src/l2/announcement.ts";
import { createAnnouncerMachine, type RowChanges, type Soundness } from "../../src/l2/announcer-machine.ts";
import { macText } from "../../src/lib/mac.ts";
import { type Random, seedOfRun, withSeed } from "../model/random.ts";

const OLD = Uint8Array.of(2, 0, 0, 0, 0, 1);
const NEW = Uint8Array.of(2, 0, 0, 0, 0, 2);
const STRANGER = "02:00:00:00:99:01";
const A = "192.168.122.101";
const B = "192.168.122.102";
const SIX = "fd00:192:168:122::101";
/** The check of an address, in steps of 10 ms. */
const CHECK_MS = 260;
const BEGAN_MS = 10_000;

const candidacy = (given: Partial<Candidacy> = {}): Candidacy => ({
  ...{ address: A, service: "default/web", device: "eth0", ifindex: 2, mac: OLD, above: [], below: [] },
  ...given,
});

/** A row that an agent before left, renewed just now. */
const found = (given: Partial<KernelRow> = {}): KernelRow => ({
  ...{ address: B, ifindex: 2, renewedMs: BEGAN_MS - 500, silentMs: BEGAN_MS + 59_500 },
  ...{ conflict: false, claims: [], probe: undefined, ...given },
});

interface Given {
  readonly capacity?: number;
  readonly gratuitousMs?: number;
  readonly hasRow?: KernelRow;
  /** The row is there at the first renewal, before anything is known. */
  readonly isEarly?: boolean;
}

/** The machine over a small kernel: rows that take what is written, up to a capacity of their own. */
function bench({ capacity = 8, gratuitousMs = 60_000, hasRow, isEarly = false }: Given = {}) {
  const machine = createAnnouncerMachine({
    ...{ capacity, node: "node1", gratuitousMs },
    liveness: () => false,
    nodes: () => [],
    score: () => 0,
  });
  const rows = new Map<string, KernelRow>();
  const written: string[] = [];
  const sent: string[] = [];
  const sound = (...indexes: number[]): Map<number, Soundness> => new Map(indexes.map((index) => [index, "sound"]));
  const world = { nowMs: BEGAN_MS, refuse: (_: string): string => "", sound: sound(2, 3, 7), owner: "" };

  function take({ remove, write }: RowChanges): void {
    for (const place of remove) if (!rows.delete(placeText(place))) throw new Error(`no row ${placeText(place)}`);
    for (const one of write) {
      const text = placeText(one.announcement);
      const { address, ifindex } = one.announcement;
      const refusal = world.refuse(address) || (rows.size >= capacity && !rows.has(text) ? "E2BIG" : "");
      if (refusal === "") {
        const before = rows.get(text) ?? found({ address, ifindex });
        const times = one.how === "answer" ? [world.nowMs, world.nowMs + 60_000] : [0, 0];
        rows.set(text, { ...before, renewedMs: times[0]!, silentMs: times[1]!, conflict: false });
        if (one.how === "answer") written.push(text);
      }
      machine.wrote(one, refusal, world.nowMs);
    }
    speak();
  }

  function speak(): void {
    for (const { announcement: of, kind } of machine.dueFrames(world.nowMs)) {
      const row = rows.get(placeText(of));
      if (kind === "announce") sent.push(`${world.nowMs - BEGAN_MS} ${of.address} ${of.device} ${macText(of.mac)}`);
      else if (world.owner !== "" && row !== undefined)
        rows.set(placeText(of), { ...row, claims: [{ mac: world.owner, atMs: world.nowMs }] });
    }
  }

  const renew = (): void => take(machine.renew([...rows.values()], world.sound, world.nowMs));
  if (hasRow !== undefined && isEarly) rows.set(placeText(hasRow), hasRow);
  renew();
  if (hasRow !== undefined && !isEarly) rows.set(placeText(hasRow), hasRow);
  return {
    world,
    rows,
    machine,
    sound,
    set: (...candidacies: Candidacy[]) => take(machine.set(candidacies, [...rows.values()], world.nowMs)),
    /** Time goes by: frames when they are due, a look when one is, and a renewal each second. */
    pass(ms: number) {
      for (const end = world.nowMs + ms; world.nowMs < end; ) {
        world.nowMs += 10;
        if (world.nowMs % 1_000 === 0) renew();
        else if (machine.isLookDue(world.nowMs)) take(machine.look([...rows.values()], world.nowMs));
        else speak();
      }
    },
    /** The kernel gave the row up, as another MAC claimed the address. */
    hear(address: string, ifindex = 2) {
      const claims = [{ mac: STRANGER, atMs: world.nowMs }];
      rows.set(`${address}%${ifindex}`, found({ address, ifindex, conflict: true, silentMs: 0, claims }));
    },
    answered: () =>
      [...rows]
        .filter(([, { silentMs }]) => silentMs > world.nowMs)
        .map(([text]) => text)
        .sort(),
    /** Since it was asked last. */
    written: () => written.splice(0),
    sent: () => sent.splice(0),
    notices: () => machine.notices(world.nowMs),
    reasons: () => machine.notices(world.nowMs).map(({ reason }) => reason),
  };
}

const timesOf = (lines: readonly string[]): number[] => lines.map((line) => Number(line.split(" ")[0]));

describe("an announcement", () => {
  test("begins once the address was asked for in vain, is told six times in 4.4 seconds and each minute after that", () => {
    const { set, pass, sent, written } = bench();
    set(candidacy());
    pass(100);
    expect(written()).toEqual([]);
    pass(200_000);
    const [begun = 0, ...times] = timesOf(sent());
    expect(begun).toBeLessThanOrEqual(CHECK_MS);
    expect(times.slice(0, 7).map((ms) => ms - begun)).toEqual([200, 1_100, 2_200, 3_300, 4_400, 64_400, 124_400]);
  });

  test("is nothing to wait for before anything is known", () => {
    const { machine, world } = bench();
    expect(machine.nextMs(world.nowMs)).toBe(Number.POSITIVE_INFINITY);
  });

  test.each([
    { seconds: 0, later: 0 },
    { seconds: 10, later: 19 },
  ])("is told again every $seconds seconds, as it is set", ({ seconds, later }) => {
    const { set, pass, sent } = bench({ gratuitousMs: seconds * 1_000 });
    set(candidacy());
    pass(200_000);
    expect(sent()).toHaveLength(6 + later);
  });

  test("is renewed each second while its device is sound", () => {
    const { set, pass, written, world, sound } = bench();
    set(candidacy(), candidacy({ address: B, ifindex: 3, device: "eth1" }));
    pass(900);
    expect(written()).toHaveLength(2);
    world.sound = sound(2);
    pass(3_000);
    expect(written()).toEqual([`${A}%2`, `${A}%2`, `${A}%2`]);
  });

  test("that is not sound says nothing, and goes on when it is again, if nobody else was heard", () => {
    const { set, pass, sent, world, sound, answered } = bench();
    set(candidacy());
    pass(10_000);
    sent();
    world.sound = sound();
    pass(20_000);
    expect([sent(), answered()]).toEqual([[], [`${A}%2`]]);
    world.sound = sound(2);
    pass(2_000);
    expect(timesOf(sent())[0]).toBeLessThanOrEqual(31_400);
    expect(answered()).toEqual([`${A}%2`]);
  });

  test("whose link has no carrier has no row, and is asked for anew when the link has been back for a while", () => {
    const { set, pass, sent, world, rows, sound, answered } = bench();
    set(candidacy());
    pass(10_000);
    world.sound = new Map([[2, "no-carrier"]]);
    pass(5_000);
    expect(rows.size).toBe(0);
    sent();
    world.sound = sound(2);
    pass(2_000);
    expect(rows.size).toBe(0);
    pass(1_500);
    expect(answered()).toEqual([`${A}%2`]);
    expect(sent().length).toBeGreaterThan(0);
  });

  test("that is withdrawn loses its row and is heard of no more", () => {
    const { set, pass, sent, rows, machine } = bench();
    set(candidacy(), candidacy({ address: B }));
    pass(1_000);
    set(candidacy({ address: B }));
    sent();
    pass(70_000);
    expect([...rows.keys()]).toEqual([`${B}%2`]);
    expect(sent().filter((line) => line.includes(A))).toEqual([]);
    expect(machine.announced()).toEqual([candidacy({ address: B })]);
  });

  test("of another device of the same name is another announcement", () => {
    const { set, pass, rows, sent } = bench();
    set(candidacy());
    pass(1_000);
    sent();
    set(candidacy({ ifindex: 7 }));
    pass(CHECK_MS);
    expect([...rows.keys()]).toEqual([`${A}%7`]);
    expect(sent()).toHaveLength(1);
  });

  test.each<{ name: string; next: Partial<Candidacy>; said: string }>([
    { name: "another MAC", next: { mac: NEW }, said: `${A} eth0 ${macText(NEW)}` },
    { name: "another name", next: { device: "lan0" }, said: `${A} lan0 ${macText(OLD)}` },
  ])("whose device gets $name is told with it at once, and never again as before", ({ next, said }) => {
    const { set, pass, sent } = bench();
    set(candidacy());
    pass(1_000);
    sent();
    set(candidacy(next));
    expect(sent()).toEqual([`1000 ${said}`]);
    pass(130_000);
    const later = sent();
    expect(later).toHaveLength(7);
    expect(later.filter((line) => !line.endsWith(said))).toEqual([]);
  });

  test("in another Service's name goes on as it was", () => {
    const { set, pass, sent, machine } = bench();
    set(candidacy());
    pass(10_000);
    sent();
    set(candidacy({ service: "default/other" }));
    pass(1_000);
    expect(sent()).toEqual([]);
    expect(machine.announced()[0]?.service).toBe("default/other");
  });
});

describe("rows that an agent before left", () => {
  test("are taken over without a question, and renewed at once", () => {
    const { set, written, machine } = bench({ hasRow: found() });
    written();
    set(candidacy({ address: B }));
    expect(written()).toEqual([`${B}%2`]);
    expect(machine.announced()).toHaveLength(1);
  });

  test("three seconds ago or more go on after a look whether anybody else was heard", () => {
    const { set, pass, written } = bench({
      hasRow: found({ renewedMs: BEGAN_MS - 30_000, silentMs: BEGAN_MS + 30_000 }),
    });
    written();
    set(candidacy({ address: B }));
    expect(written()).toEqual([]);
    pass(1_500);
    expect(written()).toEqual([`${B}%2`]);
  });

  test.each([
    { name: "gave up", row: { conflict: true, silentMs: 0 } },
    { name: "let go silent", row: { renewedMs: BEGAN_MS - 70_000, silentMs: BEGAN_MS - 10_000 } },
    { name: "only listened at", row: { renewedMs: 0, silentMs: 0 } },
  ])("and the kernel $name are asked for anew", ({ row }) => {
    const { set, pass, written, world } = bench({ hasRow: found(row) });
    world.owner = STRANGER;
    written();
    set(candidacy({ address: B }));
    pass(10_000);
    expect(written()).toEqual([]);
  });

  test("go when nobody claims them, at once or when they turn up later", () => {
    const { set, pass, rows, answered } = bench({ hasRow: found() });
    set(candidacy());
    rows.set("10.0.0.9%2", found({ address: "10.0.0.9" }));
    pass(1_000);
    expect(answered()).toEqual([`${A}%2`]);
  });

  test("are renewed as they are until it is known what ought to be announced, while their device is sound", () => {
    const { pass, answered, set, machine, sound } = bench({ hasRow: found() });
    pass(120_000);
    expect(answered()).toEqual([`${B}%2`]);
    expect(machine.soundness()).toEqual({ sound: false, renews: true });
    set();
    expect(answered()).toEqual([]);
    const other = bench({ hasRow: found() });
    other.world.sound = sound();
    other.pass(70_000);
    expect(other.answered()).toEqual([]);
    expect(other.machine.soundness()).toEqual({ sound: true, renews: false });
  });

  test("are not renewed before it was listened when the agent was away for long, as another may have claimed them", () => {
    const row = found({ renewedMs: BEGAN_MS - 30_000, silentMs: BEGAN_MS + 30_000 });
    const { pass, rows, written } = bench({ hasRow: row, isEarly: true });
    expect(written()).toEqual([]);
    pass(1_000);
    expect(written()).toEqual([`${B}%2`]);
    const other = bench({ hasRow: row, isEarly: true });
    other.hear(B);
    other.pass(10_000);
    expect([other.written(), rows.size]).toEqual([[], 1]);
    expect(bench({ hasRow: found(), isEarly: true }).written()).toEqual([`${B}%2`]);
  });

  test("are looked at for what was heard since the agent before renewed them, not since this one did", () => {
    const row = found({ claims: [{ mac: STRANGER, atMs: BEGAN_MS - 100 }] });
    const { set, pass, reasons } = bench({ hasRow: row, isEarly: true });
    pass(2_000);
    set(candidacy({ address: B }));
    pass(1_000);
    expect(reasons()).toEqual(["address-in-use"]);
  });

  test("that somebody took away are written again", () => {
    const { set, pass, rows, answered } = bench();
    set(candidacy());
    pass(1_000);
    rows.clear();
    pass(1_000);
    expect(answered()).toEqual([`${A}%2`]);
  });
});

describe("another MAC", () => {
  test("that answers for the address keeps it: less and less is asked, and a notice says whose it is", () => {
    const { set, pass, world, answered, notices } = bench();
    world.owner = STRANGER;
    set(candidacy());
    pass(60_000);
    expect(answered()).toEqual([]);
    expect(notices()[0]).toMatchObject({ object: "Service default/web", reason: "address-in-use" });
    expect(notices()[0]?.message).toContain(STRANGER);
    world.owner = "";
    pass(100_000);
    expect([answered(), notices()]).toEqual([[`${A}%2`], []]);
  });

  test("that claimed it while nobody renewed it is asked for anew when this node is sound again", () => {
    const { set, pass, hear, written, world, sound, machine } = bench();
    set(candidacy());
    pass(10_000);
    world.sound = sound();
    pass(4_000);
    written();
    hear(A);
    world.owner = STRANGER;
    pass(5_000);
    expect([written(), machine.announced()]).toEqual([[], []]);
    world.sound = sound(2);
    pass(10_000);
    expect([written(), machine.announced()]).toEqual([[], []]);
    world.owner = "";
    pass(60_000);
    expect(machine.announced()).toEqual([candidacy()]);
  });
});

describe("what does not fit", () => {
  const many = ["192.168.122.9", "192.168.122.5", "192.168.122.7"].map((address) => candidacy({ address }));

  test("refused by the kernel is looked at as it is tried again, not as fast as a check runs", () => {
    const { set, pass, machine, world } = bench();
    world.refuse = () => "EPERM";
    set(candidacy());
    let looks = 0;
    for (let i = 0; i < 1_000; i++) {
      pass(10);
      if (machine.isLookDue(world.nowMs + 100)) looks++;
    }
    expect(looks).toBe(0);
    world.refuse = () => "";
    pass(21_000);
    expect(machine.announced()).toHaveLength(1);
  });

  test("is left out by address, said in one notice, and comes when there is room", () => {
    const { set, pass, answered, notices } = bench({ capacity: 2 });
    set(...many);
    pass(5_000);
    expect(answered()).toEqual(["192.168.122.5%2", "192.168.122.7%2"]);
    expect(notices()).toMatchObject([{ object: "Map announced", reason: "table-full", severity: "error" }]);
    expect(notices()[0]?.message).toBe(
      '2 of 3 addresses are announced, as map "announced" is full: not 192.168.122.9 of default/web',
    );
    set(...many.slice(0, 2));
    pass(2_000);
    expect(answered()).toEqual(["192.168.122.5%2", "192.168.122.9%2"]);
    expect(notices()).toEqual([]);
  });

  test("never pushes out what is announced", () => {
    const { set, pass, answered } = bench({ capacity: 1 });
    set(many[0]!);
    pass(1_000);
    set(...many);
    pass(5_000);
    expect(answered()).toEqual(["192.168.122.9%2"]);
  });
});

test("a row that the kernel refuses is tried again less and less often, with a notice and without a frame, until it is taken", () => {
  const tries: number[] = [];
  const { set, pass, sent, machine, world, notices } = bench();
  world.refuse = () => {
    tries.push(world.nowMs - BEGAN_MS);
    return "EPERM";
  };
  set(candidacy());
  pass(60_000);
  expect(tries.map((ms) => Math.round(ms / 1_000))).toEqual([0, 1, 6, 26]);
  expect([sent(), machine.announced()]).toEqual([[], []]);
  expect(machine.wanted()).toHaveLength(1);
  expect(notices()).toMatchObject([{ reason: "not-announced", severity: "error" }]);
  world.refuse = () => "";
  pass(30_000);
  expect(Math.round(timesOf(sent())[0]! / 1_000)).toBe(86);
  expect(notices()).toEqual([]);
});

test("frames of many announcements go in parts, all of them, and each once", () => {
  const { machine } = bench({ capacity: 1_000 });
  const all = Array.from({ length: 300 }, (_, i) => candidacy({ address: `10.0.${i >> 8}.${i & 255}` }));
  const nowMs = BEGAN_MS;
  for (const one of machine.set(all, [], nowMs).write) machine.wrote(one, "", nowMs);
  const parts: string[][] = [];
  while (machine.nextMs(nowMs) <= nowMs)
    parts.push(machine.dueFrames(nowMs).map(({ announcement }) => announcement.address));
  expect(Math.max(...parts.map((part) => part.length))).toBeLessThan(100);
  expect(parts.flat().sort()).toEqual(all.map(({ address }) => address).sort());
});

const SEED = seedOfRun();
test.each([0, 1, 2, 3])("whatever happens, what is said is true (history %i)", (n) =>
  withSeed(SEED + n, (random: Random) => {
    const around = bench({ capacity: 3 });
    const { world, rows, machine, sound } = around;
    const addresses = [A, B, SIX, "192.168.122.103", "192.168.122.104"];
    const macs = new Map([
      [2, OLD],
      [3, OLD],
    ]);
    let wanted: Candidacy[] = [];
    for (let step = 0; step < 200; step++) {
      const what = random.below(9);
      if (what <= 2) {
        if (what === 0) macs.set(2 + random.below(2), random.pick([OLD, NEW]));
        wanted = addresses
          .filter(() => random.chance(0.6))
          .map((address) => {
            const ifindex = 2 + random.below(2);
            return candidacy({ address, ifindex, device: `eth${ifindex}`, mac: macs.get(ifindex)! });
          });
        around.set(...wanted);
      } else if (what === 3) world.sound = random.pick([sound(2, 3), sound(2), new Map([[3, "no-carrier" as const]])]);
      else if (what === 4) world.refuse = random.pick([() => "", () => "", () => "EPERM"]);
      else if (what === 5 && rows.size > 0) {
        const { address, ifindex } = random.pick([...rows.values()]);
        around.hear(address, ifindex);
      } else if (what === 6) world.owner = random.pick(["", "", STRANGER]);
      around.sent();
      around.pass(100 + 100 * random.below(30));

      const texts = new Set(wanted.map(placeText));
      const note = `step ${step}`;
      const strangers = [...rows.keys()].filter((text) => !texts.has(text));
      if (world.nowMs % 1_000 === 0) expect(strangers, note).toEqual([]);
      expect(machine.wanted().length, note).toBeLessThanOrEqual(3);
      const conflicts = [...rows].filter(([, { conflict }]) => conflict).map(([text]) => text);
      for (const one of machine.announced())
        expect([...around.answered(), ...conflicts, ...texts], note).toContain(placeText(one));
      for (const line of around.sent()) {
        const [, address, device, mac] = line.split(" ");
        const of = wanted.find((one) => one.address === address && one.device === device);
        expect(of, `${note}: ${line}`).toBeDefined();
        expect(mac, `${note}: ${line}`).toBe(macText(of!.mac));
      }
    }
  }),
);
