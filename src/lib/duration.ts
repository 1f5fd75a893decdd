// Durations as Go writes them (time.Duration): 24h0m0s, 1.5h, 250ms.

const NUMBER = String.raw`(\d{1,9}(?:\.\d{1,9})?)`;
const DURATION = new RegExp(
  `^${["h", "m", "s", "ms", "(?:us|µs|μs)", "ns"].map((unit) => `(?:${NUMBER}${unit})?`).join("")}$`,
);
const SECONDS = [3600, 60, 1, 1e-3, 1e-6, 1e-9];

/** Seconds, with fractions; undefined when the text is no duration, or one below 0. Units come in this order, each once; "0" is one. */
export function parseDuration(text: string): number | undefined {
  if (text === "0") return 0;
  const match = text === "" ? null : DURATION.exec(text);
  if (match === null) return undefined;
  return match.slice(1).reduce((sum, part, i) => sum + Number(part ?? 0) * SECONDS[i]!, 0);
}
