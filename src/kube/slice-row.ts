// An EndpointSlice as the API sends it, into columns, in one pass: checks and normalises what wire/normalise.ts does for one
// object at a time, at a tenth of its cost. Types are checked because a server may send anything; whether values make sense
// together was the API server's to validate. An object of which a field has the wrong type is refused whole.
import type { Address } from "../lib/address.ts";
import { endpointAddress } from "../lib/endpoint-address.ts";
import { READY, SERVING, TERMINATING } from "../model/endpoint-list.ts";
import type { EndpointPort, ObjectKey, Protocol } from "../model/objects.ts";
import { shown } from "../wire/field-checks.ts";
import { SERVICE_NAME_LABEL } from "../wire/kubernetes.ts";
import { ContentHash } from "./content-hash.ts";
import type { Complaint, Taken } from "./row.ts";

const TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time";
const PROTOCOLS: readonly unknown[] = ["TCP", "UDP", "SCTP"];
/** Complaints about single addresses that are kept of one slice. */
const MOST_COMPLAINTS = 10;

type Loose = Readonly<Record<string, unknown>>;

class WrongField extends Error {
  readonly complaint: Complaint;

  constructor(field: string, value: unknown, why: string) {
    super(field);
    const message =
      value === undefined ? `${field}: Required value` : `${field}: Invalid value: ${shown(value)}: ${why}`;
    this.complaint = { field, reason: "wrong-type", message };
  }
}

function isAbsent(value: unknown): value is undefined | null {
  return value === undefined || value === null;
}

