// Which endpoints of a Service's slices may be a backend of one port: conditions, deduplication, topology, refused addresses.
// It never decides which window uses them.
import type { Address, Family } from "../lib/address.ts";
import { type AddressFacts, endpointRefusal } from "./address-rules.ts";
import type { EndpointHints, EndpointSlice } from "./objects.ts";
import type { RowProtocol } from "./operations.ts";
import { parseWeights } from "./weights.ts";

/** An endpoint address and port that may receive traffic. */
export interface Candidate {
  readonly address: Address;
  readonly port: number;
  readonly local: boolean;
  /** Ready; else terminating and still serving. */
  readonly ready: boolean;
  /** "" when unknown. */
  readonly node: string;
  /** It is meant for this node, as far as hints are heeded; else a Local policy alone uses it. */
  readonly preferred: boolean;
  /** Of new flows, beside the other endpoints'; 0: it gets none. Absent: 1. */
  readonly weight?: number;
}

/** An endpoint at this node's own address is local whatever its nodeName says. */
export interface Surroundings extends AddressFacts {
  readonly nodeName: string;
  /** This node's topology.kubernetes.io/zone, "" when unknown. */
  readonly zone: string;
}

export interface SelectedEndpoints {
  /** Usable endpoints, deduplicated, ordered by address and port, without those that no policy uses here. */
  readonly candidates: readonly Candidate[];
  /** Address -> why it was refused. Empty for nearly every Service. */
  readonly refused: ReadonlyMap<Address, string>;
  /** No slice that has endpoints names this port. */
  readonly unmatched: boolean;
}

/** Selects from the slices of `family` those endpoints that serve the port `name` with `protocol`. */
export function selectEndpoints(
  slices: readonly EndpointSlice[],
  family: Family,
  name: string,
  protocol: RowProtocol,
  around: Surroundings,
): SelectedEndpoints {
  const found = createBest();
  const refused = new Map<Address, string>();
  let withEndpoints = false;
  let matched = false;
  for (const slice of slices) {
    if (slice.family !== family || slice.endpoints.length === 0) continue;
    const weights = weightsOf(slice);
    withEndpoints = true;
    for (const port of slice.ports) {
      if (port.name !== name || port.protocol !== protocol) continue;
      matched = true;
      for (const endpoint of slice.endpoints) {
        // Addresses of one endpoint are fungible and consumers use the first, as kube-proxy does.
        const address = endpoint.addresses[0];
        if (address === undefined) continue;
        const refusal = endpointRefusal(address, { protocol, port: port.port }, family, around);
        if (refusal !== undefined) {
          refused.set(address, refusal);
          continue;
        }
        if (!endpoint.ready && !(endpoint.serving && endpoint.terminating)) continue;
        const local = endpoint.nodeName === around.nodeName || around.isOwnAddress(address);
        const weight = weights?.get(address);
        const { ready, nodeName: node, hints } = endpoint;
        const candidate = { address, port: port.port, local, ready, node, preferred: true };
        found.add(weight === undefined ? candidate : { ...candidate, weight }, hints);
      }
    }
  }
  return { candidates: found.sorted(around), refused, unmatched: withEndpoints && !matched };
}

/** None where the slice has none, or malformed ones: those are compile.ts's to tell. */
export function weightsOf({ weights }: EndpointSlice): ReadonlyMap<Address, number> | undefined {
  const parsed = weights === undefined ? undefined : parseWeights(weights);
  return typeof parsed === "string" ? undefined : parsed;
}

/** The best candidate of each address and port: a ready one before others, then one on this node, then the earlier. */
function createBest(): {
  add(candidate: Candidate, hints: EndpointHints | undefined): void;
  sorted(around: Surroundings): readonly Candidate[];
} {
  // Nearly always all have one port: then the address alone is the key, and no text is made.
  const byPort = new Map<number, Map<Address, Candidate>>();
  let last: Map<Address, Candidate> | undefined;
  let lastPort = -1;
  /** Of the best ones; empty for nearly every Service. */
  const hinted = new Map<Candidate, EndpointHints>();
  return {
    add(candidate, hints) {
      const { address, port } = candidate;
      if (port !== lastPort || last === undefined) {
        last = byPort.get(port);
        if (last === undefined) {
          last = new Map();
          byPort.set(port, last);
        }
        lastPort = port;
      }
      const other = last.get(address);
      if (other !== undefined && rankOf(candidate) <= rankOf(other)) return;
      last.set(address, candidate);
      if (hints !== undefined) hinted.set(candidate, hints);
    },
    sorted(around) {
      let all: Candidate[] = [];
      for (const ofPort of byPort.values()) for (const candidate of ofPort.values()) all.push(candidate);
      if (hinted.size > 0) all = preferredOf(all, hinted, around);
      return all.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : a.port - b.port));
    },
  };
}

const rankOf = ({ ready, local }: Candidate): number => (ready ? 2 : 0) + (local ? 1 : 0);

/**
 * Hints by node are heeded when every ready endpoint has one and some name this node; else those by zone likewise; else none.
 * What is not ready, or drained, has no say, and is set aside by none. Without those that are neither meant for this node nor on it.
 */
function preferredOf(
  all: readonly Candidate[],
  hinted: ReadonlyMap<Candidate, EndpointHints>,
  { nodeName, zone }: Surroundings,
): Candidate[] {
  const serves = (one: Candidate): boolean => one.ready && one.weight !== 0;
  const ready = all.filter(serves);
  for (const [kind, own] of [
    ["nodes", nodeName],
    ["zones", zone],
  ] as const) {
    const hintsOf = (one: Candidate): readonly string[] => hinted.get(one)?.[kind] ?? [];
    if (own === "" || !ready.some((one) => hintsOf(one).includes(own))) continue;
    if (!ready.every((one) => hintsOf(one).length > 0)) continue;
    const isMeant = (one: Candidate): boolean => !serves(one) || hintsOf(one).includes(own);
    return all.flatMap((one) => (isMeant(one) ? [one] : one.local ? [{ ...one, preferred: false }] : []));
  }
  return [...all];
}
