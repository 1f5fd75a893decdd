// An agent's view for tests of what shows it: everything is there, with values that are easy to find again.
import type { SyncStats } from "../../src/agent/sync-stats.ts";
import type {
  AgentCounters,
  AgentStatus,
  AgentView,
  BackendView,
  DropView,
  FlowView,
  HealthView,
  ServiceCounters,
  ServiceView,
} from "../../src/agent/view.ts";
import { Histogram, type HistogramData } from "../../src/lib/histogram.ts";
import type { ApiStats } from "../../src/model/source.ts";

export function agentStatus(over: Partial<AgentStatus> = {}): AgentStatus {
  return {
    version: "1.2.3",
    node: "node1",
    startedMs: 1_700_000_000_000,
    layout: "abc123",
    bypass: false,
    healthy: true,
    unhealthy: [],
    source: { kind: "manifests", synced: true, lastEventMs: 1_700_000_050_000, digest: "d1" },
    appliedDigest: "d1",
    effects: [{ name: "maps", ok: true, error: "", sinceMs: 1_700_000_000_500, nextTryMs: 0 }],
    lastApply: { atMs: 1_700_000_060_000, durationMs: 1.25, operations: 7, error: "" },
    sockets: "all",
    xdp: "off",
    attach: "tcx",
    devices: [{ name: "eth0", ifindex: 2, role: "uplink", programs: ["tc_ingress", "tc_egress"] }],
    announced: [{ address: "192.168.122.111", device: "eth0", service: "default/web" }],
    announcer: {
      addresses: [
        { address: "192.168.122.111", device: "eth0", service: "default/web", state: "holding", holder: "node1" },
      ],
      peers: [{ node: "node2", state: "alive", missed: 0, ageMs: 400 }],
    },
    capacity: [{ map: "frontends", entries: 100, used: 3, bytes: 20_480 }],
    degraded: [],
    notices: [],
    ...over,
  };
}

export function healthView(over: Partial<HealthView> = {}): HealthView {
  return { healthy: true, reasons: [], live: true, nodeEligible: true, lastApplyMs: 1_700_000_060_000, ...over };
}

export function servicePort(over: Partial<ServiceView["ports"][number]> = {}): ServiceView["ports"][number] {
  const counts = { serviceId: 1, backends: 2, ready: 2, all: 2 };
  return { name: "http", protocol: "TCP", port: 80, nodePort: 0, targetPort: 8080, ...counts, why: "", ...over };
}

export function serviceView(over: Partial<ServiceView> = {}): ServiceView {
  return {
    namespace: "default",
    name: "web",
    type: "ClusterIP",
    clusterIPs: ["10.96.0.7"],
    externalIPs: [],
    pending: "",
    ports: [servicePort()],
    labels: { app: "web" },
    selector: { app: "web" },
    externalTrafficPolicy: "Cluster",
    internalTrafficPolicy: "Cluster",
    affinitySeconds: 0,
    sourceRanges: [],
    why: "",
    ageMs: 90_000,
    announcer: "",
    unannounced: "",
    pools: [],
    connections: 5,
    packets: 50,
    bytes: 500,
    ...over,
  };
}

export function backendView(over: Partial<BackendView> = {}): BackendView {
  return {
    service: "default/web",
    port: "http",
    protocol: "TCP",
    serviceId: 1,
    index: 4,
    generation: 2,
    address: "10.244.1.5",
    backendPort: 8080,
    node: "node1",
    local: true,
    state: "ready",
    why: "",
    ...over,
  };
}

export function flowView(over: Partial<FlowView> = {}): FlowView {
  return {
    path: "packet",
    protocol: "TCP",
    client: "192.168.122.51:40000",
    frontend: "10.96.0.7:80",
    backend: "10.244.1.5:8080",
    sourceTranslation: "",
    service: "default/web",
    state: "established",
    idleMs: 1500,
    table: "tcp_flows",
    ...over,
  };
}

export function dropView(over: Partial<DropView> = {}): DropView {
  return {
    service: "default/web",
    port: "http",
    protocol: "TCP",
    hook: "uplink_ingress",
    verdict: "drop_no_local_backend",
    packets: 3,
    meaning: "policy Local",
    ...over,
  };
}

