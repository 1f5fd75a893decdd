// Which nodes may announce a LoadBalancer address, why the others may not, and who ought to. Pure; every node computes it
// from the same objects. Whether a node is alive or the address is free on the wire is asked elsewhere.
import { type Address, familyOf, parseRange, rangeContains } from "../lib/address.ts";
import type {
  AddressPool,
  Endpoint,
  EndpointSlice,
  L2Advertisement,
  LabelSelector,
  Node,
  Service,
} from "../model/objects.ts";
import { rank } from "./ranking.ts";

export type Ineligible =
  /** Not an address that we gave to this Service. */
  | "not-ours"
  /** No IPAddressPool contains it. */
  | "no-pool"
  /** No L2Advertisement covers its pool on this node. */
  | "not-advertised"
  /** Label node.kubernetes.io/exclude-from-external-load-balancers. */
  | "excluded"
  | "network-unavailable"
  /** externalTrafficPolicy Local and nothing here to serve it. */
  | "no-local-endpoint";

export interface Eligibility {
  readonly node: string;
  /** Absent: it may announce. */
  readonly reason?: Ineligible;
  /** A node that is not ready ranks behind all that are. */
  readonly ready: boolean;
  /** Devices that it may announce on; empty: wherever the address belongs. */
  readonly interfaces: readonly string[];
}

export interface EligibilityQuestion {
  readonly service: Service;
  readonly address: Address;
  readonly nodes: Iterable<Node>;
  readonly advertisements: Iterable<L2Advertisement>;
  readonly pools: Iterable<AddressPool>;
  /** The Service's slices. */
  readonly endpoints: Iterable<EndpointSlice>;
}

/** An answer for each node, in the order given. */
export function eligibleNodes(question: EligibilityQuestion): Eligibility[] {
  const { service, address } = question;
  const ours = service.grants.addresses.some(
    (granted) => granted.address === address && granted.by === "pool" && granted.ipMode === "VIP",
  );
  const pools = [...question.pools].filter((pool) => poolContains(pool, address));
  const covering = [...question.advertisements].filter((one) => pools.some((pool) => coversPool(one, pool)));
  const nodes = [...question.nodes];
  const serving = service.externalTrafficPolicy === "Local" ? nodesThatServe(nodes, question) : undefined;

  return nodes.map((node) => {
    const here = covering.filter((one) => matchesAny(one.nodeSelectors, node.labels));
    const reason: Ineligible | undefined = !ours
      ? "not-ours"
      : pools.length === 0
        ? "no-pool"
        : here.length === 0
          ? "not-advertised"
          : node.excludeFromLoadBalancers
            ? "excluded"
            : node.networkUnavailable
              ? "network-unavailable"
              : serving?.has(node.name) === false
                ? "no-local-endpoint"
                : undefined;
    const everywhere = here.some((one) => one.interfaces.length === 0);
    const interfaces = everywhere ? [] : [...new Set(here.flatMap((one) => one.interfaces))];
    return { node: node.name, ready: node.ready, interfaces, ...(reason === undefined ? {} : { reason }) };
  });
}

/** The node that ought to announce: the best ranked of the eligible ones that are ready, else of the others. */
export function announcerOf(question: EligibilityQuestion): Eligibility | undefined {
  const eligible = eligibleNodes(question).filter(({ reason }) => reason === undefined);
  const ready = eligible.filter((one) => one.ready);
  const among = ready.length > 0 ? ready : eligible;
  const [first] = rank(
    among.map(({ node }) => node),
    question.address,
  );
  return among.find(({ node }) => node === first);
}

/** Whether the labels satisfy every requirement. An empty selector matches everything. */
export function matchesSelector(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels)) if (labelOf(labels, key) !== value) return false;
  return selector.matchExpressions.every((expression) => matchesExpression(expression, labels));
}

function matchesExpression(
  { key, operator, values }: LabelSelector["matchExpressions"][number],
  labels: Readonly<Record<string, string>>,
): boolean {
  const value = labelOf(labels, key);
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
  }
}

function labelOf(labels: Readonly<Record<string, string>>, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

function matchesAny(selectors: readonly LabelSelector[], labels: Readonly<Record<string, string>>): boolean {
  return selectors.length === 0 || selectors.some((selector) => matchesSelector(selector, labels));
}

function poolContains(pool: AddressPool, address: Address): boolean {
  return pool.ranges.some((text) => {
    const range = parseRange(text);
    return range !== undefined && rangeContains(range, address);
  });
}

/** Named, or selected, or the advertisement neither names nor selects. */
function coversPool(one: L2Advertisement, pool: AddressPool): boolean {
  if (one.namespace !== pool.namespace) return false;
  if (one.pools.length === 0 && one.poolSelectors.length === 0) return true;
  return one.pools.includes(pool.name) || one.poolSelectors.some((selector) => matchesSelector(selector, pool.labels));
}

/** Nodes with a ready endpoint; when no node has one, those with an endpoint that terminates and serves. */
function nodesThatServe(nodes: readonly Node[], question: EligibilityQuestion): ReadonlySet<string> {
  const family = familyOf(question.address);
  const nodeOfAddress = new Map<Address, string>();
  for (const { name, internalAddresses } of nodes) {
    for (const address of internalAddresses) nodeOfAddress.set(address, name);
  }
  const ready = new Set<string>();
  const terminating = new Set<string>();
  for (const slice of question.endpoints) {
    if (slice.family !== family || slice.ports.length === 0) continue;
    for (const endpoint of slice.endpoints) {
      const set = endpoint.ready ? ready : endpoint.serving && endpoint.terminating ? terminating : undefined;
      if (set === undefined) continue;
      for (const name of nodesOf(endpoint, nodeOfAddress)) set.add(name);
    }
  }
  return ready.size > 0 ? ready : terminating;
}

function nodesOf(endpoint: Endpoint, nodeOfAddress: ReadonlyMap<Address, string>): string[] {
  const byAddress = nodeOfAddress.get(endpoint.addresses[0] ?? "");
  const names = endpoint.nodeName === "" ? [] : [endpoint.nodeName];
  return byAddress === undefined ? names : [...names, byAddress];
}
