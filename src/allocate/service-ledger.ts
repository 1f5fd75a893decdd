// Which Service holds which cluster address and node port. Given what there was and what the manifests ask for now, it says
// what is in force: fixed values before free ones, nothing twice, a refused change leaves the version before it. Pure.
import { type Address, canonicalAddress, type Family, familyOf } from "../lib/address.ts";
import type { Range } from "../lib/range.ts";
import type { Protocol } from "../model/objects.ts";
import { nodePortProblem, pickNodePort } from "./node-ports.ts";
import { addressAt, clusterIpProblem, pickClusterIp, type ServiceRange } from "./service-addresses.ts";
import { protocolOf, type RefusedField, type ServiceRequest } from "./service-request.ts";

/** What a Service holds; part of the state that is kept. */
export interface ServiceHolding {
  /** ["None"] when headless; empty for ExternalName. */
  readonly clusterIPs: readonly string[];
  readonly nodePorts: readonly { readonly protocol: Protocol; readonly port: number; readonly nodePort: number }[];
  /** 0 when there is none. */
  readonly healthCheckNodePort: number;
}

export interface AllocatedService<S extends ServiceRequest = ServiceRequest> {
  readonly key: string;
  /** The version in force, as its manifest has it. */
  readonly source: S;
  readonly holding: ServiceHolding;
  readonly ipFamilies: readonly Family[];
  readonly ipFamilyPolicy: string;
  /** Its cluster address is another than before (or it became or was headless): it counts as another Service. */
  readonly replaced: boolean;
}

export interface RefusedService {
  readonly key: string;
  readonly error: RefusedField;
  /** The version before stays in force. */
  readonly kept: boolean;
}

export interface LedgerInput<S extends ServiceRequest> {
  /** In the order in which they were first seen. */
  readonly services: ReadonlyMap<string, S>;
  readonly held: ReadonlyMap<string, ServiceHolding>;
  /**
   * What was in force, in whole what this function gave: a Service whose change is refused stays at that, and one that says the
   * same is not looked at again.
   */
  readonly before: ReadonlyMap<string, Pick<AllocatedService<S>, "source"> & Partial<AllocatedService<S>>>;
  readonly ranges: readonly ServiceRange[];
  readonly nodePortRange: Range;
}

export interface Ledger<S extends ServiceRequest> {
  readonly services: ReadonlyMap<string, AllocatedService<S>>;
  readonly refused: readonly RefusedService[];
}

const KUBERNETES_SERVICE = "default/kubernetes";
const DNS_SERVICE = "kube-system/kube-dns";
const NOTHING: ServiceHolding = { clusterIPs: [], nodePorts: [], healthCheckNodePort: 0 };

interface Families {
  readonly families: readonly Family[];
  readonly policy: string;
}

type Attempt = { readonly error: RefusedField } | { readonly claim: Claim };

/** What was decided for a Service so far; `undefined` entries are to be picked. */
interface Claim {
  readonly families: Families;
  readonly clusterIPs: (string | undefined)[];
  readonly nodePorts: (number | undefined)[];
  readonly wantsHealthPort: boolean;
  healthPort: number;
}

function invalid(field: string, value: unknown, why: string, reason = "invalid"): { error: RefusedField } {
  return { error: { field, reason, message: `${field}: Invalid value: ${JSON.stringify(value)}: ${why}` } };
}

function fixedAddresses(service: ServiceRequest): readonly Address[] {
  const { clusterIP, clusterIPs } = service.spec;
  const given = clusterIPs !== undefined && clusterIPs.length > 0 ? clusterIPs : clusterIP ? [clusterIP] : [];
  return given.flatMap((text) => canonicalAddress(text) ?? []);
}

function resolveFamilies(
  service: ServiceRequest,
  held: ServiceHolding,
  ranges: readonly ServiceRange[],
): Families | { error: RefusedField } {
  const { spec } = service;
  const configured = ranges.map((one) => one.family);
  const asked: Family[] = [...new Set([...(spec.ipFamilies ?? []), ...fixedAddresses(service).map(familyOf)])];
  for (const [i, family] of asked.entries()) {
    if (!configured.includes(family) && (spec.ipFamilies ?? []).includes(family)) {
      return invalid(`spec.ipFamilies[${i}]`, family, "not configured on this cluster");
    }
  }
  if (spec.ipFamilyPolicy === "RequireDualStack" && configured.length < 2) {
    return invalid(
      "spec.ipFamilyPolicy",
      spec.ipFamilyPolicy,
      "this cluster is not configured for dual-stack services",
    );
  }
  const policy = spec.ipFamilyPolicy ?? (asked.length > 1 ? "PreferDualStack" : "SingleStack");
  if (policy === "SingleStack" && asked.length > 1) {
    return invalid(
      "spec.ipFamilyPolicy",
      policy,
      "must be RequireDualStack or PreferDualStack when multiple ipFamilies are specified",
    );
  }
  const heldFirst = held.clusterIPs[0] === undefined ? undefined : canonicalAddress(held.clusterIPs[0]);
  const first = asked[0] ?? (heldFirst === undefined ? undefined : familyOf(heldFirst));
  const order = [...asked, ...(first === undefined ? [] : [first]), ...configured];
  const families = [...new Set(order)].filter((family) => configured.includes(family) || asked.includes(family));
  return { families: families.slice(0, policy === "SingleStack" ? 1 : 2), policy };
}

