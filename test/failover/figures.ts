// What a client's notes of one address mean: how long nobody answered, and how long several did. Pure; times are milliseconds of
// one clock.

/** One question: an ARP request or a neighbour solicitation, a datagram, a connection. */
export interface Attempt {
  readonly atMs: number;
  readonly isAnswered: boolean;
}

export interface Outage {
  /** From the first question of the longest row of unanswered ones to the next that was answered; 0 when each was. */
  readonly longestMs: number;
  readonly unanswered: number;
  /** The last question was not answered either: `longestMs` may be that of an outage that is not over. */
  readonly isOpen: boolean;
}

/** `attempts` in the order of time; the fate of each is known. `endMs`: when an outage that is not over is cut off. */
export function outageOf(attempts: readonly Attempt[], endMs: number): Outage {
  let longestMs = 0;
  let unanswered = 0;
  let sinceMs: number | undefined;
  for (const { atMs, isAnswered } of attempts) {
    if (isAnswered) {
      if (sinceMs !== undefined) longestMs = Math.max(longestMs, atMs - sinceMs);
      sinceMs = undefined;
    } else {
      unanswered++;
      sinceMs ??= atMs;
    }
  }
  if (sinceMs !== undefined) longestMs = Math.max(longestMs, endMs - sinceMs);
  return { longestMs, unanswered, isOpen: sinceMs !== undefined };
}

/** A request for a link-layer address, and who answered it. */
export interface Resolution {
  readonly atMs: number;
  readonly macs: readonly string[];
}

/** Time in which a request was answered by more than one MAC: so many requests, each `periodMs` apart. */
export function severalSpeakersMs(resolutions: readonly Resolution[], periodMs: number): number {
  return resolutions.filter(({ macs }) => macs.length > 1).length * periodMs;
}

/** Who answered, one after the other; two who answered the same request stand together, by name. */
export function speakersInOrder(resolutions: readonly Resolution[]): readonly string[] {
  const found: string[] = [];
  for (const { macs } of resolutions) {
    const text = [...macs].sort().join("+");
    if (text !== "" && text !== found.at(-1)) found.push(text);
  }
  return found;
}

/** The middle value, of two the lower; NaN of none. */
export function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
}
