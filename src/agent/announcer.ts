// Does what the announcer's state machine says: writes rows of `announced`, sends frames, joins groups. The kernel program
// answers requests; here nothing is received. What the kernel refuses is a notice, and is tried again.
import { createAnnouncedRows } from "../datapath/announced-rows.ts";
import type { Dataplane } from "../datapath/dataplane.ts";
import { machineNotice } from "../decide/machine-notice.ts";
import {
  type Announcement,
  createAnnouncerMachine,
  type KernelRow,
  placeText,
  type RowChanges,
} from "../l2/announcer-machine.ts";
import { createSolicitedGroups, type GroupChange } from "../l2/solicited-groups.ts";
import type { Log } from "../lib/log.ts";
import { clockBoottimeNs, joinGroup, leaveGroup } from "../libbpf/mod.ts";
import type { Notice } from "../model/objects.ts";

export type { Announcement } from "../l2/announcer-machine.ts";

/** Nothing here throws for what the kernel refuses. */
export interface Announcer {
  /** What ought to be announced from now on. Lost announcements are withdrawn at once. */
  set(announcements: readonly Announcement[]): void;
  /** One second has passed. `isSound`: the self-check of the announcement passed. */
  renew(isSound: (announcement: Announcement) => boolean): void;
  /** Those that are in force. */
  announced(): readonly Announcement[];
  notices(): readonly Notice[];
  /** Stops the timers; withdraws nothing. */
  stop(): void;
}

const SECOND_NS = 1_000_000_000n;
const STALE_NS = 3n * SECOND_NS;
const SILENT_NS = 60n * SECOND_NS;
/** Between two parts of the frames that are due at once. */
const PART_MS = 5;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** struct __sk_buff: ifindex is its eleventh word. */
function contextOf(ifindex: number): Uint8Array {
  const context = new Uint8Array(192);
  new DataView(context.buffer).setUint32(40, ifindex, true);
  return context;
}

export function createAnnouncer(
  dataplane: Pick<Dataplane, "map" | "program">,
  log: Log,
  changeGroups: typeof changeGroupsByNetlink = changeGroupsByNetlink,
): Announcer {
  const announced = createAnnouncedRows(dataplane);
  const machine = createAnnouncerMachine(announced.capacity);
  const groups = createSolicitedGroups(changeGroups, log);
  const told = new Map<string, Announcement>();
  /** Announcements whose frames could not be sent: said once. */
  const unsent = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  let trouble = "";

  function readRows(): KernelRow[] {
    return announced.read().map(({ address, ifindex, conflict }) => ({ address, ifindex, conflict: conflict !== 0n }));
  }

  function speak(): void {
    clearTimeout(timer);
    for (const { announcement, frames } of machine.dueFrames(performance.now())) {
      try {
        const program = dataplane.program("tc_send");
        for (const data of frames) program.testRun({ data, context: contextOf(announcement.ifindex) });
        unsent.delete(placeText(announcement));
      } catch (error) {
        const { address, device } = announcement;
        const text = placeText(announcement);
        if (!unsent.has(text)) log.warn({ address, device, err: error }, "could not send an announcement");
        unsent.add(text);
      }
    }
    const next = machine.nextMs();
    if (next === Number.POSITIVE_INFINITY) return;
    timer = setTimeout(speak, Math.max(PART_MS, next - performance.now())).unref();
  }

  function report(): void {
    const now = new Map(machine.announced().map((announcement) => [placeText(announcement), announcement]));
    for (const [text, { address, device }] of told) if (!now.has(text)) log.info({ address, device }, "withdrawn");
    for (const [text, { address, device, service }] of now)
      if (!told.has(text)) log.info({ address, device, service }, "announcing");
    told.clear();
    for (const [text, announcement] of now) told.set(text, announcement);
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
    const renewed = clockBoottimeNs();
    const times = { renewed, stale: renewed + STALE_NS, silent: renewed + SILENT_NS };
    for (const [i, refusal] of announced.put(changes.write, times).entries())
      machine.wrote(changes.write[i]!, refusal, performance.now());
    groups.set(machine.wanted(), changes.remove, changes.regained);
    report();
    speak();
  }

  return {
    set: (announcements) => turn((rows) => machine.set(announcements, rows, performance.now())),
    renew: (isSound) => turn((rows) => machine.tick(rows, isSound, performance.now())),
    announced: machine.announced,
    notices() {
      if (trouble === "") return machine.notices();
      return [...machine.notices(), machineNotice("Map announced", "not-announced", trouble, "error")];
    },
    stop() {
      clearTimeout(timer);
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
