// By which addresses this node and the others are known: from Node objects, and from what an agent before remembered as long as
// those have not all come. Absence is no order: a Node that goes, or names no address for a while, leaves what it had.
import { type Address, type Prefix, parseRange } from "../lib/address.ts";
import type { Node, ObjectEvent } from "../model/objects.ts";
import { type PrefixSet, prefixOf, prefixSet } from "./prefix-set.ts";

/** What is remembered over a restart. */
export interface NodeAddresses {
  /** InternalIPs of this node's Node object. */
  readonly own: readonly Address[];
  /** InternalIPs and pod CIDRs of the other nodes. */
  readonly others: readonly Address[];
  readonly otherPodCIDRs: readonly string[];
}

export const NO_ADDRESSES: NodeAddresses = { own: [], others: [], otherPodCIDRs: [] };

/** With `remembered`, that counts too, behind what is known. */
export function nodeAddresses(
  nodes: Iterable<Node>,
  ownName: string,
  remembered: NodeAddresses = NO_ADDRESSES,
): NodeAddresses {
  const own: Address[] = [];
  const others: Address[] = [];
  const otherPodCIDRs: string[] = [];
  for (const { name, internalAddresses, podCIDRs } of nodes) {
    (name === ownName ? own : others).push(...internalAddresses);
    if (name !== ownName) otherPodCIDRs.push(...podCIDRs);
  }
  const both = (now: string[], before: readonly string[]): string[] =>
    before.length === 0 ? now : [...new Set([...now, ...before])];
  const all = both(own, remembered.own);
  const isOwn = new Set(all);
  return {
    own: all,
    others: both(others, remembered.others).filter((address) => !isOwn.has(address)),
    otherPodCIDRs: both(otherPodCIDRs, remembered.otherPodCIDRs),
  };
}

/** Where other nodes and their pods are, to be asked for each route. */
export interface OtherNodes {
  hasAddress(address: Address): boolean;
  readonly prefixes: PrefixSet;
}

export function otherNodes({ others, otherPodCIDRs }: Omit<NodeAddresses, "own">): OtherNodes {
  const addresses = new Set(others);
  const prefixes: Prefix[] = others.map((address) => ({ address, length: address.includes(":") ? 128 : 32 }));
  for (const text of otherPodCIDRs) {
    const prefix = prefixOf(text);
    if (prefix !== undefined) prefixes.push(prefix);
  }
  return { hasAddress: (address) => addresses.has(address), prefixes: prefixSet(prefixes) };
}

/**
 * The events as they are to be believed: where this node's Node object goes, or names no InternalIP, it stays as it was, or keeps
 * its addresses. `last`: as it was believed before, undefined when it never came.
 */
export function believedEvents(
  events: readonly ObjectEvent[],
  ownName: string,
  last: Node | undefined,
): { readonly events: readonly ObjectEvent[]; readonly own: Node | undefined } {
  let own = last;
  if (!events.some(({ kind, key }) => kind === "Node" && key === ownName)) return { events, own };
  const believed = events.flatMap((event): ObjectEvent[] => {
    if (event.kind !== "Node" || event.key !== ownName) return [event];
    const { object } = event;
    if (object === undefined) {
      if (own === undefined) return [event];
      // Others take over what it announced: they do not see it any more.
      own = { ...own, ready: false, excludeFromLoadBalancers: true };
      return [{ ...event, object: own }];
    }
    own = object.internalAddresses.length > 0 ? object : { ...object, internalAddresses: own?.internalAddresses ?? [] };
    return [{ ...event, object: own }];
  });
  return { events: believed, own };
}

/** A Node of which only addresses are remembered. */
export function rememberedNode(name: string, internalAddresses: readonly Address[]): Node {
  return {
    name,
    labels: {},
    internalAddresses,
    externalAddresses: [],
    kubeletPort: 0,
    podCIDRs: [],
    ready: false,
    networkUnavailable: false,
    excludeFromLoadBalancers: false,
    goingAway: false,
  };
}

/** Addresses and CIDRs that can be used, from what a file holds; undefined when it holds something else. */
export function readNodeAddresses(found: unknown): NodeAddresses | undefined {
  if (typeof found !== "object" || found === null) return undefined;
  const { own, others, otherPodCIDRs } = found as Record<string, unknown>;
  const isList = (list: unknown, isGood: (text: string) => boolean): list is string[] =>
    Array.isArray(list) && list.every((one) => typeof one === "string" && isGood(one));
  const isAddress = (text: string): boolean => prefixOf(`${text}/0`)?.address === text;
  if (!isList(own, isAddress) || !isList(others, isAddress)) return undefined;
  return isList(otherPodCIDRs, (text) => parseRange(text) !== undefined) ? { own, others, otherPodCIDRs } : undefined;
}
