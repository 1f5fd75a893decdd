// Does what the announcer's state machine says: writes rows of `announced`, sends frames, joins groups, asks other nodes whether they
// live. The kernel program answers requests and hears who else claims an address; here no frame is received. What the kernel refuses
// is a notice, and is tried again.
import { createAnnouncedRows } from "../datapath/announced-rows.ts";
import type { Dataplane } from "../datapath/dataplane.ts";
import { machineNotice } from "../decide/machine-notice.ts";
import { hashOf, score } from "../decide/ranking.ts";
import { type Announcement, type Candidacy, type Heard, type KernelRow, placeText } from "../l2/announcement.ts";
import {
  type AnnouncerMachine,
  createAnnouncerMachine,
  type DueFrames,
  type RowChanges,
  type RowWrite,
  type Soundness,
} from "../l2/announcer-machine.ts";
import { announcementFrames, probeFrame } from "../l2/frames.ts";
import { nodeIdOf } from "../l2/liveness-message.ts";
import { SILENT_MS, STALE_MS } from "../l2/peers.ts";
import { createSolicitedGroups, type GroupChange } from "../l2/solicited-groups.ts";
import type { Address } from "../lib/address.ts";
import type { Log } from "../lib/log.ts";
import { clockBoottimeNs, errnoName, joinGroup, leaveGroup } from "../libbpf/mod.ts";
import type { Node, Notice } from "../model/objects.ts";
import type { LivenessLink } from "./liveness-link.ts";
import type { Timers } from "./timers.ts";

/** Nothing here throws for what the kernel refuses. */
export interface Announcer {
  /** What this node may announce from now on. Lost candidacies are withdrawn at once. */
  set(candidacies: readonly Candidacy[]): void;
  /** One second has passed. `sound`: by index the devices of which something may be said. */
  renew(sound: ReadonlyMap<number, Soundness>): ReturnType<AnnouncerMachine["soundness"]>;
  /** Those that are in force. */
  announced(): readonly Announcement[];
  /** All that this node may announce, and who has it. */
  standings(): ReturnType<AnnouncerMachine["standings"]>;
  /** The node that has the address as far as is known; "" when none is, or when this node may not announce it. */
  holderOf(address: Address | ""): string;
  peers(): ReturnType<AnnouncerMachine["peers"]>;
  counts: AnnouncerMachine["counts"];
  notices(): readonly Notice[];
  /** Ends what waits; withdraws nothing. */
  stop(): void;
}

export interface AnnouncerParts {
  readonly dataplane: Pick<Dataplane, "map" | "program">;
  readonly nodeName: string;
  readonly nodes: () => ReadonlyMap<string, Pick<Node, "internalAddresses">>;
  readonly liveness: { readonly link: Pick<LivenessLink, "ask" | "onAnswer">; isOn(): boolean };
  /** Between two announcements of an address that nothing happens to; 0: none. */
  readonly gratuitousSeconds: number;
  readonly timers: Pick<Timers, "after" | "guard" | "soon">;
  readonly log: Log;
  /** Boot clock. */
  readonly nowNs?: () => bigint;
  readonly changeGroups?: typeof changeGroupsByNetlink;
}

const NS_PER_MS = 1_000_000;
/** Between two parts of the frames that are due at once. */
const PART_MS = 5;
/** More than a timer takes is none to it. */
const LONGEST_MS = 2 ** 31 - 1;
/** Nodes asked at once, and how long their answers are given before more are asked: they are not to meet in the receive buffer. */
const ASKED_PART = 64;
const ASKED_PART_MS = 10;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
const msOf = (ns: bigint): number => Number(ns) / NS_PER_MS;

/** struct __sk_buff: ifindex is its eleventh word. */
function contextOf(ifindex: number): Uint8Array {
  const context = new Uint8Array(192);
  new DataView(context.buffer).setUint32(40, ifindex, true);
  return context;
}

