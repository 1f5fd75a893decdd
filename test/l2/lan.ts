// A LAN in memory: nodes with an announcer's machine over a small kernel each, other hosts, and a switch that can lose frames, part the
// nodes and answer ARP in another's name. Time goes by in steps; every clock but the LAN's own has an offset and a rate of its own.
import { hashOf, score } from "../../src/decide/ranking.ts";
import type { Candidacy, KernelRow } from "../../src/l2/announcement.ts";
import { placeText } from "../../src/l2/announcement.ts";
import { type AnnouncerMachine, createAnnouncerMachine, type RowChanges } from "../../src/l2/announcer-machine.ts";
import { type Mac, macText } from "../../src/lib/mac.ts";
import { createRandom } from "../model/random.ts";

export const STEP_MS = 10;
const STALE_MS = 3_000;
const SILENT_MS = 60_000;
const RENEW_MS = 1_000;
const IFINDEX = 2;

export interface LanOptions {
  readonly nodes: number;
  readonly addresses: readonly string[];
  readonly liveness?: boolean;
  /** Of a thousand frames so many are lost. */
  readonly losses?: number;
  /** Clocks differ. */
  readonly skew?: boolean;
  readonly capacity?: number;
  readonly gratuitousMs?: number;
  readonly seed?: number;
}

interface Row {
  renewedMs: number;
  staleMs: number;
  silentMs: number;
  conflictMs: number;
  claims: { mac: Mac; atMs: number }[];
  probe: { mac: Mac; atMs: number } | undefined;
}

/** What goes over the LAN about an address. "claim": that it is at `mac`. */
interface Frame {
  readonly kind: "claim" | "probe";
  readonly address: string;
  readonly mac: Mac;
}

export interface LanNode {
  readonly name: string;
  readonly mac: Mac;
  isPowered: boolean;
  isLinked: boolean;
  /** running; stopped: no step until it is continued; away: killed */
  agent: "running" | "stopped" | "away";
  /** Its self-check, apart from the link's carrier: false with programs that run by old rows, or with none at all. */
  isSound: boolean;
  isAttached: boolean;
  /** It lost the device for some other address. */
  isLacking: boolean;
  /** Its Node object names no address to ask it at. */
  isNameless: boolean;
  /** Its datagrams about life are lost, by a firewall or for want of a port. */
  isMuted: boolean;
  /** Parted: only nodes and hosts of the same part hear each other. */
  part: number;
  /** Rows that the kernel refuses. */
  refuse: (address: string) => string;
  readonly rows: ReadonlyMap<string, Row>;
  readonly machine: () => AnnouncerMachine;
  clockMs(): number;
  /** Candidates as this node's objects say, best first, by address. */
  orderOf: (address: string) => readonly string[];
  /** Its objects or its place are others: they are looked at anew. */
  noteObjects(): void;
}

