// What the transport counts, as plain numbers: metrics are made of them elsewhere (client-go's names, rest_client_*).
import { Histogram, type HistogramData } from "../lib/histogram.ts";

/** Upper bounds in seconds of client-go's rest_client_request_duration_seconds; one more bucket follows for the rest. */
const DURATION_BOUNDS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60] as const;

export interface RequestCount {
  /** Status as text, or "<error>" when there was no answer. */
  readonly code: string;
  readonly method: string;
  /** host:port */
  readonly host: string;
  readonly count: number;
}

/** Until the response's head. */
export interface RequestDurations extends HistogramData {
  /** The HTTP method, as client-go has it. */
  readonly verb: string;
  readonly host: string;
}

/** How calls of the exec plugin ended, by the words of client-go's rest_client_exec_plugin_call_total. */
export type ExecPluginCalls = Readonly<
  Record<"no_error" | "plugin_execution_error" | "plugin_not_found_error", number>
>;

export interface TransportStats {
  readonly requests: readonly RequestCount[];
  readonly durations: readonly RequestDurations[];
  /** The server that answered last, host:port; "" before the first answer. */
  readonly server: string;
  /** Client certificate's end, seconds since the epoch; undefined without a client certificate. */
  readonly certificateExpiresAt: number | undefined;
  readonly execPluginCalls: ExecPluginCalls;
  /** How often credentials, or the authorities trusted, were taken anew because they had changed. */
  readonly reloads: number;
}

export interface ClientStats {
  /** One attempt: `code` as in RequestCount. */
  count(method: string, host: string, code: string, seconds: number): void;
  requests(): RequestCount[];
  durations(): RequestDurations[];
}

/** The row of `key`, made when there is none. */
function rowOf<Row>(rows: Map<string, Row>, key: string, make: () => Row): Row {
  const row = rows.get(key) ?? make();
  rows.set(key, row);
  return row;
}

/** One row per method, server and code, one per server and verb: all come from small sets. */
export function createClientStats(): ClientStats {
  const counts = new Map<string, { code: string; method: string; host: string; count: number }>();
  const histograms = new Map<string, { verb: string; host: string; histogram: Histogram }>();

  return {
    count(method, host, code, seconds) {
      rowOf(counts, `${method} ${host} ${code}`, () => ({ code, method, host, count: 0 })).count += 1;
      const make = () => ({ verb: method, host, histogram: new Histogram(DURATION_BOUNDS) });
      rowOf(histograms, `${host} ${method}`, make).histogram.observe(seconds);
    },
    requests: () => [...counts.values()].map((row) => ({ ...row })),
    durations: () =>
      [...histograms.values()].map(({ verb, host, histogram }) => ({
        verb,
        host,
        ...histogram,
        buckets: [...histogram.buckets],
      })),
  };
}
