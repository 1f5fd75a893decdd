// The endpoint controller: which EndpointSlices the Pods behind a Service make, as Kubernetes' endpointslice controller
// builds them. Pure; the slices of last time are passed in so that endpoints stay in the slice they are in.
import { type Address, type Family, familyOf } from "../lib/address.ts";
import {
  type ContainerPort,
  type EndpointSliceObject,
  HEADLESS_LABEL,
  MANAGED_BY_LABEL,
  objectKey,
  type PodObject,
  SERVICE_NAME_LABEL,
  type ServiceObject,
  type ServicePortSpec,
  SLICE_CONTROLLER,
  type SliceEndpoint,
  type SlicePort,
  TRAFFIC_DISTRIBUTIONS,
} from "../wire/kubernetes.ts";
import { contentLetters } from "../wire/names.ts";
import { hasTopologyMode, isFinished, isHeadless, podAddresses, refusal } from "../wire/normalise.ts";
import { dealOut, type ZoneShares } from "./zone-hints.ts";

export const MAX_ENDPOINTS_PER_SLICE = 100;

/** A slice's name: the Service's, cut where the whole would be too long, and what tells its slices apart. */
export function sliceName(service: string, content: string): string {
  return `${service.slice(0, 240).replace(/[.-]+$/, "")}-${contentLetters(`${service}\0${content}`, 5)}`;
}

export function isReady(pod: PodObject): boolean {
  return (pod.status?.conditions ?? []).some((one) => one.type === "Ready" && one.status === "True");
}

export function isTerminating(pod: PodObject): boolean {
  return typeof pod.metadata.deletionTimestamp === "string";
}

/** Container ports in the order in which a named target port is looked up: containers, then init containers that stay. */
export function containerPorts({ spec }: Pick<PodObject, "spec">): readonly ContainerPort[] {
  const stay = (spec.initContainers ?? []).filter((one) => one.restartPolicy === "Always");
  return [...spec.containers, ...stay].flatMap((container) => container.ports ?? []);
}

/** The port of the pod that a Service port leads to; undefined when the pod has none of that name and protocol. */
export function targetPortOf(pod: PodObject, port: ServicePortSpec): number | undefined {
  const target = port.targetPort;
  if (typeof target !== "string") return target || port.port;
  const protocol = port.protocol ?? "TCP";
  return containerPorts(pod).find((one) => one.name === target && (one.protocol ?? "TCP") === protocol)?.containerPort;
}

function slicePorts(service: ServiceObject, pod: PodObject): SlicePort[] {
  return (service.spec.ports ?? []).flatMap((port) => {
    const number = targetPortOf(pod, port);
    if (number === undefined) return [];
    const slicePort: SlicePort = { name: port.name ?? "", protocol: port.protocol ?? "TCP", port: number };
    return [port.appProtocol === undefined ? slicePort : { ...slicePort, appProtocol: port.appProtocol }];
  });
}

function endpointOf(service: ServiceObject, pod: PodObject, address: Address, zone: string): SliceEndpoint {
  const serving = isReady(pod);
  const terminating = isTerminating(pod);
  const { hostname, subdomain, nodeName } = pod.spec;
  const endpoint: SliceEndpoint = {
    addresses: [address],
    conditions: {
      ready: service.spec.publishNotReadyAddresses === true || (serving && !terminating),
      serving,
      terminating,
    },
    targetRef: {
      kind: "Pod",
      namespace: pod.metadata.namespace ?? "default",
      name: pod.metadata.name,
      ...(pod.metadata.uid ? { uid: pod.metadata.uid } : {}),
    },
  };
  if (nodeName) endpoint.nodeName = nodeName;
  if (zone !== "") endpoint.zone = zone;
  if (hostname && subdomain === service.metadata.name) endpoint.hostname = hostname;
  const hints = hintsOf(service, endpoint);
  return hints === undefined ? endpoint : { ...endpoint, hints };
}

/** Those that `trafficDistribution` asks for (KEP-2433, KEP-3015): of a ready endpoint its own zone, and its own node. */
function hintsOf(service: ServiceObject, { conditions, zone, nodeName }: SliceEndpoint): SliceEndpoint["hints"] {
  const { trafficDistribution = "" } = service.spec;
  if (!isTrafficDistribution(trafficDistribution) || hasTopologyMode(service)) return undefined;
  if (conditions?.ready !== true) return undefined;
  const forNode = trafficDistribution === "PreferSameNode" && nodeName !== undefined;
  if (zone === undefined && !forNode) return undefined;
  return {
    ...(zone !== undefined && { forZones: [{ name: zone }] }),
    ...(forNode && { forNodes: [{ name: nodeName }] }),
  };
}

function isTrafficDistribution(text: string): boolean {
  return (TRAFFIC_DISTRIBUTIONS as readonly string[]).includes(text);
}

export interface RefusedPod {
  readonly pod: PodObject;
  readonly address: Address;
  readonly why: string;
}

export interface SlicesInput {
  /** In full, with ipFamilies. Neither ExternalName nor without selector. */
  readonly service: ServiceObject;
  /** Those that its selector matches, oldest first. */
  readonly pods: readonly PodObject[];
  readonly families: readonly Family[];
  readonly zoneOf: (nodeName: string) => string;
  /** For a Service whose endpoints are to be dealt out to zones. */
  readonly zoneShares: ZoneShares;
  readonly isFrontend: (address: Address) => boolean;
  /** What this function returned last time, by name. */
  readonly previous: ReadonlyMap<string, EndpointSliceObject>;
}

