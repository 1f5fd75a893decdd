// The endpoint controller and the mirroring controller: for one Service at a time all EndpointSlices that it has, from
// Pods, from Endpoints and as people wrote them. Knows which Services a changed Pod or address concerns; gives nothing out.
import type { Address, Family } from "../lib/address.ts";
import { matchesLabels } from "../model/label-selector.ts";
import type { Notice } from "../model/objects.ts";
import {
  type EndpointSliceObject,
  type EndpointsObject,
  MANAGED_BY_LABEL,
  type ManifestObject,
  MIRRORING_CONTROLLER,
  objectKey,
  objectTitle,
  own,
  type PodObject,
  SERVICE_NAME_LABEL,
  type ServiceObject,
} from "../wire/kubernetes.ts";
import { podAddresses, refusal, refusedNotice } from "../wire/normalise.ts";
import { type RefusedPod, slicesOfPods } from "./endpoint-slices.ts";
import { isExemptFromMirroring, mirrorEndpoints } from "./mirroring.ts";
import type { Work } from "./portions.ts";

/** A Pod as it is given out, where its manifest is, and how old it is. */
export interface KnownPod {
  readonly object: PodObject;
  readonly file: string;
  readonly age: number;
}

export interface ServiceSlices {
  readonly slices: readonly EndpointSliceObject[];
  readonly refusedPods: readonly (RefusedPod & { readonly file: string })[];
  readonly notices: readonly Notice[];
}

export interface SliceControllers {
  /** Each of these marks the Services that it concerns. */
  setService(key: string, service: ServiceObject | undefined): void;
  setPod(title: string, pod: KnownPod | undefined): void;
  setEndpoints(key: string, document: ManifestObject | undefined): void;
  /** `full` is the slice as it is to be given out, but for addresses that no endpoint may have. */
  setWritten(
    title: string,
    written: { readonly document: ManifestObject; readonly full: EndpointSliceObject } | undefined,
  ): void;
  /** The zone of a node is another now. */
  markNode(name: string): Work<void>;
  /** Services answer on these addresses now, or do no longer. */
  markAddresses(addresses: ReadonlySet<Address>): Work<void>;
  hasPodAt(address: Address): boolean;
  /** The marked ones: "namespace/name", or the title of a slice without Service. None is marked afterwards. */
  takeMarked(): ReadonlySet<string>;
  /** What one that was marked has now. */
  make(key: string): ServiceSlices;
}

export interface SliceControllersOptions {
  readonly zoneOf: (node: string) => string;
  readonly isFrontend: (address: Address) => boolean;
}

interface Written {
  readonly document: ManifestObject;
  readonly full: EndpointSliceObject;
  readonly key: string;
}

interface Pod extends KnownPod {
  readonly addresses: readonly Address[];
}

interface Named {
  readonly document: ManifestObject;
  readonly slice: EndpointSliceObject;
  readonly fieldOf: (port: number) => string;
}

const NO_SLICES: ReadonlyMap<string, EndpointSliceObject> = new Map();

function selectorOf(service: ServiceObject | undefined): Readonly<Record<string, string>> | undefined {
  if (service === undefined || service.spec.type === "ExternalName") return undefined;
  const { selector } = service.spec;
  return Object.keys(selector ?? {}).length === 0 ? undefined : selector;
}

function add<K, V>(index: Map<K, Set<V>>, key: K, value: V): void {
  const found = index.get(key);
  if (found === undefined) index.set(key, new Set([value]));
  else found.add(value);
}

function remove<K, V>(index: Map<K, Set<V>>, key: K, value: V): void {
  const found = index.get(key);
  found?.delete(value);
  if (found?.size === 0) index.delete(key);
}

