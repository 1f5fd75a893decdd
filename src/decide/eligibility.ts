// Which nodes may announce a LoadBalancer address, and why the others may not. Pure; every node computes it from the same
// objects. Whether a node is alive or the address is free on the wire is asked elsewhere.
import { type Address, familyOf, parseRange, rangeContains } from "../lib/address.ts";
import { matchesSelector } from "../model/label-selector.ts";
import type { AddressPool, EndpointSlice, L2Advertisement, Node } from "../model/objects.ts";

/** From the farthest to the nearest. */
export const INELIGIBLE = [
  /** No IPAddressPool contains the address. */
  "no-pool",
  /** No L2Advertisement covers its pool on this node. */
  "not-advertised",
  /** Label node.kubernetes.io/exclude-from-external-load-balancers. */
  "excluded",
  "network-unavailable",
  /** externalTrafficPolicy Local and nothing here to serve it. */
  "no-local-endpoint",
] as const;
export type Ineligible = (typeof INELIGIBLE)[number];

/** The advertisements that cover some pool of the address, in the order given; undefined when it is in no pool. */
export function coveringAdvertisements(
  address: Address,
  pools: Iterable<AddressPool>,
  advertisements: Iterable<L2Advertisement>,
): L2Advertisement[] | undefined {
  const own = [...pools].filter((pool) => poolContains(pool, address));
  if (own.length === 0) return undefined;
  return [...advertisements].filter((one) => own.some((pool) => coversPool(one, pool)));
}

/** The devices that the node may announce on by these advertisements, empty: wherever the address belongs; or why it may not. */
export function interfacesOn(node: Node, covering: readonly L2Advertisement[]): readonly string[] | Ineligible {
  const here = covering.filter((one) => coversNode(one, node));
  if (here.length === 0) return "not-advertised";
  if (node.excludeFromLoadBalancers) return "excluded";
  if (node.networkUnavailable) return "network-unavailable";
  const everywhere = here.some(({ interfaces }) => interfaces.length === 0);
  return everywhere ? [] : [...new Set(here.flatMap(({ interfaces }) => interfaces))];
}

/** How much these advertisements prefer the node: the weights of the selectors that match it, of those that cover it, together. */
export function preferenceOf(node: Node, covering: readonly L2Advertisement[]): number {
  let sum = 0;
  for (const one of covering) {
    if (one.preferredNodeSelectors.length === 0 || !coversNode(one, node)) continue;
    for (const { weight, preference } of one.preferredNodeSelectors)
      if (matchesSelector(preference, node.labels)) sum += weight;
  }
  return sum;
}

function coversNode({ nodeSelectors }: L2Advertisement, node: Node): boolean {
  return nodeSelectors.length === 0 || nodeSelectors.some((selector) => matchesSelector(selector, node.labels));
}

/**
 * Names of nodes, and addresses that may be a node's, with a ready endpoint of the family; when there is none, with one that
 * terminates and serves.
 */
export function placesThatServe(slices: Iterable<EndpointSlice>, family: string): ReadonlySet<string> {
  const ready = new Set<string>();
  const terminating = new Set<string>();
  for (const slice of slices) {
    if (slice.family !== family || slice.ports.length === 0) continue;
    for (const endpoint of slice.endpoints) {
      const set = endpoint.ready ? ready : endpoint.serving && endpoint.terminating ? terminating : undefined;
      if (endpoint.nodeName !== "") set?.add(endpoint.nodeName);
      if (endpoint.addresses[0] !== undefined) set?.add(endpoint.addresses[0]);
    }
  }
  return ready.size > 0 ? ready : terminating;
}

function poolContains(pool: AddressPool, address: Address): boolean {
  return pool.ranges.some((text) => {
    const range = parseRange(text);
    return range?.family === familyOf(address) && rangeContains(range, address);
  });
}

/** Named, or selected, or the advertisement neither names nor selects. */
function coversPool(one: L2Advertisement, pool: AddressPool): boolean {
  if (one.namespace !== pool.namespace) return false;
  if (one.pools.length === 0 && one.poolSelectors.length === 0) return true;
  return one.pools.includes(pool.name) || one.poolSelectors.some((selector) => matchesSelector(selector, pool.labels));
}
