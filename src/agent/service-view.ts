// Services and their backends as people are shown them: what the objects say, what the kernel was given, and why that is less.
import type { Address } from "../lib/address.ts";
import type { Model } from "../model/model-interface.ts";
import { type ObjectKey, PENDING_REASONS, type Service } from "../model/objects.ts";
import type { ServicePortView } from "../model/service-port-view.ts";
import type { Source } from "../model/source.ts";
import { type PortEndpoint, portEndpoints } from "./endpoint-view.ts";
import type { ServiceTotals } from "./service-counters.ts";
import type { AgentView, BackendView, ServiceView } from "./view.ts";

export interface ServiceViewParts {
  readonly nodeName: string;
  readonly model: Model;
  readonly source: Pick<Source, "notices">;
  readonly totalsOf: (serviceId: number) => ServiceTotals;
  /** The node that announces its LoadBalancer address, or why none does; both "" when it has none from a pool. */
  readonly announcerOf: (service: ObjectKey) => { readonly node: string; readonly reason: string };
  /** Ours are the Services of this class. */
  readonly loadBalancerClass: string;
  /** What this node's devices have now. */
  readonly ownAddresses: () => Iterable<Address>;
}

export interface ServiceViews extends Pick<AgentView, "services" | "backends"> {
  pendingLoadBalancers(): number;
}

export function createServiceViews({
  nodeName,
  model,
  source,
  totalsOf,
  announcerOf,
  loadBalancerClass,
  ownAddresses,
}: ServiceViewParts): ServiceViews {
  /** Both families of a port are one. */
  function portsOf(key: ObjectKey): {
    readonly totals: ServiceTotals;
    readonly ids: ReadonlyMap<string, { serviceId: number; backends: number }>;
  } {
    const totals = { connections: 0, packets: 0, bytes: 0 };
    const ids = new Map<string, { serviceId: number; backends: number }>();
    for (const view of model.servicePortsOf(key)) {
      const counted = totalsOf(view.serviceId);
      totals.connections += counted.connections;
      totals.packets += counted.packets;
      totals.bytes += counted.bytes;
      const name = `${view.portName}/${view.protocol}/${view.port}`;
      const before = ids.get(name);
      ids.set(name, {
        serviceId: before?.serviceId ?? view.serviceId,
        backends: (before?.backends ?? 0) + view.backendCount,
      });
    }
    return { totals, ids };
  }

  /** Tells the endpoints of this node, as of now. */
  function localTest(): (endpoint: Pick<PortEndpoint, "address" | "node">) => boolean {
    const own = new Set(ownAddresses());
    return ({ address, node }) => node === nodeName || own.has(address);
  }

  const sortedKeys = (): ObjectKey[] => [...model.services().keys()].sort();

  function pendingReasons(): ReadonlyMap<string, string> {
    const pending = new Map<string, string>();
    for (const notice of source.notices()) {
      if (notice.field.startsWith("status.loadBalancer") || LB_REASONS.has(notice.reason))
        pending.set(notice.object, notice.reason);
    }
    return pending;
  }

  const isPending = ({ type, grants }: Service): boolean => type === "LoadBalancer" && grants.addresses.length === 0;

  /** Why its address is not ours to announce. */
  function whyOthers({ type, grants, loadBalancerClass: its }: Service): string {
    if (type !== "LoadBalancer" || grants.addresses.length === 0) return "";
    return its === loadBalancerClass ? "not-from-pool" : "another-class";
  }

  function* services(isWanted = (_: ObjectKey): boolean => true): Iterable<ServiceView> {
    const reasons = pendingReasons();
    const isLocal = localTest();
    for (const key of sortedKeys().filter(isWanted)) {
      const service = model.services().get(key);
      // It went while the ones before it were read.
      if (service === undefined) continue;
      const { totals, ids } = portsOf(key);
      const slices = model.slicesOf(key);
      const ports = service.ports.map((port) => {
        const found = ids.get(`${port.name}/${port.protocol}/${port.port}`);
        const backends = found?.backends ?? 0;
        const { endpoints, ready, why } = portEndpoints(service, port, slices, backends, isLocal);
        return { ...port, serviceId: found?.serviceId ?? 0, backends, ready, all: endpoints.length, why };
      });
      const elected = announcerOf(key);
      const { age, addresses } = service.grants;
      const external = new Set([...addresses.map(({ address }) => address), ...service.externalIPs]);
      const pending = isPending(service) ? (reasons.get(`Service ${key}`) ?? "pending") : "";
      yield {
        namespace: service.namespace,
        name: service.name,
        type: service.type,
        clusterIPs: service.headless ? ["None"] : service.clusterIPs,
        externalIPs: service.type === "ExternalName" ? [service.externalName] : [...external],
        pending,
        ports,
        labels: service.labels,
        selector: service.selector ?? {},
        externalTrafficPolicy: service.externalTrafficPolicy,
        internalTrafficPolicy: service.internalTrafficPolicy,
        affinitySeconds: service.affinitySeconds,
        sourceRanges: service.sourceRanges,
        why: whyOf(ports, pending, elected.reason),
        ageMs: age > 1e11 ? Math.max(0, Date.now() - age) : 0,
        announcer: elected.node,
        unannounced: elected.reason === "" && elected.node === "" ? whyOthers(service) : elected.reason,
        pools: [...new Set(addresses.flatMap(({ pool = [] }) => pool))],
        ...totals,
      };
    }
  }

  function* backends(isWanted = (_: ObjectKey): boolean => true, all = false): Iterable<BackendView> {
    const isLocal = localTest();
    for (const key of sortedKeys().filter(isWanted)) {
      const service = model.services().get(key);
      const views = [...model.servicePortsOf(key)];
      for (const port of service?.ports ?? []) {
        const of = views.filter(
          (view) => view.portName === port.name && view.protocol === port.protocol && view.port === port.port,
        );
        const rows = of.flatMap(backendRows).sort(byPlace);
        yield* rows;
        if (!all || service === undefined) continue;
        const { endpoints, why } = portEndpoints(service, port, model.slicesOf(key), rows.length, isLocal);
        const inUse = new Set(rows.map(({ address, backendPort }) => `${address} ${backendPort}`));
        const blank = {
          service: key,
          port: port.name === "" ? String(port.port) : port.name,
          protocol: port.protocol,
          serviceId: of[0]?.serviceId ?? 0,
          index: -1,
          generation: 0,
        };
        for (const endpoint of endpoints) {
          if (inUse.has(`${endpoint.address} ${endpoint.port}`)) continue;
          const { address, port: backendPort, node, condition } = endpoint;
          const [state, reason] = condition === "ready" && endpoint.hinted ? HINTED : UNUSED[condition];
          yield { ...blank, address, backendPort, node, local: isLocal(endpoint), state, why: reason };
        }
        if (rows.length === 0 && endpoints.length === 0 && why !== "")
          yield { ...blank, address: "", backendPort: 0, node: "", local: false, state: "none", why };
      }
    }
    for (const view of model.servicePorts())
      if (view.kind === "host-port" && isWanted(view.service)) yield* backendRows(view);
  }

  return {
    services,
    backends,
    pendingLoadBalancers: () => [...model.services().values()].filter(isPending).length,
  };
}

