// GET requests to the Kubernetes API: the interface that the list and watch loops stand on.
import type { TransportStats } from "./client-stats.ts";

export interface ApiResponse {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Body chunks; ends, or throws an ApiError when the connection does. Leaving the loop early closes the connection. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface ApiRequestOptions {
  /** Ends the request, its body included; `get` and the body then reject with the signal's reason. */
  readonly signal: AbortSignal;
  /** For connecting, credentials and the response's head together. */
  readonly headTimeoutMs: number;
  /** For sentences and metrics, as "endpointslices". */
  readonly resource: string;
  readonly verb: "LIST" | "WATCH" | "GET";
}

export interface ApiTransport {
  /** Resolves at the response's head, whatever its status; otherwise rejects with an ApiError. `path` is absolute. */
  get(path: string, query: Readonly<Record<string, string>>, options: ApiRequestOptions): Promise<ApiResponse>;
  stats(): TransportStats;
  /** Ends all connections; requests under way reject. */
  close(): void;
}
