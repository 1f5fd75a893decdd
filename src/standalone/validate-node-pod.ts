// What is refused in Nodes and Pods: only the parts that are used, so that a Pod of any Kubernetes version is taken.
import { canonicalAddress, parseRange } from "../lib/address.ts";
import type { Checks } from "../wire/field-checks.ts";
import { type KubernetesObject, PROTOCOLS } from "../wire/kubernetes.ts";
import { dnsLabelProblem, portNameProblem, subdomainProblem } from "../wire/names.ts";
import { BAD_ADDRESS, isPort, PORT_RANGE } from "./validate-service.ts";
import { parseCpu } from "./zone-hints.ts";

function checkConditions(checks: Checks, value: unknown): void {
  for (const [i, one] of (checks.list("status.conditions", value) ?? []).entries()) {
    const condition = checks.record(`status.conditions[${i}]`, one) ?? {};
    checks.string(`status.conditions[${i}].type`, condition["type"]);
    checks.string(`status.conditions[${i}].status`, condition["status"]);
  }
}

export function checkNode(checks: Checks, object: KubernetesObject): void {
  const spec = checks.record("spec", object["spec"]);
  const single = checks.string("spec.podCIDR", spec?.["podCIDR"]);
  if (single !== undefined && single !== "" && (!single.includes("/") || parseRange(single) === undefined)) {
    checks.invalid("spec.podCIDR", single, "must be a valid CIDR value");
  }
  for (const [i, text] of (checks.strings("spec.podCIDRs", spec?.["podCIDRs"]) ?? []).entries()) {
    if (!text.includes("/") || parseRange(text) === undefined)
      checks.invalid(`spec.podCIDRs[${i}]`, text, "must be a valid CIDR value");
  }
  for (const [i, taint] of (checks.list("spec.taints", spec?.["taints"]) ?? []).entries()) {
    checks.string(`spec.taints[${i}].key`, checks.record(`spec.taints[${i}]`, taint)?.["key"]);
  }
  const status = checks.record("status", object["status"]);
  for (const [i, one] of (checks.list("status.addresses", status?.["addresses"]) ?? []).entries()) {
    const at = `status.addresses[${i}]`;
    const entry = checks.record(at, one) ?? {};
    const type = checks.string(`${at}.type`, entry["type"]);
    const address = checks.string(`${at}.address`, entry["address"]);
    if (address === undefined) checks.required(`${at}.address`);
    else if (type === "InternalIP" && canonicalAddress(address) === undefined) {
      checks.invalid(`${at}.address`, address, BAD_ADDRESS);
    }
  }
  const cpu = checks.record("status.allocatable", status?.["allocatable"])?.["cpu"];
  const isQuantity = typeof cpu === "string" || typeof cpu === "number";
  if (cpu !== undefined && cpu !== null && (!isQuantity || parseCpu(cpu) === undefined))
    checks.invalid("status.allocatable.cpu", cpu, 'must be a number of CPUs, such as "4" or "500m"');
  checkConditions(checks, status?.["conditions"]);
}

