// What an API server refuses in a Service on its own, before anything is allocated for it.
import { canonicalAddress, familyOf } from "../lib/address.ts";
import { type Checks, checkAffinityConfig } from "../wire/field-checks.ts";
import {
  type KubernetesObject,
  PROTOCOLS,
  SERVICE_TYPES,
  TRAFFIC_DISTRIBUTIONS,
  TRAFFIC_POLICIES,
} from "../wire/kubernetes.ts";
import { checkLabels } from "../wire/label-selector.ts";
import { dnsLabelProblem, portNameProblem, subdomainProblem } from "../wire/names.ts";

const FAMILIES = ["IPv4", "IPv6"] as const;
const FAMILY_POLICIES = ["SingleStack", "PreferDualStack", "RequireDualStack"] as const;

export const PORT_RANGE = "must be between 1 and 65535, inclusive";
export const BAD_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

export function isPort(port: number): boolean {
  return port >= 1 && port <= 65535;
}

function checkPorts(checks: Checks, value: unknown, type: string, mayBeEmpty: boolean): void {
  const ports = checks.list("spec.ports", value) ?? [];
  if (ports.length === 0 && !mayBeEmpty) checks.required("spec.ports");
  const names = new Set<string>();
  const numbers = new Set<string>();
  const nodePorts = new Set<string>();
  for (const [at, port] of checks.records("spec.ports", ports)) {
    const name = checks.string(`${at}.name`, port["name"]) ?? "";
    if (name === "") {
      if (ports.length > 1) checks.required(`${at}.name`);
    } else {
      const problem = dnsLabelProblem(name);
      if (problem !== undefined) checks.invalid(`${at}.name`, name, problem);
      if (names.has(name)) checks.duplicate(`${at}.name`, name);
      names.add(name);
    }
    const number = checks.integer(`${at}.port`, port["port"]);
    if (number === undefined) {
      if (port["port"] === undefined || port["port"] === null) checks.required(`${at}.port`);
    } else if (!isPort(number)) checks.invalid(`${at}.port`, number, PORT_RANGE);
    const protocol = checks.oneOf(`${at}.protocol`, port["protocol"], PROTOCOLS) ?? "TCP";
    if (number !== undefined) {
      const key = `${protocol}/${number}`;
      if (numbers.has(key)) checks.duplicate(at, { port: number, protocol });
      numbers.add(key);
    }
    const target = port["targetPort"];
    if (typeof target === "number") {
      if (!Number.isSafeInteger(target) || !isPort(target)) checks.invalid(`${at}.targetPort`, target, PORT_RANGE);
    } else if (typeof target === "string") {
      const problem = portNameProblem(target);
      if (problem !== undefined) checks.invalid(`${at}.targetPort`, target, problem);
    } else if (target !== undefined && target !== null) {
      checks.invalid(`${at}.targetPort`, target, "must be a number or a name", "wrong-type");
    }
    const nodePort = checks.integer(`${at}.nodePort`, port["nodePort"]) ?? 0;
    if (nodePort !== 0) {
      if (type === "ClusterIP") checks.forbidden(`${at}.nodePort`, "may not be used when `type` is 'ClusterIP'");
      const key = `${protocol}/${nodePort}`;
      if (nodePorts.has(key)) checks.duplicate(`${at}.nodePort`, nodePort);
      nodePorts.add(key);
    }
    checks.string(`${at}.appProtocol`, port["appProtocol"]);
  }
}

