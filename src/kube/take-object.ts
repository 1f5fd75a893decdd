// Services, Nodes, ServiceCIDRs and MetalLB's objects as the API sends them: their types are checked, by field, then they are normalised as those
// of manifests are. Fields that we do not read may hold anything: a newer API server knows more of them than we do.
import { storedAddress } from "../lib/address.ts";
import type { Service, ServiceCIDR } from "../model/objects.ts";
import { type Checks, checkAffinityConfig, createChecks, type FieldError } from "../wire/field-checks.ts";
import type {
  AddressPoolObject,
  KubernetesObject,
  L2AdvertisementObject,
  NodeObject,
  ServiceObject,
} from "../wire/kubernetes.ts";
import { PROTOCOLS, SERVICE_TYPES, TRAFFIC_POLICIES } from "../wire/kubernetes.ts";
import { checkAddressPool, checkL2Advertisement } from "../wire/metallb-checks.ts";
import { normaliseAddressPool, normaliseL2Advertisement, normaliseNode, normaliseService } from "../wire/normalise.ts";
import { hashText } from "./content-hash.ts";
import type { AgentResource } from "./resources.ts";
import type { Change, ObjectChange, Taken } from "./row.ts";
import { keyOf, takeSlice } from "./slice-row.ts";

type Fields = Readonly<Record<string, unknown>>;

function checkTexts(checks: Checks, field: string, value: unknown): void {
  for (const [name, text] of Object.entries(checks.record(field, value) ?? {})) checks.string(`${field}.${name}`, text);
}

function checkPort(checks: Checks, field: string, value: unknown): void {
  const port = checks.integer(field, value);
  if (port !== undefined && (port < 0 || port > 65535)) checks.invalid(field, port, "must be a port number");
}

function checkAddress(checks: Checks, field: string, value: unknown): void {
  const text = checks.string(field, value) ?? "";
  if (text !== "" && text !== "None" && storedAddress(text) === undefined) {
    checks.invalid(field, text, "must be a valid IP address");
  }
}

function checkMetadata(checks: Checks, value: unknown, namespaced: boolean): void {
  const metadata = checks.record("metadata", value) ?? {};
  for (const name of namespaced ? ["namespace", "name"] : ["name"]) {
    if (!checks.string(`metadata.${name}`, metadata[name])) checks.required(`metadata.${name}`);
  }
  checkTexts(checks, "metadata.labels", metadata["labels"]);
  checkTexts(checks, "metadata.annotations", metadata["annotations"]);
  checks.string("metadata.creationTimestamp", metadata["creationTimestamp"]);
}

function checkService(checks: Checks, object: Fields): void {
  const spec = checks.record("spec", object["spec"]);
  if (spec === undefined) checks.required("spec");
  checks.oneOf("spec.type", spec?.["type"], SERVICE_TYPES);
  for (const [i, one] of (checks.strings("spec.clusterIPs", spec?.["clusterIPs"]) ?? []).entries()) {
    checkAddress(checks, `spec.clusterIPs[${i}]`, one);
  }
  checkAddress(checks, "spec.clusterIP", spec?.["clusterIP"]);
  for (const [i, one] of (checks.strings("spec.externalIPs", spec?.["externalIPs"]) ?? []).entries()) {
    checkAddress(checks, `spec.externalIPs[${i}]`, one);
  }
  checks.strings("spec.loadBalancerSourceRanges", spec?.["loadBalancerSourceRanges"]);
  for (const name of ["externalName", "loadBalancerClass", "sessionAffinity", "trafficDistribution"]) {
    checks.string(`spec.${name}`, spec?.[name]);
  }
  checkAffinityConfig(checks, spec);
  for (const name of ["externalTrafficPolicy", "internalTrafficPolicy"]) {
    checks.oneOf(`spec.${name}`, spec?.[name], TRAFFIC_POLICIES);
  }
  checkPort(checks, "spec.healthCheckNodePort", spec?.["healthCheckNodePort"]);
  for (const [i, one] of (checks.list("spec.ports", spec?.["ports"]) ?? []).entries()) {
    const at = `spec.ports[${i}]`;
    const port = checks.record(at, one) ?? {};
    checks.string(`${at}.name`, port["name"]);
    checks.oneOf(`${at}.protocol`, port["protocol"], PROTOCOLS);
    if (port["port"] === undefined || port["port"] === null) checks.required(`${at}.port`);
    checkPort(checks, `${at}.port`, port["port"]);
    checkPort(checks, `${at}.nodePort`, port["nodePort"]);
    const target = port["targetPort"];
    if (typeof target !== "string") checks.integer(`${at}.targetPort`, target);
  }
  const status = checks.record("status", object["status"]);
  const balancer = checks.record("status.loadBalancer", status?.["loadBalancer"]);
  for (const [i, one] of (checks.list("status.loadBalancer.ingress", balancer?.["ingress"]) ?? []).entries()) {
    const at = `status.loadBalancer.ingress[${i}]`;
    const ingress = checks.record(at, one);
    if (ingress === undefined) checks.required(at);
    checkAddress(checks, `${at}.ip`, ingress?.["ip"]);
    checks.oneOf(`${at}.ipMode`, ingress?.["ipMode"], ["VIP", "Proxy"]);
  }
}

