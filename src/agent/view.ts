// What the agent can tell about itself: the answers of the API, the CLI and the metrics, all made from the same records.
// Plain JSON: no bigint, no typed array; counters are numbers; times are milliseconds since the epoch or durations in ms.
import type { Health } from "../decide/health.ts";
import type { Notice } from "../model/objects.ts";
import type { ApiStats } from "../model/source.ts";
import type { EffectStatus } from "./effect.ts";
import type { SyncStats } from "./sync-stats.ts";

export interface AgentStatus {
  readonly version: string;
  readonly node: string;
  readonly startedMs: number;
  /** Fingerprint of the struct layouts under which the maps are pinned. */
  readonly layout: string;
  /** All translation is turned off in the kernel. */
  readonly bypass: boolean;
  readonly healthy: boolean;
  /** Why not, when not. */
  readonly unhealthy: readonly string[];
  readonly source: {
    readonly kind: string;
    readonly synced: boolean;
    readonly lastEventMs: number;
    readonly digest: string;
    /** Absent when the objects come from elsewhere than the Kubernetes API. */
    readonly api?: ApiStats;
  };
  /** Digest of the source state that is in force in the kernel (equals source.digest when nothing is pending). */
  readonly appliedDigest: string;
  /** What is brought about outside, each with its own result. */
  readonly effects: readonly EffectStatus[];
  readonly lastApply: {
    readonly atMs: number;
    readonly durationMs: number;
    readonly operations: number;
    readonly error: string;
  };
  readonly sockets: "all" | "host-only" | "off";
  readonly xdp: "on" | "off";
  readonly attach: "tcx" | "clsact";
  readonly devices: readonly {
    readonly name: string;
    readonly ifindex: number;
    readonly role: "uplink" | "pod";
    readonly programs: readonly string[];
  }[];
  readonly announced: readonly { readonly address: string; readonly device: string; readonly service: string }[];
  readonly capacity: readonly {
    readonly map: string;
    readonly entries: number;
    readonly used: number;
    readonly bytes: number;
  }[];
  /** Features of this kernel that are missing and what is done instead. */
  readonly degraded: readonly { readonly feature: string; readonly needs: string; readonly instead: string }[];
  readonly notices: readonly Notice[];
}

/** For probes and load balancers. */
export interface HealthView extends Omit<Health, "details"> {
  /** Milliseconds since the epoch of the last attempt to bring something in force, 0 before the first. */
  readonly lastApplyMs: number;
}

export interface ServiceView {
  readonly namespace: string;
  readonly name: string;
  readonly type: string;
  readonly clusterIPs: readonly string[];
  readonly externalIPs: readonly string[];
  /** Why it has no LoadBalancer address, such as "no-pool"; "" when it has one or needs none. */
  readonly pending: string;
  readonly ports: readonly {
    readonly name: string;
    readonly protocol: string;
    readonly port: number;
    readonly nodePort: number;
    readonly serviceId: number;
    readonly backends: number;
  }[];
  readonly ageMs: number;
  /** Node that announces its LoadBalancer address as this node computes it, "" when none. */
  readonly announcer: string;
  /** Totals over its ports. */
  readonly connections: number;
  readonly packets: number;
  readonly bytes: number;
}

export interface BackendView {
  readonly service: string;
  readonly port: string;
  readonly protocol: string;
  readonly serviceId: number;
  readonly index: number;
  readonly generation: number;
  readonly address: string;
  readonly backendPort: number;
  readonly node: string;
  readonly local: boolean;
  readonly state: "ready" | "serving" | "terminating" | "retired";
}

export interface FlowView {
  readonly protocol: string;
  readonly client: string;
  readonly frontend: string;
  readonly backend: string;
  /** Source address and port that the backend sees, "" when the client's own is kept. */
  readonly sourceTranslation: string;
  readonly service: string;
  readonly state: string;
  readonly idleMs: number;
  readonly table: "openings" | "tcp_flows" | "udp_flows";
}

export interface VerdictCount {
  readonly hook: string;
  readonly verdict: string;
  readonly packets: number;
}

/** Counters for /metrics. No client address, no unbounded label. */
export interface AgentCounters {
  readonly verdicts: readonly VerdictCount[];
  readonly notices: readonly { readonly reason: string; readonly count: number }[];
  readonly applies: {
    readonly total: number;
    readonly failed: number;
    readonly operations: number;
    readonly lastDurationSeconds: number;
  };
  readonly syncs: SyncStats;
  /** Undefined when the objects come from elsewhere. */
  readonly api: ApiStats | undefined;
  readonly maps: readonly {
    readonly map: string;
    readonly entries: number;
    readonly used: number;
    readonly bytes: number;
  }[];
  readonly announcedAddresses: number;
  readonly flows: readonly { readonly table: string; readonly entries: number }[];
}

/** Counters of a Service port in one address family. */
export interface ServiceCounters {
  readonly namespace: string;
  readonly name: string;
  /** Its name, else its number. */
  readonly port: string;
  readonly protocol: string;
  readonly connections: number;
  readonly packets: number;
  readonly bytes: number;
}

export interface FlowFilter {
  /** Exact client, frontend or backend address. */
  readonly address?: string;
  readonly service?: string;
  readonly limit: number;
}

/** What http/ serves. Every method answers from memory or maps; what may be long comes piece by piece. */
export interface AgentView {
  status(): AgentStatus;
  /** From memory: it may be asked by anybody, as often as they like. */
  health(): HealthView;
  /** Each is computed when it is taken, so that a reader may pause between two. In order of namespace and name. */
  services(): Iterable<ServiceView>;
  /** Likewise, by service id and slot; of one Service, "namespace/name", alone. */
  backends(service?: string): Iterable<BackendView>;
  /** Likewise, in no order; undefined: none yet, but a reader may pause. */
  flows(filter: FlowFilter): Iterable<FlowView | undefined>;
  counters(): AgentCounters;
  /**
   * Of all Service ports. Each step reads one row of a map, and other work may be done between two: what changes meanwhile is
   * there or not, and nothing is counted twice.
   */
  serviceCounters(): Iterable<ServiceCounters>;
}