export function serviceCounters(over: Partial<ServiceCounters> = {}): ServiceCounters {
  return {
    namespace: "default",
    name: "web",
    port: "http",
    protocol: "TCP",
    family: "IPv4",
    connections: 5,
    packets: 50,
    bytes: 500,
    backends: 2,
    withoutLocal: { internal: false, external: false },
    refusals: {},
    ...over,
  };
}

/** A histogram of two bounds, 0.25 s and 1 s, with these observations. */
export function histogram(...seconds: number[]): HistogramData {
  const data = new Histogram([0.25, 1]);
  for (const one of seconds) data.observe(one);
  return data;
}

export function syncStats(over: Partial<SyncStats> = {}): SyncStats {
  return {
    full: histogram(0.5),
    partial: histogram(0.125, 0.125),
    all: histogram(0.125, 0.125, 0.5),
    networkProgramming: histogram(2),
    fineProgramming: histogram(2),
    waits: histogram(0.125, 2),
    waitingSinceMs: 0,
    services: { pending: 1, total: 12 },
    endpoints: { pending: 2, total: 34 },
    lastQueuedMs: 1_700_000_061_000,
    lastSyncedMs: 1_700_000_060_000,
    ...over,
  };
}

export function apiStats(over: Partial<ApiStats> = {}): ApiStats {
  const resource = {
    connected: true,
    synced: true,
    absent: false,
    lastEventMs: 1_700_000_050_000,
    lists: 1,
    watches: 4,
  };
  return {
    requests: [
      { code: "200", method: "GET", host: "192.168.122.11:6443", count: 8 },
      { code: "<error>", method: "GET", host: "192.168.122.11:6443", count: 1 },
    ],
    durations: [{ verb: "GET", host: "192.168.122.11:6443", ...histogram(0.125, 0.5) }],
    resources: [
      { resource: "services", ...resource, relists: {}, errors: {}, heldLists: 0 },
      { resource: "endpointslices", ...resource, relists: { gone: 2 }, errors: { throttled: 3 }, heldLists: 1 },
    ],
    server: "192.168.122.11:6443",
    certificateExpiresAt: 1_700_086_400,
    execPluginCalls: { no_error: 6, plugin_execution_error: 1 },
    reloads: 5,
    ...over,
  };
}

export function agentCounters(over: Partial<AgentCounters> = {}): AgentCounters {
  return {
    verdicts: [{ hook: "tc_ingress", verdict: "drop_no_backend", packets: 11 }],
    notices: [{ reason: "no-pool", severity: "warning", count: 1 }],
    pendingLoadBalancers: 1,
    applies: { total: 9, failed: 1, operations: 70, lastDurationSeconds: 0.00125 },
    syncs: syncStats(),
    api: undefined,
    maps: [{ map: "frontends", entries: 100, used: 3, bytes: 20_480 }],
    announced: [{ address: "192.168.122.111", device: "eth0", service: "default/web" }],
    elected: [{ address: "192.168.122.112", service: "default/db" }],
    unannounced: [
      { reason: "not-advertised", addresses: 0 },
      { reason: "no-local-endpoint", addresses: 2 },
    ],
    announcer: {
      ...{ claims: 3, takeovers: 2, takeoverMs: 1_400, handBacks: 1, yields: 4, conflicts: 5 },
      peers: [{ state: "alive", nodes: 1 }],
    },
    flows: [{ table: "tcp_flows", entries: 2 }],
    flowsTaken: [{ table: "tcp_flows", reason: "over", entries: 3 }],
    sourcePortsUsed: 0.25,
    ...over,
  };
}

export function agentView(over: Partial<AgentView> = {}): AgentView {
  return {
    status: () => agentStatus(),
    health: () => healthView(),
    notices: () => [],
    services: () => [serviceView()],
    serviceNames: () => ["default/web"],
    labelsOf: () => ({ app: "web" }),
    drops: () => [dropView()],
    backends: () => [backendView()],
    flows: () => [flowView()],
    counters: () => agentCounters(),
    serviceCounters: () => [serviceCounters()],
    ...over,
  };
}

export const silentLog = { debug() {}, info() {}, warn() {}, error() {} };