function checkNode(checks: Checks, object: Fields): void {
  const spec = checks.record("spec", object["spec"]);
  checks.string("spec.podCIDR", spec?.["podCIDR"]);
  checks.strings("spec.podCIDRs", spec?.["podCIDRs"]);
  for (const [i, taint] of (checks.list("spec.taints", spec?.["taints"]) ?? []).entries()) {
    checks.string(`spec.taints[${i}].key`, checks.record(`spec.taints[${i}]`, taint)?.["key"]);
  }
  const status = checks.record("status", object["status"]);
  for (const [list, names] of [
    ["addresses", ["type", "address"]],
    ["conditions", ["type", "status"]],
  ] as const) {
    for (const [i, one] of (checks.list(`status.${list}`, status?.[list]) ?? []).entries()) {
      const at = `status.${list}[${i}]`;
      const record = checks.record(at, one);
      for (const name of names) {
        if (checks.string(`${at}.${name}`, record?.[name]) === undefined) checks.required(`${at}.${name}`);
      }
    }
  }
  const daemons = checks.record("status.daemonEndpoints", status?.["daemonEndpoints"]);
  const kubelet = checks.record("status.daemonEndpoints.kubeletEndpoint", daemons?.["kubeletEndpoint"]);
  checkPort(checks, "status.daemonEndpoints.kubeletEndpoint.Port", kubelet?.["Port"]);
}

/** Addresses that are none: left out, and said. */
function strangeAddresses({ status }: NodeObject): readonly FieldError[] {
  const checks = createChecks();
  for (const [i, { type, address }] of (status?.addresses ?? []).entries()) {
    if (type === "InternalIP" || type === "ExternalIP") checkAddress(checks, `status.addresses[${i}].address`, address);
  }
  return checks.errors;
}

function checkServiceCIDR(checks: Checks, object: Fields): void {
  const spec = checks.record("spec", object["spec"]);
  checks.strings("spec.cidrs", spec?.["cidrs"]);
}

/** JSON null means absent, but a default of a destructured field stands for undefined alone. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, one]) => one !== null);
  return Object.fromEntries(entries.map(([name, one]) => [name, withoutNulls(one)]));
}

function hasNull(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return value === null;
  for (const one of Object.values(value)) if (hasNull(one)) return true;
  return false;
}

function pick(value: unknown, names: readonly string[]): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const fields = value as Fields;
  return Object.fromEntries(names.flatMap((name) => (fields[name] === undefined ? [] : [[name, fields[name]]])));
}

const METADATA = ["name", "namespace", "labels", "annotations", "creationTimestamp", "deletionTimestamp"];
const STATUS = ["loadBalancer", "addresses", "conditions", "daemonEndpoints"];

/** The parts that are read, without nulls. The rest (managed fields, a Node's images) is most of an object. */
function essence(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const { metadata, spec, status } = value as Fields;
  const parts = { metadata: pick(metadata, METADATA), spec, status: pick(status, STATUS) };
  return hasNull(parts) ? withoutNulls(parts) : parts;
}

function sizeOf({ kind, content }: ObjectChange): number {
  if (content === undefined || kind === "ServiceCIDR") return 0;
  return kind === "Service" ? frontendsOf(content) : 1;
}

/** What a Service answers on: addresses by ports, and node ports. */
function frontendsOf(service: Service): number {
  if (service.isForeign) return 0;
  const addresses = service.clusterIPs.length + service.grants.addresses.length;
  return addresses * service.ports.length + service.ports.filter(({ nodePort }) => nodePort > 0).length;
}

function serviceCIDR(object: KubernetesObject): ServiceCIDR {
  const spec = object["spec"] as { readonly cidrs?: readonly string[] } | undefined;
  return { name: object.metadata.name, cidrs: spec?.cidrs ?? [] };
}

type Kind = Exclude<AgentResource["kind"], "EndpointSlice">;

const CHECKS: Readonly<Record<Kind, (checks: Checks, object: Fields) => void>> = {
  Service: checkService,
  Node: checkNode,
  ServiceCIDR: checkServiceCIDR,
  IPAddressPool: checkAddressPool,
  L2Advertisement: checkL2Advertisement,
};

const NAMESPACED: ReadonlySet<Kind> = new Set(["Service", "IPAddressPool", "L2Advertisement"]);

/** What the model calls objects of a kind. */
export function eventKind(kind: AgentResource["kind"]): Change["kind"] {
  return kind === "IPAddressPool" ? "AddressPool" : kind;
}

function changeOf(kind: Kind, key: string, object: KubernetesObject): ObjectChange {
  switch (kind) {
    case "Service":
      return { kind, key, content: normaliseService(object as ServiceObject) };
    case "Node":
      return { kind, key, content: normaliseNode(object as NodeObject) };
    case "ServiceCIDR":
      return { kind, key, content: serviceCIDR(object) };
    case "IPAddressPool":
      return { kind: "AddressPool", key, content: normaliseAddressPool(object as AddressPoolObject) };
    case "L2Advertisement":
      return { kind, key, content: normaliseL2Advertisement(object as L2AdvertisementObject) };
  }
}

/** One object, as parsed from JSON. Never throws for what a server may send. */
export function takeObject(kind: AgentResource["kind"], raw: unknown): Taken {
  if (kind === "EndpointSlice") return takeSlice(raw);
  const key = keyOf(raw);
  const object = essence(raw);
  const checks = createChecks();
  const fields = checks.record("", object);
  if (fields === undefined) checks.required("");
  else {
    checkMetadata(checks, fields["metadata"], NAMESPACED.has(kind));
    CHECKS[kind](checks, fields);
  }
  if (checks.errors.length > 0) return { outcome: "refused", key, complaints: checks.errors };
  const change = changeOf(kind, key, object as unknown as KubernetesObject);
  const complaints = kind === "Node" ? strangeAddresses(object as NodeObject) : [];
  const text = JSON.stringify({ kind: change.kind, key, object: change.content });
  return { outcome: "taken", change: { ...change, text }, hash: hashText(text), size: sizeOf(change), complaints };
}
