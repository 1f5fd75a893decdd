// What this node's part in announcing addresses is: announcements, the kernel's rows and the clock go in, rows of `announced` and
// frames come out. Pure: no map, socket or timer. A protocol between nodes would bring frames in beside the rows.
//
//   renewed  every second, while the self-check passes
//   stale    3 s later: still answered, but given up by the kernel when another MAC claims the address
//   silent   60 s later, or given up: no answer
import type { Address } from "../lib/address.ts";
import type { Notice } from "../model/objects.ts";
import { announcementFrames } from "./frames.ts";

/** An address that this node ought to announce on a device. */
export interface Announcement {
  readonly address: Address;
  /** "namespace/name". */
  readonly service: string;
  readonly device: string;
  readonly ifindex: number;
  readonly mac: Uint8Array;
}

/** Key of a row of `announced`. */
export type Place = Pick<Announcement, "address" | "ifindex">;

export interface KernelRow extends Place {
  /** The kernel heard another MAC claim the address while nobody renewed it, and gave it up. */
  readonly conflict: boolean;
}

export interface RowChanges {
  readonly remove: readonly Place[];
  /** To be written as renewed now. `wrote` is told of each how that went. */
  readonly write: readonly Announcement[];
  /** Whose self-check passes again: their device may have forgotten its groups. */
  readonly regained: readonly Announcement[];
}

/** Times are milliseconds of a clock that never goes back. */
export interface AnnouncerMachine {
  /** What ought to be announced from now on. `rows`: all of the kernel's. */
  set(announcements: readonly Announcement[], rows: readonly KernelRow[], nowMs: number): RowChanges;
  /** A second has passed. `isSound`: the self-check of the announcement passed. */
  tick(rows: readonly KernelRow[], isSound: (announcement: Announcement) => boolean, nowMs: number): RowChanges;
  /** The row of `announcement` was written, or refused with this reason. */
  wrote(announcement: Announcement, refusal: string, nowMs: number): void;
  /** Frames that are due, of so many announcements at a time that sending them takes no long task. Only of announcements that are answered for. */
  dueFrames(nowMs: number): { readonly announcement: Announcement; readonly frames: readonly Uint8Array[] }[];
  /** When the next frames are due; Infinity when none will be. */
  nextMs(): number;
  /** Those whose row is in force. */
  announced(): readonly Announcement[];
  /** Those in force or yet to come. */
  wanted(): readonly Announcement[];
  notices(): readonly Notice[];
}

const REPEAT_MS = [0, 200, 1_100, 2_200, 3_300, 4_400];
const REFRESH_MS = 60_000;
const RETRY_MS = [1_000, 5_000, 20_000, 60_000];
const PART = 64;
/** An address that was taken back, and that nobody else claims for so long, is no news any more. */
const SETTLED_MS = 300_000;

interface Spoken {
  announcement: Announcement;
  /** The self-check passed when it was asked last. */
  isSound: boolean;
  /** Since then the frames of this MAC go out. */
  sinceMs: number;
  dueMs: number;
  /** Its row was written. */
  inForce: boolean;
  refusal: string;
  refusals: number;
  retryMs: number;
  conflict: "none" | "given up" | "taken back";
  conflictMs: number;
}

export const placeText = ({ address, ifindex }: Place): string => `${address}%${ifindex}`;

