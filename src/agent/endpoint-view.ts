// The endpoints behind a Service's ports as its slices have them, beside what the kernel was given of them: how many are ready,
// which are not and why, and why a port has none. Pure.
import type { Address } from "../lib/address.ts";
import { weightsOf } from "../model/endpoints.ts";
import type { Endpoint, EndpointSlice, Service, ServicePort } from "../model/objects.ts";

/** An endpoint of a port under its first address, once, however many slices have it. */
export interface PortEndpoint {
  readonly address: Address;
  readonly port: number;
  readonly node: string;
  /** "drained": it is ready, and its weight is 0. */
  readonly condition: "ready" | "drained" | "terminating" | "gone" | "not-ready";
  /** It is meant for some zones or nodes. */
  readonly hinted: boolean;
}

export interface PortEndpoints {
  /** In order of address and port. */
  readonly endpoints: readonly PortEndpoint[];
  readonly ready: number;
  /** Why clients are refused or dropped, all of them or those that a policy keeps to this node; "" when none are. */
  readonly why: string;
}

/** "terminating": it serves still; "gone": it does not. */
function conditionOf({ ready, serving, terminating }: Endpoint): PortEndpoint["condition"] {
  if (ready) return "ready";
  if (terminating) return serving ? "terminating" : "gone";
  return "not-ready";
}

const RANKS: Readonly<Record<PortEndpoint["condition"], number>> = {
  ready: 0,
  drained: 1,
  terminating: 2,
  "not-ready": 3,
  gone: 4,
};

/** `backends`: how many the kernel was given for the port. `isLocal`: is the endpoint on this node? */
export function portEndpoints(
  service: Service,
  port: ServicePort,
  slices: readonly EndpointSlice[],
  backends: number,
  isLocal: (endpoint: Pick<PortEndpoint, "address" | "node">) => boolean,
): PortEndpoints {
  const found = new Map<string, PortEndpoint>();
  let anyPort = 0;
  for (const slice of slices) {
    anyPort += slice.endpoints.length;
    const weights = weightsOf(slice);
    for (const { name, protocol, port: number } of slice.ports) {
      if (name !== port.name || protocol !== port.protocol) continue;
      for (const endpoint of slice.endpoints) {
        const address = endpoint.addresses[0];
        if (address === undefined) continue;
        const stands = conditionOf(endpoint);
        const condition = stands === "ready" && weights?.get(address) === 0 ? "drained" : stands;
        const key = `${address} ${number}`;
        const known = found.get(key);
        if (known !== undefined && RANKS[known.condition] <= RANKS[condition]) continue;
        const { nodeName: node, hints } = endpoint;
        found.set(key, { address, port: number, node, condition, hinted: hints !== undefined });
      }
    }
  }
  const endpoints = [...found.values()].sort((a, b) =>
    a.address < b.address ? -1 : a.address > b.address ? 1 : a.port - b.port,
  );
  const ready = endpoints.filter(({ condition }) => condition === "ready");
  const drained = endpoints.filter(({ condition }) => condition === "drained").length;
  const counts = { drained, anyPort, all: endpoints.length, ready: ready.length, backends };
  const why = whyNone(service, port, counts) || whyNotHere(service, port, ready.some(isLocal));
  return { endpoints, ready: ready.length, why };
}

interface Counts {
  readonly drained: number;
  /** Endpoints of whatever port. */
  readonly anyPort: number;
  readonly all: number;
  readonly ready: number;
  readonly backends: number;
}

function whyNone(service: Service, port: ServicePort, { drained, anyPort, all, ready, backends }: Counts): string {
  if (service.type === "ExternalName" || service.headless) return "";
  if (service.isForeign) return "it is left to another proxy";
  if (backends > 0) return "";
  if (anyPort === 0) {
    const { selector } = service;
    return selector === undefined
      ? "it has no selector, and no EndpointSlice with endpoints"
      : `no pods match selector ${selectorText(selector)}`;
  }
  if (all === 0) {
    return typeof port.targetPort === "string"
      ? `no pod has a port named ${port.targetPort}`
      : `no endpoint serves ${port.name === "" ? `port ${port.port}` : `the port ${port.name}`}`;
  }
  if (ready === 0 && drained > 0) return `${drained} ready endpoint${drained === 1 ? "" : "s"} drained (weight 0)`;
  const pods = service.selector === undefined ? "endpoint" : "pod";
  if (ready === 0) return `${all} ${pods}${all === 1 ? "" : "s"} not ready`;
  return `none of ${ready} ready ${pods}s may be a backend: millrace status says why`;
}

/** Of a port that has backends: a policy keeps some clients to those of this node, and there is none. */
function whyNotHere(service: Service, port: ServicePort, hasLocal: boolean): string {
  if (hasLocal || service.isForeign || service.headless) return "";
  const isExternal = port.nodePort > 0 || service.type === "LoadBalancer" || service.externalIPs.length > 0;
  const policies = [
    ...(service.externalTrafficPolicy === "Local" && isExternal ? ["externalTrafficPolicy"] : []),
    ...(service.internalTrafficPolicy === "Local" ? ["internalTrafficPolicy"] : []),
  ];
  return policies.length === 0 ? "" : `${policies.join(" and ")} Local, and no ready endpoint on this node`;
}

/** app=web,tier=front */
export function selectorText(selector: Readonly<Record<string, string>>): string {
  return Object.entries(selector)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}