/** What bpf_clone_redirect() returned: an errno below 0, or NET_XMIT_* of the device's queue. */
const unsentText = (retval: number): string => ((retval | 0) < 0 ? errnoName(-(retval | 0)) : "its device dropped it");

function framesOf({ kind, announcement: { address, mac } }: DueFrames): readonly Uint8Array[] {
  return kind === "probe" ? [probeFrame(address, mac)] : announcementFrames(address, mac);
}

export function createAnnouncer(parts: AnnouncerParts): Announcer {
  const { dataplane, nodeName, nodes, liveness, timers, log, nowNs = clockBoottimeNs } = parts;
  const announced = createAnnouncedRows(dataplane);
  const nowMs = (): number => msOf(nowNs());
  const machine = createAnnouncerMachine({
    ...{ capacity: announced.capacity, node: nodeName, liveness: liveness.isOn },
    nodes: () => [...nodes().keys()].filter((name) => name !== nodeName),
    score: (node, address) => score(hashOf(node), hashOf(address)),
    gratuitousMs: parts.gratuitousSeconds * 1_000,
  });
  const groups = createSolicitedGroups(parts.changeGroups ?? changeGroupsByNetlink, log);
  const told = new Map<string, Announcement>();
  /** Announcements whose frames could not be sent: said once. */
  const unsent = new Set<string>();
  /** The node that was asked last at an address. */
  const askedAt = new Map<Address, { readonly name: string; readonly id: string }>();
  /** Of the last round, yet to be asked. */
  let toAsk: string[] = [];
  let endAsking = (): void => undefined;
  let endWaiting = (): void => undefined;
  let stopped = false;
  let trouble = "";

  liveness.link.onAnswer(({ from, nodeId, macs, incarnation, ageMs, isSound, isLeaving }) => {
    const asked = askedAt.get(from);
    if (asked?.id !== nodeId) return;
    timers.guard(() => {
      machine.answered(asked.name, { macs, incarnation, ageMs, sound: isSound, leaving: isLeaving }, nowMs());
    });
  });

  function ask(name: string): void {
    const [address] = nodes().get(name)?.internalAddresses ?? [];
    if (address === undefined) {
      machine.unasked(name, nowMs());
      return;
    }
    if (askedAt.get(address)?.name !== name) askedAt.set(address, { name, id: nodeIdOf(name) });
    liveness.link.ask(address, () => timers.guard(() => machine.unasked(name, nowMs())));
  }

  function readRows(): KernelRow[] {
    return announced.read().map(({ address, ifindex, renewed, silent, conflict, heard }) => {
      const told = (kind: "claim" | "probe"): Heard[] =>
        heard.filter((one) => one.kind === kind).map(({ mac, at }) => ({ mac, atMs: msOf(at) }));
      const times = { renewedMs: msOf(renewed), silentMs: msOf(silent), conflict: conflict !== 0n };
      return { address, ifindex, ...times, claims: told("claim"), probe: told("probe")[0] };
    });
  }

  function send(due: DueFrames): void {
    const { announcement } = due;
    const text = placeText(announcement);
    try {
      const program = dataplane.program("tc_send");
      for (const data of framesOf(due)) {
        const { retval } = program.testRun({ data, context: contextOf(announcement.ifindex) });
        if (retval !== 0) throw new Error(`the kernel did not send it: ${unsentText(retval)}`);
      }
      unsent.delete(text);
    } catch (error) {
      machine.unsent(due, messageOf(error), nowMs());
      const { address, device } = announcement;
      if (!unsent.has(text)) log.warn({ address, device, err: error }, "could not send an announcement");
      unsent.add(text);
    }
  }

  function askRound(): void {
    if (!machine.isRoundDue(nowMs())) return;
    // This loop was too slow for them.
    for (const name of toAsk) machine.unasked(name, nowMs());
    const round = liveness.isOn() ? machine.questions(nowMs()) : [];
    if (round.length === 0) return;
    toAsk = [...round];
    askPart();
  }

  function askPart(): void {
    for (const name of toAsk.splice(0, ASKED_PART)) ask(name);
    endAsking();
    if (toAsk.length > 0) endAsking = timers.after(ASKED_PART_MS, askPart);
  }

  /** What is due: questions first, as whoever is judged gone has to have been asked. The next renewal makes good what fails here. */
  function work(): void {
    askRound();
    if (machine.isLookDue(nowMs())) turn((rows) => machine.look(rows, nowMs()));
    else speak();
  }

  function speak(): void {
    for (const due of machine.dueFrames(nowMs())) send(due);
    const next = machine.nextMs(nowMs());
    endWaiting();
    if (stopped || next === Number.POSITIVE_INFINITY) return;
    endWaiting = timers.after(Math.min(Math.max(PART_MS, next - nowMs()), LONGEST_MS), () => {
      // Answers that have come are read before it is asked who gave none.
      endWaiting = timers.soon(work);
    });
  }

  function report(): void {
    const now = new Map(machine.announced().map((announcement) => [placeText(announcement), announcement]));
    for (const [text, { address, device }] of told) if (!now.has(text)) log.info({ address, device }, "withdrawn");
    for (const [text, { address, device, service }] of now)
      if (!told.has(text)) log.info({ address, device, service }, "announcing");
    told.clear();
    for (const [text, announcement] of now) told.set(text, announcement);
  }

  function write(writes: readonly RowWrite[]): void {
    const renewed = nowNs();
    const stale = renewed + BigInt(STALE_MS * NS_PER_MS);
    const silent = renewed + BigInt(SILENT_MS * NS_PER_MS);
    for (const how of ["answer", "listen"] as const) {
      const list = writes.filter((one) => one.how === how);
      const times = how === "answer" ? { renewed, stale, silent } : { renewed: 0n, stale: 0n, silent: 0n };
      const refusals = announced.put(
        list.map(({ announcement }) => announcement),
        times,
      );
      for (const [i, refusal] of refusals.entries()) machine.wrote(list[i]!, refusal, msOf(renewed));
    }
  }

  /** One turn of the machine: what is removed makes room for what is written, and what is written may be spoken of. */
  function turn(ask: (rows: readonly KernelRow[]) => RowChanges): void {
    let rows: KernelRow[] = [];
    trouble = "";
    try {
      rows = readRows();
    } catch (error) {
      trouble = messageOf(error);
    }
    const changes = ask(rows);
    for (const place of changes.remove) {
      try {
        announced.remove(place);
      } catch (error) {
        trouble = messageOf(error);
      }
    }
    write(changes.write);
    groups.set(machine.wanted(), changes.remove, changes.regained);
    report();
    speak();
  }

  return {
    set: (candidacies) => turn((rows) => machine.set(candidacies, rows, nowMs())),
    renew(sound) {
      for (const [address, { name }] of askedAt) if (!nodes().has(name)) askedAt.delete(address);
      turn((rows) => machine.renew(rows, sound, nowMs()));
      return machine.soundness();
    },
    announced: machine.announced,
    standings: () => machine.standings(nowMs()),
    holderOf: (address) => machine.holderOf(address, nowMs()),
    peers: () => machine.peers(nowMs()),
    counts: machine.counts,
    notices() {
      const found = machine.notices(nowMs());
      return trouble === "" ? found : [...found, machineNotice("Map announced", "not-announced", trouble, "error")];
    },
    stop() {
      stopped = true;
      endWaiting();
      endAsking();
      groups.stop();
    },
  };
}

/** Netlink answers at once. For each change "" or why it was refused. */
async function changeGroupsByNetlink(changes: readonly GroupChange[]): Promise<readonly string[]> {
  return changes.map(({ verb, group, ifindex }) => {
    try {
      if (verb === "join") joinGroup(ifindex, group);
      else leaveGroup(ifindex, group);
      return "";
    } catch (error) {
      return messageOf(error);
    }
  });
}
