// What the verifier measured of a program, from its words. Judges nothing.
import type { BpfObject } from "../../src/libbpf/mod.ts";

/** What makes the verifier tell its statistics, and nothing else when it accepts a program. */
const LOG_STATISTICS = 4;

export interface VerifierStatistics {
  /** Instructions that were walked through, each as often as that happened; the kernel's limit is a million. */
  readonly instructions: number;
  /** Bytes of stack of each function that is left in the program, in the order of their first instructions. */
  readonly stackDepths: readonly number[];
  readonly seconds: number;
}

/** The statistics at a log's end; undefined when there are none: the program was refused, or nobody asked. */
export function parseStatistics(log: string): VerifierStatistics | undefined {
  const processed = /^processed (\d+) insns/m.exec(log);
  const depths = /^stack depth (\d+(?:\+\d+)*)/m.exec(log);
  if (processed === null || depths === null) return undefined;
  const microseconds = /^verification time (\d+) usec/m.exec(log);
  return {
    instructions: Number(processed[1]),
    stackDepths: depths[1]!.split("+").map(Number),
    seconds: Number(microseconds?.[1] ?? 0) / 1e6,
  };
}

/** Loads an object. Returns what was measured of its programs, by name. A refusal comes with the verifier's last words alone. */
export function loadWithStatistics(object: BpfObject): ReadonlyMap<string, VerifierStatistics> {
  const found = new Map<string, VerifierStatistics>();
  const tell = (program: string, text: string): void => {
    const statistics = parseStatistics(text);
    if (statistics !== undefined) found.set(program, statistics);
  };
  object.load({ log: { level: LOG_STATISTICS, tell } });
  return found;
}
