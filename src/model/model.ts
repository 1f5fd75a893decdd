// The model: objects in, operations out. It knows which owners (Services, pods with host ports) a change concerns and
// recompiles those. No clock, socket, logger or map: whoever holds it applies what plan() says, or adopts again.
import type { Address } from "../lib/address.ts";
import { Multimap } from "../lib/multimap.ts";
import { createAddressBook, rangeNotices } from "./address-book.ts";
import { createAddressClaims, type OwnerKey } from "./address-claims.ts";
import { createAddressUsers } from "./address-users.ts";
import { adoptTables } from "./adopt.ts";
import {
  type Compiled,
  claimsOfHostPorts,
  claimsOfService,
  compileHostPorts,
  compileService,
  hostPortOwner,
  type PortSpec,
} from "./compile.ts";
import type { Surroundings } from "./endpoints.ts";
import type { Model, ModelConfig } from "./model-interface.ts";
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
import { applyPort, beginRound, dropBroken, endRound, type FullTable, type Round, removeGroup } from "./plan.ts";
import { viewOf } from "./service-port-view.ts";
import { createTables, type Group } from "./tables.ts";
import { createWantedAddresses } from "./wanted-addresses.ts";

export type { HealthCheck, Model, ModelConfig, Usage } from "./model-interface.ts";

/** The API server's own Service. */
const API_SERVER = "default/kubernetes";

/** Starts the name of a slice among the users of an address; owners go by their own name. */
const SLICE = "slice ";

/** An address's roles are that much less work than an owner. */
const ADDRESSES_PER_OWNER = 4;

interface OwnerState {
  groups: readonly Group[];
  notices: readonly Notice[];
  localEndpoints: number;
}

