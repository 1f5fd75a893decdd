// Every map of the layout may fill up: it is in the model's capacity, which says what becomes of the rest, or has a reason not to be.
import { expect, test } from "vitest";
import { CAPACITY_MAPS, capacityOf } from "../../src/datapath/capacity.ts";
import { LAYOUT } from "../../src/datapath/layout.gen.ts";

const LRU = "an LRU: the oldest entry gives way";
const FIXED = "its size does not depend on objects";

/** Why a map needs no capacity. */
const REASONS: Readonly<Record<string, string>> = {
  retired: LRU,
  neighbour_questions: LRU,
  tcp_flows: LRU,
  udp_flows: LRU,
  openings: LRU,
  fragments: LRU,
  socket_peers: LRU,
  affinity: LRU,
  socket_backends: "with each socket, and of no size",
  settings: FIXED,
  liveness: FIXED,
  near: FIXED,
  met_backends: FIXED,
  verdicts: FIXED,
  service_policies: "it has an element for every service id",
  service_refusals: "a Service port has few reasons, and what does not fit is counted by hook alone",
  crowded_clients: "a client in it has an eighth of a flow table: there are no more than eight for each",
};

test("every map is in the capacity or has a reason not to be", () => {
  const inCapacity = Object.values(CAPACITY_MAPS);
  expect([...inCapacity, ...Object.keys(REASONS)].sort()).toEqual(Object.keys(LAYOUT.maps).sort());
  for (const [name, reason] of Object.entries(REASONS)) {
    if (reason === LRU) expect(LAYOUT.maps[name]?.type, name).toBe("lru_hash");
    if (reason === FIXED) expect(LAYOUT.maps[name]?.type, name).toMatch(/array$/);
  }
});

test("a capacity is the sizes of the maps that are there", () => {
  const sizes = capacityOf((name) => ({ maxEntries: name.length }));
  expect(sizes).toMatchObject({ rows: 4, services: "service_stats".length, announced: 9 });
  expect(Object.keys(sizes)).toEqual(Object.keys(CAPACITY_MAPS));
});

test("of two maps by service id the smaller one counts", () => {
  const services = (smaller: string) => capacityOf((name) => ({ maxEntries: name === smaller ? 3 : 10 })).services;
  expect([services("service_stats"), services("service_policies"), services("rows")]).toEqual([3, 3, 10]);
});
