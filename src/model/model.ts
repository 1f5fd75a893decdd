// The model: objects in, operations out. It knows which owners (Services, pods with host ports) a change concerns and
// recompiles those. No clock, socket, logger or map: whoever holds it applies what plan() says, or adopts again.
import { type Address, prefixContains } from "../lib/address.ts";
import { Multimap } from "../lib/multimap.ts";
import { createAddressBook, rangeNotices } from "./address-book.ts";
import { type AddressClaimRole, createAddressClaims, hostPortOwner, type OwnerKey, ownerOf } from "./address-claims.ts";
import { createAddressRoom } from "./address-room.ts";
import { createAddressUsers } from "./address-users.ts";
import {
  balancingOf,
  type Compiled,
  claimsOfHostPorts,
  claimsOfService,
  compileHostPorts,
  compileService,
  healthCheckPortOf,
  NO_LOCAL_ENDPOINTS,
} from "./compile.ts";
import { hasHints } from "./endpoint-list.ts";
import type { Surroundings } from "./endpoints.ts";
import type { Model, ModelConfig } from "./model-interface.ts";
import { DEFAULT_NODE_PORT_ADDRESSES } from "./node-port-addresses.ts";
import type {
  AddressPool,
  EndpointSlice,
  HostPort,
  L2Advertisement,
  Node,
  Notice,
  ObjectEvent,
  ObjectKey,
  Service,
} from "./objects.ts";
import type { Operation } from "./operations.ts";
import { createPlanner, type RoundPart } from "./planner.ts";
import { viewOf } from "./service-port-view.ts";
import { type Balancing, BY_HASH } from "./spread.ts";
import { createWantedAddresses } from "./wanted-addresses.ts";

const ZONE_LABEL = "topology.kubernetes.io/zone";

/** The API server's own Service. */
const API_SERVER = "default/kubernetes";

/** An address's roles are that much less work than an owner. */
const ADDRESSES_PER_OWNER = 4;

