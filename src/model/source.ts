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

export interface Source {
  /**
   * Starts. `deliver` gets batches of events; changes that were found together come together. Its first batch holds
   * everything there is, with `synced` true. `digest` names the state after the batch (see SourceStatus).
   */
  start(deliver: (events: readonly ObjectEvent[], digest: string) => void): Promise<void>;
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
