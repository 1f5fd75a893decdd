// Who speaks for an address when nodes die, come back, hang or cannot hear each other, on a LAN in memory (lan.ts).
import { describe, expect, test } from "vitest";
import { createLan, type Lan, type LanOptions, STEP_MS } from "./lan.ts";

const A = "192.168.122.101";
const ADDRESSES = Array.from({ length: 12 }, (_, i) => `192.168.122.${101 + i}`);

/** A LAN that has come to rest, and who speaks for the first address; `worst` counts from then on. */
function bench(given: Partial<LanOptions> = {}) {
  const lan = createLan({ nodes: 3, addresses: [A], ...given });
  lan.pass(5_000);
  const worst = { gapMs: 0, doubleMs: 0, changes: 0 };
  let speaker = lan.speakers(A)[0];
  let gapMs = 0;
  let doubleMs = 0;
  const pass = (ms: number, near?: string): void =>
    lan.pass(ms, () => {
      const now = lan.speakers(A, near === undefined ? undefined : lan.node(near));
      gapMs = now.length === 0 ? gapMs + STEP_MS : 0;
      doubleMs = now.length > 1 ? doubleMs + STEP_MS : 0;
      if (now.length === 1 && now[0] !== speaker) {
        speaker = now[0];
        worst.changes++;
      }
      worst.gapMs = Math.max(worst.gapMs, gapMs);
      worst.doubleMs = Math.max(worst.doubleMs, doubleMs);
    });
  const [first = "", second = "", third = ""] = lan.ranked(A);
  const reasons = (name: string): string[] => noticesOf(lan, name).map(({ reason }) => reason);
  return { lan, pass, worst, first, second, third, reasons };
}

const noticesOf = (lan: Lan, name: string) => lan.node(name).machine().notices(lan.node(name).clockMs());

describe("at the start", () => {
  test("the best node speaks, after it asked whether the address is free, and no other does", () => {
    const { lan, first } = bench();
    expect(lan.speakers(A)).toEqual([first]);
    expect(lan.frames.probes).toBeLessThanOrEqual(6);
  });

  test("a node that is alone asks three times, and then speaks", () => {
    const lan = createLan({ nodes: 1, addresses: [A] });
    lan.pass(1_000);
    expect([lan.frames.probes, lan.speakers(A)]).toEqual([3, ["node1"]]);
  });

  test("two that each take themselves for the first and ask at once never both speak", () => {
    const lan = createLan({ nodes: 2, addresses: ADDRESSES });
    for (const node of lan.nodes) {
      const other = lan.nodes.find(({ name }) => name !== node.name)!.name;
      node.orderOf = () => [node.name, other];
    }
    lan.pass(5_000, () => {
      for (const address of ADDRESSES) expect(lan.speakers(address).length).toBeLessThan(2);
    });
    for (const address of ADDRESSES) expect(lan.speakers(address)).toHaveLength(1);
  });

  test("a node that had a new address for a moment, apart from a better one, takes it over as fast as any other", () => {
    const lan = createLan({ nodes: 2, addresses: ADDRESSES });
    const [first = "", second = ""] = lan.ranked(A);
    const show = (address: string, order: readonly string[]): void => {
      for (const node of lan.nodes) {
        const before = node.orderOf;
        node.orderOf = (one) => (one === address ? order : before(one));
        node.noteObjects();
      }
    };
    show(A, []);
    lan.pass(5_000);
    lan.node(second).part = 1;
    lan.pass(2_000);
    show(A, [first, second]);
    lan.pass(3_000);
    expect(lan.speakers(A).sort()).toEqual([first, second].sort());
    lan.node(second).part = 0;
    lan.pass(3_000);
    expect(lan.speakers(A)).toEqual([first]);
    lan.powerOff(first);
    lan.pass(1_500);
    expect(lan.speakers(A)).toEqual([second]);
  });

  test("all at once every address has one speaker within two seconds, and never two", () => {
    const lan = createLan({ nodes: 5, addresses: ADDRESSES });
    lan.pass(2_000, () => {
      for (const address of ADDRESSES) expect(lan.speakers(address).length).toBeLessThan(2);
    });
    for (const address of ADDRESSES) expect(lan.speakers(address)).toEqual(lan.ranked(address).slice(0, 1));
  });

  test("nodes that begin in the wrong order leave the address to who has it", () => {
    const lan = createLan({ nodes: 3, addresses: [A] });
    const [first = "", second = "", third = ""] = lan.ranked(A);
    for (const name of [first, second]) lan.powerOff(name);
    // Without its better nodes' objects it could not know that they are not there.
    lan.node(third).orderOf = () => [third];
    lan.pass(5_000);
    expect(lan.speakers(A)).toEqual([third]);
    lan.powerOn(second);
    lan.powerOn(first);
    lan.node(third).orderOf = () => [first, second, third];
    lan.node(third).noteObjects();
    lan.pass(30_000, () => expect(lan.speakers(A)).toEqual([third]));
  });
});

