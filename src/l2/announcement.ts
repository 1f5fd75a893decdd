// What the announcer is told and reads: addresses that this node may announce, and the kernel's rows about them.
import type { Address } from "../lib/address.ts";
import type { Mac } from "../lib/mac.ts";

/** An address that this node announces on a device. */
export interface Announcement {
  readonly address: Address;
  /** "namespace/name". */
  readonly service: string;
  readonly device: string;
  readonly ifindex: number;
  readonly mac: Uint8Array;
}

/** An address that this node may announce on a device, and its place in the order of those that may. */
export interface Candidacy extends Announcement {
  /** Names of the nodes that come before it, best first; of more than four the first four. */
  readonly above: readonly string[];
  /** Of the first four in the order those that come after it. */
  readonly below: readonly string[];
}

/** Key of a row of `announced`. */
export type Place = Pick<Announcement, "address" | "ifindex">;

export const placeText = ({ address, ifindex }: Place): string => `${address}%${ifindex}`;

/** A foreign MAC, and when it was heard: milliseconds of the boot clock. */
export interface Heard {
  readonly mac: Mac;
  readonly atMs: number;
}

/** Times are milliseconds of the boot clock, 0 never. */
export interface KernelRow extends Place {
  readonly renewedMs: number;
  /** From then on it is not answered for: always so where it is 0, as the row then only listens. */
  readonly silentMs: number;
  /** The kernel heard another MAC claim the address while nobody renewed it, and gave it up. */
  readonly conflict: boolean;
  /** The last two that said that the address is theirs, newest first. */
  readonly claims: readonly Heard[];
  /** The last that asked whether the address is free. */
  readonly probe: Heard | undefined;
}
