// Which map each number of the model's capacity is the size of. Maps that are not here cannot fill up with what objects ask for.
import type { Capacity } from "../model/operations.ts";

export const CAPACITY_MAPS: Readonly<Record<keyof Capacity, string>> = {
  frontends: "frontends",
  rows: "rows",
  slots: "slots",
  backends: "backends",
  services: "service_stats",
  serviceRanges: "service_ranges",
  sourceRanges: "source_ranges",
  addresses: "addresses",
  devices: "devices",
  announced: "announced",
};

export function capacityOf(map: (name: string) => { readonly maxEntries: number }): Capacity {
  const sizes = Object.entries(CAPACITY_MAPS).map(([key, name]) => [key, map(name).maxEntries]);
  const capacity = Object.fromEntries(sizes) as Record<keyof Capacity, number>;
  // Of a build before one may have been kept larger than the other is made.
  return { ...capacity, services: Math.min(capacity.services, map("service_policies").maxEntries) };
}
