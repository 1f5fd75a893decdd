// What a Service, or the host ports of a pod, ask of the datapath: frontends, endpoints and policies per port and family.
// Pure: it compiles one owner from what it is made of; what the kernel holds is plan.ts's.
import { type Address, type Family, familyOf, type Prefix, parsePrefix } from "../lib/address.ts";
import {
  type AddressClaim,
  type AddressClaims,
  type Claims,
  type OwnerKey,
  ownerOf,
  type PortClaim,
} from "./address-claims.ts";
import { endpointRefusal, type FrontendPort, frontendRefusal, type Refusal } from "./address-rules.ts";
import { type Candidate, type Surroundings, selectEndpoints } from "./endpoints.ts";
import type { EndpointSlice, HostPort, Notice, ObjectKey, Service, ServicePort } from "./objects.ts";
import type { FrontendKey, FrontendKind, RowProtocol } from "./operations.ts";
import { type Balancing, LOAD_BALANCING_ANNOTATION } from "./spread.ts";
import { parseWeights, WEIGHTS_ANNOTATION } from "./weights.ts";
import type { TrafficPolicy } from "./windows.ts";

export interface FrontendSpec {
  readonly key: FrontendKey;
  readonly text: string;
  readonly kind: FrontendKind;
}

/** One service id: a port, protocol and family of an owner, with at least one frontend. */
export interface PortSpec {
  /** Identity within the owner. */
  readonly key: string;
  readonly portName: string;
  readonly protocol: RowProtocol;
  readonly family: Family;
  readonly port: number;
  readonly nodePort: number;
  readonly frontends: readonly FrontendSpec[];
  readonly candidates: readonly Candidate[];
  readonly external: TrafficPolicy;
  readonly internal: TrafficPolicy;
  /** Least number of slots of its Maglev tables; 0: it is balanced by hash. */
  readonly tableSize: number;
  readonly affinitySeconds: number;
  /** Networks of the port's family, whose clients alone are served at LoadBalancer addresses; undefined: everybody is. */
  readonly sourceRanges: readonly Prefix[] | undefined;
}

export interface Compiled {
  readonly ports: readonly PortSpec[];
  readonly notices: readonly Notice[];
  /** For the health check node port. */
  readonly localEndpoints: LocalEndpoints;
}

/** Ready endpoint addresses on this node that get new connections. */
export type LocalEndpoints = Readonly<Record<Family, number>>;

export const NO_LOCAL_ENDPOINTS: LocalEndpoints = { IPv4: 0, IPv6: 0 };

/** Text of a frontend key: equal keys have equal text. */
export function frontendText(key: FrontendKey): string {
  return `${key.address} ${key.protocol} ${key.port}`;
}

/** The key under which a port of every address of this node is found. */
export function everyAddress(family: Family): Address {
  return family === "IPv4" ? "0.0.0.0" : "::";
}

/** Headless, ExternalName or not yet allocated: nothing in the maps. */
function isSkipped(service: Service): boolean {
  return service.type === "ExternalName" || service.headless || service.clusterIPs.length === 0;
}

/** Where a load balancer outside asks whether this node has endpoints of the Service; 0: nowhere. */
export function healthCheckPortOf(service: Service): number {
  const isAsked = service.type === "LoadBalancer" && service.externalTrafficPolicy === "Local";
  return isAsked && !isSkipped(service) && !service.isForeign ? service.healthCheckNodePort : 0;
}

interface WantedAddress extends AddressClaim {
  readonly field: string;
  /** Why it gets no frontend, when it gets none. */
  readonly refusal: Refusal | undefined;
  /** Of single ports. */
  readonly portRefusals: readonly Refusal[];
}

