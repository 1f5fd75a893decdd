// A histogram of durations in seconds as plain numbers: whoever measures keeps one, metrics are made of it elsewhere.

export interface HistogramData {
  /** Upper bounds in seconds, ascending. */
  readonly bounds: readonly number[];
  /** Observations by bucket, not cumulative; one more than there are bounds, for the rest. */
  readonly buckets: readonly number[];
  readonly sumSeconds: number;
  readonly count: number;
}

export class Histogram implements HistogramData {
  readonly bounds: readonly number[];
  readonly buckets: number[];
  sumSeconds = 0;
  count = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.buckets = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(seconds: number): void {
    let bucket = 0;
    while (bucket < this.bounds.length && seconds > this.bounds[bucket]!) bucket++;
    this.buckets[bucket]! += 1;
    this.sumSeconds += seconds;
    this.count += 1;
  }
}

/** `count` bounds from `first` on, each `factor` times the one before. */
export function exponentialBounds(first: number, factor: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first * factor ** i);
}
