// What the transport counts, as plain numbers: metrics are made of them elsewhere (client-go's names, rest_client_*).

/** Upper bounds in seconds of client-go's rest_client_request_duration_seconds; one more bucket follows for the rest. */
export const DURATION_BOUNDS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60] as const;

export interface RequestCount {
  /** Status as text, or "<error>" when there was no answer. */
  readonly code: string;
  readonly method: "GET";
  /** host:port */
  readonly host: string;
  readonly count: number;
}

/** Until the response's head. `buckets` are not cumulative and have one more element than DURATION_BOUNDS. */
export interface RequestDurations {
  readonly verb: string;
  readonly host: string;
  readonly buckets: readonly number[];
  readonly sumSeconds: number;
  readonly count: number;
}

export interface TransportStats {
  readonly requests: readonly RequestCount[];
  readonly durations: readonly RequestDurations[];
  /** The server that answered last, host:port; "" before the first answer. */
  readonly server: string;
  /** Client certificate's end, seconds since the epoch; undefined without a client certificate. */
  readonly certificateExpiresAt: number | undefined;
  /** Calls of the exec plugin by how they ended (client-go's rest_client_exec_plugin_call_total). */
  readonly execPluginCalls: Readonly<Record<"no_error" | "plugin_execution_error" | "plugin_not_found_error", number>>;
  /** Rotations: credentials or CA that were taken anew because a file changed. */
  readonly reloads: number;
}
