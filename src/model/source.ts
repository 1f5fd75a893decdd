// What a source of objects is to the agent: the Kubernetes API or a directory of manifests.
import type { Address } from "../lib/address.ts";
import type { HistogramData } from "../lib/histogram.ts";
import type { Notice, ObjectEvent, ObjectKey } from "./objects.ts";

export interface SourceStatus {
  /** "manifests" or "kubernetes". */
  readonly kind: string;
  readonly synced: boolean;
  /** Milliseconds since the epoch of the last event, 0 when none came yet. */
  readonly lastEventMs: number;
  /**
   * Names the state that was last delivered. For a directory: sha256 (hex) over its files' relative names and contents; whoever
   * wrote the directory can tell from it that this agent has read it (see `digestOf` in standalone/). For the API: the
   * resourceVersion of each resource.
   */
  readonly digest: string;
}

/** How the talk with the Kubernetes API goes: plain numbers, with the meanings of client-go's rest_client_* metrics. */
export interface ApiStats {
  /** `code`: the status as text, "<error>" when no answer came. `host`: "host:port". */
  readonly requests: readonly {
    readonly code: string;
    readonly method: string;
    readonly host: string;
    readonly count: number;
  }[];
  /** Until the head of the answer. */
  readonly durations: readonly ({ readonly verb: string; readonly host: string } & HistogramData)[];
  readonly resources: readonly {
    readonly resource: string;
    readonly connected: boolean;
    readonly synced: boolean;
    /** The API server does not have it. */
    readonly absent: boolean;
    /** Milliseconds since the epoch of the last event or bookmark, 0 before the first. */
    readonly lastEventMs: number;
    readonly lists: number;
    readonly watches: number;
    /** Lists that were made again, by reason. */
    readonly relists: Readonly<Record<string, number>>;
    readonly errors: Readonly<Record<string, number>>;
    /** Lists that took too much away, and waited for a second one. */
    readonly heldLists: number;
  }[];
  /** The server that answered last, "host:port"; "" before the first answer. */
  readonly server: string;
  /** Seconds since the epoch at which the client certificate ends; undefined without one. */
  readonly certificateExpiresAt: number | undefined;
  readonly execPluginCalls: Readonly<Record<string, number>>;
  /** How often changed credentials were taken. */
  readonly reloads: number;
}

/**
 * Takes a batch of events; changes that were found together come together. `digest` names the state after the batch (see
 * SourceStatus). As long as `synced` is false more of the first full state is to come: nothing may be put in force, or taken
 * away, for want of what is still missing.
 */
export type Deliver = (events: readonly ObjectEvent[], digest: string, synced: boolean) => void;

/** This machine as a Node, for clusters that have no Node object of its name. */
export interface OwnNode {
  readonly name: string;
  readonly addresses: readonly Address[];
}

/** A Service that this node announces, and the devices on which it does. */
export interface AnnouncedService {
  readonly service: ObjectKey;
  readonly interfaces: readonly string[];
}

/** Something that happened, for whoever looks at the object that it is about. */
export interface ObjectReport {
  readonly kind: "Service" | "IPAddressPool" | "L2Advertisement";
  /** "namespace/name". */
  readonly key: ObjectKey;
  /** One word in upper camel case, such as AddressInUse. */
  readonly reason: string;
  readonly message: string;
  readonly type: "Normal" | "Warning";
}

export interface Source {
  /** Starts. Resolves when the source is at work, which may be long before it has synced. */
  start(deliver: Deliver): Promise<void>;
  status(): SourceStatus;
  /** Everything wrong or worth saying about the objects read, now. */
  notices(): readonly Notice[];
  /**
   * Whether packets of some Pod on this node, not finished, do not come from its sockets as they went in: a service mesh's
   * sidecar, a sandbox or a VM. Translating at the socket does not reach those. Changes with the batches delivered.
   */
  bypassesSockets(node: string): boolean;
  /** How it goes with the Kubernetes API; undefined before anything was counted. Absent for other sources. */
  api?(): ApiStats | undefined;
  /** The machine's addresses changed. Absent where Nodes are others' to tell of. */
  setOwnNode?(node: OwnNode): void;
  /** All that this node announces now. Returns at once: it is written when that can be. Absent where nobody reads it. */
  announced?(list: readonly AnnouncedService[]): void;
  /** Makes an event of it, or counts it on one that there is. Returns at once; absent where nobody reads them. */
  report?(report: ObjectReport): void;
  stop(): Promise<void>;
}