const UNUSED: Readonly<Record<PortEndpoint["condition"], readonly [BackendView["state"], string]>> = {
  ready: ["unused", "ready, but it may be no backend: millrace status says why"],
  drained: ["unused", "drained: its weight is 0, and flows that it has go on"],
  terminating: ["unused", "terminating, and there are ready ones"],
  gone: ["gone", "terminating, and it serves no more"],
  "not-ready": ["not-ready", "its pod is not ready"],
};
const HINTED = ["unused", "ready, and meant for other zones or nodes"] as const;

function backendRows(view: ServicePortView): BackendView[] {
  return view.backends.map((backend) => ({
    service: view.service,
    port: view.portName === "" ? String(view.port) : view.portName,
    protocol: view.protocol,
    serviceId: view.serviceId,
    index: backend.index,
    generation: backend.generation,
    address: backend.address,
    backendPort: backend.port,
    node: backend.node,
    local: backend.local,
    state: backend.state,
    why: backend.state === "terminating" ? "terminating, and there is no ready one" : "",
  }));
}

function byPlace(a: BackendView, b: BackendView): number {
  return a.address < b.address ? -1 : a.address > b.address ? 1 : a.backendPort - b.backendPort;
}

/** Once what all ports have in common, else by port. */
function whyOf(ports: ServiceView["ports"], pending: string, unannounced: string): string {
  const whys = new Set(ports.map(({ why }) => why));
  const words =
    whys.size === 1
      ? [...whys]
      : ports.filter(({ why }) => why !== "").map(({ name, port, why }) => `${name === "" ? port : name}: ${why}`);
  if (pending !== "") words.push(`no LoadBalancer address: ${pending}`);
  if (unannounced !== "") words.push(`no node announces its address: ${unannounced}`);
  return words.filter(Boolean).join("; ");
}

/** What the allocator says of a LoadBalancer Service that it left without an address. */
const LB_REASONS: ReadonlySet<string> = new Set(PENDING_REASONS);
