// On which addresses of this node its node ports answer, as --nodeport-addresses says: the meaning is kube-proxy's. Pure.
import {
  type Address,
  type Family,
  familyOf,
  type Prefix,
  parsePrefix,
  prefixContains,
  unusableReason,
} from "../lib/address.ts";
import type { Node } from "./objects.ts";

export interface NodePortAddresses {
  /** On loopback addresses, for processes of the node. */
  readonly localhost: boolean;
  /** On the addresses of primaryAddresses(). */
  readonly primary: boolean;
  /** On what the node's devices have there. */
  readonly cidrs: readonly Prefix[];
}

const EVERYTHING: Readonly<Record<Family, Prefix>> = {
  IPv4: { address: "0.0.0.0", length: 0 },
  IPv6: { address: "::", length: 0 },
};

/** "primary", "localhost", "all" and CIDRs; undefined when a text is none of them. A family of which nothing is named has all. */
export function parseNodePortAddresses(texts: readonly string[]): NodePortAddresses | undefined {
  const prefixes = new Map<string, Prefix | undefined>(
    texts
      .filter((text) => text !== "primary" && text !== "localhost" && text !== "all")
      .map((text) => [text, parsePrefix(text)]),
  );
  const named = [...prefixes.values()];
  if (named.includes(undefined)) return undefined;
  const isLoopback = ({ address }: Prefix): boolean => unusableReason(address) === "loopback";
  const known = named.filter((one) => one !== undefined);
  const all = texts.includes("all");
  const both = all || texts.includes("primary") || texts.includes("localhost");
  const families = (["IPv4", "IPv6"] as const).filter(
    (family) => all || (!both && !known.some(({ address }) => familyOf(address) === family)),
  );
  return {
    localhost: texts.includes("localhost") || known.some(isLoopback),
    primary: texts.includes("primary"),
    cidrs: [...known.filter((one) => !isLoopback(one)), ...families.map((family) => EVERYTHING[family])],
  };
}

export const DEFAULT_NODE_PORT_ADDRESSES: NodePortAddresses = { localhost: true, primary: true, cidrs: [] };

/**
 * What "primary" stands for: the Node's InternalIPs, and in a family that has none the first ExternalIP. kube-proxy takes the first
 * of each family alone; which that is depends on the order in which a kubelet happens to name them.
 */
export function primaryAddresses(node: Pick<Node, "internalAddresses" | "externalAddresses">): ReadonlySet<Address> {
  const { internalAddresses: internal, externalAddresses: external } = node;
  const first = (["IPv4", "IPv6"] as const).flatMap((family) =>
    internal.some((one) => familyOf(one) === family)
      ? []
      : external.filter((one) => familyOf(one) === family).slice(0, 1),
  );
  return new Set([...internal, ...first]);
}

/** Whether node ports answer on an address of this node. `primaries`: of its Node object. */
export function servesNodePorts(
  { primary, cidrs }: NodePortAddresses,
  address: Address,
  primaries: ReadonlySet<Address>,
): boolean {
  return (primary && primaries.has(address)) || cidrs.some((cidr) => prefixContains(cidr, address));
}