function wantedAddresses(service: Service, around: Surroundings): WantedAddress[] {
  const wanted: WantedAddress[] = [];
  const want = (kind: AddressClaim["kind"], address: Address, field: string, refuse: boolean): void => {
    const ports: string[] = [];
    const portRefusals: Refusal[] = [];
    const strange = service.clusterIPs.every((own) => familyOf(own) !== familyOf(address));
    const refusal: Refusal | undefined = strange
      ? { reason: "frontend-refused", why: "of a family that the Service does not have" }
      : frontendRefusal(kind, address, undefined, around);
    for (const { protocol, port } of service.ports) {
      const refusedPort = frontendRefusal(kind, address, { protocol, port }, around);
      if (refusedPort === undefined) ports.push(`${protocol} ${port}`);
      else if (refusal === undefined) portRefusals.push(refusedPort);
    }
    wanted.push({ kind, address, refuse, isForeign: service.isForeign, ports, field, refusal, portRefusals });
  };
  for (const [i, address] of service.clusterIPs.entries()) {
    want("cluster-ip", address, `spec.clusterIPs[${i}]`, !service.isForeign);
  }
  if (service.isForeign) return wanted;
  const isWanted = (address: Address): boolean => wanted.some((other) => other.address === address);
  const granted = service.type === "LoadBalancer" ? service.grants.addresses : [];
  for (const [i, { address, ipMode, by }] of granted.entries()) {
    if (ipMode === "Proxy" || isWanted(address)) continue;
    const refuse = by === "pool" && !around.isNodeAddress(address) && !around.isDeviceAddress(address);
    want("load-balancer", address, `status.loadBalancer.ingress[${i}].ip`, refuse);
  }
  for (const [i, address] of service.externalIPs.entries()) {
    if (!isWanted(address)) want("external-ip", address, `spec.externalIPs[${i}]`, false);
  }
  return wanted;
}

/** The Service's source ranges without repeats; undefined when it has none, and an empty list when none can be read. */
function sourceRangesOf({ sourceRanges }: Service, tell: Tell): readonly Prefix[] | undefined {
  if (sourceRanges.length === 0) return undefined;
  const found = new Map<string, Prefix>();
  for (const [i, text] of sourceRanges.entries()) {
    const prefix = parsePrefix(text);
    if (prefix !== undefined) found.set(prefixText(prefix), prefix);
    else {
      const message = `could not read source range "${text}": it is no network in CIDR notation; its clients are not served`;
      tell("invalid-source-range", `spec.loadBalancerSourceRanges[${i}]`, message);
    }
  }
  if (found.size === 0) {
    const message = "could not read any source range: its LoadBalancer addresses are closed to every client";
    tell("invalid-source-range", "spec.loadBalancerSourceRanges", message, "error");
  }
  return [...found.values()];
}

/** A range of one family opens nothing in the other, where kube-proxy lets everybody in. */
function tellClosedFamilies(addresses: readonly WantedAddress[], ranges: readonly Prefix[], tell: Tell): void {
  const open = new Set(ranges.map(({ address }) => familyOf(address)));
  if (open.size === 0) return;
  for (const { kind, address, field, refusal } of addresses) {
    const family = familyOf(address);
    if (kind !== "load-balancer" || refusal !== undefined || open.has(family)) continue;
    const message = `no source range is of ${family}: ${address} is closed to every client`;
    tell("no-source-range", field, message);
  }
}

export function prefixText({ address, length }: Prefix): string {
  return `${address}/${length}`;
}

function wantedNodePorts(service: Service, port: ServicePort): PortClaim[] {
  if (port.nodePort === 0 || service.type === "ClusterIP" || service.isForeign) return [];
  const { nodePort, protocol } = port;
  return familiesOf(service).map((family) => ({
    kind: "node-port",
    address: everyAddress(family),
    port: nodePort,
    protocol,
  }));
}

function familiesOf(service: Service): Family[] {
  return [...new Set(service.clusterIPs.map(familyOf))];
}

