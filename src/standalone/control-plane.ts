// The one allocator and endpoint controller: manifests in, Kubernetes objects in full out (Services with their addresses,
// ports and status, EndpointSlices, Nodes, Pods). Each time from everything there is. What it gave out it keeps in the state
// directory, before it takes effect.
import { join } from "node:path";
import type { PoolOutcome } from "../allocate/pools.ts";
import { parseServiceRanges } from "../allocate/service-addresses.ts";
import { type AllocatedService, allocateServices, type Ledger, type LedgerInput } from "../allocate/service-ledger.ts";
import type { Address } from "../lib/address.ts";
import type { Range } from "../lib/range.ts";
import { readStateText, writeStateFile } from "../lib/state-store.ts";
import type { Notice } from "../model/objects.ts";
import type { OwnNode } from "../model/source.ts";
import {
  type AddressPoolObject,
  type EndpointSliceObject,
  type KubernetesObject,
  type ManifestObject,
  type NodeObject,
  objectKey,
  objectTitle,
  own,
  type PodObject,
  type RawDocument,
  SERVICE_NAME_LABEL,
  type ServiceObject,
} from "../wire/kubernetes.ts";
import { clusterIPsOf, podAddresses, refusedNotice } from "../wire/normalise.ts";
import { type Ages, createAges } from "./ages.ts";
import {
  type AllocationState,
  type FirstSeen,
  type KeptService,
  stateFromJson,
  stateToJson,
} from "./allocation-state.ts";
import { balance } from "./balancer.ts";
import { type CatalogueContent, type CatalogueOptions, createCatalogue } from "./catalogue.ts";
import { DNS_MANIFEST_FILE, type DnsAddress, dnsManifests } from "./dns-service.ts";
import { fullService, nodeObject } from "./full-objects.ts";
import { sameJson } from "./same-json.ts";
import { createSliceMaker, type KnownPod, type ServiceSlices, type WrittenSlice } from "./service-slices.ts";
import { ZONE_LABEL, zoneShares } from "./zone-hints.ts";

export interface ControlPlaneOptions {
  /** Directory of allocations.json; made when absent. */
  readonly stateDir: string;
  readonly serviceClusterIpRange: readonly string[];
  readonly serviceNodePortRange: Range;
  /** Made when no manifest has a Node of this name. */
  readonly ownNode?: OwnNode | undefined;
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
  readonly notices: readonly Notice[];
}

export interface ControlPlane {
  /**
   * Takes in all documents there are now. What it returns is on the disk already. One call at a time; rejects with a Failure
   * when the state could not be written, and then what was returned before stays in force.
   */
  reconcile(documents: readonly RawDocument[]): Promise<Reconciled>;
  setOwnNode(node: OwnNode | undefined): void;
}

type ServiceDocument = ManifestObject & { readonly object: ServiceObject };
type PoolDocument = ManifestObject & { readonly object: AddressPoolObject };

/** What the manifests say, by kind. */
interface Said {
  /** By "namespace/name", oldest first. */
  readonly services: ReadonlyMap<string, ServiceItem>;
  readonly pools: readonly PoolDocument[];
  readonly nodes: readonly NodeObject[];
  readonly pods: readonly KnownPod[];
  readonly endpoints: ReadonlyMap<string, ManifestObject>;
  readonly written: readonly WrittenSlice[];
  /** What is given out as it is, with age and uid, by title. */
  readonly asTheyAre: ReadonlyMap<string, KubernetesObject>;
}

/** A document with what follows from it alone. */
interface Item {
  readonly title: string;
  readonly seen: FirstSeen;
  readonly document: ManifestObject;
  readonly key: string;
  readonly full: KubernetesObject;
  readonly pod: KnownPod | undefined;
  readonly slice: WrittenSlice | undefined;
}

type ServiceItem = Item & { readonly document: ServiceDocument; readonly full: ServiceObject };

const items = new WeakMap<ManifestObject, Item>();

function itemOf(title: string, document: ManifestObject, ages: Ages): Item {
  const seen = ages.recall(title);
  const known = items.get(document);
  if (known?.seen === seen) return known;
  const { object, file } = document;
  const key = objectKey(object);
  const full = ages.stamp(title, object);
  const service = own(object.metadata.labels, SERVICE_NAME_LABEL);
  const sliceKey = service === undefined ? title : `${object.metadata.namespace}/${service}`;
  const item: Item = {
    title,
    seen,
    document,
    key,
    full,
    pod: object.kind === "Pod" ? { object: full as PodObject, file, age: seen.age } : undefined,
    slice:
      object.kind === "EndpointSlice"
        ? { title, key: sliceKey, document, full: full as EndpointSliceObject }
        : undefined,
  };
  items.set(document, item);
  return item;
}