export interface SlicesOfPods {
  readonly slices: readonly EndpointSliceObject[];
  readonly refused: readonly RefusedPod[];
  /** Why no endpoint of a family is meant for a zone, though the Service asks for that. */
  readonly unhinted: readonly { readonly family: Family; readonly why: string }[];
}

/** One empty slice for a family without endpoints, as the controller leaves one too. */
export function slicesOfPods(input: SlicesInput): SlicesOfPods {
  const { service, zoneOf } = input;
  const refused: RefusedPod[] = [];
  const slices: EndpointSliceObject[] = [];
  const unhinted: { family: Family; why: string }[] = [];
  for (const family of input.families) {
    // Pods whose named ports come out differently stand in slices of their own.
    const groups = new Map<string, { readonly ports: SlicePort[]; readonly endpoints: Map<string, SliceEndpoint> }>();
    for (const pod of input.pods) {
      if (isFinished(pod)) continue;
      const address = podAddresses(pod).find((one) => familyOf(one) === family);
      if (address === undefined) continue;
      const why = refusal(address, input.isFrontend);
      if (why !== undefined) {
        refused.push({ pod, address, why });
        continue;
      }
      const ports = slicePorts(service, pod);
      const id = JSON.stringify(ports);
      const group = groups.get(id) ?? { ports, endpoints: new Map() };
      groups.set(id, group);
      group.endpoints.set(objectKey(pod), endpointOf(service, pod, address, zoneOf(pod.spec.nodeName ?? "")));
    }
    if (groups.size === 0) groups.set("none", { ports: [], endpoints: new Map() });
    const ofFamily = [...groups].flatMap(([id, { ports, endpoints }]) => chunks(input, family, id, ports, endpoints));
    slices.push(...ofFamily);
    const why = hasTopologyMode(service) ? hintZones(ofFamily, input) : undefined;
    if (why !== undefined) unhinted.push({ family, why });
  }
  return { slices, refused, unhinted };
}

/** Hints each ready endpoint the zone that it is for. A text: why none got one. */
function hintZones(slices: readonly EndpointSliceObject[], { zoneShares, previous }: SlicesInput): string | undefined {
  const before = new Map<string, string | undefined>();
  for (const { metadata } of slices) {
    for (const { addresses, hints } of previous.get(metadata.name)?.endpoints ?? [])
      before.set(addresses[0] ?? "", hints?.forZones?.[0]?.name);
  }
  const ready = slices.flatMap(({ endpoints }) => endpoints.filter(({ conditions }) => conditions?.ready === true));
  const zones = dealOut(ready, zoneShares, ({ addresses }) => before.get(addresses[0] ?? ""));
  if (typeof zones === "string") return zones;
  for (const [endpoint, name] of zones) endpoint.hints = { forZones: [{ name }] };
  return undefined;
}

function chunks(
  { service, previous }: SlicesInput,
  family: Family,
  id: string,
  ports: SlicePort[],
  endpoints: ReadonlyMap<string, SliceEndpoint>,
): readonly EndpointSliceObject[] {
  const name = (index: number): string => sliceName(service.metadata.name, `${family} ${id} ${index}`);
  const left = new Map(endpoints);
  const filled: SliceEndpoint[][] = [];
  // Whoever is in a slice stays there: a move could be seen as leaving by somebody who reads slice after slice.
  for (let index = 0; left.size > 0; index++) {
    const before = previous.get(name(index));
    if (
      before === undefined &&
      index * MAX_ENDPOINTS_PER_SLICE >= endpoints.size + MAX_ENDPOINTS_PER_SLICE * previous.size
    )
      break;
    const stay: SliceEndpoint[] = [];
    for (const { targetRef } of before?.endpoints ?? []) {
      const key = `${targetRef?.namespace}/${targetRef?.name}`;
      const endpoint = left.get(key);
      if (endpoint === undefined) continue;
      left.delete(key);
      stay.push(endpoint);
    }
    filled.push(stay);
  }
  for (let index = 0; left.size > 0; index++) {
    filled[index] ??= [];
    const chunk = filled[index]!;
    for (const [key, endpoint] of left) {
      if (chunk.length >= MAX_ENDPOINTS_PER_SLICE) break;
      left.delete(key);
      chunk.push(endpoint);
    }
  }
  if (filled.length === 0) filled.push([]);
  return filled.flatMap((chunk, index) =>
    chunk.length === 0 && endpoints.size > 0 ? [] : [sliceObject(service, name(index), family, ports, chunk)],
  );
}

function sliceObject(
  service: ServiceObject,
  name: string,
  family: Family,
  ports: SlicePort[],
  endpoints: SliceEndpoint[],
): EndpointSliceObject {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name,
      namespace: service.metadata.namespace ?? "default",
      labels: {
        ...service.metadata.labels,
        [SERVICE_NAME_LABEL]: service.metadata.name,
        [MANAGED_BY_LABEL]: SLICE_CONTROLLER,
        ...(isHeadless(service) ? { [HEADLESS_LABEL]: "" } : {}),
      },
      ownerReferences: [ownerOf(service)],
    },
    addressType: family,
    endpoints,
    ports,
  };
}

export function ownerOf(service: ServiceObject): unknown {
  const { name, uid = "" } = service.metadata;
  return { apiVersion: "v1", kind: "Service", name, uid, controller: true, blockOwnerDeletion: true };
}