/** What the Service claims, whether it wins or not; undefined when it claims nothing. */
export function claimsOfService(service: Service, around: Surroundings): Claims | undefined {
  if (isSkipped(service)) return undefined;
  const addresses: AddressClaim[] = [];
  for (const { kind, address, refuse, isForeign, ports, refusal } of wantedAddresses(service, around)) {
    if (refusal === undefined) addresses.push({ kind, address, refuse, isForeign, ports: ports.slice() });
  }
  const ports = service.ports.flatMap((port) => wantedNodePorts(service, port));
  // These stay: copies have no spare room.
  return { age: service.grants.age, addresses: addresses.slice(), ports: ports.slice() };
}

/** Compiles a Service from its slices. Its claims must have been entered in `claims`. */
export function compileService(
  owner: ObjectKey,
  service: Service,
  slices: readonly EndpointSlice[],
  claims: AddressClaims,
  around: Surroundings,
  balancing: Balancing,
): Compiled {
  const notices: Notice[] = [];
  const tell = noticesOf(`Service ${owner}`, notices);
  if (isSkipped(service) || service.isForeign) return { ports: [], notices, localEndpoints: NO_LOCAL_ENDPOINTS };

  const { tableSize, problem } = balancingOf(service, balancing);
  if (problem !== "") tell("annotation-invalid", `metadata.annotations[${LOAD_BALANCING_ANNOTATION}]`, problem);
  tellWeights(slices, notices);
  const sourceRanges = sourceRangesOf(service, tell);
  const addresses = wantedAddresses(service, around);
  tellClosedFamilies(addresses, sourceRanges ?? [], tell);
  for (const { address, field, refusal, portRefusals } of addresses) {
    for (const { reason, why } of refusal === undefined ? portRefusals : [refusal]) {
      tell(reason, field, `could not serve ${address}: it is ${why}`, reason === "left-to-device" ? "info" : "warning");
    }
  }
  const families = familiesOf(service);
  const ports: PortSpec[] = [];
  const keys = new Set<string>();
  const taken = new Set<string>();
  const refused = new Map<Address, string>();
  const lost = new Set<string>();
  const localReady = { IPv4: new Set<Address>(), IPv6: new Set<Address>() };
  for (const [i, port] of service.ports.entries()) {
    const { name, protocol } = port;
    const field = `spec.ports[${i}]`;
    const nodePorts = wantedNodePorts(service, port);
    for (const family of families) {
      const frontends: FrontendSpec[] = [];
      const add = (address: Address, number: number, kind: FrontendKind, fieldName: string): void => {
        const frontend = { address, port: number, protocol };
        const text = frontendText(frontend);
        if (taken.has(text)) {
          tell("duplicate-port", fieldName, `could not serve ${protocol} port ${number} twice: an earlier port has it`);
          return;
        }
        taken.add(text);
        frontends.push({ key: frontend, text, kind });
      };
      for (const wanted of addresses) {
        const servicePort = `${protocol} ${port.port}`;
        if (wanted.refusal !== undefined || familyOf(wanted.address) !== family) continue;
        if (!wanted.ports.includes(servicePort)) continue;
        const winner = claims.addressWinner(wanted.address, servicePort);
        if (winner === undefined || winner.owner === owner) add(wanted.address, port.port, wanted.kind, field);
        else {
          const what = winner.kind === "cluster-ip" ? wanted.address : `port ${port.port} of ${wanted.address}`;
          if (lost.has(what)) continue;
          lost.add(what);
          tell("address-in-use", wanted.field, `could not serve ${what}: Service ${winner.owner} has it`);
        }
      }
      for (const wanted of nodePorts) {
        if (familyOf(wanted.address) !== family) continue;
        const winner = claims.portWinner(owner, wanted);
        if (winner === undefined || winner.owner === owner) {
          add(wanted.address, wanted.port, "node-port", `${field}.nodePort`);
        } else if (!lost.has(`${protocol} ${wanted.port}`)) {
          lost.add(`${protocol} ${wanted.port}`);
          const message = `could not serve ${protocol} node port ${wanted.port}: ${ownerText(winner.owner)} has it`;
          tell("port-in-use", `${field}.nodePort`, message);
        }
      }
      const selected = selectEndpoints(slices, family, name, protocol, around);
      for (const [address, reason] of selected.refused) refused.set(address, reason);
      for (const candidate of selected.candidates) {
        if (candidate.local && candidate.ready && candidate.weight !== 0) localReady[family].add(candidate.address);
      }
      if (selected.unmatched) {
        const { targetPort } = port;
        const isNamed = typeof targetPort === "string";
        const wanted = name === "" ? "an unnamed port" : `a port "${name}"`;
        const reason = isNamed
          ? `no pod that is selected has a ${protocol} container port named "${targetPort}"`
          : `none has ${wanted} with protocol ${protocol}`;
        const message = `no ${family} endpoint serves port ${port.port}: ${reason}`;
        tell("port-unmatched", `${field}.${isNamed ? "targetPort" : "name"}`, message);
      }
      if (frontends.length === 0) continue;
      // Names are unique in a valid Service; in another one the number tells ports apart.
      const key = `${family} ${protocol} ${name}`;
      const portKey = keys.has(key) ? `${key} ${port.port}` : key;
      keys.add(portKey);
      ports.push({
        key: portKey,
        portName: name,
        protocol,
        family,
        port: port.port,
        nodePort: service.type === "ClusterIP" ? 0 : port.nodePort,
        frontends,
        candidates: selected.candidates,
        external: service.externalTrafficPolicy,
        internal: service.internalTrafficPolicy,
        tableSize,
        affinitySeconds: service.affinitySeconds,
        sourceRanges: sourceRanges?.filter(({ address }) => familyOf(address) === family),
      });
    }
  }
  tellRefused(refused, tell);
  const localEndpoints = { IPv4: localReady.IPv4.size, IPv6: localReady.IPv6.size };
  return { ports, notices, localEndpoints };
}

