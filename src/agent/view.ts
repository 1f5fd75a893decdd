// What the agent can tell about itself: the answers of the API, the CLI and the metrics, all made from the same records.
// Plain JSON: no bigint, no typed array; counters are numbers; times are milliseconds since the epoch or durations in ms.
import type { Health } from "../decide/health.ts";
import type { Family, Prefix } from "../lib/address.ts";
import type { Notice, ObjectKey } from "../model/objects.ts";
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
  /** What this node knows of LoadBalancer addresses on the LAN. */
  readonly announcer: AnnouncerStatus;
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

export interface AnnouncerStatus {
  /** Those that this node may announce. */
  readonly addresses: readonly {
    readonly address: string;
    readonly device: string;
    readonly service: string;
    /** standby, checking, waiting, in-use, holding or released: docs/api.md tells of each. */
    readonly state: string;
    /** The node that has it as far as is known, "" when none is. */
    readonly holder: string;
  }[];
  /** Nodes that may announce the same addresses. */
  readonly peers: readonly {
    readonly node: string;
    /** unheard, alive, doubtful, suspect or gone: as there. */
    readonly state: string;
    /** Questions in a row that it did not answer. */
    readonly missed: number;
    /** Since its agent renewed what it announces, as of its last answer; -1 when that is not known. */
    readonly ageMs: number;
  }[];
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
    readonly targetPort: number | string;
    readonly serviceId: number;
    /** In the kernel's maps. */
    readonly backends: number;
    /** Of the Service's slices: ready ones, and all there are. */
    readonly ready: number;
    readonly all: number;
    /** Why clients are not served, all or some of them; "" when they are. */
    readonly why: string;
  }[];
  readonly labels: Readonly<Record<string, string>>;
  /** Empty: somebody else makes its endpoints. */
  readonly selector: Readonly<Record<string, string>>;
  readonly externalTrafficPolicy: string;
  readonly internalTrafficPolicy: string;
  /** Seconds that a client keeps its endpoint after its last new connection, 0 when it keeps none. */
  readonly affinitySeconds: number;
  /** As in the manifest; empty when its LoadBalancer addresses are for everybody. */
  readonly sourceRanges: readonly string[];
  /** What is wrong with its ports and addresses, "" when nothing is. */
  readonly why: string;
  readonly ageMs: number;
  /** Node that announces its LoadBalancer address as far as this node knows, "" when none. */
  readonly announcer: string;
  /**
   * Why no node announces it, such as "not-advertised" or "no-local-endpoint"; "not-from-pool" and "another-class": others may; "" when
   * one does or it has no address.
   */
  readonly unannounced: string;
  /** The IPAddressPools that its addresses are from, "namespace/name" each. */
  readonly pools: readonly string[];
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
  /** Place in the kernel's map; -1: it is not there. */
  readonly index: number;
  readonly generation: number;
  /** "" in a row that says why there is no backend. */
  readonly address: string;
  readonly backendPort: number;
  readonly node: string;
  readonly local: boolean;
  /** "terminating": it serves still, in want of a ready one. "gone", "not-ready", "unused": no backend, and `why`. */
  readonly state: "ready" | "serving" | "terminating" | "not-ready" | "gone" | "unused" | "none";
  readonly why: string;
}

export interface FlowView {
  /** "socket": a socket was pointed at the backend, and its packets are nobody's business here. */
  readonly path: "packet" | "socket";
  readonly protocol: string;
  /** ADDRESS:PORT, or "socket " and its cookie. */
  readonly client: string;
  readonly frontend: string;
  readonly backend: string;
  /** Source address and port that the backend sees, "" when the client's own is kept. */
  readonly sourceTranslation: string;
  readonly service: string;
  readonly state: string;
  /** Absent of a socket, which is not watched. */
  readonly idleMs?: number;
  readonly table: "openings" | "tcp_flows" | "udp_flows" | "socket_peers";
}

/** What was refused or dropped at a hook: for a Service port, or with "" for `service` for none of them. */
export interface DropView {
  readonly service: string;
  /** Name or number, "" without a Service. */
  readonly port: string;
  readonly protocol: string;
  readonly hook: string;
  readonly verdict: string;
  readonly packets: number;
  readonly meaning: string;
}

export interface VerdictCount {
  readonly hook: string;
  readonly verdict: string;
  readonly packets: number;
}

export interface NoticeCount {
  readonly reason: string;
  readonly severity: Notice["severity"];
  readonly count: number;
}

/** Of notices, and of counts of others. */
export function countNotices(
  notices: readonly (Pick<Notice, "reason" | "severity"> & { readonly count?: number })[],
): NoticeCount[] {
  const counts = new Map<string, NoticeCount>();
  for (const { reason, severity, count = 1 } of notices) {
    const key = `${reason} ${severity}`;
    counts.set(key, { reason, severity, count: (counts.get(key)?.count ?? 0) + count });
  }
  return [...counts.values()];
}

