// What a thousand addresses cost: frames on the LAN with three nodes, and the work of one node among a thousand. Figures are printed.
import { expect, test } from "vitest";
import { hashOf, score } from "../../src/decide/ranking.ts";
import type { Candidacy, KernelRow } from "../../src/l2/announcement.ts";
import { createAnnouncerMachine, type RowChanges, type Soundness } from "../../src/l2/announcer-machine.ts";
import { costOf } from "../cost.ts";
import { createLan } from "./lan.ts";

const ADDRESSES = Array.from({ length: 1_000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);

test("frames per second of 3 nodes with 1,000 addresses: at rest, at a death, and as a node is given its addresses back", {
  timeout: 60_000,
}, () => {
  const lan = createLan({ nodes: 3, addresses: ADDRESSES });
  const count = (what: string, seconds: number, run: () => void = () => undefined) => {
    const before = { ...lan.frames };
    run();
    lan.pass(seconds * 1_000);
    const perSecond = (key: keyof typeof before): number => (lan.frames[key] - before[key]) / seconds;
    const found = { claims: perSecond("claims"), probes: perSecond("probes"), questions: perSecond("questions") };
    const text = Object.entries(found).map(([key, n]) => `${n.toFixed(1)} ${key}`);
    process.stderr.write(`3 nodes, 1,000 addresses, frames per second ${what}: ${text.join(", ")}\n`);
    return found;
  };
  const [name = ""] = lan.ranked(ADDRESSES[0]!);
  count("in the first 10 s", 10);
  const rest = count("at rest", 60);
  // Each address is told once a minute; each node asks both others.
  expect(rest.claims).toBeLessThan(20);
  expect(rest.probes).toBe(0);
  expect(rest.questions).toBeLessThanOrEqual(31);
  const death = count("in the 5 s after a death", 5, () => lan.powerOff(name));
  expect(ADDRESSES.filter((address) => lan.speakers(address).length !== 1)).toEqual([]);
  // Three probes for each of its addresses, and six times told.
  expect(death.probes * 5).toBeLessThan(1_400);
  expect(death.claims * 5).toBeLessThan(3_000);
  const wait = count("while it waits for its addresses", 30, () => lan.powerOn(name));
  expect(wait.probes).toBeLessThan(160);
  expect(wait.claims).toBeLessThan(180);
  expect(ADDRESSES.filter((address) => lan.speakers(address).length !== 1)).toEqual([]);
});

test("work of a node for 1,000 addresses among 1,000 nodes: a look, a round of questions, and the death of a node", () => {
  const nodes = Array.from({ length: 1_000 }, (_, i) => `worker-${i}`);
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
  const machine = createAnnouncerMachine({
    ...{ capacity: 4_096, node: "self", gratuitousMs: 60_000, liveness: () => true },
    nodes: () => nodes,
    score: () => 0,
  });
  // Behind another node for every address, and of its own none: as much as there can be to watch.
  const candidacies = ADDRESSES.map((address, i): Candidacy => {
    const [above, below] = [nodes.slice(i % 500, (i % 500) + 2), nodes.slice(500 + (i % 500), 501 + (i % 500))];
    return { address, service: "default/web", device: "eth0", ifindex: 2, mac, above, below };
  });
  const rows = new Map<string, KernelRow>();
  const sound = new Map<number, Soundness>([[2, "sound"]]);
  let nowMs = 10_000;
  const gone = new Set<string>();
  const take = ({ remove, write }: RowChanges): void => {
    for (const { address } of remove) rows.delete(address);
    for (const one of write) {
      const { address } = one.announcement;
      const silentMs = one.how === "answer" ? nowMs + 60_000 : 0;
      const heard = { conflict: false, claims: [], probe: undefined };
      rows.set(address, { address, ifindex: 2, renewedMs: silentMs === 0 ? 0 : nowMs, silentMs, ...heard });
      machine.wrote(one, "", nowMs);
    }
  };
  const answer = { macs: [], incarnation: 1, ageMs: 100, sound: true, leaving: false };
  const round = (): void => {
    for (const node of machine.questions(nowMs)) if (!gone.has(node)) machine.answered(node, answer, nowMs);
    take(machine.look([...rows.values()], nowMs));
  };
  take(machine.renew([], sound, nowMs));
  take(machine.set(candidacies, [], nowMs));
  for (let i = 0; i < 10; i++) {
    nowMs += 200;
    round();
  }
  nowMs += 200;
  expect(costOf("1,000 addresses, 1,000 nodes: questions and a look", round)).toBeLessThan(50);
  expect(rows.size).toBe(0);
  for (const node of nodes.slice(0, 4)) gone.add(node);
  const ms = costOf("1,000 addresses, 1,000 nodes: the death of four nodes, until all is claimed", () => {
    for (let i = 0; i < 120; i++) {
      nowMs += 10;
      if (i % 20 === 0)
        for (const node of machine.questions(nowMs)) if (!gone.has(node)) machine.answered(node, answer, nowMs);
      if (machine.isLookDue(nowMs)) take(machine.look([...rows.values()], nowMs));
      machine.dueFrames(nowMs);
    }
  });
  expect(ms).toBeLessThan(500);
  // Those whose two better nodes are both gone.
  expect(machine.announced()).toHaveLength(6);
});

test("questions of a node for 1,000 addresses among 1,000 nodes: few at once, and all that live are alive", () => {
  const nodes = Array.from({ length: 1_000 }, (_, i) => `worker-${i}`);
  const self = "worker-7";
  const hashes = nodes.map((name) => ({ name, hash: hashOf(name) }));
  const machine = createAnnouncerMachine({
    ...{ capacity: 4_096, node: self, gratuitousMs: 60_000, liveness: () => true },
    nodes: () => nodes.filter((name) => name !== self),
    score: (node, address) => score(hashOf(node), hashOf(address)),
  });
  const candidacies = ADDRESSES.map((address): Candidacy => {
    const to = hashOf(address);
    const order = hashes
      .map(({ name, hash }) => ({ name, points: score(hash, to) }))
      .sort((a, b) => b.points - a.points)
      .slice(0, 4)
      .map(({ name }) => name);
    const place = order.indexOf(self);
    const above = place === -1 ? order : order.slice(0, place);
    const below = order.filter((name) => name !== self && !above.includes(name));
    return { address, service: "default/web", device: "eth0", ifindex: 2, mac: Uint8Array.of(2), above, below };
  });
  let nowMs = 10_000;
  machine.renew([], new Map([[2, "sound"]]), nowMs);
  machine.set(candidacies, [], nowMs);
  let asked = 0;
  let most = 0;
  const answer = { macs: [], incarnation: 1, ageMs: 100, sound: true, leaving: false };
  const pass = (rounds: number, dead: ReadonlySet<string>): void => {
    for (let i = 0; i < rounds; i++) {
      nowMs += 200;
      const now = machine.questions(nowMs);
      asked += now.length;
      most = Math.max(most, now.length);
      for (const node of now) if (!dead.has(node)) machine.answered(node, answer, nowMs);
      machine.look([], nowMs);
    }
  };
  pass(50, new Set());
  [asked, most] = [0, 0];
  pass(100, new Set());
  process.stderr.write(
    `1,000 nodes, 1,000 addresses: a node asks ${asked / 20} questions a second, ${most} at once at most\n`,
  );
  expect(asked / 20).toBeLessThan(300);
  expect(most).toBeLessThan(160);
  expect(machine.peers(nowMs).filter(({ state }) => state !== "alive")).toEqual([]);
  // A whole line that dies is seen by those that are not in it too.
  const line = candidacies.find(({ above }) => above.length === 4)!;
  pass(110, new Set(line.above));
  expect(machine.standings(nowMs).find(({ announcement }) => announcement.address === line.address)?.phase).toBe(
    "checking",
  );
});