function checkFamilies(checks: Checks, spec: Record<string, unknown>): void {
  checks.oneOf("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], FAMILY_POLICIES);
  const families = checks.list("spec.ipFamilies", spec["ipFamilies"]) ?? [];
  for (const [i, family] of families.entries()) checks.oneOf(`spec.ipFamilies[${i}]`, family, FAMILIES);
  if (families.length > 2) checks.invalid("spec.ipFamilies", families, "may only hold up to 2 values");
  else if (families.length === 2 && families[0] === families[1]) checks.duplicate("spec.ipFamilies[1]", families[1]);
}

function checkClusterIPs(checks: Checks, spec: Record<string, unknown>, type: string): boolean {
  const single = checks.string("spec.clusterIP", spec["clusterIP"]) ?? "";
  const several = checks.strings("spec.clusterIPs", spec["clusterIPs"]) ?? [];
  if (type === "ExternalName") {
    if (single !== "" && single !== "None")
      checks.forbidden("spec.clusterIP", "may not be set for ExternalName services");
    if (several.length > 0) checks.forbidden("spec.clusterIPs", "may not be set for ExternalName services");
    return true;
  }
  if (several.length > 0 && single !== "" && several[0] !== single) {
    checks.invalid("spec.clusterIPs", several, "element [0] must match clusterIP");
  }
  const all = several.length > 0 ? several : single === "" ? [] : [single];
  const headless = all[0] === "None";
  if (headless && type !== "ClusterIP") {
    checks.invalid("spec.clusterIPs[0]", "None", `may not be set to 'None' for ${type} services`);
  }
  if (headless && all.length > 1) checks.invalid("spec.clusterIPs", several, "'None' must be the first and only value");
  if (all.length > 2) checks.invalid("spec.clusterIPs", several, "may only hold up to 2 values");
  const families: string[] = [];
  for (const [i, text] of all.entries()) {
    if (text === "None" && headless) continue;
    const address = canonicalAddress(text);
    if (address === undefined)
      checks.invalid(several.length > 0 ? `spec.clusterIPs[${i}]` : "spec.clusterIP", text, BAD_ADDRESS);
    else families.push(familyOf(address));
  }
  if (families.length === 2 && families[0] === families[1]) {
    checks.invalid("spec.clusterIPs", several, "may specify no more than one IP for each IP family");
  }
  const wanted = Array.isArray(spec["ipFamilies"]) ? spec["ipFamilies"] : [];
  for (const [i, family] of families.entries()) {
    if (wanted[i] !== undefined && wanted[i] !== family) {
      checks.invalid(
        `spec.clusterIPs[${i}]`,
        all[i],
        `expected an ${String(wanted[i])} value as indicated by \`ipFamilies[${i}]\``,
      );
    }
  }
  return headless;
}

export function checkService(checks: Checks, object: KubernetesObject): void {
  const spec = checks.record("spec", object["spec"]);
  if (spec === undefined) {
    checks.required("spec");
    return;
  }
  const type = checks.oneOf("spec.type", spec["type"], SERVICE_TYPES) ?? "ClusterIP";
  checkFamilies(checks, spec);
  const mayHaveNoPorts = checkClusterIPs(checks, spec, type);
  checkPorts(checks, spec["ports"], type, mayHaveNoPorts);
  checkLabels(checks, "spec.selector", spec["selector"]);

  const externalName = (checks.string("spec.externalName", spec["externalName"]) ?? "").replace(/\.$/, "");
  if (type === "ExternalName") {
    if (externalName === "") checks.required("spec.externalName");
    else {
      const problem = subdomainProblem(externalName.toLowerCase());
      if (problem !== undefined) checks.invalid("spec.externalName", externalName, problem);
    }
  }

  const outside = checks.oneOf("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], TRAFFIC_POLICIES);
  const external = checks.strings("spec.externalIPs", spec["externalIPs"]) ?? [];
  for (const [i, text] of external.entries()) {
    if (canonicalAddress(text) === undefined) checks.invalid(`spec.externalIPs[${i}]`, text, BAD_ADDRESS);
  }
  if (outside !== undefined && type !== "NodePort" && type !== "LoadBalancer" && external.length === 0) {
    checks.invalid("spec.externalTrafficPolicy", outside, "may only be set for externally-accessible services");
  }
  checks.oneOf("spec.internalTrafficPolicy", spec["internalTrafficPolicy"], TRAFFIC_POLICIES);
  const health = checks.integer("spec.healthCheckNodePort", spec["healthCheckNodePort"]) ?? 0;
  if (health !== 0 && (type !== "LoadBalancer" || outside !== "Local")) {
    checks.invalid(
      "spec.healthCheckNodePort",
      health,
      "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
    );
  }
  checks.oneOf("spec.sessionAffinity", spec["sessionAffinity"], ["None", "ClientIP"] as const);
  checks.oneOf("spec.trafficDistribution", spec["trafficDistribution"], TRAFFIC_DISTRIBUTIONS);
  checkAffinityConfig(checks, spec);
  checks.string("spec.loadBalancerIP", spec["loadBalancerIP"]);
  checks.strings("spec.loadBalancerSourceRanges", spec["loadBalancerSourceRanges"]);
  const nodePorts = checks.boolean("spec.allocateLoadBalancerNodePorts", spec["allocateLoadBalancerNodePorts"]);
  if (nodePorts !== undefined && type !== "LoadBalancer") {
    checks.forbidden("spec.allocateLoadBalancerNodePorts", "may only be used when `type` is 'LoadBalancer'");
  }
  const loadBalancerClass = checks.string("spec.loadBalancerClass", spec["loadBalancerClass"]) ?? "";
  if (loadBalancerClass !== "" && type !== "LoadBalancer") {
    checks.forbidden("spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'");
  }
  checks.boolean("spec.publishNotReadyAddresses", spec["publishNotReadyAddresses"]);

  const status = checks.record("status", object["status"]);
  const balancer = checks.record("status.loadBalancer", status?.["loadBalancer"]);
  for (const [i, one] of (checks.list("status.loadBalancer.ingress", balancer?.["ingress"]) ?? []).entries()) {
    const at = `status.loadBalancer.ingress[${i}]`;
    const ingress = checks.record(at, one) ?? {};
    const ip = checks.string(`${at}.ip`, ingress["ip"]);
    if (ip !== undefined && canonicalAddress(ip) === undefined) checks.invalid(`${at}.ip`, ip, BAD_ADDRESS);
    checks.string(`${at}.hostname`, ingress["hostname"]);
    checks.oneOf(`${at}.ipMode`, ingress["ipMode"], ["VIP", "Proxy"] as const);
  }
}
