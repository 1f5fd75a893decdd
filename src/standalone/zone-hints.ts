// Topology aware hints (KEP-2433, `service.kubernetes.io/topology-mode: Auto`): which endpoint serves which zone, such that zones
// have endpoints in proportion to the CPUs of their nodes. The rules are those of Kubernetes' EndpointSlice controller. Pure.
import { type NodeObject, own, type SliceEndpoint } from "../wire/kubernetes.ts";

export const ZONE_LABEL = "topology.kubernetes.io/zone";
const EXCLUDED_LABELS = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/** An endpoint may have to bear so much more than its fair part, no more. */
const OVERLOAD_THRESHOLD = 0.2;

/** The part of all CPUs that each zone has, in the order of the zones' names; a text: why nobody knows. */
export type ZoneShares = ReadonlyMap<string, number> | string;

/** Counts nodes that are ready and no control plane. All of them have to tell their zone and `status.allocatable.cpu`. */
export function zoneShares(nodes: readonly NodeObject[]): ZoneShares {
  const cpus = new Map<string, number>();
  let total = 0;
  for (const { metadata, status } of nodes) {
    const isReady = (status?.conditions ?? []).some((one) => one.type === "Ready" && one.status === "True");
    if (!isReady || EXCLUDED_LABELS.some((label) => own(metadata.labels, label) !== undefined)) continue;
    const zone = own(metadata.labels, ZONE_LABEL) ?? "";
    if (zone === "") return `Node ${metadata.name} has no label ${ZONE_LABEL}`;
    const cpu = parseCpu(status?.allocatable?.cpu ?? "") ?? 0;
    if (cpu <= 0) return `Node ${metadata.name} has no status.allocatable.cpu`;
    cpus.set(zone, (cpus.get(zone) ?? 0) + cpu);
    total += cpu;
  }
  if (cpus.size < 2) return cpus.size === 0 ? "no Node is ready" : `every ready Node is in zone ${[...cpus.keys()][0]}`;
  const byName = [...cpus].sort(([a], [b]) => (a < b ? -1 : 1));
  return new Map(byName.map(([zone, cpu]) => [zone, cpu / total]));
}

const CPU_UNITS: Readonly<Record<string, number>> = { n: 1e-9, u: 1e-6, m: 1e-3, "": 1, k: 1e3 };

/** A Kubernetes quantity ("4", "500m", "1e1"), in CPUs; undefined when it is none, or has a suffix that no number of CPUs has. */
export function parseCpu(quantity: string | number): number | undefined {
  const match = /^\+?(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d+)|([numk]?))$/.exec(String(quantity));
  if (match === null) return undefined;
  const [, digits, exponent, unit = ""] = match;
  return exponent === undefined ? Number(digits) * CPU_UNITS[unit]! : Number(`${digits}e${exponent}`);
}

/**
 * The zone that each endpoint is for; a text: why none is for any. `endpoints`: the ready ones of a Service and family. `before`: the
 * zone that one was for last time; who served another zone than its own goes on, as long as that zone wants more.
 */
export function dealOut(
  endpoints: readonly SliceEndpoint[],
  shares: ZoneShares,
  before: (endpoint: SliceEndpoint) => string | undefined,
): ReadonlyMap<SliceEndpoint, string> | string {
  if (typeof shares === "string") return shares;
  const few = `${endpoints.length} ready ${endpoints.length === 1 ? "endpoint" : "endpoints"} for ${shares.size} zones`;
  if (endpoints.length < shares.size) return few;
  const wanted = new Map<string, number>();
  let least = 0;
  for (const [zone, share] of shares) {
    const minimum = Math.ceil((share * endpoints.length) / (1 + OVERLOAD_THRESHOLD));
    least += minimum;
    wanted.set(zone, Math.max(share * endpoints.length, minimum));
  }
  if (least > endpoints.length)
    return `${few} would leave one of them more than ${OVERLOAD_THRESHOLD * 100} % overloaded`;
  const zones = new Map<SliceEndpoint, string>();
  const counts = new Map<string, number>();
  for (const endpoint of endpoints) {
    const { zone = "" } = endpoint;
    if (zone === "") return `the node of endpoint ${endpoint.addresses[0]} has no zone`;
    zones.set(endpoint, zone);
    counts.set(zone, (counts.get(zone) ?? 0) + 1);
  }
  const { givers, receivers } = exchange(wanted, counts);
  const give = (endpoint: SliceEndpoint, to: string | undefined): void => {
    const from = zones.get(endpoint)!;
    if (from !== endpoint.zone || to === undefined || !givers.has(from) || !receivers.has(to)) return;
    zones.set(endpoint, to);
    takeOne(givers, from);
    takeOne(receivers, to);
  };
  for (const endpoint of endpoints) give(endpoint, before(endpoint));
  for (const endpoint of endpoints) give(endpoint, receivers.keys().next().value);
  return zones;
}

/** How many endpoints zones are to give and to get, a whole number each: from who has most beyond what it wants to who lacks most. */
function exchange(wanted: ReadonlyMap<string, number>, counts: ReadonlyMap<string, number>) {
  const surplus = new Map([...wanted].map(([zone, want]) => [zone, (counts.get(zone) ?? 0) - want]));
  const givers = new Map<string, number>();
  const receivers = new Map<string, number>();
  for (;;) {
    const [from, most] = greatest(surplus, 1);
    const [to, lack] = greatest(surplus, -1);
    if (most < 0.5 || lack < 0.5 || (most < 1 && lack < 1)) return { givers, receivers };
    surplus.set(from, most - 1);
    surplus.set(to, 1 - lack);
    givers.set(from, (givers.get(from) ?? 0) + 1);
    receivers.set(to, (receivers.get(to) ?? 0) + 1);
  }
}

function greatest(surplus: ReadonlyMap<string, number>, sign: 1 | -1): readonly [zone: string, amount: number] {
  let found: readonly [string, number] = ["", 0];
  for (const [zone, amount] of surplus) if (amount * sign > found[1]) found = [zone, amount * sign];
  return found;
}

function takeOne(counts: Map<string, number>, zone: string): void {
  const left = counts.get(zone)! - 1;
  if (left > 0) counts.set(zone, left);
  else counts.delete(zone);
}
