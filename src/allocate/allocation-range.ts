// Which number of a range is given out when nobody asked for one: the upper part first, so that the lower part stays for
// those who ask (KEP-3070 for cluster addresses, KEP-3668 for node ports). Keeps no record of what is taken.

/** Size of the lower part: min(max(least, size / step), most), and none at all when the range is no larger than `least`. */
export function reservedOffset(
  size: number,
  { least, step, most }: { least: number; step: number; most: number },
): number {
  if (size <= least) return 0;
  return Math.min(Math.max(least, Math.floor(size / step)), most);
}

export const CLUSTER_IP_BAND = { least: 16, step: 16, most: 256 };
export const NODE_PORT_BAND = { least: 16, step: 32, most: 128 };

/** FNV-1a, for a start that differs by object and is the same each time. */
export function spread(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}

/**
 * A free number in [0, size): from the upper part, beginning at a place that `seed` determines, else from the lower part.
 * Undefined when none is free. The same seed gives the same number while it is free, and a number just freed is
 * unlikely to go to somebody else at once.
 */
export function pickFree(
  size: number,
  offset: number,
  seed: string,
  isTaken: (index: number) => boolean,
): number | undefined {
  const upper = size - offset;
  const start = upper > 0 ? spread(seed) % upper : 0;
  for (let i = 0; i < upper; i++) {
    const index = offset + ((start + i) % upper);
    if (!isTaken(index)) return index;
  }
  for (let index = 0; index < offset; index++) if (!isTaken(index)) return index;
  return undefined;
}