describe("the death of the speaker", () => {
  test("by its power or its link is answered by the next in line within 850 ms", () => {
    for (const how of ["power", "link"] as const) {
      const { lan, pass, worst, first, second } = bench();
      if (how === "power") lan.powerOff(first);
      else lan.node(first).isLinked = false;
      pass(3_000);
      expect(lan.speakers(A)).toEqual([second]);
      expect(worst.gapMs).toBeGreaterThan(300);
      expect(worst.gapMs).toBeLessThanOrEqual(850);
      expect(worst.doubleMs).toBe(0);
    }
  });

  test("by its link leaves it to the other also when the link is back and carries nothing yet, as a switch's port takes its time", () => {
    const { lan, pass, worst, first, second } = bench();
    lan.node(first).isLinked = false;
    pass(5_000);
    Object.assign(lan.node(first), { isLinked: true, part: 1 });
    pass(1_500);
    lan.node(first).part = 0;
    pass(10_000);
    expect(lan.speakers(A)).toEqual([second]);
    expect(worst.doubleMs).toBe(0);
  });

  test("and of the next one at once leaves it to the third", () => {
    const { lan, pass, worst, first, second, third } = bench();
    lan.powerOff(first);
    lan.powerOff(second);
    pass(3_000);
    expect(lan.speakers(A)).toEqual([third]);
    expect(worst.gapMs).toBeLessThanOrEqual(850);
  });

  test("that a switch goes on answering ARP for does not keep the address", () => {
    const { lan, pass, first, second, worst } = bench();
    lan.suppress();
    lan.powerOff(first);
    pass(2_000);
    expect(lan.speakers(A)).toEqual([second]);
    expect(worst.gapMs).toBeLessThanOrEqual(850);
  });

  test("one after another leaves it to whoever is left, each time within 850 ms", () => {
    const { lan, pass, worst, first, second, third } = bench();
    lan.powerOff(first);
    pass(5_000);
    lan.powerOff(second);
    pass(5_000);
    expect(lan.speakers(A)).toEqual([third]);
    expect(worst.gapMs).toBeLessThanOrEqual(850);
  });

  test("of a worse node that had it leaves it to the better one that waits", () => {
    const { lan, pass, worst, first, second } = bench();
    lan.powerOff(first);
    pass(3_000);
    lan.powerOn(first);
    pass(10_000);
    expect(lan.speakers(A)).toEqual([second]);
    worst.gapMs = 0;
    lan.powerOff(second);
    pass(3_000);
    expect(lan.speakers(A)).toEqual([first]);
    expect(worst.gapMs).toBeLessThanOrEqual(850);
  });
});

