// The endpoint controller and the mirroring controller: all EndpointSlices of all Services, from Pods, from Endpoints and as
// people wrote them. Each time from everything there is; a Service of which nothing is another keeps what was made before.
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
  type ServiceObject,
} from "../wire/kubernetes.ts";
import { hasTopologyMode, podAddresses, refusal, refusedNotice, TOPOLOGY_MODE } from "../wire/normalise.ts";
import { type RefusedPod, type SlicesOfPods, slicesOfPods } from "./endpoint-slices.ts";
import { isExemptFromMirroring, mirrorEndpoints } from "./mirroring.ts";
import type { ZoneShares } from "./zone-hints.ts";

/** A Pod as it is given out, where its manifest is, and how old it is. */
export interface KnownPod {
  readonly object: PodObject;
  readonly file: string;
  readonly age: number;
}

/** An EndpointSlice as it stands in its manifest, and as it is to be given out but for addresses that no endpoint may have. */
export interface WrittenSlice {
  readonly title: string;
  /** "namespace/name" of its Service, its own title without one. */
  readonly key: string;
  readonly document: ManifestObject;
  readonly full: EndpointSliceObject;
}

/** A slice in force, by title. */
export type TitledSlice = readonly [title: string, slice: EndpointSliceObject];

export interface SliceSources {
  /** In full, by "namespace/name", as are `endpoints`. */
  readonly services: ReadonlyMap<string, ServiceObject>;
  readonly pods: readonly KnownPod[];
  readonly endpoints: ReadonlyMap<string, ManifestObject>;
  readonly written: readonly WrittenSlice[];
  readonly zones: ReadonlyMap<string, string>;
  readonly zoneShares: ZoneShares;
  /** Addresses that Services answer on. */
  readonly frontends: ReadonlySet<Address>;
}

export interface ServiceSlices {
  readonly generated: readonly TitledSlice[];
  /** As people wrote them, or mirrored. One of the same title as a generated one counts. */
  readonly written: readonly TitledSlice[];
  readonly refusedPods: readonly (RefusedPod & { readonly file: string })[];
  readonly notices: readonly Notice[];
}

interface Named {
  readonly document: ManifestObject;
  readonly slice: EndpointSliceObject;
  readonly fieldOf: (port: number) => string;
}

interface Made extends ServiceSlices {
  readonly inputs: readonly unknown[];
  readonly addresses: readonly Address[];
}

function selectorOf(service: ServiceObject | undefined): Readonly<Record<string, string>> | undefined {
  if (service === undefined || service.spec.type === "ExternalName") return undefined;
  const { selector } = service.spec;
  return Object.keys(selector ?? {}).length === 0 ? undefined : selector;
}

function add<K, V>(index: Map<K, V[]>, key: K, value: V): void {
  const found = index.get(key);
  if (found === undefined) index.set(key, [value]);
  else found.push(value);
}

/** Pods by the first pair of a selector. */
function podFinder(services: Iterable<ServiceObject>, pods: readonly KnownPod[]) {
  const pairId = (namespace: string | undefined, key: string, value: string): string => `${namespace} ${key}=${value}`;
  const keys = new Set<string>();
  for (const service of services) for (const key in selectorOf(service) ?? {}) keys.add(key);
  const byPair = new Map<string, KnownPod[]>();
  for (const pod of pods) {
    const { namespace, labels = {} } = pod.object.metadata;
    for (const key in labels) if (keys.has(key)) add(byPair, pairId(namespace, key, labels[key] ?? ""), pod);
  }
  /** Those that the selector matches, oldest first. */
  return (service: ServiceObject): readonly KnownPod[] => {
    const selector = selectorOf(service);
    let fewest: readonly KnownPod[] | undefined;
    for (const key in selector) {
      const found = byPair.get(pairId(service.metadata.namespace, key, selector[key] ?? "")) ?? [];
      if (fewest === undefined || found.length < fewest.length) fewest = found;
    }
    const matching = (fewest ?? []).filter((pod) => matchesLabels(selector ?? {}, pod.object.metadata.labels));
    return matching.sort((a, b) => a.age - b.age);
  };
}

function endpointsAddresses({ object }: ManifestObject): readonly Address[] {
  const subsets = (object as EndpointsObject).subsets ?? [];
  return subsets.flatMap((one) => [...(one.addresses ?? []), ...(one.notReadyAddresses ?? [])].map(({ ip }) => ip));
}

export interface SliceMaker {
  /** By "namespace/name" of the Service, or the title of a slice without one. */
  make(sources: SliceSources): ReadonlyMap<string, ServiceSlices>;
}