function needsNodePorts(service: ServiceRequest): boolean {
  return service.spec.type === "NodePort" || service.spec.type === "LoadBalancer";
}

function isHeadless({ spec }: ServiceRequest): boolean {
  return spec.clusterIP === "None" || spec.clusterIPs?.[0] === "None";
}

/** Services in force with all they hold, and those refused. */
export function allocateServices<S extends ServiceRequest>(input: LedgerInput<S>): Ledger<S> {
  if (isSettled(input)) return { services: input.before, refused: [] };
  // A Service whose free values could not be had goes back to the version before; everything is decided again without its change.
  const goesBack = new Map<string, RefusedField>();
  for (;;) {
    const outcome = allocateOnce(input, goesBack);
    if (outcome.again === undefined) return outcome;
    goesBack.set(outcome.again.key, outcome.again.error);
  }
}

/** Nobody asks for anything else than what was given. */
function isSettled<S extends ServiceRequest>(
  input: LedgerInput<S>,
): input is LedgerInput<S> & { readonly before: Ledger<S>["services"] } {
  const { services, before } = input;
  if (services.size !== before.size) return false;
  for (const [key, source] of services) {
    const one = before.get(key);
    if (one?.holding === undefined || one.source !== source || one.replaced === true) return false;
  }
  return true;
}

