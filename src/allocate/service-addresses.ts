// Cluster addresses as an API server gives them: which ranges there are, which address is free, what is refused and in
// which words. Who holds what is the ledger's (service-ledger.ts).
import {
  type Address,
  type AddressRange,
  addressFromBigInt,
  addressToBigInt,
  familyOf,
  parseRange,
} from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import { CLUSTER_IP_BAND, pickFree, reservedOffset } from "./allocation-range.ts";

/** A prefix that cluster addresses come from. `first` and `last` can be given: its own address is left out, and an IPv4 prefix's last. */
export interface ServiceRange extends AddressRange {
  /** As it was written. */
  readonly text: string;
}

/** At most one range for each family; the first is the default family's. Throws a usage Failure. */
export function parseServiceRanges(texts: readonly string[]): readonly ServiceRange[] {
  const ranges = texts.map((text): ServiceRange => {
    const range = text.includes("/") ? parseRange(text) : undefined;
    if (range === undefined || range.last - range.first < 3n) {
      throw new Failure(
        "usage",
        "--service-cluster-ip-range",
        `could not use --service-cluster-ip-range ${text}: it is no prefix of at least four addresses`,
      );
    }
    const last = range.family === "IPv4" ? range.last - 1n : range.last;
    return { text, family: range.family, first: range.first + 1n, last };
  });
  if (ranges.length === 0 || ranges.length > 2 || (ranges.length === 2 && ranges[0]?.family === ranges[1]?.family)) {
    throw new Failure(
      "usage",
      "--service-cluster-ip-range",
      "could not use --service-cluster-ip-range: give one prefix, or one of each family",
    );
  }
  return ranges;
}

// Ranges of IPv6 are used up to here when an address is picked; any address of the range may be asked for.
const MAX_PICKED = 65_536;

function usableSize(range: ServiceRange): number {
  const size = range.last - range.first + 1n;
  const limit = range.family === "IPv6" ? BigInt(MAX_PICKED) : 1n << 24n;
  return Number(size < limit ? size : limit);
}

/** The address `offset` places after the range's base, undefined when the range is too small. */
export function addressAt(range: ServiceRange, offset: number): Address | undefined {
  const value = range.first - 1n + BigInt(offset);
  return value <= range.last ? addressFromBigInt(value, range.family) : undefined;
}

/** Why a given address cannot be had, in the API server's words; undefined when it can. */
export function clusterIpProblem(
  address: Address,
  ranges: readonly ServiceRange[],
  isTaken: (address: Address) => boolean,
): { readonly reason: string; readonly words: string } | undefined {
  const family = familyOf(address);
  const range = ranges.find((one) => one.family === family);
  const value = addressToBigInt(address);
  if (range === undefined || value < range.first || value > range.last) {
    const valid = (range ?? ranges[0])?.text ?? "";
    const words = `the provided IP (${address}) is not in the valid range. The range of valid IPs is ${valid}`;
    return { reason: "address-out-of-range", words };
  }
  return isTaken(address) ? { reason: "address-allocated", words: "provided IP is already allocated" } : undefined;
}

/** A free address of the range, from its upper part first; undefined when none is left. */
export function pickClusterIp(
  range: ServiceRange,
  seed: string,
  isTaken: (address: Address) => boolean,
): Address | undefined {
  const size = usableSize(range);
  const at = (index: number): Address => addressFromBigInt(range.first + BigInt(index), range.family);
  const index = pickFree(size, reservedOffset(size, CLUSTER_IP_BAND), `${seed} ${range.family}`, (one) =>
    isTaken(at(one)),
  );
  return index === undefined ? undefined : at(index);
}
