// Cluster addresses as an API server gives them: which ranges there are, which address is free, what is refused and in
// which words. Who holds what is the ledger's (service-ledger.ts).
import {
  type Address,
  type AddressRange,
  addressFromBigInt,
  addressToBigInt,
  type Family,
  familyOf,
  parseRange,
} from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import { CLUSTER_IP_BAND, pickFree, reservedOffset } from "./allocation-range.ts";

export interface ClusterIpRange {
  readonly text: string;
  readonly family: Family;
  readonly range: AddressRange;
  /** Addresses that can be given: without the first, and without an IPv4 range's last. */
  readonly firstUsable: bigint;
  readonly lastUsable: bigint;
}

/** At most one range for each family; the first is the default family's. Throws a usage Failure. */
export function parseClusterIpRanges(texts: readonly string[]): readonly ClusterIpRange[] {
  const ranges = texts.map((text): ClusterIpRange => {
    const range = text.includes("/") ? parseRange(text) : undefined;
    if (range === undefined || range.last - range.first < 3n) {
      throw new Failure(
        "usage",
        "--service-cluster-ip-range",
        `could not use --service-cluster-ip-range ${text}: it is no prefix of at least four addresses`,
      );
    }
    const lastUsable = range.family === "IPv4" ? range.last - 1n : range.last;
    return { text, family: range.family, range, firstUsable: range.first + 1n, lastUsable };
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

function usableSize(range: ClusterIpRange): number {
  const size = range.lastUsable - range.firstUsable + 1n;
  const limit = range.family === "IPv6" ? BigInt(MAX_PICKED) : 1n << 24n;
  return Number(size < limit ? size : limit);
}

/** The address `offset` places after the range's base, undefined when the range is too small. */
export function addressAt(range: ClusterIpRange, offset: number): Address | undefined {
  const value = range.range.first + BigInt(offset);
  return value <= range.lastUsable ? addressFromBigInt(value, range.family) : undefined;
}

/** Why a given address cannot be had, in the API server's words; undefined when it can. */
export function clusterIpProblem(
  address: Address,
  ranges: readonly ClusterIpRange[],
  isTaken: (address: Address) => boolean,
): { readonly reason: string; readonly words: string } | undefined {
  const family = familyOf(address);
  const range = ranges.find((one) => one.family === family);
  const value = addressToBigInt(address);
  if (range === undefined || value < range.firstUsable || value > range.lastUsable) {
    const valid = (range ?? ranges[0])?.text ?? "";
    const words = `the provided IP (${address}) is not in the valid range. The range of valid IPs is ${valid}`;
    return { reason: "address-out-of-range", words };
  }
  return isTaken(address) ? { reason: "address-allocated", words: "provided IP is already allocated" } : undefined;
}

/** A free address of the range, from its upper part first; undefined when none is left. */
export function pickClusterIp(
  range: ClusterIpRange,
  seed: string,
  isTaken: (address: Address) => boolean,
): Address | undefined {
  const size = usableSize(range);
  const at = (index: number): Address => addressFromBigInt(range.firstUsable + BigInt(index), range.family);
  const index = pickFree(size, reservedOffset(size, CLUSTER_IP_BAND), `${seed} ${range.family}`, (one) =>
    isTaken(at(one)),
  );
  return index === undefined ? undefined : at(index);
}
