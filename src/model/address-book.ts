// Whose an address is, as far as nodes are concerned, and what follows: its roles in the kernel, and which part of the Service
// ranges is no Service's. A node's own traffic depends on it: no answer here may cost it any. Pure.
import {
  type Address,
  type Family,
  familyOf,
  type Prefix,
  parsePrefix,
  prefixContains,
  unusableReason,
} from "../lib/address.ts";
import { type NodePortAddresses, primaryAddresses, servesNodePorts } from "./node-port-addresses.ts";
import type { Node, Notice, ServiceCIDR } from "./objects.ts";
import type { AddressRoles, Operation, PrefixRange } from "./operations.ts";

export interface AddressBook {
  /** An InternalIP of this node. */
  isOwn(address: Address): boolean;
  /** An InternalIP or ExternalIP of any node. */
  isNode(address: Address): boolean;
  /** A device of this node has it. */
  isOnDevice(address: Address): boolean;
  /** The pod network of a node that it lies in, in CIDR notation. */
  podNetworkOf(address: Address): string | undefined;
  /** An API server, or a node's kubelet, listens at this TCP port. */
  isControlPlane(address: Address, port: number): boolean;
  /**
   * Returns the addresses of which something became other. Of this node what is known stays while its object is gone or names no
   * InternalIP, but for addresses that another node has meanwhile.
   */
  updateNode(name: string, node: NodeFacts | undefined): ReadonlySet<Address>;
  /** "address port" each. Returns the addresses of which something became other. */
  setApiServers(servers: ReadonlySet<string>): ReadonlySet<Address>;
  /** What this node's devices have: an address and its network's length each. Returns the addresses that came or went. */
  setNetworks(held: readonly Prefix[]): ReadonlySet<Address>;
  updateServiceCIDR(key: string, object: ServiceCIDR | undefined): void;
  /** Its roles may be others. */
  touch(address: Address): void;
  /** Exempt ranges first, then those of Services. */
  ranges(): readonly PrefixRange[];
  /** The ranges may differ from those that were taken last; true until takeRanges(). */
  rangesChanged(): boolean;
  takeRanges(): Operation;
  /** Roles are these, ranges unknown: as after an adoption. They tell this node's addresses until its object does. */
  reset(known: ReadonlyMap<Address, AddressRoles>): void;
  /** Addresses whose roles are to be looked at. */
  dirtyCount(): number;
  /** Operations for so many of them at most. `claimed`: what Services make of an address. `has` is brought up to date. */
  plan(
    limit: number,
    has: Map<Address, AddressRoles>,
    claimed: (address: Address) => "refuse" | "foreign" | undefined,
  ): { readonly puts: Operation[]; readonly drops: Operation[] };
}

type NodeFacts = Pick<Node, "internalAddresses" | "externalAddresses" | "kubeletPort" | "podCIDRs">;