describe("an agent that is away", () => {
  test("for 55 seconds costs nothing and moves nothing", () => {
    const { lan, pass, worst, first } = bench();
    lan.kill(first);
    pass(55_000);
    lan.startAgent(first);
    pass(10_000);
    expect(lan.speakers(A)).toEqual([first]);
    expect(worst).toEqual({ gapMs: 0, doubleMs: 0, changes: 0 });
  });

  test("for ever is followed when its rows go silent, in less than 300 ms, and never by two at once", () => {
    const { lan, pass, worst, first, second } = bench({ skew: true });
    lan.kill(first);
    pass(70_000);
    expect(lan.speakers(A)).toEqual([second]);
    expect(worst.gapMs).toBeLessThanOrEqual(300);
    expect(worst.doubleMs).toBe(0);
  });

  test("does not keep an address from being spoken for that another had when that one dies", () => {
    const { lan, pass, worst, first, second, third } = bench();
    lan.powerOff(first);
    pass(3_000);
    lan.powerOn(first);
    pass(5_000);
    // The better one waits, its agent goes, and then the one that has it dies.
    lan.kill(first);
    pass(5_000);
    worst.gapMs = 0;
    lan.powerOff(second);
    pass(5_000);
    expect(lan.speakers(A)).toEqual([third]);
    expect(worst.gapMs).toBeLessThanOrEqual(2_500);
  });

  test("stopped for 20 seconds and continued goes on, with nobody else heard", () => {
    const { lan, pass, worst, first } = bench();
    lan.node(first).agent = "stopped";
    pass(20_000);
    lan.node(first).agent = "running";
    pass(5_000);
    expect(lan.speakers(A)).toEqual([first]);
    expect(worst).toEqual({ gapMs: 0, doubleMs: 0, changes: 0 });
    expect(lan.node(first).rows.get(`${A}%2`)?.renewedMs).toBeGreaterThan(lan.node(first).clockMs() - 2_000);
  });

  test("stopped for 70 seconds finds the address with another and leaves it there", () => {
    const { lan, pass, worst, first, second } = bench();
    lan.node(first).agent = "stopped";
    pass(70_000);
    lan.node(first).agent = "running";
    pass(20_000);
    expect(lan.speakers(A)).toEqual([second]);
    expect(worst.doubleMs).toBe(0);
  });

  test("or a loop that hung for five seconds takes no other node for gone", () => {
    const { lan, pass, worst, second } = bench();
    for (let i = 0; i < 5; i++) {
      lan.node(second).agent = "stopped";
      pass(5_000);
      lan.node(second).agent = "running";
      pass(210);
    }
    expect(lan.node(second).machine().counts().claims).toBe(0);
    expect(worst.changes).toBe(0);
  });

  test("that comes back while the speaker's claims could be heard finds its row given up", () => {
    const { lan, pass, first, second, worst } = bench();
    lan.kill(first);
    lan.node(first).isLinked = false;
    // Longer than the other tells of its claim.
    pass(10_000);
    expect(lan.speakers(A)).toEqual([second]);
    lan.node(first).isLinked = true;
    pass(1_000);
    // Nobody renews it: its kernel gave it up on hearing the other.
    expect(lan.speakers(A)).toEqual([second]);
    lan.startAgent(first);
    pass(10_000);
    expect(lan.speakers(A)).toEqual([second]);
    expect(worst.doubleMs).toBeLessThan(1_000);
  });
});

describe("a self-check that fails", () => {
  test("lets the next in line have the address when its row is stale, and does not take it back", () => {
    const { lan, pass, worst, first, second } = bench();
    lan.node(first).isSound = false;
    pass(6_000);
    expect(lan.speakers(A)).toEqual([second]);
    lan.node(first).isSound = true;
    pass(30_000);
    expect(lan.speakers(A)).toEqual([second]);
    expect(worst.gapMs).toBe(0);
    expect(worst.doubleMs).toBeLessThanOrEqual(STEP_MS);
  });

  test.each([1, 3])("of every one of %i nodes leaves the address where it is, for as long as it lasts", (nodes) => {
    const { lan, pass, first, worst } = bench({ nodes });
    for (const node of lan.nodes) node.isSound = false;
    pass(180_000);
    expect(lan.speakers(A)).toEqual([first]);
    expect(worst).toEqual({ gapMs: 0, doubleMs: 0, changes: 0 });
    expect(lan.node(first).rows.get(`${A}%2`)?.renewedMs).toBeGreaterThan(lan.node(first).clockMs() - 2_000);
    if (nodes === 1) return;
    // The first that is sound again gets it.
    lan.nodes.find(({ name }) => name !== first)!.isSound = true;
    pass(20_000);
    expect(lan.speakers(A)).not.toEqual([first]);
    expect(worst.gapMs).toBe(0);
  });

  test("as its programs are off is followed too, and nothing is renewed without programs", () => {
    const { lan, pass, first, second } = bench();
    lan.node(first).isAttached = false;
    pass(6_000);
    expect(lan.speakers(A)).toEqual([second]);
    const alone = bench({ nodes: 1 });
    alone.lan.nodes[0]!.isAttached = false;
    alone.pass(70_000);
    expect(alone.lan.speakers(A)).toEqual([]);
  });

  test("as it lost its device for the address leaves it to the next in line, and all others where they are", () => {
    const lan = createLan({ nodes: 3, addresses: ADDRESSES });
    lan.pass(5_000);
    const before = new Map(ADDRESSES.map((address) => [address, lan.speakers(address)]));
    const [first = "", second = ""] = lan.ranked(A);
    const { orderOf } = lan.node(first);
    lan.node(first).orderOf = (address) => (address === A ? [] : orderOf(address));
    lan.node(first).isLacking = true;
    lan.node(first).noteObjects();
    lan.pass(6_000);
    const probes = lan.frames.probes;
    lan.pass(60_000);
    expect(lan.speakers(A)).toEqual([second]);
    for (const address of ADDRESSES.slice(1)) expect(lan.speakers(address)).toEqual(before.get(address));
    // Who doubts asks the wire, at a pace.
    expect((lan.frames.probes - probes) / 60).toBeLessThan(150);
  });

  test("as the link was down for a moment is over when the link is back, whoever has it then", () => {
    const { lan, pass, worst, first } = bench();
    lan.node(first).isLinked = false;
    pass(300);
    lan.node(first).isLinked = true;
    pass(5_000);
    expect(lan.speakers(A)).toHaveLength(1);
    expect(worst.doubleMs).toBe(0);
  });
});