export function createSliceControllers({ zoneOf, isFrontend }: SliceControllersOptions): SliceControllers {
  const services = new Map<string, ServiceObject>();
  /** By the first pair of their selectors. */
  const servicesByPair = new Map<string, Set<string>>();
  const pods = new Map<string, Pod>();
  const podsByPair = new Map<string, Set<Pod>>();
  const podsByAddress = new Map<Address, Set<Pod>>();
  const endpoints = new Map<string, ManifestObject>();
  const written = new Map<string, Written>();
  const writtenOf = new Map<string, Set<Written>>();
  /** What was made of Pods last time, by name, so that endpoints stay in the slice that they are in. */
  const previous = new Map<string, ReadonlyMap<string, EndpointSliceObject>>();
  const serviceOfGenerated = new Map<string, string>();
  let marked = new Set<string>();

  const pairId = (namespace: string | undefined, key: string, value: string): string => `${namespace} ${key}=${value}`;

  function firstPair(service: ServiceObject | undefined): string | undefined {
    const selector = selectorOf(service);
    for (const key in selector) return pairId(service?.metadata.namespace, key, selector[key] ?? "");
    return undefined;
  }

  function pairsOf({ object }: Pod): readonly string[] {
    const { namespace, labels = {} } = object.metadata;
    return Object.entries(labels).map(([key, value]) => pairId(namespace, key, value));
  }

  function markServicesOf(pod: Pod): void {
    for (const pair of pairsOf(pod)) {
      for (const key of servicesByPair.get(pair) ?? []) {
        if (matchesLabels(selectorOf(services.get(key)) ?? {}, pod.object.metadata.labels)) marked.add(key);
      }
    }
  }

  function podsOf(service: ServiceObject, selector: Readonly<Record<string, string>>): readonly Pod[] {
    let fewest: ReadonlySet<Pod> | undefined;
    for (const [key, value] of Object.entries(selector)) {
      const found = podsByPair.get(pairId(service.metadata.namespace, key, value));
      if (found === undefined) return [];
      if (fewest === undefined || found.size < fewest.size) fewest = found;
    }
    return [...(fewest ?? [])]
      .filter((pod) => matchesLabels(selector, pod.object.metadata.labels))
      .sort((a, b) => a.age - b.age);
  }

  function ofPods(key: string, service: ServiceObject): Pick<ServiceSlices, "slices" | "refusedPods"> {
    const selector = selectorOf(service);
    if (selector === undefined) return { slices: [], refusedPods: [] };
    const matching = podsOf(service, selector);
    const { slices, refused } = slicesOfPods({
      service,
      pods: matching.map((pod) => pod.object),
      families: (service.spec.ipFamilies ?? []) as readonly Family[],
      zoneOf,
      isFrontend,
      previous: previous.get(key) ?? NO_SLICES,
    });
    const refusedPods = refused.map((one) => ({
      ...one,
      file: matching.find((pod) => pod.object === one.pod)?.file ?? "",
    }));
    return { slices, refusedPods };
  }

  /** Slices that people write are taken as they are, but for addresses that no endpoint may have. */
  function asWritten({ document, full }: Written, notices: Notice[]): EndpointSliceObject {
    const { object, file } = document;
    const endpoints = (full.endpoints ?? []).flatMap((endpoint, i) => {
      const addresses = endpoint.addresses.filter((address, j) => {
        const why = full.addressType === "FQDN" ? undefined : refusal(address, isFrontend);
        if (why !== undefined)
          notices.push(refusedNotice(object, file, { field: `endpoints[${i}].addresses[${j}]`, address, why }));
        return why === undefined;
      });
      return addresses.length === 0 ? [] : [{ ...endpoint, addresses }];
    });
    return { ...full, endpoints };
  }

  function mirrored(document: ManifestObject, service: ServiceObject, hasOwn: boolean, notices: Notice[]): Named[] {
    const { file } = document;
    const object = document.object as EndpointsObject;
    if (service.spec.type === "ExternalName" || selectorOf(service) !== undefined) {
      const message = "not mirrored: its Service has a selector or is of type ExternalName";
      const reason = "endpoints-unused";
      notices.push({ object: objectTitle(object), file, field: "", reason, message, severity: "info" });
      return [];
    }
    if (isExemptFromMirroring(object) || hasOwn) return [];
    const { slices, refused } = mirrorEndpoints(object, isFrontend);
    for (const one of refused) notices.push(refusedNotice(object, file, one));
    return slices.map((slice) => ({
      document,
      slice,
      fieldOf: (port) => {
        const name = slice.ports?.[port]?.name ?? "";
        const at = (object.subsets ?? []).findIndex((subset) =>
          (subset.ports ?? []).some((one) => (one.name ?? "") === name),
        );
        const inner = (object.subsets?.[at]?.ports ?? []).findIndex((one) => (one.name ?? "") === name);
        return `subsets[${at}].ports[${inner}].name`;
      },
    }));
  }

  return {
    setService(key, service) {
      const before = firstPair(services.get(key));
      if (before !== undefined) remove(servicesByPair, before, key);
      const now = firstPair(service);
      if (now !== undefined) add(servicesByPair, now, key);
      if (service === undefined) services.delete(key);
      else services.set(key, service);
      marked.add(key);
    },
    setPod(title, known) {
      const before = pods.get(title);
      if (before !== undefined) {
        markServicesOf(before);
        for (const pair of pairsOf(before)) remove(podsByPair, pair, before);
        for (const address of before.addresses) remove(podsByAddress, address, before);
        pods.delete(title);
      }
      if (known === undefined) return;
      const pod = { ...known, addresses: podAddresses(known.object) };
      pods.set(title, pod);
      for (const pair of pairsOf(pod)) add(podsByPair, pair, pod);
      for (const address of pod.addresses) add(podsByAddress, address, pod);
      markServicesOf(pod);
    },
    setEndpoints(key, document) {
      if (document === undefined) endpoints.delete(key);
      else endpoints.set(key, document);
      marked.add(key);
    },
    setWritten(title, now) {
      const before = written.get(title);
      if (before !== undefined) {
        remove(writtenOf, before.key, before);
        marked.add(before.key);
        written.delete(title);
      }
      const generatedFor = serviceOfGenerated.get(title);
      if (generatedFor !== undefined) marked.add(generatedFor);
      if (now === undefined) return;
      const { namespace, labels } = now.full.metadata;
      const service = own(labels, SERVICE_NAME_LABEL);
      const entry = { ...now, key: service === undefined ? title : `${namespace}/${service}` };
      written.set(title, entry);
      add(writtenOf, entry.key, entry);
      marked.add(entry.key);
    },
    *markNode(name) {
      for (const pod of pods.values()) {
        yield;
        if (pod.object.spec.nodeName === name) markServicesOf(pod);
      }
    },
    *markAddresses(addresses) {
      for (const address of addresses) {
        yield;
        for (const pod of podsByAddress.get(address) ?? []) markServicesOf(pod);
      }
      for (const { key, full } of written.values()) {
        yield;
        if ((full.endpoints ?? []).some((one) => one.addresses.some((address) => addresses.has(address))))
          marked.add(key);
      }
      for (const [key, { object }] of endpoints) {
        yield;
        for (const subset of (object as EndpointsObject).subsets ?? []) {
          const all = [...(subset.addresses ?? []), ...(subset.notReadyAddresses ?? [])];
          if (all.some(({ ip }) => addresses.has(ip))) marked.add(key);
        }
      }
    },
    hasPodAt: (address) => podsByAddress.has(address),
    takeMarked() {
      const taken = marked;
      marked = new Set();
      return taken;
    },
    make(key) {
      const service = services.get(key);
      const notices: Notice[] = [];
      const fromPods = service === undefined ? { slices: [], refusedPods: [] } : ofPods(key, service);
      for (const slice of previous.get(key)?.values() ?? []) serviceOfGenerated.delete(objectTitle(slice));
      if (fromPods.slices.length === 0) previous.delete(key);
      else previous.set(key, new Map(fromPods.slices.map((one) => [one.metadata.name, one])));
      for (const slice of fromPods.slices) serviceOfGenerated.set(objectTitle(slice), key);
      const named: Named[] = [];
      let hasOwn = false;
      for (const one of writtenOf.get(key) ?? []) {
        const slice = asWritten(one, notices);
        named.push({ document: one.document, slice, fieldOf: (port) => `ports[${port}].name` });
        hasOwn ||= own(slice.metadata.labels, MANAGED_BY_LABEL) !== MIRRORING_CONTROLLER;
      }
      const document = endpoints.get(key);
      if (document !== undefined && service !== undefined) named.push(...mirrored(document, service, hasOwn, notices));
      if (service !== undefined && named.length > 0) noticeUnmatchedPorts(service, named, notices);
      // Somebody may have written down what was generated elsewhere, under the same name.
      const generated = fromPods.slices.filter((one) => !written.has(objectTitle(one)));
      return { ...fromPods, slices: [...generated, ...named.map((one) => one.slice)], notices };
    },
  };
}

