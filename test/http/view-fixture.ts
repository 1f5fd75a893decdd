// An agent's view for tests of what shows it: everything is there, with values that are easy to find again.
import type {
  AgentCounters,
  AgentStatus,
  AgentView,
  BackendView,
  FlowView,
  ServiceView,
} from "../../src/agent/view.ts";

export function agentStatus(over: Partial<AgentStatus> = {}): AgentStatus {
  return {
    version: "1.2.3",
    node: "node1",
    startedMs: 1_700_000_000_000,
    layout: "abc123",
    healthy: true,
    unhealthy: [],
    source: { kind: "manifests", synced: true, lastEventMs: 1_700_000_050_000, digest: "d1" },
    appliedDigest: "d1",
    lastApply: { atMs: 1_700_000_060_000, durationMs: 1.25, operations: 7, error: "" },
    sockets: "all",
    xdp: "off",
    attach: "tcx",
    devices: [{ name: "eth0", ifindex: 2, role: "uplink", programs: ["tc_ingress", "tc_egress"] }],
    announced: [{ address: "192.168.122.111", device: "eth0", service: "default/web" }],
    capacity: [{ map: "frontends", entries: 100, used: 3, bytes: 20_480 }],
    degraded: [],
    notices: [],
    ...over,
  };
}

export function serviceView(over: Partial<ServiceView> = {}): ServiceView {
  return {
    namespace: "default",
    name: "web",
    type: "ClusterIP",
    clusterIPs: ["10.96.0.7"],
    externalIPs: [],
    pending: "",
    ports: [{ name: "http", protocol: "TCP", port: 80, nodePort: 0, serviceId: 1, backends: 2 }],
    ageMs: 90_000,
    announcer: "",
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
    ...over,
  };
}

export function flowView(over: Partial<FlowView> = {}): FlowView {
  return {
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

export function agentCounters(over: Partial<AgentCounters> = {}): AgentCounters {
  return {
    verdicts: [{ hook: "tc_ingress", verdict: "drop_no_backend", packets: 11 }],
    services: [
      { namespace: "default", name: "web", port: "http", protocol: "TCP", connections: 5, packets: 50, bytes: 500 },
    ],
    notices: [{ reason: "no-pool", count: 1 }],
    applies: { total: 9, failed: 1, operations: 70, lastDurationSeconds: 0.00125 },
    maps: [{ map: "frontends", entries: 100, used: 3, bytes: 20_480 }],
    announcedAddresses: 1,
    flows: [{ table: "tcp_flows", entries: 2 }],
    ...over,
  };
}

export function agentView(over: Partial<AgentView> = {}): AgentView {
  return {
    status: () => agentStatus(),
    services: () => [serviceView()],
    backends: () => [backendView()],
    flows: () => [flowView()],
    counters: () => agentCounters(),
    ...over,
  };
}

export const silentLog = { debug() {}, info() {}, warn() {}, error() {} };