/** What the host ports of one pod claim on this node. */
export function claimsOfHostPorts(hostPorts: readonly HostPort[], around: Surroundings): Claims | undefined {
  const ports: PortClaim[] = [];
  for (const hostPort of hostPorts) {
    const claim = hostPortClaim(hostPort, around);
    if (claim !== undefined) ports.push(claim);
  }
  const age = Math.min(...hostPorts.map((hostPort) => hostPort.age));
  return ports.length === 0 ? undefined : { age, addresses: [], ports };
}

function hostPortClaim(hostPort: HostPort, around: Surroundings): PortClaim | undefined {
  const { hostAddress, hostPort: port, protocol, podAddress } = hostPort;
  if (hostPort.node !== around.nodeName) return undefined;
  const family = familyOf(podAddress);
  const everywhere = hostAddress === "" || hostAddress === "0.0.0.0" || hostAddress === "::";
  if (hostAddress !== "" && familyOf(hostAddress) !== family) return undefined;
  if (!everywhere && frontendRefusal("host-port", hostAddress, { protocol, port }, around) !== undefined)
    return undefined;
  return { kind: "host-port", address: everywhere ? everyAddress(family) : hostAddress, port, protocol };
}

/** Compiles the host ports of one pod. Those of other nodes' pods ask for nothing here. */
export function compileHostPorts(
  owner: OwnerKey,
  hostPorts: readonly HostPort[],
  claims: AddressClaims,
  around: Surroundings,
): Compiled {
  const notices: Notice[] = [];
  const ports: PortSpec[] = [];
  const taken = new Set<string>();
  for (const hostPort of hostPorts) {
    if (hostPort.node !== around.nodeName) continue;
    const { protocol, podAddress } = hostPort;
    const tell = noticesOf(`Pod ${hostPort.pod}`, notices);
    const what = `${protocol} host port ${hostPort.hostPort}`;
    const claim = hostPortClaim(hostPort, around);
    if (claim === undefined) {
      const refused = `it is no address of this node that can serve ${podAddress}`;
      if (hostPort.hostAddress !== "" && familyOf(hostPort.hostAddress) === familyOf(podAddress)) {
        tell("frontend-refused", "hostIP", `could not serve ${what} at ${hostPort.hostAddress}: ${refused}`);
      }
      continue;
    }
    const family = familyOf(podAddress);
    const endpoint: FrontendPort = { protocol, port: hostPort.podPort };
    const refusal = endpointRefusal(podAddress, endpoint, family, around);
    if (refusal !== undefined) {
      tell("endpoint-refused", "status.podIP", `could not use endpoint ${podAddress}: ${refusal}`);
      continue;
    }
    const winner = claims.portWinner(owner, claim);
    if (winner !== undefined && winner.owner !== owner) {
      tell("port-in-use", "hostPort", `could not serve ${what}: ${ownerText(winner.owner)} has it`);
      continue;
    }
    const key = { address: claim.address, port: claim.port, protocol };
    const text = frontendText(key);
    if (taken.has(text)) continue;
    taken.add(text);
    ports.push({
      key: text,
      portName: "",
      protocol,
      family,
      port: hostPort.hostPort,
      nodePort: 0,
      frontends: [{ key, text, kind: "host-port" }],
      candidates: [
        { address: podAddress, port: hostPort.podPort, local: true, ready: true, node: hostPort.node, preferred: true },
      ],
      external: "Cluster",
      internal: "Cluster",
      tableSize: 0,
      affinitySeconds: 0,
      sourceRanges: undefined,
    });
  }
  return { ports, notices, localEndpoints: NO_LOCAL_ENDPOINTS };
}

