// The one allocator and endpoint controller: manifests in, Kubernetes objects in full out (Services with their addresses,
// ports and status, EndpointSlices, Nodes, Pods). What it gave out it keeps in the state directory, before it takes effect.
// It works by what changed: a Service that nothing happened to is not looked at again.
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { assignPoolAddresses, type PoolHolding, type PoolOutcome, usablePools } from "../allocate/pools.ts";
import { parseServiceRanges } from "../allocate/service-addresses.ts";
import type * as ledgers from "../allocate/service-ledger.ts";
import { allocateServices, type RefusedService, type ServiceHolding } from "../allocate/service-ledger.ts";
import { type Address, type AddressRange, canonicalAddress, parseRange, rangeContains } from "../lib/address.ts";
import type { Range } from "../lib/range.ts";
import { readStateText, writeStateFile } from "../lib/state-store.ts";
import type { Notice } from "../model/objects.ts";
import {
  type AddressPoolObject,
  AGE_ANNOTATION,
  type EndpointSliceObject,
  type KubernetesObject,
  type ManifestObject,
  type NodeObject,
  objectKey,
  objectTitle,
  own,
  POOL_ANNOTATION,
  type PodObject,
  type RawDocument,
  type ServiceObject,
} from "../wire/kubernetes.ts";
import { clusterIPsOf, normaliseAddressPool, podAddresses, refusedNotice } from "../wire/normalise.ts";
import { type CatalogueOptions, createCatalogue, type InForce } from "./catalogue.ts";
import {
  creationTime,
  type FirstSeen,
  type KeptService,
  nextAge,
  stateFromJson,
  stateToJson,
} from "./cluster-state.ts";
import { DNS_MANIFEST_FILE, type DnsAddress, dnsManifests } from "./dns-service.ts";
import { fullService, nodeObject } from "./full-objects.ts";
import { inPortions, sorted, type Work } from "./portions.ts";
import { sameJson } from "./same-json.ts";
import { createSliceControllers, type ServiceSlices } from "./slice-controllers.ts";

export interface ClusterOptions {
  /** Directory of allocations.json; made when absent. */
  readonly stateDir: string;
  readonly serviceClusterIpRange: readonly string[];
  readonly serviceNodePortRange: Range;
  /** Made when no manifest has a Node of this name. */
  readonly ownNode?: { readonly name: string; readonly addresses: readonly Address[] } | undefined;
  /** Where the DNS server listens: it becomes Service kube-system/kube-dns and its slices, unless the manifests define that Service. */
  readonly dns?: DnsAddress | undefined;
  /** @default "noticed" */
  readonly workloads?: CatalogueOptions["workloads"];
  /** Milliseconds since the epoch, for ages and creation times. @default Date.now */
  readonly now?: () => number;
}

export interface Reconciled {
  /** Everything in force, in full. Objects that did not change are the same objects as last time. */
  readonly objects: readonly KubernetesObject[];
  /** What is another, or gone (undefined), since the last call that did not reject, by "Kind namespace/name". */
  readonly changed: ReadonlyMap<string, KubernetesObject | undefined>;
  /** Deployments and the like whose metadata is in order: for whoever runs them. */
  readonly workloads: readonly ManifestObject[];
  readonly notices: readonly Notice[];
}

export interface Cluster {
  /**
   * Takes in all documents there are now. What it returns is on the disk already. One call at a time; rejects with a Failure
   * when the state could not be written, and then what was returned before stays in force.
   */
  reconcile(documents: readonly RawDocument[]): Promise<Reconciled>;
  /** The address and port of the DNS server may become known, or change, later. Takes effect with the next `reconcile`. */
  setDns(dns: DnsAddress | undefined): void;
  setOwnNode(node: { readonly name: string; readonly addresses: readonly Address[] } | undefined): void;
}

type AllocatedService = ledgers.AllocatedService<ServiceObject>;
const NO_ADDRESSES: readonly Address[] = [];
const ZONE_LABEL = "topology.kubernetes.io/zone";

/** Addresses that several may have at once. */
interface Tally {
  has(address: Address): boolean;
  /** Returns whether that changed `has`. */
  add(address: Address): boolean;
  remove(address: Address): boolean;
}