function sortOut(content: CatalogueContent, ages: Ages): Said {
  const services: ServiceItem[] = [];
  const pools: PoolDocument[] = [];
  const nodes: NodeObject[] = [];
  const pods: KnownPod[] = [];
  const endpoints = new Map<string, ManifestObject>();
  const written: WrittenSlice[] = [];
  const asTheyAre = new Map<string, KubernetesObject>();
  for (const [title, document] of content.objects) {
    const item = itemOf(title, document, ages);
    const { kind } = document.object;
    if (kind === "Service") services.push(item as ServiceItem);
    else if (kind === "Endpoints") endpoints.set(item.key, document);
    else if (item.slice !== undefined) written.push(item.slice);
    else {
      asTheyAre.set(title, item.full);
      if (item.pod !== undefined) pods.push(item.pod);
      else if (kind === "Node") nodes.push(item.full as NodeObject);
      else if (kind === "IPAddressPool") pools.push(document as PoolDocument);
    }
  }
  services.sort((a, b) => a.seen.age - b.seen.age);
  const byKey = new Map(services.map((one) => [one.key, one]));
  return { services: byKey, pools, nodes, pods, endpoints, written, asTheyAre };
}

function refusedNotices({ refused }: Ledger<ServiceObject>, services: Said["services"]): readonly Notice[] {
  return refused.flatMap(({ key, error, kept }) => {
    const document = services.get(key)?.document;
    if (document === undefined) return [];
    const message = `${error.message}${kept ? "; its last good version stays in force" : ""}`;
    return [
      { object: objectTitle(document.object), file: document.file, ...error, message, severity: "error" as const },
    ];
  });
}

function sliceNotices(all: Iterable<ServiceSlices>): readonly Notice[] {
  const notices: Notice[] = [];
  const ofSlices: Notice[] = [];
  const pods = new Set<string>();
  for (const made of all) {
    ofSlices.push(...made.notices);
    for (const { pod, address, why, file } of made.refusedPods) {
      const id = `${objectKey(pod)} ${address}`;
      if (!pods.has(id)) notices.push(refusedNotice(pod, file, { field: "status.podIPs", address, why }));
      pods.add(id);
    }
  }
  return [...notices, ...ofSlices.sort((a, b) => (a.object < b.object ? -1 : a.object > b.object ? 1 : 0))];
}

/** The state with what Services hold now; the very object that there was where nothing is another. */
function keep(
  before: ReadonlyMap<string, KeptService>,
  ledgerBefore: LedgerInput<ServiceObject>["before"],
  { services: ledger }: Ledger<ServiceObject>,
  outcomes: ReadonlyMap<string, PoolOutcome>,
  services: Said["services"],
): ReadonlyMap<string, KeptService> {
  let same = before.size === ledger.size;
  const now = new Map<string, KeptService>();
  for (const [key, one] of ledger) {
    const { holding, source } = one;
    const outcome = outcomes.get(key);
    const balancer = outcome !== undefined && "assigned" in outcome ? outcome.assigned : undefined;
    const lastGood = services.get(key)?.document.object === source ? undefined : source;
    const next: KeptService = { ...holding, balancer, lastGood };
    const old = before.get(key);
    const untouched = one === ledgerBefore.get(key) && balancer === undefined && old?.balancer === undefined;
    const stays = old !== undefined && (untouched || sameJson(old, next));
    same &&= stays;
    now.set(key, stays ? old : next);
  }
  return same ? before : now;
}

/** What is another than before, or gone, by title. What says the same becomes the very object that there was. */
function differences(
  before: ReadonlyMap<string, KubernetesObject>,
  now: Map<string, KubernetesObject>,
): Reconciled["changed"] {
  const changed = new Map<string, KubernetesObject | undefined>();
  for (const [title, object] of now) {
    const old = before.get(title);
    if (old === undefined || !sameJson(old, object)) changed.set(title, object);
    else if (old !== object) now.set(title, old);
  }
  for (const title of before.keys()) if (!now.has(title)) changed.set(title, undefined);
  return changed;
}

function zonesOf(nodes: readonly NodeObject[]): ReadonlyMap<string, string> {
  return new Map(
    nodes.flatMap(({ metadata: { name, labels } }) => {
      const zone = own(labels, ZONE_LABEL) ?? "";
      return zone === "" ? [] : [[name, zone]];
    }),
  );
}

/** ClusterIPs alone: of a LoadBalancer address single ports may be an endpoint's, which the model tells. */
function frontendsOf(services: Iterable<ServiceObject>): ReadonlySet<Address> {
  return new Set([...services].flatMap((service) => clusterIPsOf(service)));
}