// Ports are matched by name and protocol: one that matches none leaves its Service port without backend, silently otherwise.
function noticeUnmatchedPorts(service: ServiceObject, entries: readonly Named[], notices: Notice[]): void {
  const idOf = (port: { name?: string; protocol?: string }): string => `${port.name ?? ""}/${port.protocol ?? "TCP"}`;
  const wanted = new Set((service.spec.ports ?? []).map(idOf));
  const given = new Set(
    entries.flatMap(({ slice }) => (slice.endpoints.length > 0 ? (slice.ports ?? []).map(idOf) : [])),
  );
  const lacking = [...wanted].filter((id) => !given.has(id));
  if (lacking.length === 0) return;
  const told = new Set<string>();
  for (const { document, slice, fieldOf } of entries) {
    for (const [i, port] of (slice.ports ?? []).entries()) {
      const field = fieldOf(i);
      const id = `${objectTitle(document.object)} ${field}`;
      if (wanted.has(idOf(port)) || told.has(id)) continue;
      told.add(id);
      const message = `${field}: Invalid value: "${port.name ?? ""}": Service ${objectKey(service)} has no ${port.protocol ?? "TCP"} port of this name, and no backend for ${lacking.map((one) => `"${one}"`).join(", ")}`;
      notices.push({
        object: objectTitle(document.object),
        file: document.file,
        field,
        reason: "no-matching-port",
        message,
        severity: "warning",
      });
    }
  }
}