function isObject(value: unknown): value is Loose {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function objectOr(field: string, value: unknown): Loose | undefined {
  if (isAbsent(value)) return undefined;
  if (isObject(value)) return value;
  throw new WrongField(field, value, "must be an object");
}

function listOr(field: string, value: unknown): readonly unknown[] {
  if (isAbsent(value)) return [];
  if (Array.isArray(value)) return value;
  throw new WrongField(field, value, "must be a list");
}

function textOr(field: string, value: unknown): string {
  if (typeof value === "string") return value;
  if (isAbsent(value)) return "";
  throw new WrongField(field, value, "must be a string");
}

function flagOr(field: string, value: unknown, absent: boolean): boolean {
  if (typeof value === "boolean") return value;
  if (isAbsent(value)) return absent;
  throw new WrongField(field, value, "must be true or false");
}

function nameOf(field: string, value: unknown): string {
  const name = textOr(field, value);
  if (name === "") throw new WrongField(field, undefined, "");
  return name;
}

/** "namespace/name" as far as it can be read, "" when it cannot. */
export function keyOf(object: unknown): ObjectKey {
  const metadata = isObject(object) && isObject(object["metadata"]) ? object["metadata"] : {};
  const { name, namespace } = metadata;
  if (typeof name !== "string" || name === "") return "";
  return typeof namespace === "string" && namespace !== "" ? `${namespace}/${name}` : name;
}

function portsOf(value: unknown): readonly EndpointPort[] {
  const ports: EndpointPort[] = [];
  for (const [i, one] of listOr("ports", value).entries()) {
    const port = objectOr(`ports[${i}]`, one) ?? {};
    const number = port["port"];
    // No number means every port: kube-proxy leaves such ports out.
    if (isAbsent(number)) continue;
    if (!Number.isInteger(number) || (number as number) < 1 || (number as number) > 65535) {
      throw new WrongField(`ports[${i}].port`, number, "must be a port number");
    }
    const protocol = isAbsent(port["protocol"]) ? "TCP" : port["protocol"];
    if (!PROTOCOLS.includes(protocol)) throw new WrongField(`ports[${i}].protocol`, protocol, "must be a protocol");
    ports.push({
      name: textOr(`ports[${i}].name`, port["name"]),
      protocol: protocol as Protocol,
      port: number as number,
    });
  }
  return ports;
}

function conditionsOf(i: number, value: unknown): number {
  const conditions = objectOr(`endpoints[${i}].conditions`, value);
  if (conditions === undefined) return READY | SERVING;
  const ready = flagOr(`endpoints[${i}].conditions.ready`, conditions["ready"], true);
  const serving = flagOr(`endpoints[${i}].conditions.serving`, conditions["serving"], ready);
  const terminating = flagOr(`endpoints[${i}].conditions.terminating`, conditions["terminating"], false);
  return (ready ? READY : 0) | (serving ? SERVING : 0) | (terminating ? TERMINATING : 0);
}

/** The first address of an endpoint that can be used; an endpoint's addresses are interchangeable. */
function addressOf(i: number, value: unknown, complaints: Complaint[]): Address | undefined {
  const addresses = listOr(`endpoints[${i}].addresses`, value);
  for (let j = 0; j < addresses.length; j++) {
    const text = addresses[j];
    const found = typeof text === "string" ? endpointAddress(text) : undefined;
    if (typeof found === "string") return found;
    const field = `endpoints[${i}].addresses[${j}]`;
    if (found === undefined) throw new WrongField(field, text, "must be a string");
    if (complaints.length >= MOST_COMPLAINTS) continue;
    const message = `${field}: Invalid value: ${shown(text)}: ${found.why}; this address is left out`;
    complaints.push({ field, reason: "endpoint-refused", message });
  }
  return undefined;
}

function take(object: Loose): Taken {
  const metadata = objectOr("metadata", object["metadata"]) ?? {};
  const name = nameOf("metadata.name", metadata["name"]);
  const namespace = nameOf("metadata.namespace", metadata["namespace"]);
  const key = `${namespace}/${name}`;
  const labels = objectOr("metadata.labels", metadata["labels"]) ?? {};
  const service = textOr(`metadata.labels.${SERVICE_NAME_LABEL}`, labels[SERVICE_NAME_LABEL]);
  const family = object["addressType"];
  if (service === "" || family === "FQDN") return { outcome: "skipped", key };
  if (family !== "IPv4" && family !== "IPv6") throw new WrongField("addressType", family, "must be IPv4 or IPv6");

  const hash = new ContentHash();
  hash.text(service);
  hash.text(family);
  const ports = portsOf(object["ports"]);
  for (const port of ports) {
    hash.text(port.name);
    hash.text(port.protocol);
    hash.number(port.port);
  }
  const complaints: Complaint[] = [];
  const addresses: Address[] = [];
  const conditions: number[] = [];
  const nodes: string[] = [];
  const endpoints = listOr("endpoints", object["endpoints"]);
  for (let i = 0; i < endpoints.length; i++) {
    const endpoint = endpoints[i];
    if (!isObject(endpoint)) throw new WrongField(`endpoints[${i}]`, endpoint, "must be an object");
    const address = addressOf(i, endpoint["addresses"], complaints);
    if (address === undefined) continue;
    const bits = conditionsOf(i, endpoint["conditions"]);
    const node = textOr(`endpoints[${i}].nodeName`, endpoint["nodeName"]);
    addresses.push(address);
    conditions.push(bits);
    nodes.push(node);
    hash.text(address);
    hash.number(bits);
    hash.text(node);
  }
  const annotations = objectOr("metadata.annotations", metadata["annotations"]);
  const triggerMs = Date.parse(String(annotations?.[TRIGGER_TIME] ?? ""));
  return {
    outcome: "taken",
    change: {
      kind: "EndpointSlice",
      key,
      content: {
        service,
        family,
        ports,
        addresses,
        conditions,
        nodes,
      },
      triggerMs: Number.isNaN(triggerMs) ? 0 : triggerMs,
    },
    hash: hash.value(),
    size: addresses.length,
    complaints,
  };
}

/** One EndpointSlice, as parsed from JSON. Never throws for what a server may send. */
export function takeSlice(object: unknown): Taken {
  try {
    if (!isObject(object)) throw new WrongField("", object, "must be an object");
    return take(object);
  } catch (error) {
    if (!(error instanceof WrongField)) throw error;
    return { outcome: "refused", key: keyOf(object), complaints: [error.complaint] };
  }
}
