// What programs counted under a service id begins at nothing when the id is given to another Service, and goes with the last row.
import type { BpfMap } from "../libbpf/mod.ts";
import { readRefusalKey } from "./layout.gen.ts";

export interface ServiceCounts {
  /** Called before the first row of a service id. */
  begins(serviceId: number): void;
  /** Called after the last one. */
  ends(serviceId: number): void;
  /** Called once a change is applied: refusals are few, and not found by their service id alone. */
  sweep(): void;
}

/** `areNew`: nothing has been in the maps. */
export function createServiceCounts(
  stats: Pick<BpfMap, "maxEntries" | "valueBytes" | "update">,
  refusals: Pick<BpfMap, "entries" | "delete">,
  areNew: boolean,
): ServiceCounts {
  const none = new Uint8Array(stats.valueBytes);
  const key = new Uint8Array(4);
  /** Service ids up to this one may have been counted for another Service: all of them, unless the maps are new. */
  let lastCounted = areNew ? 0 : stats.maxEntries;
  /** Whose refusals are another Service's, or nobody's any more. */
  const voided = new Set<number>();
  return {
    begins(serviceId) {
      if (serviceId > lastCounted) {
        lastCounted = serviceId;
        return;
      }
      new DataView(key.buffer).setUint32(0, serviceId, true);
      stats.update(key, none);
      voided.add(serviceId);
    },
    ends: (serviceId) => void voided.add(serviceId),
    sweep() {
      if (voided.size === 0) return;
      for (const [row] of [...refusals.entries()]) if (voided.has(readRefusalKey(row).service)) refusals.delete(row);
      voided.clear();
    },
  };
}