describe("a better node that comes back", () => {
  test("and others that wait for the same address do not make each other ask again and again", () => {
    const lan = createLan({ nodes: 3, addresses: ADDRESSES });
    const [first = "", second = "", third = ""] = lan.ranked(A);
    for (const { name } of lan.nodes) lan.node(name).orderOf = () => [first, second, third];
    for (const name of [first, second]) lan.powerOff(name);
    lan.pass(8_000);
    expect(lan.speakers(A)).toEqual([third]);
    // One that is not sound is no reason for the other to stand by: both wait for the third.
    lan.node(first).isLacking = true;
    lan.powerOn(second);
    lan.powerOn(first);
    lan.pass(20_000);
    const probes = lan.frames.probes;
    lan.pass(20_000);
    expect(lan.speakers(A)).toEqual([third]);
    // Each of both asks for each address with one or two probes in a second, until it is answered.
    expect((lan.frames.probes - probes) / 20).toBeLessThanOrEqual(2 * 2 * ADDRESSES.length);
  });

  test("waits a minute of its health, and is then given the address with less than 700 ms between", () => {
    const { lan, pass, worst, first, second } = bench();
    lan.powerOff(first);
    pass(3_000);
    lan.powerOn(first);
    worst.gapMs = 0;
    pass(55_000);
    expect(lan.speakers(A)).toEqual([second]);
    pass(15_000);
    expect(lan.speakers(A)).toEqual([first]);
    expect(worst.gapMs).toBeLessThanOrEqual(700);
    expect(worst.doubleMs).toBe(0);
    expect(lan.node(second).machine().counts().handBacks).toBe(1);
  });

  test("gets many addresses one in a second", () => {
    const lan = createLan({ nodes: 2, addresses: ADDRESSES });
    const name = lan.nodes[0]!.name;
    lan.pass(3_000);
    const own = ADDRESSES.filter((address) => lan.speakers(address)[0] === name);
    expect(own.length).toBeGreaterThan(2);
    lan.powerOff(name);
    lan.pass(3_000);
    lan.powerOn(name);
    const times: number[] = [];
    const has = new Set<string>();
    lan.pass(90_000, () => {
      for (const address of own)
        if (lan.speakers(address)[0] === name && !has.has(address)) {
          has.add(address);
          times.push(lan.nowMs());
        }
    });
    expect(has.size).toBe(own.length);
    for (const [i, at] of times.entries()) if (i > 0) expect(at - times[i - 1]!).toBeGreaterThan(500);
  });

  test("that does not take what it is given leaves it where it was, and is not asked again for ten minutes", () => {
    const { lan, pass, worst, first, second } = bench();
    lan.powerOff(first);
    pass(3_000);
    lan.powerOn(first);
    // It answers, and thinks that it may not announce it.
    lan.node(first).orderOf = () => [second];
    worst.gapMs = 0;
    pass(180_000);
    expect(lan.speakers(A)).toEqual([second]);
    expect(worst.gapMs).toBeLessThanOrEqual(4_000);
    expect(lan.node(second).machine().counts().handBacks).toBe(1);
  });

  test("and goes again every two seconds moves nothing", () => {
    const { lan, pass, worst, first, second } = bench();
    lan.powerOff(first);
    pass(3_000);
    expect(lan.speakers(A)).toEqual([second]);
    Object.assign(worst, { gapMs: 0, changes: 0 });
    for (let i = 0; i < 60; i++) {
      lan.powerOn(first);
      pass(2_000);
      lan.powerOff(first);
      pass(2_000);
    }
    expect(worst).toEqual({ gapMs: 0, doubleMs: 0, changes: 0 });
  });
});

