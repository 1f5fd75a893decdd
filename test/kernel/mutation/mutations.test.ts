// Mutated packets through every packet program, over filled tables: none is left with a checksum that it did not break itself, none
// reaches a backend that the model does not allow, each has one verdict. `make mutations` makes ten million of them; programs of
// sockets take no test run, and make no packets.
import { afterAll, beforeAll, expect, it } from "vitest";
import { VERDICT_VALUES } from "../../../src/datapath/layout.gen.ts";
import { addressText, audit, dissect, isReply, type Layers, networkAt, quotedBy, repair } from "../../packets/audit.ts";
import { ACTION, createTestNode, SNAT_COUNT, SNAT_FIRST, type TestNode, XDP_ACTION } from "../datapath/test-node.ts";
import { IS_THIN, tellLeftOut } from "../kernel-lacks.ts";
import { describeKernel } from "../require-kernel.ts";
import {
  type Allowed,
  allowedBackends,
  converse,
  endKey,
  hasLink,
  objectsServed,
  PLACES,
  type Seed,
} from "./corpus.ts";
import { diceOf, mutate } from "./mutate.ts";
import { createRunner, type Place } from "./runner.ts";

const USUAL = 100_000;
const COUNT = Number(process.env["MUTATIONS"] ?? (IS_THIN ? USUAL / 20 : USUAL));
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));
/** The tables are filled anew after so many: mutated packets make flows, and end them. */
const ROUND = 20_000;
const SHOWN = 10;

const TC_ACTIONS: ReadonlySet<number> = new Set([ACTION.next, ACTION.shot, ACTION.redirect]);
const XDP_ACTIONS: ReadonlySet<number> = new Set(Object.values(XDP_ACTION));

const isOutside = ({ program }: Place): boolean => program === "xdp_uplink" || program.startsWith("tc_uplink_in");
const isSnatPort = (port: number): boolean => port >= SNAT_FIRST && port < SNAT_FIRST + SNAT_COUNT;

interface Packet {
  readonly bytes: Uint8Array;
  readonly layers: Layers;
}

const source = ({ bytes, layers }: Packet): string => addressText(bytes, layers, "source");
const destination = ({ bytes, layers }: Packet): string => addressText(bytes, layers, "destination");

/** Is some backend of the frontend at this end allowed to be at that one? Pieces without ports are known by addresses. */
function allows(
  map: Allowed["outside"],
  protocol: number,
  frontend: readonly [string, number],
  backend: readonly [string, number],
): boolean {
  if (frontend[1] >= 0) return map.get(endKey(protocol, ...frontend))?.has(endKey(protocol, ...backend)) ?? false;
  for (const [key, ends] of map) {
    if (!key.startsWith(`${protocol} `) || !key.endsWith(frontend[0])) continue;
    for (const end of ends) if (end.endsWith(backend[0])) return true;
  }
  return false;
}

/** Is `after` what the model lets become of `before`, in either direction? */
function isAllowed(before: Packet, after: Packet, { outside, inside }: Allowed, forward: Allowed["outside"]): boolean {
  const { protocol, sourcePort, destinationPort } = before.layers;
  const to: readonly [string, number] = [destination(before), destinationPort];
  const toNow: readonly [string, number] = [destination(after), after.layers.destinationPort];
  const from: readonly [string, number] = [source(before), sourcePort];
  const fromNow: readonly [string, number] = [source(after), after.layers.sourcePort];
  if (allows(forward, protocol, to, toNow)) return true;
  if (allows(outside, protocol, fromNow, from) || allows(inside, protocol, fromNow, from)) return true;
  // A conversation straight to a backend, or of the node itself, that got another source port; and its answers.
  if (to[0] !== toNow[0] || from[0] !== fromNow[0]) return false;
  return (to[1] === toNow[1] && isSnatPort(fromNow[1])) || (from[1] === fromNow[1] && isSnatPort(to[1]));
}

/** Is it an ICMP error that was put around a packet that is none, of a device without link header? */
function isErrorMade(sent: Uint8Array, got: Uint8Array): boolean {
  const before = dissect(sent, 0);
  const after = dissect(got, 0);
  if (before === undefined || after === undefined || before.protocol === after.protocol) return false;
  return after.protocol === (after.family === 4 ? 1 : 58);
}

