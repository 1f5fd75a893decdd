// What the main loop and the thread that reads the API say to each other.
import type { Failure, FailureCode } from "../lib/errors.ts";
import type { Notice } from "../model/objects.ts";
import type { AnnouncedService, ObjectReport } from "../model/source.ts";
import type { TransportStats } from "./client-stats.ts";
import type { ResourceStats } from "./resource-record.ts";
import type { ResourceName } from "./resources.ts";
import type { PackedChanges } from "./rows.ts";

/** Handed to the thread as it starts. */
export interface WorkerOptions {
  /** A kubeconfig file; without it the service account of the pod. */
  readonly kubeconfig?: string;
  /** Asked before every other server. */
  readonly apiServer?: string;
  /** Keeps where the API server was last. */
  readonly stateDir: string;
  /** Applies every full list as it is, also one that takes away most of what is served. */
  readonly trustLists: boolean;
  readonly nodeName: string;
  /** Where ServiceL2Status objects are. */
  readonly namespace: string;
}

export interface ThreadStats {
  readonly resources: Readonly<Record<ResourceName, ResourceStats>>;
  readonly transport: TransportStats;
}

export type FromWorker =
  /** It knows where the API is and with what credentials to ask; nothing was asked yet. */
  | { readonly type: "started" }
  /** It does not: a Failure that its thread cannot outlive. */
  | { readonly type: "failed"; readonly code: FailureCode; readonly subject: string; readonly message: string }
  /** To be answered by "acknowledged" once it was taken in. `digest`: see SourceStatus. */
  | { readonly type: "changes"; readonly packed: PackedChanges; readonly synced: boolean; readonly digest: string }
  /** `notices` undefined: as they were. */
  | { readonly type: "status"; readonly stats: ThreadStats; readonly notices: readonly Notice[] | undefined };

export type ToWorker =
  | "acknowledged"
  /** It ends, and an exec plugin that it runs with it. */
  | "stop"
  | { readonly type: "announced"; readonly list: readonly AnnouncedService[] }
  | { readonly type: "report"; readonly report: ObjectReport };

export function failedMessage({ code, subject, message }: Failure): FromWorker {
  return { type: "failed", code, subject, message };
}