describe("a split", () => {
  test.each([
    { name: "the speaker alone", alone: 0 },
    { name: "the next in line alone", alone: 1 },
  ])("has a speaker on either side, and one within a second of its end ($name)", ({ alone }) => {
    const { lan, pass, worst } = bench();
    const name = lan.ranked(A)[alone]!;
    lan.node(name).part = 1;
    pass(20_000, name);
    for (const node of lan.nodes) expect(lan.speakers(A, node)).toHaveLength(1);
    worst.doubleMs = 0;
    const told = lan.toldBy(lan.ranked(A)[0]!);
    lan.node(name).part = 0;
    pass(10_000);
    // Clients that heard the other are told again.
    expect(lan.toldBy(lan.ranked(A)[0]!)).toBeGreaterThan(told);
    expect(lan.speakers(A)).toHaveLength(1);
    expect(worst.doubleMs).toBeLessThan(1_000);
    expect(worst.changes).toBeLessThan(3);
  });

  test("of less than a second does not delay the takeover after it", () => {
    const { lan, pass, worst, first, second } = bench({ nodes: 2 });
    lan.node(first).part = 1;
    for (let i = 0; i < 200 && lan.node(second).machine().counts().claims === 0; i++) pass(10, second);
    expect(lan.speakers(A)).toHaveLength(2);
    lan.node(first).part = 0;
    pass(2_000);
    expect(lan.speakers(A)).toEqual([first]);
    worst.gapMs = 0;
    lan.powerOff(first);
    pass(3_000);
    expect(lan.speakers(A)).toEqual([second]);
    expect(worst.gapMs).toBeLessThanOrEqual(850);
  });

  test("that nodes see in different orders ends with one speaker too", () => {
    const { lan, pass, worst, first, second } = bench({ nodes: 2 });
    lan.node(first).part = 1;
    pass(10_000, first);
    // Each takes itself for the better one.
    lan.node(second).orderOf = () => [second, first];
    lan.node(second).noteObjects();
    pass(1_000, first);
    lan.node(first).part = 0;
    pass(20_000);
    expect(lan.speakers(A)).toEqual([first]);
    expect(worst.doubleMs).toBeLessThan(5_000);
  });
});

describe("another machine that has the address", () => {
  const FOREIGN = "02:00:00:00:99:01";

  test("keeps it: nobody claims it, a notice says whose it is, and it is announced when that one is gone", () => {
    const lan = createLan({ nodes: 3, addresses: [A] });
    lan.hosts.set(FOREIGN, { has: (address) => address === A, part: 0 });
    lan.pass(120_000, () => expect(lan.speakers(A)).toEqual([]));
    const [first = ""] = lan.ranked(A);
    expect(noticesOf(lan, first)).toMatchObject([{ reason: "address-in-use", severity: "warning" }]);
    expect(noticesOf(lan, first)[0]?.message).toContain(FOREIGN);
    expect(lan.frames.probes).toBeLessThan(30);
    lan.hosts.clear();
    lan.pass(130_000);
    expect(lan.speakers(A)).toEqual([first]);
    expect(noticesOf(lan, first)).toEqual([]);
  });

  test("as a router with proxy ARP has every address keeps all of them, and the notice says that", () => {
    const lan = createLan({ nodes: 2, addresses: ADDRESSES });
    lan.hosts.set(FOREIGN, { has: () => true, part: 0 });
    lan.pass(20_000);
    for (const address of ADDRESSES) expect(lan.speakers(address)).toEqual([]);
    const messages = lan.nodes.flatMap(({ name }) => noticesOf(lan, name).map(({ message }) => message));
    expect(messages.filter((message) => message.includes("proxy ARP"))).toHaveLength(ADDRESSES.length);
  });

  test("claims what is announced in vain: it is announced again, and said", () => {
    const { lan, pass, first, reasons, worst } = bench();
    const claims = lan.frames.claims;
    lan.node(first).rows.get(`${A}%2`)!.claims = [{ mac: FOREIGN, atMs: lan.node(first).clockMs() }];
    pass(5_000);
    expect(lan.frames.claims).toBeGreaterThan(claims);
    expect(reasons(first)).toEqual(["address-in-use"]);
    expect(worst.changes).toBe(0);
    pass(310_000);
    expect(reasons(first)).toEqual([]);
  });
});

