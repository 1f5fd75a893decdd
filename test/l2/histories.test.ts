// Whatever happens to nodes, agents, links and the LAN: outside a split nobody speaks beside another, an address has a speaker soon if
// some node can speak, it does not change hands for ever, and what belongs to another machine is left alone. Random histories;
// MILLRACE_HISTORIES makes more of them, MILLRACE_SEED repeats one.
import { expect, test } from "vitest";
import { type Random, seedOfRun, withSeed } from "../model/random.ts";
import { createLan, type LanNode, STEP_MS } from "./lan.ts";

const ADDRESSES = Array.from({ length: 6 }, (_, i) => `192.168.122.${101 + i}`);
const FOREIGN_ADDRESS = "192.168.122.199";
const FOREIGN = "02:00:00:00:99:01";
/** Two that can hear each other both speak so long at most. */
const DOUBLE_MS = 1_000;
/** Rows of an agent that is away answer for a minute, and so nobody need. */
const GAP_MS = 12_000;
/** An address that changed hands more than once lately may rest for so long. */
const DAMPED_MS = 160_000;
/** A node that has been well for so long can take an address. */
const WELL_MS = 6_000;
const HISTORY_MS = 180_000;
const CHANGES_PER_MINUTE = 30;

interface Faults {
  readonly losses: number;
  /** Of what can happen, what does. */
  readonly kinds: readonly Kind[];
}

const KINDS = {
  power: (node: LanNode, lan: ReturnType<typeof createLan>) =>
    node.isPowered ? lan.powerOff(node.name) : lan.powerOn(node.name),
  agent(node: LanNode, lan: ReturnType<typeof createLan>) {
    if (node.isPowered && node.agent === "running") lan.kill(node.name);
    else lan.startAgent(node.name);
  },
  pause(node: LanNode) {
    if (node.agent !== "away") node.agent = node.agent === "running" ? "stopped" : "running";
  },
  link(node: LanNode) {
    node.isLinked = !node.isLinked;
  },
  check(node: LanNode) {
    node.isSound = !node.isSound;
  },
  split(node: LanNode) {
    node.part = 1 - node.part;
  },
};
type Kind = keyof typeof KINDS;

