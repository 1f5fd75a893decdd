// The rows of `announced`: read with what was heard about their addresses, and renewed in place by a program, as a row that is replaced
// loses what the kernel hears meanwhile. Decides nothing.
import type { Address } from "../lib/address.ts";
import { KernelError } from "../lib/errors.ts";
import { type Mac, macText } from "../lib/mac.ts";
import type { Dataplane } from "./dataplane.ts";
import {
  ANNOUNCED_KEY,
  ANNOUNCEMENT,
  type Announcement,
  readAnnouncedKey,
  readAnnouncement,
  writeAnnouncedKey,
  writeAnnouncement,
} from "./layout.gen.ts";

export interface AnnouncedPlace {
  readonly address: Address;
  readonly ifindex: number;
}

/** Nanoseconds of the boot clock. `silent` 0: the row listens, and does not answer. */
export interface AnnouncedTimes {
  readonly renewed: bigint;
  readonly stale: bigint;
  readonly silent: bigint;
}

/** Another machine, told by its MAC, was heard on the row's device. */
export interface Heard {
  readonly mac: Mac;
  /** "claim": it said that the address is its own. "probe": it asked whether anybody has it. */
  readonly kind: "claim" | "probe";
  /** Nanoseconds of the boot clock: the last time. */
  readonly at: bigint;
}

export interface AnnouncedRow extends AnnouncedPlace, AnnouncedTimes {
  /** When the kernel gave it up, as another MAC claimed it while nobody renewed it; 0n: it did not since `renewed`. */
  readonly conflict: bigint;
  /** The last two machines that claimed the address, newest first, and the last that probed for it. */
  readonly heard: readonly Heard[];
}

export interface AnnouncedRows {
  readonly capacity: number;
  /** Throws KernelError. */
  read(): AnnouncedRow[];
  /** Makes or renews rows. For each "" or why the kernel refused it. What was heard stays. */
  put(places: readonly AnnouncedPlace[], times: AnnouncedTimes): string[];
  /** Throws KernelError. */
  remove(place: AnnouncedPlace): void;
}

const TIMES_BYTES = 24;
/** As bpf/tc.bpf.c has it: a bit of the result for each. */
const RENEWALS = 32;
const NOEXIST = 1;
const NEVER: Announcement = {
  ...{ renewed: 0n, stale: 0n, silent: 0n, conflict: 0n, prober: 0n, probed: 0n },
  ...{ claimant: [0n, 0n], claimed: [0n, 0n] },
};

/** undefined: nothing was heard, or the word and its time are of two moments, and the next reading tells. */
function heardIn(who: bigint, at: bigint, kind: Heard["kind"]): Heard | undefined {
  if (at === 0n || who >> 56n !== ((at >> 20n) & 0xffn)) return undefined;
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, who, true);
  return { mac: macText(bytes), kind, at };
}

function rowOf(key: Uint8Array, value: Uint8Array): AnnouncedRow {
  const { renewed, stale, silent, conflict, claimant, claimed, prober, probed } = readAnnouncement(value);
  const heard = [
    heardIn(claimant[0]!, claimed[0]!, "claim"),
    heardIn(claimant[1]!, claimed[1]!, "claim"),
    heardIn(prober, probed, "probe"),
  ];
  return {
    ...readAnnouncedKey(key),
    ...{ renewed, stale, silent },
    conflict: conflict > renewed ? conflict : 0n,
    heard: heard.filter((one) => one !== undefined),
  };
}

function keyOf({ address, ifindex }: AnnouncedPlace): Uint8Array {
  const key = new Uint8Array(ANNOUNCED_KEY.size);
  writeAnnouncedKey(key, 0, { address, ifindex });
  return key;
}

export function createAnnouncedRows(dataplane: Pick<Dataplane, "map" | "program">): AnnouncedRows {
  const map = dataplane.map("announced");

  /** Renews up to 32 rows that are there; the others are made. */
  function renew(keys: readonly Uint8Array[], times: AnnouncedTimes): number {
    const data = new Uint8Array(TIMES_BYTES + keys.length * ANNOUNCED_KEY.size);
    const view = new DataView(data.buffer);
    const { renewed, stale, silent } = times;
    for (const [i, time] of [renewed, stale, silent].entries()) view.setBigUint64(i * 8, time, true);
    for (const [i, key] of keys.entries()) data.set(key, TIMES_BYTES + i * ANNOUNCED_KEY.size);
    return dataplane.program("tc_renew").testRun({ data }).retval;
  }

  function make(key: Uint8Array, times: AnnouncedTimes): string {
    const value = new Uint8Array(ANNOUNCEMENT.size);
    writeAnnouncement(value, 0, { ...NEVER, ...times });
    try {
      map.update(key, value, NOEXIST);
      return "";
    } catch (error) {
      if (error instanceof KernelError) return error.message;
      throw error;
    }
  }

  return {
    capacity: map.maxEntries,
    read: () => [...map.entries()].map(([key, value]) => rowOf(key, value)),
    put(places, times) {
      const refusals: string[] = [];
      for (let from = 0; from < places.length; from += RENEWALS) {
        const keys = places.slice(from, from + RENEWALS).map(keyOf);
        let found = 0;
        let refusal = "";
        try {
          found = renew(keys, times);
        } catch (error) {
          if (!(error instanceof KernelError)) throw error;
          refusal = error.message;
        }
        keys.forEach((key, i) => {
          const isThere = ((found >>> i) & 1) === 1;
          refusals.push(refusal !== "" || isThere ? refusal : make(key, times));
        });
      }
      return refusals;
    },
    remove: (place) => void map.delete(keyOf(place)),
  };
}