function allocateOnce<S extends ServiceRequest>(
  { services, held, before: inForce, ranges, nodePortRange }: LedgerInput<S>,
  goesBack: ReadonlyMap<string, RefusedField>,
): Ledger<S> & { readonly again: { readonly key: string; readonly error: RefusedField } | undefined } {
  const addressOwner = new Map<Address, string>();
  const portOwner = new Map<number, string>();
  const addressTaken = (key: string) => (address: Address) => (addressOwner.get(address) ?? key) !== key;
  const portTaken = (key: string) => (port: number) => (portOwner.get(port) ?? key) !== key;
  for (const range of ranges) {
    const [first, dns] = [addressAt(range, 1), addressAt(range, 10)];
    if (first !== undefined) addressOwner.set(first, KUBERNETES_SERVICE);
    if (dns !== undefined) addressOwner.set(dns, DNS_SERVICE);
  }
  const settled = new Map<string, AllocatedService<S>>();
  for (const [key, one] of inForce) {
    if (one.holding === undefined || goesBack.has(key) || one.source !== services.get(key)) continue;
    claimAll(key, one.holding);
    settled.set(key, (one.replaced ? { ...one, replaced: false } : one) as AllocatedService<S>);
  }
  const current = new Map<string, ServiceHolding>();
  for (const [key, holding] of held) {
    if (!services.has(key) || settled.has(key)) continue;
    // What lies outside the ranges now (they may have been changed) is not held any longer.
    const clusterIPs = holding.clusterIPs.filter(
      (ip) => ip === "None" || clusterIpProblem(ip, ranges, addressTaken(key)) === undefined,
    );
    const inRange = (port: number): boolean => nodePortProblem(port, nodePortRange, portTaken(key)) === undefined;
    const nodePorts = holding.nodePorts.filter((one) => inRange(one.nodePort));
    const healthCheckNodePort = inRange(holding.healthCheckNodePort) ? holding.healthCheckNodePort : 0;
    const kept = { clusterIPs, nodePorts, healthCheckNodePort };
    current.set(key, kept);
    claimAll(key, kept);
  }

  function claimAll(key: string, { clusterIPs, nodePorts, healthCheckNodePort }: ServiceHolding): void {
    for (const ip of clusterIPs) if (ip !== "None") addressOwner.set(ip, key);
    for (const { nodePort } of nodePorts) portOwner.set(nodePort, key);
    if (healthCheckNodePort !== 0) portOwner.set(healthCheckNodePort, key);
  }

  function releaseAll(key: string, { clusterIPs, nodePorts, healthCheckNodePort }: ServiceHolding): void {
    for (const ip of clusterIPs) if (addressOwner.get(ip) === key) addressOwner.delete(ip);
    for (const { nodePort } of nodePorts) if (portOwner.get(nodePort) === key) portOwner.delete(nodePort);
    if (portOwner.get(healthCheckNodePort) === key) portOwner.delete(healthCheckNodePort);
  }

  function attempt(key: string, service: ServiceRequest): Attempt {
    const before = current.get(key) ?? NOTHING;
    const isExternalName = service.spec.type === "ExternalName";
    const families = isExternalName ? { families: [], policy: "" } : resolveFamilies(service, before, ranges);
    if ("error" in families) return families;

    let clusterIPs: (string | undefined)[] = [];
    if (!isExternalName && isHeadless(service)) clusterIPs = ["None"];
    else if (!isExternalName) {
      const fixed = fixedAddresses(service);
      for (const address of fixed) {
        const problem = clusterIpProblem(address, ranges, addressTaken(key));
        if (problem === undefined) continue;
        const shown = `[]string{${fixed.map((one) => `"${one}"`).join(", ")}}`;
        const message = `spec.clusterIPs: Invalid value: ${shown}: failed to allocate IP ${address}: ${problem.words}`;
        return { error: { field: "spec.clusterIPs", reason: problem.reason, message } };
      }
      clusterIPs = families.families.map((family) => {
        const same = (one: string): boolean => one !== "None" && familyOf(one) === family;
        return fixed.find(same) ?? before.clusterIPs.find(same) ?? reservedFor(key, family);
      });
    }

    const ports = service.spec.ports ?? [];
    const nodePorts: (number | undefined)[] = ports.map(() => 0);
    if (needsNodePorts(service)) {
      const used = new Set<string>();
      for (const [i, port] of ports.entries()) {
        if (!port.nodePort) continue;
        const problem = nodePortProblem(port.nodePort, nodePortRange, portTaken(key));
        if (problem !== undefined)
          return invalid(`spec.ports[${i}].nodePort`, port.nodePort, problem.words, problem.reason);
        nodePorts[i] = port.nodePort;
        used.add(`${protocolOf(port)}/${port.nodePort}`);
      }
      const wantsFree = service.spec.type === "NodePort" || service.spec.allocateLoadBalancerNodePorts !== false;
      for (const [i, port] of ports.entries()) {
        if (nodePorts[i] !== 0 || !wantsFree) continue;
        const protocol = protocolOf(port);
        const old = before.nodePorts.find((one) => one.protocol === protocol && one.port === port.port);
        nodePorts[i] = old !== undefined && !used.has(`${protocol}/${old.nodePort}`) ? old.nodePort : undefined;
        if (nodePorts[i] !== undefined) used.add(`${protocol}/${nodePorts[i]}`);
      }
    }

    const wantsHealthPort = service.spec.type === "LoadBalancer" && service.spec.externalTrafficPolicy === "Local";
    const healthPort = wantsHealthPort ? (service.spec.healthCheckNodePort ?? 0) : 0;
    if (healthPort !== 0) {
      const own = nodePorts.includes(healthPort);
      const problem = nodePortProblem(healthPort, nodePortRange, (port) => own || portTaken(key)(port));
      if (problem !== undefined) return invalid("spec.healthCheckNodePort", healthPort, problem.words, problem.reason);
    }
    const keptHealth =
      wantsHealthPort && healthPort === 0 && !nodePorts.includes(before.healthCheckNodePort)
        ? before.healthCheckNodePort
        : healthPort;
    return { claim: { families, clusterIPs, nodePorts, wantsHealthPort, healthPort: keptHealth } };
  }

  function reservedFor(key: string, family: Family): Address | undefined {
    const offset = key === KUBERNETES_SERVICE ? 1 : key === DNS_SERVICE ? 10 : 0;
    const range = ranges.find((one) => one.family === family);
    return offset === 0 || range === undefined ? undefined : addressAt(range, offset);
  }

  function holdingOf(service: ServiceRequest, claim: Claim): ServiceHolding {
    const ports = service.spec.ports ?? [];
    return {
      clusterIPs: claim.clusterIPs.flatMap((ip) => ip ?? []),
      nodePorts: ports.flatMap((port, i) => {
        const nodePort = claim.nodePorts[i];
        return nodePort ? [{ protocol: protocolOf(port), port: port.port, nodePort }] : [];
      }),
      healthCheckNodePort: claim.healthPort,
    };
  }

  // Fixed values. Who is refused now may be served once another, later in the row, has let go of what it held.
  const claims = new Map<string, { readonly source: S; readonly claim: Claim }>();
  const errors = new Map<string, RefusedField>();
  let waiting = [...services].filter(([key]) => !settled.has(key) && !goesBack.has(key));
  for (let progress = true; progress && waiting.length > 0; ) {
    progress = false;
    const still: typeof waiting = [];
    for (const [key, source] of waiting) {
      const result = attempt(key, source);
      if ("error" in result) {
        errors.set(key, result.error);
        still.push([key, source]);
        continue;
      }
      progress = true;
      errors.delete(key);
      releaseAll(key, current.get(key) ?? NOTHING);
      claimAll(key, holdingOf(source, result.claim));
      claims.set(key, { source, claim: result.claim });
    }
    waiting = still;
  }
  const refused: RefusedService[] = [];
  for (const [key, error] of [...errors, ...goesBack]) {
    const before = inForce.get(key)?.source;
    const result = before === undefined || !current.has(key) ? undefined : attempt(key, before);
    const kept = before !== undefined && result !== undefined && "claim" in result;
    if (kept) {
      claims.set(key, { source: before, claim: result.claim });
      claimAll(key, holdingOf(before, result.claim));
    } else releaseAll(key, current.get(key) ?? NOTHING);
    refused.push({ key, error, kept });
  }

  // Free values, in the order of age.
  const allocated = new Map<string, AllocatedService<S>>();
  for (const key of services.keys()) {
    const stays = settled.get(key);
    if (stays !== undefined) allocated.set(key, stays);
    const entry = claims.get(key);
    if (entry === undefined) continue;
    const { source, claim } = entry;
    const problem = fill(key, source, claim);
    if (problem !== undefined) {
      if (inForce.has(key) && current.has(key) && !goesBack.has(key))
        return { services: allocated, refused, again: { key, error: problem } };
      releaseAll(key, holdingOf(source, claim));
      refused.push({ key, error: problem, kept: false });
      continue;
    }
    const holding = holdingOf(source, claim);
    claimAll(key, holding);
    const before = held.get(key);
    const wasFirst = before?.clusterIPs[0];
    const replaced =
      wasFirst !== undefined && holding.clusterIPs[0] !== undefined && wasFirst !== holding.clusterIPs[0];
    const { families, policy } = claim.families;
    allocated.set(key, { key, source, holding, ipFamilies: families, ipFamilyPolicy: policy, replaced });
  }
  return { services: allocated, refused, again: undefined };

  function fill(key: string, source: ServiceRequest, claim: Claim): RefusedField | undefined {
    for (const [i, family] of claim.families.families.entries()) {
      if (claim.clusterIPs[0] === "None" || claim.clusterIPs[i] !== undefined) continue;
      const range = ranges.find((one) => one.family === family);
      const address = range === undefined ? undefined : pickClusterIp(range, key, (one) => addressOwner.has(one));
      if (address === undefined) {
        return {
          field: "spec.clusterIPs",
          reason: "exhausted",
          message: "spec.clusterIPs: failed to allocate a serviceIP: range is full",
        };
      }
      addressOwner.set(address, key);
      claim.clusterIPs[i] = address;
    }
    const ports = source.spec.ports ?? [];
    for (const [i, port] of ports.entries()) {
      if (claim.nodePorts[i] !== undefined) continue;
      // One number for all protocols of a port, as for DNS on UDP and TCP.
      const twin = ports.findIndex((one, j) => one.port === port.port && (claim.nodePorts[j] ?? 0) !== 0);
      const used = (number: number): boolean =>
        ports.some((one, j) => claim.nodePorts[j] === number && protocolOf(one) === protocolOf(port));
      const shared = twin < 0 ? undefined : claim.nodePorts[twin];
      const picked =
        shared !== undefined && !used(shared)
          ? shared
          : pickNodePort(nodePortRange, `${key} ${protocolOf(port)}/${port.port}`, (one) => portOwner.has(one));
      if (picked === undefined) {
        const field = `spec.ports[${i}].nodePort`;
        return { field, reason: "exhausted", message: `${field}: failed to allocate a nodePort: range is full` };
      }
      portOwner.set(picked, key);
      claim.nodePorts[i] = picked;
    }
    if (claim.wantsHealthPort && claim.healthPort === 0) {
      const picked = pickNodePort(nodePortRange, `${key} health`, (one) => portOwner.has(one));
      if (picked === undefined) {
        const field = "spec.healthCheckNodePort";
        return { field, reason: "exhausted", message: `${field}: failed to allocate a nodePort: range is full` };
      }
      portOwner.set(picked, key);
      claim.healthPort = picked;
    }
    return undefined;
  }
}
