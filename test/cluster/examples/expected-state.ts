// What an agent must say of the API's objects, and what it does say, as sorted lines that can be compared. Written from
// Kubernetes' documents alone: it shares nothing with the code that it judges.
import type { BackendView, ServiceView } from "../../../src/agent/view.ts";
import { familyOf } from "../../../src/lib/address.ts";
import type { EndpointSliceObject, ServiceObject } from "../../../src/wire/kubernetes.ts";

const PROXY_LABEL = "service.kubernetes.io/service-proxy-name";
const SERVICE_LABEL = "kubernetes.io/service-name";

/** Lines of Services and of the backends of their ports, of every namespace. */
export function expectedLines(
  services: readonly ServiceObject[],
  slices: readonly EndpointSliceObject[],
): readonly string[] {
  return services
    .filter(isServed)
    .flatMap((service) => serviceLines(service, slices))
    .sort();
}

/** The same lines as an agent tells them. */
export function saidLines(services: readonly ServiceView[], backends: readonly BackendView[]): readonly string[] {
  const own = services.map(({ namespace, name, type, clusterIPs, ports }) => {
    const shown = ports.map((port) => `${port.name}/${port.protocol}/${port.port}/${port.nodePort}`);
    return `${namespace}/${name} ${type} ${clusterIPs.join()} ${shown.join()}`;
  });
  // Others are on their way out, and serve only while there is no better one.
  const ready = backends.filter(({ state }) => state === "ready");
  const served = ready.map((backend) =>
    backendLine(backend.service, backend.port, backend.protocol, backend.address, backend.backendPort),
  );
  return [...own, ...served].sort();
}

/** Lines of one side only, each with the name of its side. */
export function differences(expected: readonly string[], said: readonly string[]): string[] {
  return [
    ...expected.filter((line) => !said.includes(line)).map((line) => `missing: ${line}`),
    ...said.filter((line) => !expected.includes(line)).map((line) => `not in the API: ${line}`),
  ];
}

/** Headless Services and those of other proxies are nobody's business here. */
function isServed({ spec, metadata }: ServiceObject): boolean {
  return spec.clusterIP !== "None" && metadata.labels?.[PROXY_LABEL] === undefined;
}

function serviceLines(service: ServiceObject, slices: readonly EndpointSliceObject[]): string[] {
  const { metadata, spec } = service;
  const key = `${metadata.namespace}/${metadata.name}`;
  const ports = spec.ports ?? [];
  const shown = ports.map((port) => `${port.name ?? ""}/${port.protocol}/${port.port}/${port.nodePort ?? 0}`);
  const own = slices.filter(
    (slice) =>
      slice.metadata.namespace === metadata.namespace && slice.metadata.labels?.[SERVICE_LABEL] === metadata.name,
  );
  // A name has none.
  const addresses = spec.clusterIPs ?? [];
  const families = new Set<string>(addresses.map((address) => familyOf(address)));
  const backends = ports.flatMap(({ name = "", port, protocol }) =>
    own
      .filter(({ addressType }) => families.has(addressType))
      .flatMap((slice) => readyAt(slice, name, protocol!))
      .map(([address, number]) => backendLine(key, name === "" ? String(port) : name, protocol!, address, number)),
  );
  return [`${key} ${spec.type} ${addresses.join()} ${shown.join()}`, ...new Set(backends)];
}

function readyAt(slice: EndpointSliceObject, name: string, protocol: string): [string, number][] {
  const matching = (slice.ports ?? []).filter((port) => (port.name ?? "") === name && port.protocol === protocol);
  const ready = (slice.endpoints ?? []).filter(({ conditions }) => conditions?.ready !== false);
  return matching.flatMap(({ port }) => ready.map(({ addresses }): [string, number] => [addresses[0]!, port!]));
}

function backendLine(service: string, port: string, protocol: string, address: string, number: number): string {
  return `${service}:${port} ${protocol} -> ${address} port ${number}`;
}