type Tell = (reason: string, field: string, message: string, severity?: Notice["severity"]) => void;

function noticesOf(object: string, notices: Notice[]): Tell {
  return (reason, field, message, severity = "warning") =>
    notices.push({ object, file: "", field, reason, message, severity });
}

/** How the Service's flows are balanced: `tableSize` as PortSpec has it; `problem`: what is wrong with its wish, else "". */
export function balancingOf(
  { loadBalancing }: Service,
  { byDefault, tableSize }: Balancing,
): { readonly tableSize: number; readonly problem: string } {
  const isKnown = loadBalancing === undefined || loadBalancing === "hash" || loadBalancing === "maglev";
  const problem = isKnown ? "" : `must be "hash" or "maglev", not ${JSON.stringify(loadBalancing)}: it is ${byDefault}`;
  return { tableSize: (isKnown && loadBalancing ? loadBalancing : byDefault) === "maglev" ? tableSize : 0, problem };
}

function tellWeights(slices: readonly EndpointSlice[], notices: Notice[]): void {
  for (const { namespace, name, weights } of slices) {
    const problem = weights === undefined ? undefined : parseWeights(weights);
    if (typeof problem !== "string") continue;
    const tell = noticesOf(`EndpointSlice ${namespace}/${name}`, notices);
    tell(
      "annotation-invalid",
      `metadata.annotations[${WEIGHTS_ANNOTATION}]`,
      `${problem}: all its endpoints have weight 1`,
    );
  }
}

const REFUSED_SHOWN = 10;

function tellRefused(refused: ReadonlyMap<Address, string>, tell: Tell): void {
  let shown = 0;
  for (const [address, reason] of refused) {
    if (shown++ === REFUSED_SHOWN) break;
    tell("endpoint-refused", "endpoints", `could not use endpoint ${address}: ${reason}`);
  }
  if (refused.size > REFUSED_SHOWN) {
    tell("endpoint-refused", "endpoints", `could not use ${refused.size - REFUSED_SHOWN} more endpoints`);
  }
}

function ownerText(owner: OwnerKey): string {
  const { kind, key } = ownerOf(owner);
  return kind === "host-port" ? `the pod ${key}` : `Service ${key}`;
}