function faultsOf(place: Place, sent: Uint8Array, action: number, got: Uint8Array, allowed: Allowed): string[] {
  const actions = place.program === "xdp_uplink" ? XDP_ACTIONS : TC_ACTIONS;
  if (!actions.has(action)) return [`returned ${action}`];
  const isDropped = action === (place.program === "xdp_uplink" ? XDP_ACTION.drop : ACTION.shot);
  if (isDropped || Buffer.compare(sent, got) === 0) return [];
  const link = hasLink(place);
  const version = got[0]! >> 4;
  const linkNow = link || (version !== 4 && version !== 6);
  // A test run takes the first bytes for a link header that such a device has not, and makes room behind them.
  if (!link && isErrorMade(sent, got)) return [];
  const faults = audit(sent, got, link, linkNow);
  if (faults.length > 0) return faults;
  const layersOf = (bytes: Uint8Array, has: boolean): Packet | undefined => {
    const l3 = networkAt(bytes, has);
    const layers = l3 < 0 ? undefined : dissect(bytes, l3);
    return layers && { bytes, layers };
  };
  const before = layersOf(sent, link);
  const after = layersOf(got, linkNow);
  if (before === undefined || after === undefined) return before === after ? [] : ["an IP packet of something else"];
  if (isReply(sent, before.layers, got, after.layers)) return [];
  const forward = isOutside(place) ? allowed.outside : allowed.inside;
  const quoted = quotedBy(sent, before.layers);
  const quotedNow = quotedBy(got, after.layers);
  if (quoted === undefined || quotedNow === undefined) {
    // Only its MACs may be others.
    const same = Buffer.compare(sent.subarray(before.layers.l3), got.subarray(after.layers.l3)) === 0;
    return same || isAllowed(before, after, allowed, forward) ? [] : ["went where the model sends none"];
  }
  // What it quotes becomes what it was: the other way round, and of whichever client.
  const was = { bytes: got, layers: quotedNow };
  const is = { bytes: sent, layers: quoted };
  if (isAllowed(was, is, allowed, allowed.outside) || isAllowed(was, is, allowed, allowed.inside)) return [];
  return ["tells of a packet that the model makes none of"];
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describeKernel("mutated packets", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());

  const total = (): number => [...node.verdicts().values()].reduce((sum, count) => sum + count, 0);

  if (COUNT < USUAL && IS_THIN) tellLeftOut(USUAL - COUNT, "mutated packets");
  it(`${COUNT} of them, seed ${SEED}, keep their checksums and reach no strangers`, {
    timeout: 3_600_000,
  }, async () => {
    const given = objectsServed();
    await node.feed(given);
    const allowed = allowedBackends(given);
    const dice = diceOf(SEED);
    const runs = createRunner(node);
    const faults: string[] = [];
    let left = COUNT;
    let changed = 0;
    let dropped = 0;
    const one = (seeds: readonly Seed[]): void => {
      const seed = seeds[dice(seeds.length)]!;
      const place = dice(4) === 0 ? PLACES[dice(PLACES.length)]! : seed.place;
      const link = hasLink(seed.place);
      const other = seeds[dice(seeds.length)]!.packet;
      let packet = dice(50) === 0 ? seed.packet : mutate(seed.packet, link, dice, other);
      if (dice(2) === 0) {
        packet = packet.slice();
        const l3 = networkAt(packet, link);
        if (l3 >= 0) repair(packet, l3);
      }
      if (hasLink(place) !== link)
        packet = hasLink(place) ? Buffer.concat([seeds[0]!.packet.subarray(0, 14), packet]) : packet.subarray(14);
      if (packet.length < 15) return;
      const run = runs(place, packet);
      if (run === undefined) return;
      const { action, packet: got } = run;
      if (action === ACTION.shot) dropped++;
      else if (Buffer.compare(got, packet) !== 0) changed++;
      const found = faultsOf(place, packet, action, got, allowed);
      left--;
      if (found.length > 0)
        faults.push(`${JSON.stringify(place)} ${found.join(", ")}\n  ${hex(packet)}\n  ${hex(got)}`);
    };
    while (left > 0 && faults.length < SHOWN) {
      const seeds = converse(node);
      const before = total();
      const round = Math.min(left, ROUND);
      const goal = left - round;
      node.namespace.inside(() => {
        while (left > goal && faults.length < SHOWN) one(seeds);
      });
      if (faults.length === 0) expect(total() - before, "each has one verdict").toBe(round);
    }
    const told = `seed ${SEED}: ${COUNT - left} packets, ${changed} changed, ${dropped} dropped\n`;
    process.stderr.write(told);
    expect(faults.join("\n"), told).toBe("");
    expect([...node.verdicts().keys()].filter((name) => !(name.split(" ")[1]! in VERDICT_VALUES))).toEqual([]);
    // It is about packets that something becomes of.
    expect(changed).toBeGreaterThan(COUNT / 20);
  });
});
