// What an API server refuses in Endpoints and EndpointSlices on their own. Addresses of kinds that no endpoint may have
// (loopback and the like) are not refused here: they are left out one by one, with a notice each.
import { canonicalAddress, familyOf } from "../lib/address.ts";
import type { Checks } from "../wire/field-checks.ts";
import { type KubernetesObject, PROTOCOLS, SERVICE_NAME_LABEL } from "../wire/kubernetes.ts";
import { dnsLabelProblem, subdomainProblem } from "../wire/names.ts";
import { BAD_ADDRESS, isPort, PORT_RANGE } from "./validate-service.ts";

function checkPorts(checks: Checks, field: string, value: unknown, portRequired: boolean): void {
  const ports = checks.list(field, value) ?? [];
  const names = new Set<string>();
  for (const [at, port] of checks.records(field, ports)) {
    const name = checks.string(`${at}.name`, port["name"]) ?? "";
    if (name !== "") {
      const problem = dnsLabelProblem(name);
      if (problem !== undefined) checks.invalid(`${at}.name`, name, problem);
    } else if (portRequired && ports.length > 1) checks.required(`${at}.name`);
    if (names.has(name)) checks.duplicate(`${at}.name`, name);
    names.add(name);
    const number = checks.integer(`${at}.port`, port["port"]);
    if (number !== undefined && !isPort(number)) checks.invalid(`${at}.port`, number, PORT_RANGE);
    if (portRequired && (port["port"] === undefined || port["port"] === null)) checks.required(`${at}.port`);
    checks.oneOf(`${at}.protocol`, port["protocol"], PROTOCOLS);
    checks.string(`${at}.appProtocol`, port["appProtocol"]);
  }
}

function checkTarget(checks: Checks, field: string, value: unknown): void {
  const target = checks.record(field, value);
  for (const name of ["kind", "namespace", "name", "uid"]) checks.string(`${field}.${name}`, target?.[name]);
}

function checkName(checks: Checks, field: string, value: unknown, problemOf: typeof dnsLabelProblem): void {
  const name = checks.string(field, value);
  const problem = name === undefined || name === "" ? undefined : problemOf(name);
  if (problem !== undefined) checks.invalid(field, name, problem);
}

export function checkEndpoints(checks: Checks, object: KubernetesObject): void {
  for (const [at, subset] of checks.records("subsets", object["subsets"])) {
    let count = 0;
    for (const list of ["addresses", "notReadyAddresses"]) {
      for (const [j, item] of (checks.list(`${at}.${list}`, subset[list]) ?? []).entries()) {
        const field = `${at}.${list}[${j}]`;
        const address = checks.record(field, item);
        count++;
        const ip = checks.string(`${field}.ip`, address?.["ip"]);
        if (ip === undefined) {
          if (address?.["ip"] === undefined || address["ip"] === null) checks.required(`${field}.ip`);
        } else if (canonicalAddress(ip) === undefined) checks.invalid(`${field}.ip`, ip, BAD_ADDRESS);
        checkName(checks, `${field}.hostname`, address?.["hostname"], dnsLabelProblem);
        checkName(checks, `${field}.nodeName`, address?.["nodeName"], subdomainProblem);
        checkTarget(checks, `${field}.targetRef`, address?.["targetRef"]);
      }
    }
    if (count === 0) checks.required(at, "must specify `addresses` or `notReadyAddresses`");
    checkPorts(checks, `${at}.ports`, subset["ports"], true);
  }
}

function checkHints(checks: Checks, field: string, value: unknown): void {
  const hints = checks.list(field, value) ?? [];
  if (hints.length > 8) checks.add(field, `Too many: ${hints.length}: must have at most 8 items`);
  const names = new Set<string>();
  for (const [at, hint] of checks.records(field, hints.slice(0, 8))) {
    const name = checks.string(`${at}.name`, hint["name"]) ?? "";
    if (name === "") checks.required(`${at}.name`);
    else if (names.has(name)) checks.duplicate(`${at}.name`, name);
    names.add(name);
  }
}

export function checkEndpointSlice(checks: Checks, object: KubernetesObject): void {
  const type = checks.oneOf("addressType", object["addressType"], ["IPv4", "IPv6", "FQDN"] as const);
  if (object["addressType"] === undefined || object["addressType"] === null) checks.required("addressType");
  const service = object.metadata.labels?.[SERVICE_NAME_LABEL];
  if (service === "") checks.invalid(`metadata.labels.${SERVICE_NAME_LABEL}`, service, "must name a Service");
  const endpoints = checks.list("endpoints", object["endpoints"]) ?? [];
  if (endpoints.length > 1000) checks.add("endpoints", `Too many: ${endpoints.length}: must have at most 1000 items`);
  for (const [at, endpoint] of checks.records("endpoints", endpoints.slice(0, 1000))) {
    const addresses = checks.strings(`${at}.addresses`, endpoint["addresses"]) ?? [];
    if (addresses.length === 0) checks.required(`${at}.addresses`, "must contain at least 1 address");
    if (addresses.length > 100)
      checks.add(`${at}.addresses`, `Too many: ${addresses.length}: must have at most 100 items`);
    for (const [j, text] of addresses.slice(0, 100).entries()) {
      if (type === "FQDN" || type === undefined) continue;
      const address = canonicalAddress(text);
      if (address === undefined) checks.invalid(`${at}.addresses[${j}]`, text, BAD_ADDRESS);
      else if (familyOf(address) !== type)
        checks.invalid(`${at}.addresses[${j}]`, text, `must be a valid ${type} address`);
    }
    const conditions = checks.record(`${at}.conditions`, endpoint["conditions"]);
    for (const name of ["ready", "serving", "terminating"])
      checks.boolean(`${at}.conditions.${name}`, conditions?.[name]);
    checkName(checks, `${at}.hostname`, endpoint["hostname"], dnsLabelProblem);
    checkName(checks, `${at}.nodeName`, endpoint["nodeName"], subdomainProblem);
    checks.string(`${at}.zone`, endpoint["zone"]);
    const hints = checks.record(`${at}.hints`, endpoint["hints"]);
    for (const name of ["forZones", "forNodes"]) checkHints(checks, `${at}.hints.${name}`, hints?.[name]);
    checkTarget(checks, `${at}.targetRef`, endpoint["targetRef"]);
  }
  checkPorts(checks, "ports", object["ports"], false);
}
