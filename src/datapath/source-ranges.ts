// The `source_ranges` trie and `service_policies`: whom a Service lets in, and how often that changed.
import { familyOf, type Prefix, readAddress, writeAddress } from "../lib/address.ts";
import type { BpfMap } from "../libbpf/mod.ts";
import { readSourceRangeKey, SERVICE_POLICY, SOURCE_RANGE_KEY } from "./layout.gen.ts";
import type { MappedArray } from "./mapped-array.ts";
import { viewOf } from "./row-codec.ts";

/** Bits before the address. */
const SERVICE_BITS = 32;
/** Bits of the mapped form before an IPv4 address. */
const MAPPED_BITS = 96;

export interface SourceRangeRows {
  put(serviceId: number, ranges: readonly Prefix[]): void;
  drop(serviceId: number, ranges: readonly Prefix[]): void;
  raisePolicy(serviceId: number): void;
  read(): Map<number, Prefix[]>;
}

export function createSourceRanges(ranges: BpfMap, policies: MappedArray): SourceRangeRows {
  const key = new Uint8Array(SOURCE_RANGE_KEY.size);
  const keyView = viewOf(key);
  const value = new Uint8Array(4);

  function writeKey(serviceId: number, { address, length }: Prefix): void {
    const bits = familyOf(address) === "IPv4" ? MAPPED_BITS + length : length;
    keyView.setUint32(SOURCE_RANGE_KEY.prefixlen, SERVICE_BITS + bits, true);
    keyView.setUint32(SOURCE_RANGE_KEY.service, serviceId, true);
    writeAddress(address, key, SOURCE_RANGE_KEY.address);
  }

  return {
    put(serviceId, list) {
      viewOf(value).setUint32(0, serviceId, true);
      for (const range of list) {
        writeKey(serviceId, range);
        ranges.update(key, value);
      }
    },
    drop(serviceId, list) {
      for (const range of list) {
        writeKey(serviceId, range);
        ranges.delete(key);
      }
    },
    raisePolicy: (serviceId) => void Atomics.add(policies.words, policies.word(serviceId, SERVICE_POLICY.count), 1n),
    read() {
      const found = new Map<number, Prefix[]>();
      for (const [bytes] of ranges.entries()) {
        const { prefixlen, service } = readSourceRangeKey(bytes);
        const address = readAddress(bytes, SOURCE_RANGE_KEY.address);
        const bits = prefixlen - SERVICE_BITS;
        const length = familyOf(address) === "IPv4" ? bits - MAPPED_BITS : bits;
        const list = found.get(service);
        if (list === undefined) found.set(service, [{ address, length }]);
        else list.push({ address, length });
      }
      return found;
    },
  };
}