/** `configured`: ranges of Services that hold as long as there are no ServiceCIDR objects. */
export function createAddressBook(
  nodeName: string,
  configured: readonly PrefixRange[],
  nodePorts: NodePortAddresses,
): AddressBook {
  const nodes = new Map<string, NodeFacts>();
  /** Of each address of a node: the kubelet's port, by the node's name. */
  const nodeAddresses = new Map<Address, Map<string, number>>();
  let ownAddresses: ReadonlySet<Address> = new Set();
  let primaries: ReadonlySet<Address> = new Set();
  /** This node's object is gone, or names no InternalIP. */
  let isRemembered = false;
  /** How many nodes have a pod network, by its text; and of which kinds there are some. */
  const podNetworks = new Map<string, number>();
  const podNetworkKinds = new Map<string, { readonly family: Family; readonly length: number }>();
  let apiServers: ReadonlySet<string> = new Set();
  /** By their text. */
  let held: ReadonlyMap<string, Prefix> = new Map();
  let onDevices: ReadonlySet<Address> = new Set();
  const serviceCIDRs = new Map<string, ServiceCIDR>();
  const dirty = new Set<Address>();
  let changed = true;

  /** Those of the ServiceCIDR objects, oldest name first; without any, those of the configuration. */
  function serviceRanges(): readonly PrefixRange[] {
    if (serviceCIDRs.size === 0) return configured;
    const texts = new Set([...serviceCIDRs.keys()].sort().flatMap((key) => serviceCIDRs.get(key)!.cidrs));
    return [...texts].flatMap((text) => parsePrefix(text) ?? []);
  }

  function ranges(): readonly PrefixRange[] {
    const services = serviceRanges();
    return [...exemptRanges([...held.values()], services), ...services];
  }

  function changeRanges(): void {
    changed = true;
    // A device's address has a role only where a range would take it for a Service's.
    for (const address of onDevices) dirty.add(address);
  }

  function isOwn(address: Address): boolean {
    return ownAddresses.has(address) && !(isRemembered && nodeAddresses.get(address)!.size > 1);
  }

  function countPodNetworks(node: NodeFacts | undefined, step: 1 | -1): void {
    for (const text of node?.podCIDRs ?? []) {
      const prefix = parsePrefix(text);
      if (prefix === undefined) continue;
      const { address, length } = prefix;
      const count = (podNetworks.get(`${address}/${length}`) ?? 0) + step;
      if (count > 0) podNetworks.set(`${address}/${length}`, count);
      else podNetworks.delete(`${address}/${length}`);
      podNetworkKinds.set(`${familyOf(address)} ${length}`, { family: familyOf(address), length });
    }
  }

  function updateNode(name: string, node: NodeFacts | undefined): ReadonlySet<Address> {
    const old = nodes.get(name);
    const wasRemembered = isRemembered;
    if (name === nodeName) isRemembered = (node?.internalAddresses.length ?? 0) === 0;
    const next = name === nodeName && isRemembered ? old : node;
    const before = addressesOf(old);
    const now = addressesOf(next);
    countPodNetworks(old, -1);
    countPodNetworks(next, 1);
    if (next === undefined) nodes.delete(name);
    else nodes.set(name, next);
    for (const address of before) {
      const holders = nodeAddresses.get(address);
      holders?.delete(name);
      if (holders?.size === 0) nodeAddresses.delete(address);
    }
    for (const address of now) {
      const holders = nodeAddresses.get(address) ?? new Map<string, number>();
      nodeAddresses.set(address, holders.set(name, next?.kubeletPort ?? 0));
    }
    if (name === nodeName) {
      ownAddresses = new Set(next?.internalAddresses);
      primaries = next === undefined ? new Set() : primaryAddresses(next);
    }
    const isSame =
      old?.kubeletPort === next?.kubeletPort &&
      old?.internalAddresses.length === next?.internalAddresses.length &&
      isRemembered === wasRemembered;
    if (isSame && before.length === now.length && before.every((one, i) => one === now[i])) return new Set();
    const touched = new Set([...before, ...now]);
    for (const address of touched) dirty.add(address);
    return touched;
  }

  function rolesOf(
    address: Address,
    services: readonly PrefixRange[],
    claimed: "refuse" | "foreign" | undefined,
  ): AddressRoles {
    const holders = nodeAddresses.get(address);
    const isNode = holders !== undefined;
    const isOthers = isNode && !(holders.size === 1 && holders.has(nodeName));
    const inRange = onDevices.has(address) && services.some((range) => prefixContains(range, address));
    const own = isOwn(address);
    const mayServe = own || (onDevices.has(address) && !isOthers && !inRange && unusableReason(address) === undefined);
    const serves = mayServe && servesNodePorts(nodePorts, address, primaries);
    const node = own || serves;
    return {
      node,
      refuse: claimed === "refuse" && !isNode && !onDevices.has(address),
      peer: !node && (isNode || inRange || claimed === "foreign"),
      withoutNodePorts: node && !serves,
    };
  }

  return {
    isOwn,
    isNode: (address) => nodeAddresses.has(address),
    isOnDevice: (address) => onDevices.has(address),
    podNetworkOf(address) {
      for (const { family, length } of podNetworkKinds.values()) {
        if (family !== familyOf(address)) continue;
        const text = `${parsePrefix(`${address}/${length}`)!.address}/${length}`;
        if (podNetworks.has(text)) return text;
      }
      return undefined;
    },
    isControlPlane(address, port) {
      if (apiServers.has(`${address} ${port}`)) return true;
      for (const kubelet of nodeAddresses.get(address)?.values() ?? []) if (kubelet === port) return true;
      return false;
    },
    updateNode,
    setApiServers(servers) {
      const changed = [...apiServers, ...servers].filter((one) => !(apiServers.has(one) && servers.has(one)));
      apiServers = servers;
      return new Set(changed.map((one) => one.slice(0, one.indexOf(" "))));
    },
    setNetworks(list) {
      // Many devices may have one address: what counts is which there are.
      const unique = new Map(list.map((one) => [`${one.address}/${one.length}`, one]));
      if (unique.size === held.size && [...unique.keys()].every((text) => held.has(text))) return new Set();
      const before = onDevices;
      held = unique;
      onDevices = new Set(list.map(({ address }) => address));
      const touched = new Set([...onDevices, ...before].filter((one) => !(onDevices.has(one) && before.has(one))));
      for (const address of touched) dirty.add(address);
      changeRanges();
      return touched;
    },
    updateServiceCIDR(key, object) {
      if (object === undefined) serviceCIDRs.delete(key);
      else serviceCIDRs.set(key, object);
      changeRanges();
    },
    touch: (address) => dirty.add(address),
    ranges,
    rangesChanged: () => changed,
    takeRanges() {
      changed = false;
      return { op: "set-service-ranges", ranges: ranges() };
    },
    reset(known) {
      for (const address of known.keys()) dirty.add(address);
      const own = [...known].flatMap(([address, { node }]) => (node ? [address] : []));
      if (!nodes.has(nodeName) && own.length > 0) {
        updateNode(nodeName, { internalAddresses: own, externalAddresses: [], kubeletPort: 0, podCIDRs: [] });
        isRemembered = true;
      }
      for (const address of nodeAddresses.keys()) dirty.add(address);
      changeRanges();
    },
    dirtyCount: () => dirty.size,
    plan(limit, has, claimed) {
      const puts: Operation[] = [];
      const drops: Operation[] = [];
      const services = serviceRanges();
      let left = limit;
      for (const address of dirty) {
        if (left-- <= 0) break;
        dirty.delete(address);
        const old = has.get(address);
        const roles = rolesOf(address, services, claimed(address));
        if (roles.node || roles.refuse || roles.peer) {
          if (old !== undefined && sameRoles(old, roles)) continue;
          puts.push({ op: "put-address", address, roles });
          has.set(address, roles);
        } else if (old !== undefined) {
          drops.push({ op: "drop-address", address });
          has.delete(address);
        }
      }
      return { puts, drops };
    },
  };
}