/** Reads the state. Throws a Failure when it cannot be read or the ranges are wrong. */
export async function createControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const ranges = parseServiceRanges(options.serviceClusterIpRange);
  const { stateDir, serviceNodePortRange: nodePortRange, now = Date.now } = options;
  const path = join(stateDir, "allocations.json");
  const catalogue = createCatalogue({ workloads: options.workloads ?? "noticed" });
  const slices = createSliceMaker();
  const { dns } = options;
  let { ownNode } = options;
  let state: AllocationState = stateFromJson(await readStateText(path), path);
  let allocated: LedgerInput<ServiceObject>["before"] = new Map(
    [...state.services].flatMap(([key, { lastGood }]) =>
      lastGood === undefined ? [] : [[key, { source: lastGood as ServiceObject }]],
    ),
  );
  let given: ReadonlyMap<string, KubernetesObject> = new Map();

  const remembered = new Map<string, { readonly text: string; readonly value: unknown }>();
  /** What `make` made of the same before: the same objects again. */
  function once<T>(name: string, of: unknown, make: () => T): T {
    const text = JSON.stringify(of);
    const found = remembered.get(name);
    if (found?.text === text) return found.value as T;
    const value = make();
    remembered.set(name, { text, value });
    return value;
  }

  function dnsDocuments(documents: readonly RawDocument[]): readonly RawDocument[] {
    if (dns === undefined) return [];
    const isDefined = documents.some(({ object }) => {
      const one = object as { kind?: unknown; metadata?: { name?: unknown; namespace?: unknown } } | null;
      return one?.kind === "Service" && one.metadata?.namespace === "kube-system" && one.metadata.name === "kube-dns";
    });
    if (isDefined) return [];
    const families = ranges.map((one) => one.family);
    return once("dns", dns, () =>
      dnsManifests(dns, families).map((object, index) => ({ file: DNS_MANIFEST_FILE, index, object })),
    );
  }

  const fullBefore = new WeakMap<
    ServiceObject,
    { one: AllocatedService<ServiceObject>; outcome: PoolOutcome | undefined; full: ServiceObject }
  >();
  function complete(
    one: AllocatedService<ServiceObject>,
    stamped: ServiceObject,
    outcome: PoolOutcome | undefined,
  ): ServiceObject {
    const before = fullBefore.get(stamped);
    if (before !== undefined && sameJson(before.one, one) && sameJson(before.outcome, outcome)) return before.full;
    const full = fullService(one, stamped, outcome);
    fullBefore.set(stamped, { one, outcome, full });
    return full;
  }

  return {
    async reconcile(documents) {
      const content = catalogue.update([...documents, ...dnsDocuments(documents)]);
      const ages = createAges(state, now());
      const said = sortOut(content, ages);
      const isOwnMade = ownNode !== undefined && !said.nodes.some((one) => one.metadata.name === ownNode?.name);
      const ownMade = isOwnMade
        ? once("node", ownNode, () => nodeObject(ownNode!.name, ownNode!.addresses))
        : undefined;

      const ledger = allocateServices({
        services: new Map([...said.services].map(([key, { document }]) => [key, document.object])),
        held: state.services,
        before: allocated,
        ranges,
        nodePortRange,
      });
      for (const [key, { replaced }] of ledger.services) if (replaced) ages.renew(`Service ${key}`);
      const balanced = balance({
        pools: said.pools,
        services: said.services,
        ledger: ledger.services,
        kept: state.services,
        ageOf: (key) => ages.recall(`Service ${key}`).age,
        labelsOfNamespace: (name) => content.skipped.get(`Namespace ${name}`)?.object.metadata.labels,
        others: function* () {
          for (const { status } of said.nodes) for (const { address } of status?.addresses ?? []) yield address;
          yield* ownNode?.addresses ?? [];
          for (const { object } of said.pods) yield* podAddresses(object);
        },
      });
      const full = new Map<string, ServiceObject>();
      for (const [key, one] of ledger.services) {
        const item = said.services.get(key);
        const isCurrent = item !== undefined && item.document.object === one.source && !one.replaced;
        const stamped = isCurrent ? item.full : ages.stamp(`Service ${key}`, one.source);
        full.set(key, complete(one, stamped, balanced.outcomes.get(key)));
      }
      const made = slices.make({
        services: full,
        pods: said.pods,
        endpoints: said.endpoints,
        written: said.written,
        zones: zonesOf(said.nodes),
        zoneShares: zoneShares(said.nodes),
        frontends: frontendsOf(full.values()),
      });

      const ownTitle = ownMade === undefined ? "" : objectTitle(ownMade);
      const inForce = new Map<string, KubernetesObject>();
      for (const [key, one] of full) inForce.set(said.services.get(key)?.title ?? `Service ${key}`, one);
      for (const { generated } of made.values()) for (const [title, slice] of generated) inForce.set(title, slice);
      for (const { written } of made.values()) for (const [title, slice] of written) inForce.set(title, slice);
      for (const [title, one] of said.asTheyAre) inForce.set(title, one);
      if (ownMade !== undefined) inForce.set(ownTitle, ages.stamp(ownTitle, ownMade));
      const changed = differences(given, inForce);
      const seen = ages.kept(
        content.objects.size + (ownMade === undefined ? 0 : 1),
        (title) => content.objects.has(title) || title === ownTitle,
      );
      const services = keep(state.services, allocated, ledger, balanced.outcomes, said.services);
      if (seen !== undefined || services !== state.services) {
        const written = { ...state, ...seen, services };
        await writeStateFile(path, stateToJson(written));
        state = written;
      }
      allocated = ledger.services;
      given = inForce;
      return {
        objects: [...inForce.values()],
        changed,
        notices: [
          ...content.notices,
          ...refusedNotices(ledger, said.services),
          ...balanced.notices,
          ...sliceNotices(made.values()),
        ],
      };
    },
    setOwnNode(node) {
      ownNode = node;
    },
  };
}
