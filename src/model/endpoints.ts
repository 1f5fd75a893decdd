// Which endpoints of a Service's slices may be a backend of one port: conditions, deduplication, refused addresses.
// It never decides which window uses them.
import { type Address, type Family, familyOf, unusableReason } from "../lib/address.ts";
import type { EndpointSlice, Protocol } from "./objects.ts";

/** An endpoint address and port that may receive traffic. */
export interface Candidate {
  readonly address: Address;
  readonly port: number;
  readonly local: boolean;
  /** Ready; else terminating and still serving. */
  readonly ready: boolean;
  /** "" when unknown. */
  readonly node: string;
}

export interface EndpointSurroundings {
  readonly nodeName: string;
  /** This node's own address: an endpoint there is local whatever its nodeName says. */
  isOwnAddress(address: Address): boolean;
  /** A ClusterIP or LoadBalancer address, which can never be an endpoint. */
  isServiceAddress(address: Address): boolean;
}

export interface SelectedEndpoints {
  /** Usable endpoints, deduplicated, ordered by address and port. */
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
  protocol: Protocol,
  around: EndpointSurroundings,
): SelectedEndpoints {
  const found = createBest();
  const refused = new Map<Address, string>();
  let withEndpoints = false;
  let matched = false;
  for (const slice of slices) {
    if (slice.family !== family || slice.endpoints.length === 0) continue;
    withEndpoints = true;
    for (const port of slice.ports) {
      if (port.name !== name || port.protocol !== protocol) continue;
      matched = true;
      for (const endpoint of slice.endpoints) {
        // Addresses of one endpoint are fungible and consumers use the first, as kube-proxy does.
        const address = endpoint.addresses[0];
        if (address === undefined) continue;
        const refusal = endpointRefusal(address, family, around);
        if (refusal !== undefined) {
          refused.set(address, refusal);
          continue;
        }
        if (!endpoint.ready && !(endpoint.serving && endpoint.terminating)) continue;
        const local = endpoint.nodeName === around.nodeName || around.isOwnAddress(address);
        found.add({ address, port: port.port, local, ready: endpoint.ready, node: endpoint.nodeName });
      }
    }
  }
  return { candidates: found.sorted(), refused, unmatched: withEndpoints && !matched };
}

/** The best candidate of each address and port: a ready one before others, then one on this node, then the earlier. */
function createBest(): { add(candidate: Candidate): void; sorted(): readonly Candidate[] } {
  // Nearly always all have one port: then the address alone is the key, and no text is made.
  const byPort = new Map<number, Map<Address, Candidate>>();
  let last: Map<Address, Candidate> | undefined;
  let lastPort = -1;
  return {
    add(candidate) {
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
      if (other === undefined || rankOf(candidate) > rankOf(other)) last.set(address, candidate);
    },
    sorted() {
      const all: Candidate[] = [];
      for (const ofPort of byPort.values()) for (const candidate of ofPort.values()) all.push(candidate);
      return all.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : a.port - b.port));
    },
  };
}

const rankOf = ({ ready, local }: Candidate): number => (ready ? 2 : 0) + (local ? 1 : 0);

/** Why no backend may have this address, or undefined when one may. */
export function endpointRefusal(
  address: Address,
  family: Family,
  around: Pick<EndpointSurroundings, "isServiceAddress">,
): string | undefined {
  if (familyOf(address) !== family) return `it is no ${family} address`;
  const reason = specialReason(address);
  if (reason !== undefined) return `it is ${reason}`;
  return around.isServiceAddress(address) ? "it is the address of a Service" : undefined;
}

/** `unusableReason`, without parsing what is plainly a unicast address: this runs for every endpoint of a changed Service. */
export function specialReason(address: Address): ReturnType<typeof unusableReason> {
  const dot = address.indexOf(".");
  if (dot > 0) {
    const octet = Number(address.slice(0, dot));
    if (octet > 0 && octet < 224 && octet !== 127 && octet !== 169) return undefined;
  } else if (/^(?:[23]|f[cd])[0-9a-f]{2,3}:/.test(address)) return undefined;
  return unusableReason(address);
}
