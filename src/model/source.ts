// What a source of objects is to the agent: the Kubernetes API or a directory of manifests.
import type { Notice, ObjectEvent } from "./objects.ts";

export interface SourceStatus {
  /** "manifests" or "kubernetes". */
  readonly kind: string;
  readonly synced: boolean;
  /** Milliseconds since the epoch of the last event, 0 when none came yet. */
  readonly lastEventMs: number;
  /**
   * sha256 (hex) over what was last delivered: for a directory, over its files' relative names and contents. Whoever wrote
   * the directory can tell from it that this agent has read it (see `directoryDigest` in standalone/).
   */
  readonly digest: string;
}

/**
 * Takes a batch of events; changes that were found together come together. `digest` names the state after the batch (see
 * SourceStatus). As long as `synced` is false more of the first full state is to come: nothing may be put in force, or taken
 * away, for want of what is still missing.
 */
export type Deliver = (events: readonly ObjectEvent[], digest: string, synced: boolean) => void;

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
  stop(): Promise<void>;
}