/** An empty model: its tables are those of empty maps until it adopts others. */
export function createModel(config: ModelConfig): Model {
  const services = new Map<ObjectKey, Service>();
  const slices = new Map<ObjectKey, EndpointSlice>();
  const slicesByService = new Multimap<ObjectKey, ObjectKey>();
  const nodes = new Map<string, Node>();
  const hostPorts = new Map<OwnerKey, readonly HostPort[]>();
  const pools = new Map<ObjectKey, AddressPool>();
  const l2Advertisements = new Map<ObjectKey, L2Advertisement>();
  const book = createAddressBook(config.nodeName, config.serviceRanges);
  /** Who has an address as an endpoint or wants it as host address: owners. */
  const users = createAddressUsers();
  const wanted = createWantedAddresses();
  /** Addresses that became a Service's or a node's, or ceased to be, whose users have not been found yet. */
  const touched = new Set<Address>();

  /** To be compiled anew. */
  const dirty = new Set<OwnerKey>();
  /** Of these also the claims may be others. */
  const unclaimed = new Set<OwnerKey>();
  /** Owners that did not fit into a table; tried again when something was freed. */
  const starved = new Set<OwnerKey>();
  const owners = new Map<OwnerKey, OwnerState>();
  const withHealthCheck = new Set<ObjectKey>();
  let tables = createTables(config.capacity);
  /** The plan that follows an adoption, or the first one, is complete. */
  let settled = false;

  const claims = createAddressClaims({
    onRival: (owner) => dirty.add(owner),
    onAddress: (address) => {
      book.touch(address);
      touched.add(address);
    },
  });
  const around: Surroundings = {
    nodeName: config.nodeName,
    isOwnAddress: book.isOwn,
    isNodeAddress: book.isNode,
    isDeviceAddress: book.isOnDevice,
    podNetworkOf: book.podNetworkOf,
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
      const found = users.of(address);
      if (found === "many") sought.add(address);
      else {
        for (const user of found) {
          const slice = user.startsWith(SLICE) ? slices.get(user.slice(SLICE.length)) : undefined;
          if (slice === undefined) touch(user);
          else dirty.add(serviceKeyOf(slice));
        }
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
    const user = `${SLICE}${key}`;
    if (old !== undefined) {
      users.remove(user, addressesIn(old));
      const service = serviceKeyOf(old);
      dirty.add(service);
      if (next === undefined || serviceKeyOf(next) !== service) slicesByService.delete(service, key);
    }
    if (next === undefined) {
      slices.delete(key);
      return;
    }
    slices.set(key, next);
    users.add(user, addressesIn(next));
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
    users.remove(owner, addressesOf(hostPorts.get(owner)));
    users.add(owner, addressesOf(next));
    if (next === undefined) hostPorts.delete(owner);
    else hostPorts.set(owner, next);
    touch(owner);
  }

  function updateNode(name: string, next: Node | undefined): void {
    const old = nodes.get(name);
    replace(nodes, name, next);
    touchHolders(book.updateNode(name, next));
    for (const key of wanted.inOtherNetworks(old, next)) touch(key);
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
    if (next?.externalTrafficPolicy === "Local" && next.healthCheckNodePort > 0) withHealthCheck.add(key);
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
    const isHostPort = (owner: OwnerKey): boolean => owner.startsWith("host-port ");
    let left = limit;
    for (const wantHostPorts of [false, true]) {
      for (const owner of unclaimed) {
        if (isHostPort(owner) !== wantHostPorts) continue;
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
    if (service !== undefined) return compileService(owner, service, slicesOf(owner), claims, around);
    const ports = hostPorts.get(owner);
    return ports === undefined ? undefined : compileHostPorts(owner, ports, claims, around);
  }

  /** The group that goes on as `spec`: the same port's, else one that nobody else continues and that has one of its frontends. */
  function groupFor(
    spec: PortSpec,
    owner: OwnerKey,
    byKey: Map<string, Group>,
    specKeys: Set<string>,
  ): Group | undefined {
    const same = byKey.get(spec.key);
    if (same !== undefined) return same;
    for (const { text } of spec.frontends) {
      const installed = tables.frontends.get(text);
      if (installed === undefined || installed.leaving) continue;
      const { group } = installed;
      if (group.owner === undefined) return group;
      if (group.owner === owner && byKey.get(group.key) === group && !specKeys.has(group.key)) return group;
    }
    return undefined;
  }

  function planOwner(owner: OwnerKey, round: Round): void {
    const compiled = compile(owner);
    const specs = compiled?.ports ?? [];
    const byKey = new Map<string, Group>();
    for (const group of owners.get(owner)?.groups ?? []) byKey.set(group.key, group);
    const specKeys = new Set(specs.map((spec) => spec.key));
    const groups: Group[] = [];
    const full: Notice[] = [];
    starved.delete(owner);
    for (const spec of specs) {
      const old = groupFor(spec, owner, byKey, specKeys);
      const oldKey = old?.key;
      const result = applyPort(tables, round, owner, spec, old);
      if (oldKey !== undefined) byKey.delete(oldKey);
      if (typeof result !== "string") groups.push(result);
      else {
        starved.add(owner);
        full.push(fullNotice(owner, spec, result));
        if (old === undefined) continue;
        old.owner = owner;
        old.key = spec.key;
        groups.push(old);
      }
    }
    for (const group of byKey.values()) removeGroup(tables, round, group);
    if (compiled === undefined) {
      owners.delete(owner);
      return;
    }
    const notices = full.length === 0 ? compiled.notices : [...compiled.notices, ...full];
    // Copies have no spare room.
    owners.set(owner, { groups: groups.slice(), notices, localEndpoints: compiled.localEndpoints });
  }

  /** A group that could not change for want of room, and whose last frontend another owner took. */
  function dropUnreachable(round: Round): void {
    for (const owner of starved) {
      const state = owners.get(owner);
      if (state?.groups.every((group) => group.rows.length > 0) !== false) continue;
      for (const group of state.groups) if (group.rows.length === 0) removeGroup(tables, round, group);
      state.groups = state.groups.filter((group) => group.rows.length > 0);
    }
  }

  /** About how much work an owner is: itself, and the endpoints that it has. */
  function weightOf(owner: OwnerKey): number {
    let weight = 1;
    for (const slice of slicesOf(owner)) weight += slice.endpoints.length;
    return weight;
  }

  function plan(limit = Number.POSITIVE_INFINITY): readonly Operation[] {
    if (!claimSome(limit)) return [];
    let todo: OwnerKey[] = [];
    let weight = 0;
    for (const owner of dirty) {
      if (weight >= limit) break;
      if (limit !== Number.POSITIVE_INFINITY) weight += weightOf(owner);
      todo.push(owner);
      dirty.delete(owner);
    }
    // Addresses come last: a port is refused where its frontend is still to come. What nobody claimed after an adoption
    // is known only now.
    const { puts, drops } =
      dirty.size === 0
        ? book.plan(limit * ADDRESSES_PER_OWNER, tables.addresses, claims.roleOf)
        : { puts: [], drops: [] };
    const complete = dirty.size === 0 && book.dirtyCount() === 0;
    const finish = complete && !settled;
    if (finish || (complete && book.rangesChanged())) puts.push(book.takeRanges());
    if (complete) settled = true;
    const operations: Operation[] = [];
    for (let first = true; first || todo.length > 0; first = false) {
      const round = beginRound();
      for (const owner of todo) planOwner(owner, round);
      dropUnreachable(round);
      if (first && finish) {
        for (const group of [...tables.groups.values()]) {
          if (group.owner === undefined) removeGroup(tables, round, group);
        }
        dropBroken(tables, round);
      }
      const ended = endRound(tables, round, first ? puts : [], first ? drops : []);
      for (const operation of ended.operations) operations.push(operation);
      // What was freed may be what somebody waits for. Every further round has freed something, so this ends.
      todo = ended.freed ? [...starved] : [];
    }
    return operations;
  }

  return {
    adopt(state) {
      tables = adoptTables(state, config.capacity);
      settled = false;
      for (const owner of owners.values()) owner.groups = [];
      starved.clear();
      for (const key of services.keys()) touch(key);
      for (const key of hostPorts.keys()) touch(key);
      for (const key of owners.keys()) touch(key);
      book.reset(tables.addresses);
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
      for (const owner of owners.values()) for (const notice of owner.notices) notices.push(notice);
      notices.push(...rangeNotices(book.ranges(), config.capacity.serviceRanges));
      return notices;
    },
    *servicePorts() {
      for (const group of tables.groups.values()) {
        if (group.owner !== undefined) yield viewOf(group, tables, slicesOf, around);
      }
    },
    *servicePortsOf(service) {
      for (const group of owners.get(service)?.groups ?? []) yield viewOf(group, tables, slicesOf, around);
    },
    serviceById(serviceId) {
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
        localEndpoints: owners.get(service)?.localEndpoints ?? 0,
      })),
    usage: () => ({
      rows: tables.rows.used,
      slots: tables.slots.used,
      backends: tables.backends.used,
      services: tables.services.used,
      frontends: tables.frontends.size,
    }),
  };
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

function fullNotice(owner: OwnerKey, spec: PortSpec, map: FullTable): Notice {
  const object = owner.startsWith("host-port ") ? `Pod ${owner.slice("host-port ".length)}` : `Service ${owner}`;
  const message = `could not serve ${spec.protocol} port ${spec.port} (${spec.family}) as asked: map "${map}" is full`;
  return { object, file: "", field: "", reason: "table-full", message, severity: "error" };
}