function history(random: Random, { losses, kinds }: Faults): void {
  const addresses = [...ADDRESSES, FOREIGN_ADDRESS];
  const lan = createLan({ nodes: 4, addresses, losses, skew: true, seed: random.below(2 ** 31) });
  // Two hosts, one on either side of a split.
  for (const part of [0, 1])
    lan.hosts.set(`${FOREIGN.slice(0, -1)}${part + 1}`, { has: (address) => address === FOREIGN_ADDRESS, part });
  const heard = new Map<string, number>();
  const wellSince = new Map<string, number>();
  const doubles = new Map<string, number>();
  const gaps = new Map<string, number>();
  const changes = new Map<string, number[]>();
  const last = new Map<string, string>();
  const done: string[] = [];

  const isWell = (node: LanNode): boolean =>
    node.isPowered && node.isLinked && node.isSound && node.agent === "running";

  function look(): void {
    const now = lan.nowMs();
    for (const one of lan.nodes) {
      if (!isWell(one)) wellSince.delete(one.name);
      else if (!wellSince.has(one.name)) wellSince.set(one.name, now);
      for (const other of lan.nodes) {
        const pair = `${one.name} ${other.name}`;
        const both = [one, other];
        const isOn = one.part === other.part && both.every((node) => node.isPowered && node.isLinked);
        // Where neither agent runs nobody says anything that the other's kernel could hear.
        const isHeard = isOn && both.some(({ agent }) => agent === "running");
        if (!isHeard) heard.delete(pair);
        else if (!heard.has(pair)) heard.set(pair, now);
      }
    }
    for (const address of ADDRESSES) {
      const speakers = lan.speakers(address);
      const two = speakers.some((a, i) =>
        speakers.slice(i + 1).some((b) => now - (heard.get(`${a} ${b}`) ?? now) > DOUBLE_MS),
      );
      const doubleMs = two ? (doubles.get(address) ?? 0) + STEP_MS : 0;
      doubles.set(address, doubleMs);
      // Frames that are lost are said again 200 ms later.
      if (doubleMs > (losses > 0 ? DOUBLE_MS : 20)) fail(`${speakers} both speak for ${address}`);
      for (const part of [0, 1]) {
        const inPart = lan.nodes.filter((node) => node.part === part);
        const canSpeak = inPart.some(({ name }) => now - (wellSince.get(name) ?? now) > WELL_MS);
        const isSilent = canSpeak && !inPart.some(({ name }) => speakers.includes(name));
        const key = `${address} ${part}`;
        const gapMs = isSilent ? (gaps.get(key) ?? 0) + STEP_MS : 0;
        gaps.set(key, gapMs);
        const isDamped = (changes.get(address) ?? []).filter((at) => now - gapMs - at < DAMPED_MS).length > 2;
        if (gapMs > GAP_MS + (isDamped ? DAMPED_MS : 0)) fail(`nobody speaks for ${address} in part ${part}`);
      }
      const all = speakers.join();
      if (all === last.get(address)) continue;
      last.set(address, all);
      const times = [...(changes.get(address) ?? []), now];
      changes.set(address, times);
      const count = times.filter((at) => now - at < 60_000).length;
      if (count > CHANGES_PER_MINUTE) fail(`${address} changed hands ${count} times in a minute`);
    }
    if (lan.speakers(FOREIGN_ADDRESS).length > 0) fail("an address that is another machine's is announced");
  }

  function fail(what: string): never {
    const states = lan.nodes.map((node) => {
      const standing = node.agent === "running" && node.machine()?.standings(node.clockMs())[0];
      return `${node.name} part ${node.part} ${isWell(node) ? "well" : "ill"} ${standing ? `${standing.phase} ${standing.holder}` : ""}`;
    });
    throw new Error(`at ${lan.nowMs()}: ${what}; ${done.slice(-12).join(", ")}; ${states.join("; ")}`);
  }

  lan.pass(3_000, look);
  while (lan.nowMs() < HISTORY_MS) {
    const kind = random.pick(kinds);
    const node = random.pick(lan.nodes);
    KINDS[kind](node, lan);
    done.push(`${lan.nowMs()} ${kind} ${node.name}`);
    lan.pass(random.pick([200, 1_000, 3_000, 10_000, 70_000]), look);
  }
  // When all is well again every address has one speaker.
  for (const node of lan.nodes) {
    Object.assign(node, { isPowered: true, isLinked: true, isSound: true, part: 0 });
    lan.startAgent(node.name);
  }
  lan.pass(200_000);
  for (const address of ADDRESSES) expect(lan.speakers(address), address).toHaveLength(1);
}

const SEED = seedOfRun();
const COUNT = Number(process.env["MILLRACE_HISTORIES"] ?? 2);
const WAYS: readonly (Faults & { readonly name: string })[] = [
  { name: "power fails", losses: 0, kinds: ["power"] },
  { name: "links fail", losses: 0, kinds: ["link"] },
  { name: "agents go, hang and come", losses: 0, kinds: ["agent", "pause"] },
  { name: "self-checks fail", losses: 0, kinds: ["check", "pause"] },
  { name: "the LAN parts", losses: 0, kinds: ["split"] },
  { name: "the LAN parts and power fails, and frames are lost", losses: 10, kinds: ["split", "power"] },
  {
    name: "anything happens, and frames are lost",
    losses: 10,
    kinds: ["power", "link", "agent", "pause", "check", "split"],
  },
];

test.each(WAYS.flatMap((way) => Array.from({ length: COUNT }, (_, n) => ({ ...way, n }))))(
  "when $name, history $n",
  { timeout: 120_000 },
  ({ n, ...faults }) => withSeed(SEED + n, (random) => history(random, faults)),
);