/** `capacity`: rows of `announced`. Beyond it, what is announced stays, and of the others the first by address come. */
export function createAnnouncerMachine(capacity: number): AnnouncerMachine {
  const spoken = new Map<string, Spoken>();
  let left: readonly Announcement[] = [];
  let begun = false;

  function restart(one: Spoken, nowMs: number): void {
    one.sinceMs = nowMs;
    one.dueMs = nowMs;
  }

  function begin(announcement: Announcement, nowMs: number): Spoken {
    const times = { sinceMs: nowMs, dueMs: nowMs, retryMs: nowMs, conflictMs: nowMs };
    return { announcement, ...times, isSound: true, inForce: false, refusal: "", refusals: 0, conflict: "none" };
  }

  const strangers = (rows: readonly KernelRow[]): KernelRow[] => rows.filter((row) => !spoken.has(placeText(row)));
  const conflictsIn = (rows: readonly KernelRow[]): ReadonlySet<string> =>
    new Set(rows.filter(({ conflict }) => conflict).map(placeText));
  const speaks = (one: Spoken): boolean => one.inForce && one.isSound;

  return {
    set(announcements, rows, nowMs) {
      begun = true;
      const held = new Set([...spoken.keys(), ...rows.map(placeText)]);
      const sorted = announcements
        .map((announcement) => ({ announcement, text: placeText(announcement) }))
        .sort((a, b) => Number(held.has(b.text)) - Number(held.has(a.text)) || (a.text < b.text ? -1 : 1));
      const chosen = new Map(sorted.slice(0, capacity).map(({ announcement, text }) => [text, announcement]));
      left = sorted.slice(capacity).map(({ announcement }) => announcement);
      const conflicts = conflictsIn(rows);
      for (const text of spoken.keys()) if (!chosen.has(text)) spoken.delete(text);
      const write: Announcement[] = [];
      for (const [text, next] of chosen) {
        const known = spoken.get(text);
        if (known === undefined) {
          spoken.set(text, begin(next, nowMs));
          // Whether one that was given up is taken back, the self-check says.
          if (!conflicts.has(text)) write.push(next);
          continue;
        }
        const before = known.announcement;
        known.announcement = next;
        if (before.device !== next.device || Buffer.compare(before.mac, next.mac) !== 0) restart(known, nowMs);
      }
      return { remove: strangers(rows), write, regained: [] };
    },
    tick(rows, isSound, nowMs) {
      // What an agent before announced goes on until it is known what ought to be announced.
      if (!begun) return { remove: [], write: [], regained: [] };
      const conflicts = conflictsIn(rows);
      const write: Announcement[] = [];
      const regained: Announcement[] = [];
      for (const [text, one] of spoken) {
        const was = one.isSound;
        one.isSound = isSound(one.announcement);
        if (conflicts.has(text)) {
          one.conflict = one.isSound ? "taken back" : "given up";
          one.conflictMs = nowMs;
          one.inForce = false;
        } else if (one.conflict === "taken back" && nowMs - one.conflictMs >= SETTLED_MS) one.conflict = "none";
        if (!one.isSound) continue;
        if (!was) regained.push(one.announcement);
        if (!was || conflicts.has(text)) restart(one, nowMs);
        if (nowMs >= one.retryMs) write.push(one.announcement);
      }
      return { remove: strangers(rows), write, regained };
    },
    wrote(announcement, refusal, nowMs) {
      const one = spoken.get(placeText(announcement));
      if (one === undefined) return;
      one.inForce = refusal === "";
      one.refusal = refusal;
      one.refusals = refusal === "" ? 0 : one.refusals + 1;
      if (refusal === "") return;
      one.retryMs = nowMs + RETRY_MS[Math.min(one.refusals, RETRY_MS.length) - 1]!;
      restart(one, nowMs);
    },
    dueFrames(nowMs) {
      const found: ReturnType<AnnouncerMachine["dueFrames"]> = [];
      for (const one of spoken.values()) {
        if (!speaks(one) || nowMs < one.dueMs) continue;
        if (found.length === PART) break;
        const next = REPEAT_MS.find((ms) => one.sinceMs + ms > nowMs);
        one.dueMs = next === undefined ? nowMs + REFRESH_MS : one.sinceMs + next;
        const { announcement } = one;
        found.push({ announcement, frames: announcementFrames(announcement.address, announcement.mac) });
      }
      return found;
    },
    nextMs() {
      let next = Number.POSITIVE_INFINITY;
      for (const one of spoken.values()) if (speaks(one)) next = Math.min(next, one.dueMs);
      return next;
    },
    announced: () => [...spoken.values()].filter(({ inForce }) => inForce).map(({ announcement }) => announcement),
    wanted: () => [...spoken.values()].map(({ announcement }) => announcement),
    notices() {
      const found: Notice[] = [];
      for (const { announcement, conflict, refusal } of spoken.values()) {
        const object = `Service ${announcement.service}`;
        const about = { object, file: "", field: "status.loadBalancer" };
        const { address, device } = announcement;
        if (refusal !== "") {
          const message = `could not announce ${address} on ${device}: ${refusal}; it is tried again`;
          found.push({ ...about, reason: "not-announced", message, severity: "error" });
        }
        if (conflict === "none") continue;
        const then = conflict === "taken back" ? "announcing it again" : "left to it until this node is sound again";
        const message = `${address} was claimed by another MAC on ${device} while this agent was away; ${then}`;
        found.push({ ...about, reason: "address-in-use", message, severity: "warning" });
      }
      if (left.length === 0) return found;
      const some = left.slice(0, 3).map(({ address, service }) => `${address} of ${service}`);
      const message = `${capacity} of ${capacity + left.length} addresses are announced, as map "announced" is full: not ${some.join(", ")}${left.length > some.length ? ` and ${left.length - some.length} more` : ""}`;
      return [
        ...found,
        { object: "Map announced", file: "", field: "", reason: "table-full", message, severity: "error" },
      ];
    },
  };
}