/**
 * The networks of devices that lie in a Service range, or around one, each once and none within another: neighbours there are no
 * Service's free addresses. A single address needs no range: it has a role.
 */
export function exemptRanges(held: readonly Prefix[], services: readonly PrefixRange[]): readonly PrefixRange[] {
  const networks = held
    .filter(({ address, length }) => length < bitsOf(address))
    .filter(({ address, length }) =>
      services.some((range) => prefixContains(range, address) || prefixContains({ address, length }, range.address)),
    )
    .sort((a, b) => a.length - b.length || (a.address < b.address ? -1 : 1));
  const found: PrefixRange[] = [];
  for (const { address, length } of networks) {
    if (found.some((range) => prefixContains(range, address))) continue;
    const network = parsePrefix(`${address}/${length}`);
    if (network !== undefined) found.push({ ...network, exempt: true });
  }
  return found;
}

const sameRoles = (a: AddressRoles, b: AddressRoles): boolean =>
  a.node === b.node && a.refuse === b.refuse && a.peer === b.peer && a.withoutNodePorts === b.withoutNodePorts;

function addressesOf(node: NodeFacts | undefined): readonly Address[] {
  return node === undefined ? [] : [...node.internalAddresses, ...node.externalAddresses];
}

const bitsOf = (address: Address): number => (familyOf(address) === "IPv4" ? 32 : 128);

/** What is said of ranges that the kernel's table has no room for. */
export function rangeNotices(ranges: readonly PrefixRange[], most: number): readonly Notice[] {
  const beyond = ranges.slice(most).filter(({ exempt }) => exempt !== true);
  if (beyond.length === 0) return [];
  const texts = beyond.map(({ address, length }) => `${address}/${length}`).join(", ");
  return [
    {
      object: "ServiceCIDR",
      file: "",
      field: "spec.cidrs",
      reason: "too-many-service-ranges",
      message: `could not keep more than ${most} ranges of cluster addresses: addresses of ${texts} that no Service has are not dropped`,
      severity: "warning",
    },
  ];
}
