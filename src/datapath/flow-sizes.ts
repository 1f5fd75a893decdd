// How large the flow tables are when nobody says: as many flows as kube-proxy lets netfilter track, and no more memory for them than
// Cilium would give its own. They are allocated whole. Numbers alone.
import { FLOW, TUPLE } from "./layout.gen.ts";

/** What the kernel adds to an entry of an LRU hash: the element's head, its place in a list, its bucket. */
const OVERHEAD = 80;
export const FLOW_ENTRY_BYTES = TUPLE.size + FLOW.size + OVERHEAD;

/** `tcp_flows`, `udp_flows` and `openings` of one size and half of it. */
const TABLES = 2.5;

/** kube-proxy: --conntrack-max-per-core and --conntrack-min. A flow has two entries. */
const FLOWS_PER_CPU = 32_768;
const LEAST_FLOWS = 131_072;
/** Cilium: bpf.mapDynamicSizeRatio. */
const MEMORY_RATIO = 0.0025;
/** Of a small machine the tables take so much at most. */
const MOST_MEMORY = 1 / 16;
const LEAST_ENTRIES = 16_384;

/** Of a limit that is the agent's alone the tables may take half: as if it were of a machine with so much memory. */
const OF_LIMIT = 1 / 2 / MOST_MEMORY;

/** The memory that tables are made for: the machine's, or what the limit of the agent's own control group allows; 0 is no limit. */
export function memoryForTables(machineBytes: number, limitBytes: number): number {
  return limitBytes > 0 ? Math.min(machineBytes, limitBytes * OF_LIMIT) : machineBytes;
}

/** Two binary digits: a machine whose memory is a page more or less has the same. */
function rounded(entries: number): number {
  const unit = 2 ** (Math.floor(Math.log2(entries)) - 1);
  return Math.floor(entries / unit) * unit;
}

/** Entries of `tcp_flows`, and of `openings`, on a machine with so much memory and so many processors. */
export function flowEntriesFor(memoryBytes: number, cpus: number): number {
  const holds = (ratio: number): number => (memoryBytes * ratio) / (TABLES * FLOW_ENTRY_BYTES);
  const most = 2 * Math.max(LEAST_FLOWS, FLOWS_PER_CPU * cpus);
  const least = Math.min(2 * LEAST_FLOWS, holds(MOST_MEMORY));
  const entries = Math.max(least, Math.min(most, holds(MEMORY_RATIO)));
  return Math.max(LEAST_ENTRIES, rounded(entries));
}

/** What the three flow tables take, of the sizes that are asked for. */
export function flowTableBytes({ flows, openings }: { readonly flows: number; readonly openings: number }): number {
  return (flows * 1.5 + openings) * FLOW_ENTRY_BYTES;
}