/** Counters for /metrics. No client address, no unbounded label. */
export interface AgentCounters {
  readonly verdicts: readonly VerdictCount[];
  readonly notices: readonly NoticeCount[];
  /** LoadBalancer Services without an address. */
  readonly pendingLoadBalancers: number;
  readonly applies: {
    readonly total: number;
    readonly failed: number;
    readonly operations: number;
    readonly lastDurationSeconds: number;
  };
  readonly syncs: SyncStats;
  /** Undefined when the objects come from elsewhere. */
  readonly api: ApiStats | undefined;
  readonly maps: AgentStatus["capacity"];
  /** LoadBalancer addresses that this node answers for. */
  readonly announced: AgentStatus["announced"];
  /** Those that it ought to answer for: of each address one node of the cluster. */
  readonly elected: readonly { readonly address: string; readonly service: string }[];
  /** How many no node may answer for, by each reason that there is. */
  readonly unannounced: readonly { readonly reason: string; readonly addresses: number }[];
  readonly announcer: {
    readonly claims: number;
    readonly takeovers: number;
    readonly takeoverMs: number;
    readonly handBacks: number;
    readonly yields: number;
    readonly conflicts: number;
    /** By state. */
    readonly peers: readonly { readonly state: string; readonly nodes: number }[];
  };
  readonly flows: readonly { readonly table: string; readonly entries: number }[];
  /** Of the source ports that connections from outside may get, the part in use toward the backend where most are: 0 to 1. */
  readonly sourcePortsUsed: number;
  /** Entries that sweeps took out since the start. */
  readonly flowsTaken: readonly {
    readonly table: string;
    readonly reason: "over" | "given-up";
    readonly entries: number;
  }[];
}

/** Counters of a Service port in one address family. */
export interface ServiceCounters {
  readonly namespace: string;
  readonly name: string;
  /** Its name, else its number. */
  readonly port: string;
  readonly protocol: string;
  readonly family: Family;
  readonly connections: number;
  readonly packets: number;
  readonly bytes: number;
  /** Given to the kernel. */
  readonly backends: number;
  /** A policy Local, for clients of this node's and of others, drops them: its endpoints are elsewhere. */
  readonly withoutLocal: { readonly internal: boolean; readonly external: boolean };
  /** Refusals and drops by verdict, from the first one on. */
  readonly refusals: Readonly<Record<string, number>>;
}

export interface FlowFilter {
  readonly services?: readonly ObjectKey[];
  readonly namespace?: string;
  /** Client, frontend or backend address. */
  readonly address?: Prefix;
  readonly client?: Prefix;
  readonly backend?: Prefix;
  /** Of client, frontend or backend. */
  readonly port?: number;
  readonly state?: string;
  readonly protocol?: string;
  readonly path?: FlowView["path"];
  /** "namespace/name" of a pod that is an endpoint. */
  readonly pod?: ObjectKey;
  /** Name of the Node that the backend is on. */
  readonly backendNode?: string;
  /** 0: all. */
  readonly limit: number;
}

/** What http/ serves. Every method answers from memory or maps; what may be long comes piece by piece. */
export interface AgentView {
  status(): AgentStatus;
  /** From memory: it may be asked by anybody, as often as they like. */
  health(): HealthView;
  /** Those of `status`. */
  notices(): readonly Notice[];
  /** Each is computed when it is taken, so that a reader may pause between two. In order of namespace and name. */
  services(isWanted?: (service: ObjectKey) => boolean): Iterable<ServiceView>;
  /** Names of all Services, to tell whether there is one. */
  serviceNames(): Iterable<ObjectKey>;
  /** undefined: there is no such Service. */
  labelsOf(service: ObjectKey): Readonly<Record<string, string>> | undefined;
  /**
   * Likewise, by Service, port and address; those of host ports last, under their pod. `all`: also endpoints that are no backends, and a
   * row for each port that has none.
   */
  backends(isWanted?: (service: ObjectKey) => boolean, all?: boolean): Iterable<BackendView>;
  /** Likewise, the newest first; undefined: none yet, but a reader may pause. Returns how many there are, beyond the limit too. */
  flows(filter: FlowFilter): Iterable<FlowView | undefined, number | undefined>;
  /** Likewise, by Service, hook and verdict; nothing that never happened. */
  drops(): Iterable<DropView>;
  counters(): AgentCounters;
  /**
   * Of all Service ports. Each step reads one row of a map, and other work may be done between two: what changes meanwhile is
   * there or not, and nothing is counted twice.
   */
  serviceCounters(): Iterable<ServiceCounters>;
}