describe("nodes that do not answer questions", () => {
  test("as they cannot be asked are not taken for gone: who speaks goes on, and who dies is followed once nobody answers", () => {
    const { lan, pass, first, second, worst } = bench();
    lan.node(first).isNameless = true;
    pass(60_000);
    expect(lan.speakers(A)).toEqual([first]);
    expect(worst).toEqual({ gapMs: 0, doubleMs: 0, changes: 0 });
    lan.powerOff(first);
    pass(5_000);
    expect(lan.speakers(A)).toEqual([second]);
  });

  test("are there as their objects say, and a notice names them", () => {
    const { lan, pass, first, second, worst, reasons } = bench();
    lan.powerOff(second);
    lan.powerOn(second);
    lan.node(first).isMuted = true;
    pass(30_000);
    expect(lan.speakers(A)).toEqual([first]);
    expect(worst.changes).toBe(0);
    expect(reasons(second)).toContain("node-unheard");
  });

  test("and are heard to have the address get it", () => {
    const { lan, pass, first, second } = bench({ nodes: 2 });
    lan.powerOff(first);
    lan.powerOff(second);
    lan.powerOn(second);
    pass(15_000);
    expect(lan.speakers(A)).toEqual([second]);
    // As of an older version: it claims, and nobody knows its MAC.
    lan.node(second).rows.get(`${A}%2`)!.claims = [{ mac: "02:00:00:00:99:01", atMs: lan.node(second).clockMs() }];
    pass(500);
    expect(lan.speakers(A)).toEqual([]);
  });

  test("but are gone are followed once nobody answers for the address on the wire", () => {
    const { lan, pass, first, second } = bench();
    lan.powerOff(first);
    lan.powerOff(second);
    lan.powerOn(second);
    pass(15_000);
    expect(lan.speakers(A)).toEqual([second]);
  });

  test("any more, though they speak, are not fought over the address for ever", () => {
    const { lan, pass, first, second, worst, reasons } = bench({ nodes: 2 });
    lan.node(first).isMuted = true;
    pass(900_000);
    expect(lan.node(second).machine().counts().claims).toBeLessThanOrEqual(10);
    expect(worst.doubleMs).toBeLessThan(1_000);
    expect(lan.speakers(A)).toEqual([first]);
    expect([...reasons(first), ...reasons(second)].length).toBeGreaterThan(0);
  });
});

describe("without a secret", () => {
  test("the Node objects say who speaks, and a better node takes over from the worse", () => {
    const { lan, pass, first, second, worst } = bench({ liveness: false });
    expect(lan.speakers(A)).toEqual([first]);
    for (const node of lan.nodes) {
      node.orderOf = () => [second, first];
      node.noteObjects();
    }
    pass(10_000);
    expect(lan.speakers(A)).toEqual([second]);
    expect(worst.doubleMs).toBe(0);
    expect(worst.gapMs).toBeLessThanOrEqual(1_500);
    expect(lan.frames.questions).toBe(0);
  });

  test("a dead node is followed when its object says so, not before", () => {
    const { lan, pass, first, second, third } = bench({ liveness: false });
    lan.powerOff(first);
    pass(30_000);
    expect(lan.speakers(A)).toEqual([]);
    for (const node of lan.nodes) {
      node.orderOf = () => [second, third, first];
      node.noteObjects();
    }
    pass(2_000);
    expect(lan.speakers(A)).toEqual([second]);
  });
});

describe("a node that may not announce the address any more", () => {
  test("withdraws at once, and the next in line takes it within 700 ms", () => {
    const { lan, pass, first, second, third, worst } = bench();
    for (const node of lan.nodes) {
      node.orderOf = () => [second, third];
      node.noteObjects();
    }
    pass(3_000);
    expect(lan.node(first).rows.size).toBe(0);
    expect(lan.speakers(A)).toEqual([second]);
    expect(worst.gapMs).toBeLessThanOrEqual(700);
    expect(worst.doubleMs).toBe(0);
  });

  test("but is told so later than the others does not meet a second speaker", () => {
    const { lan, pass, first, second, third, worst } = bench();
    for (const node of lan.nodes) {
      node.orderOf = () => [second, third];
      if (node.name !== first) node.noteObjects();
    }
    pass(10_000);
    lan.node(first).noteObjects();
    pass(3_000);
    expect(lan.speakers(A)).toEqual([second]);
    expect(worst.doubleMs).toBe(0);
  });
});
