// A model over fake maps: what a change of objects makes of the maps.
import { createModel } from "../../src/model/model.ts";
import type { Model } from "../../src/model/model-interface.ts";
import type { Node, ObjectEvent } from "../../src/model/objects.ts";
import type { Capacity, Operation, PrefixRange } from "../../src/model/operations.ts";
import { createFakeMaps, type FakeMaps } from "../fakes/fake-maps.ts";
import { eventsOf, node } from "../flows/builders.ts";

export const CAPACITY: Capacity = {
  frontends: 64,
  rows: 64,
  slots: 128,
  backends: 64,
  services: 64,
  serviceRanges: 8,
  sourceRanges: 64,
  addresses: 64,
  devices: 64,
  announced: 64,
};

export interface Bench {
  readonly model: Model;
  readonly maps: FakeMaps;
  /** Feeds, plans and applies; what was planned. */
  feed(given: Parameters<typeof eventsOf>[0]): readonly Operation[];
  feedEvents(events: readonly ObjectEvent[]): readonly Operation[];
  /** Reasons and objects of the notices: "reason Kind namespace/name". */
  reasons(): string[];
  /** Frontends and backends only. */
  dump(): string;
}

export function bench(
  given: { capacity?: Partial<Capacity>; nodes?: readonly Node[]; serviceRanges?: readonly PrefixRange[] } = {},
): Bench {
  const capacity = { ...CAPACITY, ...given.capacity };
  const maps = createFakeMaps(capacity);
  const model = createModel({ nodeName: "node1", capacity, serviceRanges: given.serviceRanges ?? [] });
  const feedEvents = (events: readonly ObjectEvent[]): readonly Operation[] => {
    model.update(events);
    const operations = model.plan();
    maps.apply(operations);
    return operations;
  };
  feedEvents(eventsOf({ nodes: given.nodes ?? [node(1), node(2)] }));
  return {
    model,
    maps,
    feedEvents,
    feed: (objects) => feedEvents(eventsOf(objects)),
    reasons: () => model.notices().map((notice) => `${notice.reason} ${notice.object}`),
    dump: () =>
      maps
        .dump()
        .split("\n")
        .filter((line) => !line.startsWith("address ") && !line.startsWith("range "))
        .join("\n"),
  };
}

/** Lines of a golden text without the indentation that the test file has. */
export function text(lines: string): string {
  return lines
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .join("\n");
}