/** An empty model: its tables are those of empty maps until it adopts others. */
export function createModel(config: ModelConfig): Model {
  const services = new Map<ObjectKey, Service>();
  const slices = new Map<ObjectKey, EndpointSlice>();
  const slicesByService = new Multimap<ObjectKey, ObjectKey>();
  const nodes = new Map<string, Node>();
  const hostPorts = new Map<OwnerKey, readonly HostPort[]>();
  const pools = new Map<ObjectKey, AddressPool>();
  const l2Advertisements = new Map<ObjectKey, L2Advertisement>();
  const { externalIPRanges = [], nodePortAddresses = DEFAULT_NODE_PORT_ADDRESSES } = config;
  const book = createAddressBook(config.nodeName, config.serviceRanges, nodePortAddresses);
  /** Which slices have an address as an endpoint, and whose host ports are or lead there. */
  const endpointUsers = createAddressUsers();
  const hostPortUsers = createAddressUsers();
  const wanted = createWantedAddresses();
  /** Addresses that became a Service's or a node's, or ceased to be, whose users have not been found yet. */
  const touched = new Set<Address>();

  /** To be compiled anew. */
  const dirty = new Set<OwnerKey>();
  /** Of these also the claims may be others. */
  const unclaimed = new Set<OwnerKey>();
  const withHealthCheck = new Set<ObjectKey>();
  const planner = createPlanner(config.capacity, { compile, onStarved: touchAddresses });
  const room = createAddressRoom(config.capacity.addresses);
  const { balancing = BY_HASH } = config;
  /** The plan that follows an adoption, or the first one, is complete. */
  let settled = false;

  const claims = createAddressClaims({
    onRival: (owner) => dirty.add(owner),
    onAddress: (address) => {
      book.touch(address);
      touched.add(address);
    },
  });
  let zone = "";
  const around: Surroundings = {
    nodeName: config.nodeName,
    get zone() {
      return zone;
    },
    isOwnAddress: book.isOwn,
    isNodeAddress: book.isNode,
    isDeviceAddress: book.isOnDevice,
    podNetworkOf: book.podNetworkOf,
    mayBeExternal: (address) => externalIPRanges.some((range) => prefixContains(range, address)),
    isControlPlane: (address, { protocol, port }) => protocol === "TCP" && book.isControlPlane(address, port),
    isClusterIP: claims.isClusterIP,
    isClaimed: claims.isClaimed,
    isFrontend: (address, { protocol, port }) =>
      claims.isClaimed(address) && claims.addressWinner(address, `${protocol} ${port}`) !== undefined,
  };

  function touch(owner: OwnerKey): void {
    dirty.add(owner);
    unclaimed.add(owner);
  }

  /** Owners that have one of the touched addresses become dirty. */
  function findUsers(): void {
    const sought = new Set<Address>();
    for (const address of touched) {
      const keys = endpointUsers.of(address);
      const owners = hostPortUsers.of(address);
      if (keys === "many" || owners === "many") sought.add(address);
      else {
        for (const key of keys) dirty.add(serviceKeyOf(slices.get(key)!));
        for (const owner of owners) touch(owner);
      }
    }
    touched.clear();
    if (sought.size === 0) return;
    for (const slice of slices.values()) {
      if (someAddress(slice, (address) => sought.has(address))) dirty.add(serviceKeyOf(slice));
    }
    for (const [owner, ports] of hostPorts) if (addressesOf(ports).some((one) => sought.has(one))) touch(owner);
  }

  function updateSlice(key: ObjectKey, next: EndpointSlice | undefined): void {
    const old = slices.get(key);
    if (old !== undefined) {
      endpointUsers.remove(key, addressesIn(old));
      const service = serviceKeyOf(old);
      dirty.add(service);
      if (next === undefined || serviceKeyOf(next) !== service) slicesByService.delete(service, key);
    }
    if (next === undefined) {
      slices.delete(key);
      return;
    }
    slices.set(key, next);
    endpointUsers.add(key, addressesIn(next));
    const service = serviceKeyOf(next);
    dirty.add(service);
    slicesByService.add(service, key);
  }

  /** Where the API server itself listens, as it says: whoever may write there may do anything. */
  function findApiServers(): void {
    const servers = slicesOf(API_SERVER).flatMap(({ ports, endpoints }) =>
      [...endpoints].flatMap(({ addresses }) => ports.map(({ port }) => `${addresses[0]} ${port}`)),
    );
    touchHolders(book.setApiServers(new Set(servers)));
  }

  function updateHostPorts(owner: OwnerKey, next: readonly HostPort[] | undefined): void {
    hostPortUsers.remove(owner, addressesOf(hostPorts.get(owner)));
    hostPortUsers.add(owner, addressesOf(next));
    if (next === undefined) hostPorts.delete(owner);
    else hostPorts.set(owner, next);
    touch(owner);
  }

  function updateNode(name: string, next: Node | undefined): void {
    const old = nodes.get(name);
    replace(nodes, name, next);
    touchHolders(book.updateNode(name, next));
    for (const key of wanted.inOtherNetworks(old, next)) touch(key);
    if (name === config.nodeName && next !== undefined) moveTo(next.labels[ZONE_LABEL] ?? "");
  }

  /** A node that is gone is where it was. */
  function moveTo(next: string): void {
    if (next === zone) return;
    zone = next;
    for (const slice of slices.values()) if (hasHints(slice.endpoints)) dirty.add(serviceKeyOf(slice));
  }

  /** What is known of these addresses changed: whoever wants or uses one is looked at anew. */
  function touchHolders(changed: ReadonlySet<Address>): void {
    for (const address of changed) {
      touched.add(address);
      for (const key of wanted.of(address)) touch(key);
    }
  }

  function updateService(key: ObjectKey, next: Service | undefined): void {
    replace(services, key, next);
    wanted.update(key, next);
    touch(key);
    if (next !== undefined && healthCheckPortOf(next) > 0) withHealthCheck.add(key);
    else withHealthCheck.delete(key);
  }

  function updateOne(event: ObjectEvent): void {
    switch (event.kind) {
      case "Service":
        updateService(event.key, event.object);
        break;
      case "EndpointSlice":
        updateSlice(event.key, event.object);
        if (event.key.startsWith("default/")) findApiServers();
        break;
      case "HostPorts":
        updateHostPorts(hostPortOwner(event.key), event.object);
        break;
      case "Node":
        updateNode(event.key, event.object);
        break;
      case "ServiceCIDR":
        book.updateServiceCIDR(event.key, event.object);
        break;
      case "AddressPool":
        replace(pools, event.key, event.object);
        break;
      case "L2Advertisement":
        replace(l2Advertisements, event.key, event.object);
        break;
    }
  }

  function slicesOf(service: ObjectKey): readonly EndpointSlice[] {
    const keys = slicesByService.get(service);
    const ordered = keys.length > 1 ? [...keys].sort() : keys;
    return ordered.map((key) => slices.get(key)!);
  }

  function claimFor(owner: OwnerKey): void {
    const service = services.get(owner);
    const ports = hostPorts.get(owner);
    if (service !== undefined) claims.set(owner, claimsOfService(service, around));
    else claims.set(owner, ports === undefined ? undefined : claimsOfHostPorts(ports, around));
  }

  /** Enters claims that may have changed, of so many owners at most. True when all are entered, and nothing can be compiled before. */
  function claimSome(limit: number): boolean {
    // A host port's claim depends on which addresses are claimed by Services: those come first.
    let left = limit;
    for (const kind of ["service", "host-port"]) {
      for (const owner of unclaimed) {
        if (ownerOf(owner).kind !== kind) continue;
        if (left-- <= 0) return false;
        unclaimed.delete(owner);
        claimFor(owner);
      }
      findUsers();
    }
    return true;
  }

  function compile(owner: OwnerKey): Compiled | undefined {
    const service = services.get(owner);
    if (service !== undefined) return compileService(owner, service, slicesOf(owner), claims, around, balancing);
    const ports = hostPorts.get(owner);
    return ports === undefined ? undefined : compileHostPorts(owner, ports, claims, around);
  }

  function touchAddresses(owner: OwnerKey): void {
    const { clusterIPs = [], grants } = services.get(owner) ?? {};
    for (const address of clusterIPs) book.touch(address);
    for (const { address } of grants?.addresses ?? []) book.touch(address);
  }

  /** Nothing is refused at an address whose Services have no frontend, for want of room. */
  function roleOf(address: Address): AddressClaimRole | undefined {
    const role = claims.roleOf(address);
    return role === "refuse" && [...claims.claimants(address)].every(planner.isStarved) ? undefined : role;
  }

  /** About how much work an owner is: itself, and the endpoints that it has. */
  function weightOf(owner: OwnerKey): number {
    let weight = 1;
    for (const slice of slicesOf(owner)) weight += slice.endpoints.length;
    const service = services.get(owner);
    if (service !== undefined) weight += service.ports.length * tableWork(service, balancing);
    return weight;
  }

  function plan(limit = Number.POSITIVE_INFINITY): readonly Operation[] {
    if (!claimSome(limit)) return [];
    const todo: OwnerKey[] = [];
    let weight = 0;
    for (const owner of dirty) {
      if (weight >= limit) break;
      if (limit !== Number.POSITIVE_INFINITY) weight += weightOf(owner);
      todo.push(owner);
      dirty.delete(owner);
    }
    // Who takes over a frontend comes with whom it leaves, that it is there all the while.
    for (const owner of todo) {
      if (dirty.size === 0) break;
      for (const key of planner.frontendsOf(owner)) {
        for (const heir of claims.claimantsOf(key)) if (dirty.delete(heir)) todo.push(heir);
      }
    }
    // What somebody gives up for others comes after what they need: the reserve has room for that.
    const defer = limit === Number.POSITIVE_INFINITY ? undefined : (owner: OwnerKey) => dirty.add(owner);
    return planner.plan(todo, dirty.size === 0, defer, () => planAddresses(limit * ADDRESSES_PER_OWNER));
  }

  /** Addresses come last: a port is refused where its frontend is still to come. What nobody claimed after an adoption is known only then. */
  function planAddresses(limit: number): RoundPart {
    if (dirty.size > 0) return { puts: [], drops: [], finish: false, again: false };
    const { puts, drops, again } = room.plan(book, limit, planner.tables().addresses, roleOf);
    const complete = book.dirtyCount() === 0;
    const finish = complete && !settled;
    if (finish || (complete && book.rangesChanged())) puts.push(book.takeRanges());
    if (complete) settled = true;
    return { puts, drops, finish, again };
  }

  return {
    adopt(state) {
      planner.adopt(state);
      settled = false;
      for (const key of services.keys()) touch(key);
      for (const key of hostPorts.keys()) touch(key);
      for (const key of planner.owners().keys()) touch(key);
      book.reset(planner.tables().addresses);
      for (const address of wanted.all()) book.touch(address);
    },
    update(events) {
      for (const event of events) updateOne(event);
    },
    setNetworks(held) {
      touchHolders(book.setNetworks(held));
    },
    isDirty: () => dirty.size > 0 || book.dirtyCount() > 0 || touched.size > 0 || book.rangesChanged() || !settled,
    plan,
    notices() {
      const notices: Notice[] = [];
      for (const owner of planner.owners().values()) for (const notice of owner.notices) notices.push(notice);
      notices.push(...rangeNotices(book.ranges(), config.capacity.serviceRanges), ...room.notices());
      return notices;
    },
    *servicePorts() {
      const tables = planner.tables();
      for (const group of tables.groups.values()) {
        if (group.owner !== undefined) yield viewOf(group, tables, slicesOf, around);
      }
    },
    *servicePortsOf(service) {
      const { groups = [] } = planner.owners().get(service) ?? {};
      for (const group of groups) yield viewOf(group, planner.tables(), slicesOf, around);
    },
    serviceById(serviceId) {
      const tables = planner.tables();
      const group = tables.groups.get(serviceId);
      return group?.owner === undefined ? undefined : viewOf(group, tables, slicesOf, around);
    },
    services: () => services,
    slices: () => slices,
    slicesOf,
    nodes: () => nodes,
    pools: () => pools,
    l2Advertisements: () => l2Advertisements,
    healthChecks: () =>
      [...withHealthCheck].map((service) => ({
        service,
        port: services.get(service)!.healthCheckNodePort,
        localEndpoints: planner.owners().get(service)?.localEndpoints ?? NO_LOCAL_ENDPOINTS,
      })),
    usage() {
      const { rows, slots, backends, services, frontends, addresses, sourceRangesUsed } = planner.tables();
      return {
        rows: rows.used,
        slots: slots.used,
        backends: backends.used,
        services: services.used,
        frontends: frontends.size,
        addresses: addresses.size,
        sourceRanges: sourceRangesUsed,
      };
    },
  };
}

/** A Maglev table takes as much time as so many endpoints. */
function tableWork(service: Service, balancing: Balancing): number {
  return balancingOf(service, balancing).tableSize / 64;
}

function serviceKeyOf(slice: EndpointSlice): ObjectKey {
  return `${slice.namespace}/${slice.service}`;
}

function replace<T>(objects: Map<ObjectKey, T>, key: ObjectKey, object: T | undefined): void {
  if (object === undefined) objects.delete(key);
  else objects.set(key, object);
}

function* addressesIn(slice: EndpointSlice): Iterable<Address> {
  for (const { addresses } of slice.endpoints) yield* addresses;
}

function someAddress(slice: EndpointSlice, found: (address: Address) => boolean): boolean {
  for (const address of addressesIn(slice)) if (found(address)) return true;
  return false;
}

function addressesOf(ports: readonly HostPort[] | undefined): Address[] {
  return (ports ?? []).flatMap(({ podAddress, hostAddress }) =>
    hostAddress === "" ? [podAddress] : [podAddress, hostAddress],
  );
}
