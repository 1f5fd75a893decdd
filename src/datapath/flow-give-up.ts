// Which flows a table that fills gives up: a histogram of their idleness, by which the sweep's first pass finds where the second one
// is to cut. Two classes: flows that are over or whose end is near go before any other, the idlest first in both. Numbers alone.

/** Flows that were idle for less are never given up: they are in use. */
export const SPARED_SECONDS = 10;

const BUCKETS = 256;

/** Eight buckets for each doubling, so that one is 12 % wide: of jiffies, below 2^31. */
export function idleBucket(jiffies: number): number {
  if (jiffies < 8) return jiffies;
  const exponent = 31 - Math.clz32(jiffies);
  return ((exponent - 2) << 3) | ((jiffies >>> (exponent - 3)) & 7);
}

/** 0: over, half closed, or its backend is retired. 1: any other. */
export type FlowClass = 0 | 1;

/** Where a bucket stands in the order of going: less goes first. */
const orderOf = (flowClass: FlowClass, bucket: number): number => flowClass * BUCKETS + (BUCKETS - 1 - bucket);

/** Tells of flows, one after the other, whether to give them up. */
export type Verdict = (flowClass: FlowClass, idleJiffies: number) => boolean;

export interface Idleness {
  add(flowClass: FlowClass, idleJiffies: number): void;
  /** How many flows there are that could go. */
  idle(): number;
  /** Who goes when so many flows are to go. */
  cut(flows: number): Verdict;
}

export function createIdleness(hz: number): Idleness {
  const counts = new Uint32Array(2 * BUCKETS);
  const spared = SPARED_SECONDS * hz;
  return {
    add(flowClass, idleJiffies) {
      if (idleJiffies >= spared) counts[orderOf(flowClass, idleBucket(idleJiffies))]!++;
    },
    idle: () => counts.reduce((sum, count) => sum + count, 0),
    cut(flows) {
      let left = flows;
      let last = 0;
      while (last < counts.length && counts[last]! < left) left -= counts[last++]!;
      return (flowClass, idleJiffies) => {
        if (idleJiffies < spared) return false;
        const order = orderOf(flowClass, idleBucket(idleJiffies));
        return order < last || (order === last && left-- > 0);
      };
    },
  };
}