function checkContainers(checks: Checks, field: string, value: unknown, hostNetwork: boolean): void {
  const names = new Set<string>();
  const hostPorts = new Set<string>();
  for (const [at, container] of checks.records(field, value)) {
    const name = checks.string(`${at}.name`, container["name"]);
    if (name === undefined || name === "") checks.required(`${at}.name`);
    else {
      const problem = dnsLabelProblem(name);
      if (problem !== undefined) checks.invalid(`${at}.name`, name, problem);
      if (names.has(name)) checks.duplicate(`${at}.name`, name);
      names.add(name);
    }
    checks.string(`${at}.image`, container["image"]);
    for (const [portAt, port] of checks.records(`${at}.ports`, container["ports"])) {
      const portName = checks.string(`${portAt}.name`, port["name"]) ?? "";
      const problem = portName === "" ? undefined : portNameProblem(portName);
      if (problem !== undefined) checks.invalid(`${portAt}.name`, portName, problem);
      const number = checks.integer(`${portAt}.containerPort`, port["containerPort"]);
      if (number === undefined) {
        if (port["containerPort"] === undefined || port["containerPort"] === null)
          checks.required(`${portAt}.containerPort`);
      } else if (!isPort(number)) checks.invalid(`${portAt}.containerPort`, number, PORT_RANGE);
      const protocol = checks.oneOf(`${portAt}.protocol`, port["protocol"], PROTOCOLS) ?? "TCP";
      const hostIP = checks.string(`${portAt}.hostIP`, port["hostIP"]) ?? "";
      if (hostIP !== "" && canonicalAddress(hostIP) === undefined)
        checks.invalid(`${portAt}.hostIP`, hostIP, BAD_ADDRESS);
      const hostPort = checks.integer(`${portAt}.hostPort`, port["hostPort"]) ?? 0;
      if (hostPort === 0) continue;
      if (!isPort(hostPort)) checks.invalid(`${portAt}.hostPort`, hostPort, PORT_RANGE);
      if (hostNetwork && hostPort !== number) {
        checks.invalid(`${portAt}.containerPort`, number, "must match `hostPort` when `hostNetwork` is true");
      }
      const key = `${hostIP}/${protocol}/${hostPort}`;
      if (hostPorts.has(key)) checks.duplicate(`${portAt}.hostPort`, hostPort);
      hostPorts.add(key);
    }
  }
}

/** The part of a Pod that its template has too. `field` is "spec" or "spec.template.spec". */
export function checkPodSpec(checks: Checks, field: string, value: unknown): void {
  const spec = checks.record(field, value);
  if (spec === undefined) {
    checks.required(field);
    return;
  }
  const hostNetwork = checks.boolean(`${field}.hostNetwork`, spec["hostNetwork"]) ?? false;
  const containers = checks.list(`${field}.containers`, spec["containers"]);
  if (containers === undefined || containers.length === 0) checks.required(`${field}.containers`);
  checkContainers(checks, `${field}.containers`, spec["containers"], hostNetwork);
  checkContainers(checks, `${field}.initContainers`, spec["initContainers"], hostNetwork);
  const nodeName = checks.string(`${field}.nodeName`, spec["nodeName"]) ?? "";
  const nodeProblem = nodeName === "" ? undefined : subdomainProblem(nodeName);
  if (nodeProblem !== undefined) checks.invalid(`${field}.nodeName`, nodeName, nodeProblem);
  const selector = checks.record(`${field}.nodeSelector`, spec["nodeSelector"]) ?? {};
  for (const [key, text] of Object.entries(selector)) checks.string(`${field}.nodeSelector.${key}`, text);
  const runtime = checks.string(`${field}.runtimeClassName`, spec["runtimeClassName"]) ?? "";
  const runtimeProblem = runtime === "" ? undefined : subdomainProblem(runtime);
  if (runtimeProblem !== undefined) checks.invalid(`${field}.runtimeClassName`, runtime, runtimeProblem);
  for (const name of ["hostname", "subdomain"]) {
    const text = checks.string(`${field}.${name}`, spec[name]) ?? "";
    const problem = text === "" ? undefined : dnsLabelProblem(text);
    if (problem !== undefined) checks.invalid(`${field}.${name}`, text, problem);
  }
}

export function checkPod(checks: Checks, object: KubernetesObject): void {
  checkPodSpec(checks, "spec", object["spec"]);
  const status = checks.record("status", object["status"]);
  checks.string("status.phase", status?.["phase"]);
  const single = checks.string("status.podIP", status?.["podIP"]) ?? "";
  if (single !== "" && canonicalAddress(single) === undefined) checks.invalid("status.podIP", single, BAD_ADDRESS);
  for (const [i, one] of (checks.list("status.podIPs", status?.["podIPs"]) ?? []).entries()) {
    const ip = checks.string(`status.podIPs[${i}].ip`, checks.record(`status.podIPs[${i}]`, one)?.["ip"]);
    if (ip === undefined) checks.required(`status.podIPs[${i}].ip`);
    else if (canonicalAddress(ip) === undefined) checks.invalid(`status.podIPs[${i}].ip`, ip, BAD_ADDRESS);
  }
  checkConditions(checks, status?.["conditions"]);
}
