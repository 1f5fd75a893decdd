// An EndpointSlice as the API sends it, into columns, in one pass: checks and normalises what wire/normalise.ts does for one
// object at a time, at a tenth of its cost. Types are checked because a server may send anything; whether values make sense
// together was the API server's to validate. An object of which a field has the wrong type is refused whole.
import type { Address } from "../lib/address.ts";
import { endpointAddress } from "../lib/endpoint-address.ts";
import { READY, SERVING, TERMINATING } from "../model/endpoint-list.ts";
import type { EndpointHints, EndpointPort, ObjectKey } from "../model/objects.ts";
import { WEIGHTS_ANNOTATION } from "../model/weights.ts";
import { type Checks, createChecks, shown } from "../wire/field-checks.ts";
import { PROTOCOLS, SERVICE_NAME_LABEL } from "../wire/kubernetes.ts";
import { ContentHash } from "./content-hash.ts";
import { type Complaint, hintsId, type Taken } from "./row.ts";

const TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time";
/** Complaints about single addresses that are kept of one slice. */
const MOST_COMPLAINTS = 10;

type Loose = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Loose {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function nameOf(checks: Checks, field: string, value: unknown): string {
  const name = checks.string(field, value);
  if (name === "" || value === undefined || value === null) checks.required(field);
  return name ?? "";
}

/** "namespace/name" as far as it can be read, "" when it cannot. */
export function keyOf(object: unknown): ObjectKey {
  const metadata = isObject(object) && isObject(object["metadata"]) ? object["metadata"] : {};
  const { name, namespace } = metadata;
  if (typeof name !== "string" || name === "") return "";
  return typeof namespace === "string" && namespace !== "" ? `${namespace}/${name}` : name;
}

function portsOf(checks: Checks, value: unknown): readonly EndpointPort[] {
  const ports: EndpointPort[] = [];
  for (const [i, one] of (checks.list("ports", value) ?? []).entries()) {
    const port = checks.record(`ports[${i}]`, one) ?? {};
    const number = checks.integer(`ports[${i}].port`, port["port"]);
    // No number means every port: kube-proxy leaves such ports out.
    if (number === undefined) continue;
    if (number < 1 || number > 65535) checks.invalid(`ports[${i}].port`, number, "must be a port number");
    ports.push({
      name: checks.string(`ports[${i}].name`, port["name"]) ?? "",
      protocol: checks.oneOf(`ports[${i}].protocol`, port["protocol"], PROTOCOLS) ?? "TCP",
      port: number,
    });
  }
  return ports;
}

function conditionsOf(checks: Checks, i: number, value: unknown): number {
  const conditions = checks.record(`endpoints[${i}].conditions`, value);
  if (conditions === undefined) return READY | SERVING;
  const ready = checks.boolean(`endpoints[${i}].conditions.ready`, conditions["ready"]) ?? true;
  const serving = checks.boolean(`endpoints[${i}].conditions.serving`, conditions["serving"]) ?? ready;
  const terminating = checks.boolean(`endpoints[${i}].conditions.terminating`, conditions["terminating"]) ?? false;
  return (ready ? READY : 0) | (serving ? SERVING : 0) | (terminating ? TERMINATING : 0);
}

/** The first address of an endpoint that can be used; an endpoint's addresses are interchangeable. */
function addressOf(checks: Checks, i: number, value: unknown, complaints: Complaint[]): Address | undefined {
  const addresses = checks.list(`endpoints[${i}].addresses`, value) ?? [];
  for (let j = 0; j < addresses.length; j++) {
    const field = `endpoints[${i}].addresses[${j}]`;
    const text = checks.string(field, addresses[j]);
    if (text === undefined) continue;
    const found = endpointAddress(text);
    if (typeof found === "string") return found;
    if (complaints.length >= MOST_COMPLAINTS) continue;
    const message = `${field}: Invalid value: ${shown(text)}: ${found.why}; this address is left out`;
    complaints.push({ field, reason: "endpoint-refused", message });
  }
  return undefined;
}

function hintNames(checks: Checks, field: string, value: unknown): readonly string[] {
  const names = new Set<string>();
  for (const [i, one] of (checks.list(field, value) ?? []).entries()) {
    names.add(nameOf(checks, `${field}[${i}].name`, checks.record(`${field}[${i}]`, one)?.["name"]));
  }
  return [...names];
}

function hintsOf(checks: Checks, i: number, value: unknown): EndpointHints | undefined {
  const hints = checks.record(`endpoints[${i}].hints`, value);
  if (hints === undefined) return undefined;
  const zones = hintNames(checks, `endpoints[${i}].hints.forZones`, hints["forZones"]);
  const nodes = hintNames(checks, `endpoints[${i}].hints.forNodes`, hints["forNodes"]);
  return zones.length + nodes.length === 0 ? undefined : { zones, nodes };
}

function take(checks: Checks, object: Loose): Taken {
  const metadata = checks.record("metadata", object["metadata"]) ?? {};
  const name = nameOf(checks, "metadata.name", metadata["name"]);
  const namespace = nameOf(checks, "metadata.namespace", metadata["namespace"]);
  const key = `${namespace}/${name}`;
  const labels = checks.record("metadata.labels", metadata["labels"]) ?? {};
  const service = checks.string(`metadata.labels.${SERVICE_NAME_LABEL}`, labels[SERVICE_NAME_LABEL]) ?? "";
  const type = object["addressType"];
  if (checks.errors.length === 0 && (service === "" || type === "FQDN")) return { outcome: "skipped", key };
  const family = checks.oneOf("addressType", type, ["IPv4", "IPv6"]) ?? "IPv4";
  if (!type) checks.required("addressType");

  const hash = new ContentHash();
  hash.text(service);
  hash.text(family);
  const ports = portsOf(checks, object["ports"]);
  for (const port of ports) {
    hash.text(port.name);
    hash.text(port.protocol);
    hash.number(port.port);
  }
  const complaints: Complaint[] = [];
  const addresses: Address[] = [];
  const conditions: number[] = [];
  const nodes: string[] = [];
  const hints: (EndpointHints | undefined)[] = [];
  let hinted = false;
  const endpoints = checks.list("endpoints", object["endpoints"]) ?? [];
  for (let i = 0; i < endpoints.length && checks.errors.length === 0; i++) {
    const endpoint = checks.record(`endpoints[${i}]`, endpoints[i]);
    if (endpoint === undefined) continue;
    const address = addressOf(checks, i, endpoint["addresses"], complaints);
    if (address === undefined) continue;
    const bits = conditionsOf(checks, i, endpoint["conditions"]);
    const node = checks.string(`endpoints[${i}].nodeName`, endpoint["nodeName"]) ?? "";
    addresses.push(address);
    conditions.push(bits);
    nodes.push(node);
    hash.text(address);
    hash.number(bits);
    hash.text(node);
    const hint = hintsOf(checks, i, endpoint["hints"]);
    hints.push(hint);
    if (hint === undefined) continue;
    hinted = true;
    hash.text(hintsId(hint));
  }
  const annotations = checks.record("metadata.annotations", metadata["annotations"]);
  const weights = checks.string(`metadata.annotations[${WEIGHTS_ANNOTATION}]`, annotations?.[WEIGHTS_ANNOTATION]);
  if (weights !== undefined) hash.text(weights);
  if (checks.errors.length > 0) return { outcome: "refused", key: keyOf(object), complaints: checks.errors };
  const triggerMs = Date.parse(String(annotations?.[TRIGGER_TIME] ?? ""));
  const content = {
    ...{ service, family, ports, addresses, conditions, nodes },
    ...(hinted && { hints }),
    ...(weights === undefined ? {} : { weights }),
  };
  return {
    outcome: "taken",
    change: { kind: "EndpointSlice", key, content, triggerMs: Number.isNaN(triggerMs) ? 0 : triggerMs },
    hash: hash.value(),
    size: addresses.length,
    complaints,
  };
}

/** One EndpointSlice, as parsed from JSON. Never throws for what a server may send. */
export function takeSlice(object: unknown): Taken {
  const checks = createChecks();
  if (isObject(object)) return take(checks, object);
  checks.invalid("", object, "must be an object", "wrong-type");
  return { outcome: "refused", key: "", complaints: checks.errors };
}