function createTally(): Tally {
  const counts = new Map<Address, number>();
  return {
    has: (address) => counts.has(address),
    add(address) {
      const count = counts.get(address) ?? 0;
      counts.set(address, count + 1);
      return count === 0;
    },
    remove(address) {
      const count = counts.get(address) ?? 0;
      if (count > 1) counts.set(address, count - 1);
      else counts.delete(address);
      return count === 1;
    },
  };
}

/** Reads the state. Throws a Failure when it cannot be read or the ranges are wrong. */
export async function createCluster(options: ClusterOptions): Promise<Cluster> {
  const ranges = parseServiceRanges(options.serviceClusterIpRange);
  const { stateDir, serviceNodePortRange: nodePortRange, now = Date.now } = options;
  const path = join(stateDir, "allocations.json");
  const catalogue = createCatalogue({ workloads: options.workloads ?? "noticed" });
  let { dns } = options;
  let wantedNode = options.ownNode;

  // What is kept, and whether the file says so yet.
  const restored = await inPortions(stateFromJson(await readStateText(path), path));
  const firstSeen = new Map(restored.firstSeen);
  const kept = new Map(restored.services);
  let lastAge = restored.lastAge;
  let unwritten = false;
  let isFirst = true;

  // What the manifests say.
  const services = new Map<string, ManifestObject & { readonly object: ServiceObject }>();
  const nodes = new Map<string, NodeObject>();
  const pools = new Map<string, ManifestObject & { readonly object: AddressPoolObject }>();
  const namespaces = new Map<string, KubernetesObject>();
  const workloads = new Map<string, ManifestObject>();
  let ownNode: ClusterOptions["ownNode"];

  // What became of it.
  const allocated = new Map<string, AllocatedService>();
  const accepted = new Map<string, ServiceObject>();
  for (const [key, { lastGood }] of kept) if (lastGood !== undefined) accepted.set(key, lastGood as ServiceObject);
  const addressOwner = new Map<Address, string>();
  const portOwner = new Map<number, string>();
  let refusedServices: readonly RefusedService[] = [];
  let outcomes: ReadonlyMap<string, PoolOutcome> = new Map();
  let poolNotices: readonly Notice[] = [];
  let poolRanges: readonly AddressRange[] = [];
  const nodeAddresses = createTally();
  const frontends = createTally();
  const stamped = new WeakMap<KubernetesObject, { readonly seen: FirstSeen; readonly object: KubernetesObject }>();
  const controllers = createSliceControllers({
    zoneOf: (name) => own(nodes.get(name)?.metadata.labels, ZONE_LABEL) ?? "",
    isFrontend: frontends.has,
  });
  const slicesOf = new Map<string, ServiceSlices>();
  const sliceOwner = new Map<string, string>();
  /** Services whose slices have something to be told. */
  const telling = new Set<string>();

  // What is given out, by title, and what of it nobody was told yet.
  const givenServices = new Map<string, ServiceObject>();
  const givenSlices = new Map<string, EndpointSliceObject>();
  const givenOthers = new Map<string, KubernetesObject>();
  let untold = new Map<string, KubernetesObject | undefined>();

  // Work of one pass.
  let changedServices = new Set<string>();
  let changedFrontends = new Set<Address>();
  let mustBalance = false;

  let dnsDocuments: readonly RawDocument[] = [];
  let dnsText = "null";
  function withDns(documents: readonly RawDocument[]): readonly RawDocument[] {
    const text = JSON.stringify(dns ?? null);
    if (text !== dnsText) {
      dnsText = text;
      const families = ranges.map((one) => one.family);
      const objects = dns === undefined ? [] : dnsManifests(dns, families);
      dnsDocuments = objects.map((object, index) => ({ file: DNS_MANIFEST_FILE, index, object }));
    }
    if (dnsDocuments.length === 0) return documents;
    const defined = documents.some(({ object }) => {
      const one = object as { kind?: unknown; metadata?: { name?: unknown; namespace?: unknown } } | null;
      return one?.kind === "Service" && one.metadata?.namespace === "kube-system" && one.metadata.name === "kube-dns";
    });
    return defined ? documents : [...documents, ...dnsDocuments];
  }

  // --- who is how old ---------------------------------------------------------------------------------------------------
  function renew(title: string): FirstSeen {
    lastAge = nextAge(lastAge, now());
    const fresh = { age: lastAge, uid: randomUUID() };
    firstSeen.set(title, fresh);
    unwritten = true;
    return fresh;
  }

  function recall(title: string): FirstSeen {
    return firstSeen.get(title) ?? renew(title);
  }

  function forget(title: string): void {
    if (firstSeen.delete(title)) unwritten = true;
  }

  /** With uid, creation time and age; what the manifest says of the first two stays. */
  function stamp<T extends KubernetesObject>(object: T): T {
    const seen = recall(objectTitle(object));
    const done = stamped.get(object);
    if (done?.seen === seen) return done.object as T;
    const { age, uid } = seen;
    const { metadata } = object;
    const full = {
      ...object,
      metadata: {
        ...metadata,
        uid: metadata.uid || uid,
        creationTimestamp: metadata.creationTimestamp || creationTime(age),
        annotations: { ...metadata.annotations, [AGE_ANNOTATION]: String(age) },
      },
    };
    stamped.set(object, { seen, object: full });
    return full;
  }

  // --- what is given out ------------------------------------------------------------------------------------------------
  /** Returns whether it says something else than before. */
  function give<T extends KubernetesObject>(to: Map<string, T>, title: string, object: T | undefined): boolean {
    if (sameJson(to.get(title), object)) return false;
    if (object === undefined) to.delete(title);
    else to.set(title, object);
    untold.set(title, object);
    return true;
  }

  // --- manifests --------------------------------------------------------------------------------------------------------
  /** An address that is no Service's to have is somebody's now, or nobody's any longer. */
  function noteForeign(address: Address): void {
    if (!mustBalance && poolRanges.some((range) => rangeContains(range, address))) mustBalance = true;
  }

  function moveNodeAddresses(before: readonly Address[], after: readonly Address[]): void {
    const changed = [...after.filter(nodeAddresses.add), ...before.filter(nodeAddresses.remove)];
    for (const text of changed) {
      const address = canonicalAddress(text);
      if (address !== undefined) noteForeign(address);
    }
  }

  function addressesOf(node: NodeObject | undefined): readonly Address[] {
    return (node?.status?.addresses ?? []).map((one) => one.address);
  }

  function setPod(title: string, was: PodObject | undefined, is: PodObject | undefined, file: string): void {
    const changed = new Set(was === undefined ? NO_ADDRESSES : podAddresses(was));
    for (const address of is === undefined ? NO_ADDRESSES : podAddresses(is))
      if (!changed.delete(address)) changed.add(address);
    controllers.setPod(title, is === undefined ? undefined : { object: is, file, age: recall(title).age });
    for (const address of changed) noteForeign(address);
  }

  function* setNode(name: string, is: NodeObject | undefined): Work<void> {
    const was = nodes.get(name);
    moveNodeAddresses(addressesOf(was), addressesOf(is));
    if (is === undefined) nodes.delete(name);
    else nodes.set(name, is);
    if (own(was?.metadata.labels, ZONE_LABEL) !== own(is?.metadata.labels, ZONE_LABEL))
      yield* controllers.markNode(name);
  }

  function* takeObject(title: string, before: InForce | undefined, after: InForce | undefined): Work<void> {
    const was = before?.use === "used" ? before.document : undefined;
    const is = after?.use === "used" ? after.document : undefined;
    const some = (after ?? before)?.document.object;
    if (some === undefined) return;
    const key = objectKey(some);
    if (is !== undefined) recall(title);
    else if (was !== undefined) forget(title);
    if (some.kind === "Service") {
      if (is === undefined) services.delete(key);
      else services.set(key, is as ManifestObject & { readonly object: ServiceObject });
      changedServices.add(key);
    } else if (some.kind === "Endpoints") controllers.setEndpoints(key, is);
    else if (some.kind === "EndpointSlice") {
      const full = is === undefined ? undefined : stamp(is.object as EndpointSliceObject);
      controllers.setWritten(title, is === undefined || full === undefined ? undefined : { document: is, full });
    } else if (some.kind === "Namespace") {
      if (after === undefined) namespaces.delete(key);
      else namespaces.set(key, after.document.object);
      if (poolRanges.length > 0) mustBalance = true;
    } else if (after?.use === "workload") workloads.set(title, after.document);
    else if (before?.use === "workload") workloads.delete(title);
    else if (was !== undefined || is !== undefined) {
      const full = is === undefined ? undefined : stamp(is.object);
      give(givenOthers, title, full);
      if (some.kind === "Pod")
        setPod(title, was?.object as PodObject | undefined, full as PodObject | undefined, is?.file ?? "");
      else if (some.kind === "Node") yield* setNode(key, is?.object as NodeObject | undefined);
      else if (some.kind === "IPAddressPool") {
        if (is === undefined) pools.delete(key);
        else pools.set(key, is as ManifestObject & { readonly object: AddressPoolObject });
        mustBalance = true;
      }
    }
  }

  function takeOwnNode(): void {
    const before = ownNode;
    ownNode = wantedNode;
    if (!sameJson(before, ownNode)) moveNodeAddresses(before?.addresses ?? [], ownNode?.addresses ?? []);
    if (before !== undefined && before.name !== ownNode?.name && !nodes.has(before.name)) {
      forget(`Node ${before.name}`);
      give(givenOthers, `Node ${before.name}`, undefined);
    }
    if (ownNode === undefined || nodes.has(ownNode.name)) return;
    give(givenOthers, `Node ${ownNode.name}`, stamp(nodeObject(ownNode.name, ownNode.addresses)));
  }

  // --- cluster addresses and node ports ---------------------------------------------------------------------------------
  function* byAge(keys: Iterable<string>): Work<readonly string[]> {
    const aged: { readonly key: string; readonly age: number }[] = [];
    for (const key of keys) {
      if (services.has(key)) aged.push({ key, age: recall(`Service ${key}`).age });
      yield;
    }
    return (yield* sorted(aged, (a, b) => a.age - b.age)).map((one) => one.key);
  }

  function claim(key: string, { clusterIPs, nodePorts, healthCheckNodePort }: ServiceHolding): void {
    for (const ip of clusterIPs) if (ip !== "None") addressOwner.set(ip, key);
    for (const { nodePort } of nodePorts) portOwner.set(nodePort, key);
    if (healthCheckNodePort !== 0) portOwner.set(healthCheckNodePort, key);
  }

  function release(key: string, { clusterIPs, nodePorts, healthCheckNodePort }: ServiceHolding): void {
    for (const ip of clusterIPs) if (addressOwner.get(ip) === key) addressOwner.delete(ip);
    for (const { nodePort } of nodePorts) if (portOwner.get(nodePort) === key) portOwner.delete(nodePort);
    if (portOwner.get(healthCheckNodePort) === key) portOwner.delete(healthCheckNodePort);
  }

  function manifestsOf(keys: readonly string[]): ReadonlyMap<string, ServiceObject> {
    return new Map(keys.flatMap((key) => (services.has(key) ? [[key, services.get(key)!.object] as const] : [])));
  }

  /** Returns the Services of which something may be another. */
  function* allocate(): Work<Set<string>> {
    const ledger = allocateServices({
      accepted,
      ranges,
      nodePortRange,
      held: kept,
      services: manifestsOf(yield* byAge(services.keys())),
    });
    refusedServices = ledger.refused;
    const others = new Set(changedServices);
    for (const key of new Set([...allocated.keys(), ...ledger.services.keys()])) {
      yield;
      const [was, is] = [allocated.get(key), ledger.services.get(key)];
      const same =
        was?.source === is?.source &&
        sameJson(was?.holding, is?.holding) &&
        sameJson(was?.ipFamilies, is?.ipFamilies) &&
        was?.ipFamilyPolicy === is?.ipFamilyPolicy;
      if (!same) others.add(key);
    }
    yield* settle(ledger.services, others);
    return others;
  }

  function* settle(ledger: ReadonlyMap<string, AllocatedService>, keys: ReadonlySet<string>): Work<void> {
    for (const key of keys) {
      yield;
      const before = allocated.get(key);
      if (before === undefined) continue;
      release(key, before.holding);
      if (before.source.spec.type === "LoadBalancer") mustBalance = true;
    }
    for (const key of keys) {
      yield;
      const one = ledger.get(key);
      if (one === undefined) {
        allocated.delete(key);
        accepted.delete(key);
        continue;
      }
      allocated.set(key, one);
      accepted.set(key, one.source);
      claim(key, one.holding);
      if (one.replaced) renew(`Service ${key}`);
      if (one.source.spec.type === "LoadBalancer") mustBalance = true;
      for (const ip of one.holding.clusterIPs) if (ip !== "None") noteForeign(ip);
    }
  }

  // --- LoadBalancer addresses -------------------------------------------------------------------------------------------
  /** Returns the Services whose outcome is another. */
  function* balance(): Work<Set<string>> {
    const notices: Notice[] = [];
    const { usable, overlapping } = usablePools([...pools.values()].map((one) => normaliseAddressPool(one.object)));
    poolRanges = usable.flatMap((pool) => pool.ranges.flatMap((text) => parseRange(text) ?? []));
    for (const { pool, with: other, range } of overlapping) {
      const field = `spec.addresses[${range}]`;
      const message = `${field}: Invalid value: "${pool.ranges[range]}": overlaps with the IPAddressPool ${other}; this pool is not used`;
      const object = `IPAddressPool ${pool.namespace}/${pool.name}`;
      const file = pools.get(`${pool.namespace}/${pool.name}`)?.file ?? "";
      notices.push({ object, file, field, reason: "pool-overlap", message, severity: "error" });
    }
    const asking: string[] = [];
    for (const { key, source } of allocated.values()) {
      if (source.spec.type === "LoadBalancer") asking.push(key);
      yield;
    }
    const clients = (yield* byAge(asking)).flatMap((key) => allocated.get(key) ?? []);
    const held = new Map<string, PoolHolding>();
    for (const { key, source } of clients) {
      yield;
      const before = kept.get(key)?.balancer;
      // A manifest taken from a running cluster carries the address that it had there: it is kept where that can be.
      const ingress = (source.status?.loadBalancer?.ingress ?? []).flatMap((one) => one.ip ?? []);
      const pool = own(source.metadata.annotations, POOL_ANNOTATION);
      if (before !== undefined) held.set(key, before);
      else if (ingress.length > 0 && pool !== undefined) held.set(key, { addresses: ingress, pool });
    }
    const before = outcomes;
    outcomes = assignPoolAddresses({
      pools: usable,
      clients: clients.map(({ key, source, ipFamilies, ipFamilyPolicy }) => ({
        key,
        service: source,
        families: ipFamilies,
        needsAllFamilies: ipFamilyPolicy === "RequireDualStack",
      })),
      held,
      namespaceLabels: (name) => ({
        ...namespaces.get(name)?.metadata.labels,
        "kubernetes.io/metadata.name": name,
      }),
      isForeign: (address) => nodeAddresses.has(address) || controllers.hasPodAt(address) || addressOwner.has(address),
    });
    const others = new Set<string>();
    for (const key of before.keys()) if (!outcomes.has(key)) others.add(key);
    for (const [key, outcome] of outcomes) {
      yield;
      if (!sameJson(before.get(key), outcome)) others.add(key);
      if ("assigned" in outcome) continue;
      const { refused: reason, field, message } = outcome;
      const severity = reason === "wrong-class" ? "info" : reason === "invalid-request" ? "error" : "warning";
      notices.push({ object: `Service ${key}`, file: services.get(key)?.file ?? "", field, reason, message, severity });
    }
    poolNotices = notices;
    return others;
  }

  // --- what Services and slices are in full -----------------------------------------------------------------------------
  function frontendsOf(service: ServiceObject | undefined): readonly Address[] {
    if (service === undefined) return NO_ADDRESSES;
    const outside = service.spec.type === "LoadBalancer" ? (service.status?.loadBalancer?.ingress ?? []) : [];
    return [...clusterIPsOf(service), ...outside.flatMap((one) => one.ip ?? [])];
  }

  function keep(key: string, one: AllocatedService | undefined): void {
    if (one === undefined) {
      if (kept.delete(key)) unwritten = true;
      return;
    }
    const outcome = outcomes.get(key);
    const balancer = outcome !== undefined && "assigned" in outcome ? outcome.assigned : undefined;
    const lastGood = services.get(key)?.object === one.source ? undefined : one.source;
    const next: KeptService = { ...one.holding, balancer, lastGood };
    if (sameJson(kept.get(key), next)) return;
    kept.set(key, next);
    unwritten = true;
  }

  function complete(key: string): void {
    const title = `Service ${key}`;
    const one = allocated.get(key);
    keep(key, one);
    const before = givenServices.get(title);
    const full = one === undefined ? undefined : fullService(one, stamp(one.source), outcomes.get(key));
    if (!give(givenServices, title, full)) return;
    for (const address of frontendsOf(full)) if (frontends.add(address)) changedFrontends.add(address);
    for (const address of frontendsOf(before)) if (frontends.remove(address)) changedFrontends.add(address);
    controllers.setService(key, full);
  }

  function makeSlices(key: string): void {
    const before = slicesOf.get(key);
    const made = controllers.make(key);
    const titles = new Set<string>();
    for (const slice of made.slices) {
      const title = objectTitle(slice);
      titles.add(title);
      sliceOwner.set(title, key);
      give(givenSlices, title, slice);
    }
    for (const slice of before?.slices ?? []) {
      const title = objectTitle(slice);
      // A slice that moved to another Service is that one's.
      if (titles.has(title) || sliceOwner.get(title) !== key) continue;
      sliceOwner.delete(title);
      give(givenSlices, title, undefined);
    }
    const tells = made.refusedPods.length + made.notices.length > 0;
    if (tells) telling.add(key);
    else telling.delete(key);
    if (tells || titles.size > 0) slicesOf.set(key, made);
    else slicesOf.delete(key);
  }

  // --- one pass ---------------------------------------------------------------------------------------------------------
  function* pass(documents: readonly RawDocument[]): Work<void> {
    for (const [title, { before, after }] of yield* catalogue.take(documents)) {
      yield* takeObject(title, before, after);
      yield;
    }
    if (isFirst) {
      const ownTitle = `Node ${wantedNode?.name ?? ""}`;
      for (const title of firstSeen.keys()) {
        if (catalogue.inForce().get(title)?.use !== "used" && title !== ownTitle) forget(title);
        yield;
      }
      for (const key of kept.keys()) changedServices.add(key);
    }
    takeOwnNode();
    const others = new Set(changedServices.size > 0 ? yield* allocate() : []);
    changedServices = new Set();
    if (mustBalance) for (const key of yield* balance()) others.add(key);
    mustBalance = false;
    for (const key of others) {
      complete(key);
      yield;
    }
    if (changedFrontends.size > 0 && !isFirst) yield* controllers.markAddresses(changedFrontends);
    changedFrontends = new Set();
    isFirst = false;
    for (const key of controllers.takeMarked()) {
      makeSlices(key);
      yield;
    }
  }

  function allNotices(): readonly Notice[] {
    const notices = [...catalogue.notices()];
    for (const { key, error, kept } of refusedServices) {
      const document = services.get(key);
      if (document === undefined) continue;
      const { object, file } = document;
      const message = `${error.message}${kept ? "; its last good version stays in force" : ""}`;
      notices.push({ object: objectTitle(object), file, ...error, message, severity: "error" });
    }
    for (const one of poolNotices) notices.push(one);
    const pods = new Set<string>();
    for (const key of telling) {
      for (const { pod, address, why, file } of slicesOf.get(key)?.refusedPods ?? []) {
        const id = `${objectKey(pod)} ${address}`;
        if (pods.has(id)) continue;
        pods.add(id);
        notices.push(refusedNotice(pod, file, { field: "status.podIPs", address, why }));
      }
    }
    const ofSlices = [...telling].flatMap((key) => slicesOf.get(key)?.notices ?? []);
    for (const one of ofSlices.sort((a, b) => (a.object < b.object ? -1 : a.object > b.object ? 1 : 0)))
      notices.push(one);
    return notices;
  }

  return {
    async reconcile(documents) {
      await inPortions(pass(withDns(documents)));
      if (unwritten) await writeStateFile(path, stateToJson({ lastAge, firstSeen, services: kept }));
      unwritten = false;
      const changed = untold;
      untold = new Map();
      return {
        objects: [...givenServices.values(), ...givenSlices.values(), ...givenOthers.values()],
        changed,
        workloads: [...workloads.values()],
        notices: allNotices(),
      };
    },
    setDns(address) {
      dns = address;
    },
    setOwnNode(node) {
      wantedNode = node;
    },
  };
}