export function createSliceMaker(): SliceMaker {
  let before: ReadonlyMap<string, Made> = new Map();
  let frontendsBefore: ReadonlySet<Address> = new Set();
  let zonesBefore = "";
  let sharesBefore = "";

  return {
    make(sources) {
      const { services, endpoints, written, zones, zoneShares, frontends } = sources;
      const podsOf = podFinder(services.values(), sources.pods);
      const writtenOf = new Map<string, WrittenSlice[]>();
      for (const one of written) add(writtenOf, one.key, one);
      const moved = new Set<Address>();
      for (const one of frontends) if (!frontendsBefore.has(one)) moved.add(one);
      for (const one of frontendsBefore) if (!frontends.has(one)) moved.add(one);
      const zonesText = JSON.stringify([...zones]);
      const sameZones = zonesText === zonesBefore;
      const sharesText = typeof zoneShares === "string" ? zoneShares : JSON.stringify([...zoneShares]);
      const sameShares = sharesText === sharesBefore;
      const made = new Map<string, Made>();
      for (const key of new Set([...services.keys(), ...writtenOf.keys()])) {
        const service = services.get(key);
        const parts: Parts = {
          service,
          pods: service === undefined ? [] : podsOf(service),
          written: writtenOf.get(key) ?? [],
          endpoints: service === undefined ? undefined : endpoints.get(key),
        };
        const inputs = [service, parts.endpoints, ...parts.pods, ...parts.written];
        const old = before.get(key);
        const stays =
          old !== undefined &&
          sameZones &&
          (sameShares || service === undefined || !hasTopologyMode(service)) &&
          old.inputs.length === inputs.length &&
          old.inputs.every((one, i) => one === inputs[i]) &&
          (moved.size === 0 || !old.addresses.some((one) => moved.has(one)));
        made.set(key, stays ? old : { ...makeSlices(parts, sources, old?.generated ?? []), inputs });
      }
      before = made;
      frontendsBefore = frontends;
      zonesBefore = zonesText;
      sharesBefore = sharesText;
      return made;
    },
  };
}

interface Parts {
  readonly service: ServiceObject | undefined;
  readonly pods: readonly KnownPod[];
  readonly written: readonly WrittenSlice[];
  readonly endpoints: ManifestObject | undefined;
}

function makeSlices(
  { service, pods, written, endpoints }: Parts,
  { zones, zoneShares, frontends }: SliceSources,
  previous: readonly TitledSlice[],
): Omit<Made, "inputs"> {
  const isFrontend = (address: Address): boolean => frontends.has(address);
  const notices: Notice[] = [];
  const fromPods: SlicesOfPods =
    service === undefined || selectorOf(service) === undefined
      ? { slices: [], refused: [], unhinted: [] }
      : slicesOfPods({
          service,
          pods: pods.map((pod) => pod.object),
          families: (service.spec.ipFamilies ?? []) as readonly Family[],
          zoneOf: (node) => zones.get(node) ?? "",
          zoneShares,
          isFrontend,
          previous: new Map(previous.map(([, slice]) => [slice.metadata.name, slice])),
        });
  for (const { family, why } of fromPods.unhinted) {
    const message = `endpoints (${family}) are not dealt out to zones by the CPUs of their nodes, and every one serves all zones: ${why}`;
    const field = `metadata.annotations[${TOPOLOGY_MODE}]`;
    const object = objectTitle(service!);
    notices.push({ object, file: "", field, reason: "no-topology-hints", message, severity: "warning" });
  }
  const named: Named[] = [];
  let hasOwn = false;
  for (const one of written) {
    const slice = asWritten(one, isFrontend, notices);
    named.push({ document: one.document, slice, fieldOf: (port) => `ports[${port}].name` });
    hasOwn ||= own(slice.metadata.labels, MANAGED_BY_LABEL) !== MIRRORING_CONTROLLER;
  }
  if (endpoints !== undefined && service !== undefined)
    named.push(...mirrored(endpoints, service, hasOwn, isFrontend, notices));
  if (service !== undefined && named.length > 0) noticeUnmatchedPorts(service, named, notices);
  return {
    generated: fromPods.slices.map((one) => [objectTitle(one), one]),
    written: named.map(({ slice }) => [objectTitle(slice), slice]),
    refusedPods: fromPods.refused.map((one) => ({
      ...one,
      file: pods.find((pod) => pod.object === one.pod)?.file ?? "",
    })),
    notices,
    addresses: [
      ...pods.flatMap((pod) => podAddresses(pod.object)),
      ...written.flatMap(({ full }) => (full.endpoints ?? []).flatMap((one) => one.addresses)),
      ...(endpoints === undefined ? [] : endpointsAddresses(endpoints)),
    ],
  };
}

/** Slices that people write are taken as they are, but for addresses that no endpoint may have. */
function asWritten(
  { document, full }: WrittenSlice,
  isFrontend: (address: Address) => boolean,
  notices: Notice[],
): EndpointSliceObject {
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

function mirrored(
  document: ManifestObject,
  service: ServiceObject,
  hasOwn: boolean,
  isFrontend: (address: Address) => boolean,
  notices: Notice[],
): readonly Named[] {
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
    const about = { object: objectTitle(document.object), file: document.file };
    for (const [i, port] of (slice.ports ?? []).entries()) {
      const field = fieldOf(i);
      const id = `${about.object} ${field}`;
      if (wanted.has(idOf(port)) || told.has(id)) continue;
      told.add(id);
      const message = `${field}: Invalid value: "${port.name ?? ""}": Service ${objectKey(service)} has no ${port.protocol ?? "TCP"} port of this name, and no backend for ${lacking.map((one) => `"${one}"`).join(", ")}`;
      notices.push({ ...about, field, reason: "no-matching-port", message, severity: "warning" });
    }
  }
}