export function createLan(options: LanOptions) {
  const { addresses, liveness = true, losses = 0, gratuitousMs = 60_000, capacity = 4_096 } = options;
  const random = createRandom(options.seed ?? 1);
  const names = Array.from({ length: options.nodes }, (_, i) => `node${i + 1}`);
  let nowMs = 0;
  let heardInStep = 0;
  const frames = { claims: 0, probes: 0, questions: 0 };
  const claimsBy = new Map<string, number>();
  /** Hosts that are no nodes: what they answer for. */
  const hosts = new Map<Mac, { readonly has: (address: string) => boolean; part: number }>();
  /** The switch answers for these: neighbour suppression. */
  let suppressed: Map<string, Mac> | undefined;

  const scored = (node: string, address: string): number => score(hashOf(node), hashOf(address));
  const ranked = (address: string): string[] =>
    names.toSorted((a, b) => scored(b, address) - scored(a, address) || (a < b ? -1 : 1));
  const orders = new Map(addresses.map((address) => [address, ranked(address)]));

  function createNode(name: string, number: number) {
    const offsetMs = options.skew ? 1_000 + random.below(10_000_000) : 1_000;
    const rate = options.skew ? 1 + (random.below(200) - 100) / 1e6 : 1;
    const macBytes = Uint8Array.of(2, 0, 0, 0, 1, number);
    const rows = new Map<string, Row>();
    const life = { renewedMs: Number.NEGATIVE_INFINITY, sound: false, incarnation: 0 };
    let machine: AnnouncerMachine | undefined;
    let begunMs = 0;
    let renewMs = 0;
    let wakeMs = 0;
    let isNoted = false;
    let toTell: Parameters<AnnouncerMachine["answered"]>[] = [];

    const clockMs = (): number => offsetMs + nowMs * rate;
    const read = (): KernelRow[] =>
      [...rows].map(([text, { renewedMs, silentMs, conflictMs, claims, probe }]) => {
        const address = text.slice(0, text.indexOf("%"));
        const conflict = conflictMs > renewedMs;
        return { address, ifindex: IFINDEX, renewedMs, silentMs, conflict, claims: [...claims], probe };
      });

    function candidacies(): Candidacy[] {
      return addresses.flatMap((address) => {
        const order = node.orderOf(address);
        const place = order.indexOf(name);
        if (place === -1) return [];
        const above = order.slice(0, Math.min(place, 4));
        const below = order.slice(0, 4).filter((one) => one !== name && !above.includes(one));
        return [{ address, service: "default/web", device: "eth0", ifindex: IFINDEX, mac: macBytes, above, below }];
      });
    }

    function apply({ remove, write }: RowChanges): void {
      for (const place of remove) rows.delete(placeText(place));
      for (const one of write) {
        const text = placeText(one.announcement);
        const full = rows.size >= capacity && !rows.has(text) ? "E2BIG" : "";
        const refusal = node.refuse(one.announcement.address) || full;
        if (refusal === "") {
          const row = rows.get(text) ?? {
            ...{ renewedMs: 0, staleMs: 0, silentMs: 0, conflictMs: 0, claims: [], probe: undefined },
          };
          const at = clockMs();
          const times = { renewedMs: at, staleMs: at + STALE_MS, silentMs: at + SILENT_MS };
          Object.assign(row, one.how === "answer" ? times : { renewedMs: 0, staleMs: 0, silentMs: 0 });
          rows.set(text, row);
        }
        machine!.wrote(one, refusal, clockMs());
      }
    }

    function start(): void {
      life.incarnation++;
      machine = createAnnouncerMachine({
        ...{ capacity, node: name, gratuitousMs, score: scored },
        liveness: () => liveness,
        nodes: () => names.filter((other) => other !== name),
      });
      begunMs = nowMs;
      wakeMs = 0;
      // An agent takes a moment until its objects are there.
      renewMs = nowMs + 200;
      isNoted = true;
    }

    function renew(): void {
      renewMs = nowMs + RENEW_MS;
      const state = !node.isLinked ? "no-carrier" : !node.isAttached ? undefined : node.isSound ? "sound" : "impaired";
      apply(machine!.renew(read(), state === undefined ? new Map() : new Map([[IFINDEX, state]]), clockMs()));
      const { sound, renews } = machine!.soundness();
      life.sound = sound && !node.isLacking;
      if (renews) life.renewedMs = clockMs();
    }

    function run(): void {
      if (!node.isPowered || node.agent !== "running") return;
      if (machine === undefined) start();
      if (nowMs < renewMs && !isNoted && toTell.length === 0 && clockMs() < wakeMs) return;
      for (const answer of toTell.splice(0)) machine!.answered(...answer);
      for (const asked of machine!.questions(clockMs())) ask(node, asked);
      if (isNoted && nowMs - begunMs >= 100) {
        isNoted = false;
        apply(machine!.set(candidacies(), read(), clockMs()));
      }
      if (nowMs >= renewMs) renew();
      if (machine!.isLookDue(clockMs())) apply(machine!.look(read(), clockMs()));
      for (let due = machine!.dueFrames(clockMs()); due.length > 0; due = machine!.dueFrames(clockMs()))
        for (const { announcement, kind } of due) {
          const frame = { kind: kind === "probe" ? ("probe" as const) : ("claim" as const) };
          send(node, { ...frame, address: announcement.address, mac: macText(announcement.mac) });
        }
      wakeMs = machine!.nextMs(clockMs());
    }

    function hear({ kind, address, mac }: Frame): void {
      const row = rows.get(`${address}%${IFINDEX}`);
      if (row === undefined || !node.isPowered || !node.isLinked || mac === node.mac) return;
      // What is heard in one step has an order.
      heardInStep += 0.001;
      const at = clockMs() + heardInStep;
      if (kind === "probe") {
        row.probe = { mac, atMs: at };
        if (at < row.silentMs) send(node, { kind: "claim", address, mac: node.mac }, mac);
        return;
      }
      if (row.claims[0]?.mac === mac) row.claims[0].atMs = at;
      else row.claims = [{ mac, atMs: at }, ...row.claims.slice(0, 1)];
      if (at < row.staleMs || at >= row.silentMs) return;
      row.conflictMs = at;
      row.silentMs = 0;
    }

    const node: LanNode & {
      run(): void;
      hear(frame: Frame): void;
      tell: typeof tell;
      life: typeof life;
      drop(): void;
    } = {
      ...{ name, mac: macText(macBytes), isPowered: true, isLinked: true, agent: "running", isSound: true },
      ...{ isAttached: true, isLacking: false, isNameless: false },
      ...{ isMuted: false, part: 0, refuse: () => "", rows, clockMs, run, hear, tell, life },
      machine: () => machine!,
      orderOf: (address) => orders.get(address)!,
      noteObjects: () => {
        isNoted = true;
      },
      drop: () => {
        machine = undefined;
        toTell = [];
      },
    };
    function tell(...answer: (typeof toTell)[number]): void {
      if (node.agent !== "away") toTell.push(answer);
    }
    return node;
  }

  const nodes = names.map((name, i) => createNode(name, i + 1));
  type Own = (typeof nodes)[number];
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const isOn = (node: LanNode): boolean => node.isPowered && node.isLinked;
  const isLost = (): boolean => losses > 0 && random.below(1_000) < losses;

  /** To all, or to one MAC. */
  function send(from: LanNode, frame: Frame, to?: Mac): void {
    frames[frame.kind === "probe" ? "probes" : "claims"]++;
    if (frame.kind === "claim" && to === undefined) claimsBy.set(from.name, (claimsBy.get(from.name) ?? 0) + 1);
    if (!isOn(from)) return;
    const speaker = suppressed?.get(frame.address);
    if (frame.kind === "claim") suppressed?.set(frame.address, frame.mac);
    else if (speaker !== undefined) {
      (from as Own).hear({ kind: "claim", address: frame.address, mac: speaker });
      return;
    }
    for (const node of nodes)
      if (node !== from && node.part === from.part && (to === undefined || to === node.mac) && !isLost())
        node.hear(frame);
    if (frame.kind !== "probe") return;
    for (const [mac, host] of hosts)
      if (host.part === from.part && host.has(frame.address) && !isLost())
        (from as Own).hear({ kind: "claim", address: frame.address, mac });
  }

  function ask(from: Own, name: string): void {
    frames.questions++;
    const to = byName.get(name)!;
    if (to.isNameless) {
      from.machine().unasked(name, from.clockMs());
      return;
    }
    const isHeard = isOn(from) && isOn(to) && from.part === to.part && !from.isMuted && !to.isMuted;
    if (!isHeard || isLost() || isLost()) return;
    const { renewedMs, sound, incarnation } = to.life;
    const ageMs = Number.isFinite(renewedMs) ? Math.floor(to.clockMs() - renewedMs) : Number.POSITIVE_INFINITY;
    from.tell(name, { macs: [to.mac], incarnation, ageMs, sound, leaving: false }, from.clockMs());
  }

  /** Nodes that a client beside the node `near` would get an answer from. */
  function speakers(address: string, near?: LanNode): string[] {
    return nodes
      .filter((node) => {
        const row = node.rows.get(`${address}%${IFINDEX}`);
        const isNear = near === undefined || near.part === node.part;
        return isOn(node) && isNear && row !== undefined && node.clockMs() < row.silentMs;
      })
      .map(({ name }) => name);
  }

  return {
    nodes: nodes as readonly LanNode[],
    node: (name: string): LanNode => byName.get(name)!,
    frames,
    /** Unasked announcements of this node. */
    toldBy: (name: string): number => claimsBy.get(name) ?? 0,
    hosts,
    nowMs: () => nowMs,
    /** Best first. */
    ranked,
    speakers,
    /** From now on the switch answers by itself for what it has learned. */
    suppress() {
      suppressed = new Map();
      for (const address of addresses)
        for (const name of speakers(address)) suppressed.set(address, byName.get(name)!.mac);
    },
    /** `look` is called after each step. */
    pass(ms: number, look: () => void = () => undefined): void {
      for (const end = nowMs + ms; nowMs < end; ) {
        nowMs += STEP_MS;
        heardInStep = 0;
        for (const node of nodes) node.run();
        look();
      }
    },
    powerOff(name: string): void {
      const node = byName.get(name)!;
      node.isPowered = false;
      node.drop();
      (node.rows as Map<string, Row>).clear();
      node.life.renewedMs = Number.NEGATIVE_INFINITY;
    },
    powerOn(name: string): void {
      byName.get(name)!.isPowered = true;
    },
    kill(name: string): void {
      const node = byName.get(name)!;
      node.agent = "away";
      node.drop();
    },
    startAgent(name: string): void {
      byName.get(name)!.agent = "running";
    },
  };
}

export type Lan = ReturnType<typeof createLan>;
