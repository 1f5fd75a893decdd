// How backends lie in a range of slots where each does not stand there just once: in proportion to its weight, or as a Maglev
// table (Eisenbud et al., NSDI 2016) has it, of which a change of one backend leaves nearly all as it was. Of addresses, ports and
// weights alone, so that every node makes the same: no order and no index of anything decides.

/** On a Service: "hash" or "maglev". */
export const LOAD_BALANCING_ANNOTATION = "millrace.io/load-balancing";

export type LoadBalancing = "hash" | "maglev";

export interface Balancing {
  /** Of Services that do not say. */
  readonly byDefault: LoadBalancing;
  /** Least number of slots of a Maglev table. */
  readonly tableSize: number;
}

/** Enough for twenty backends, and 16 kB: with eight times as much most packets find their slot in no near cache of a processor. */
export const BY_HASH: Balancing = { byDefault: "hash", tableSize: 2039 };

/** Primes just below powers of two. */
export const TABLE_SIZES = [251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521, 131_071, 262_139] as const;

/**
 * A Service keeps its size until its backends need the next, which moves most of its flows, and so does its way back: the small sizes
 * are far apart, that few numbers of backends are such a step (20 and 21, 163 and 164).
 */
const GROWN_SIZES: readonly number[] = [2039, 16_381, 32_749, 65_521, 131_071, 262_139];

/** A backend of a hundred that goes moves 1.3 % of the others' slots in the mean there, one of twenty 2.3 %, one of ten 1.6 %. */
export const SLOTS_PER_BACKEND = 100;

const LARGEST = TABLE_SIZES.at(-1)!;

/** With fewer the shares of backends would differ by more than a sixteenth. */
const LEAST_SLOTS_PER_BACKEND = 16;

/** More have no table: they are balanced by hash. */
export const MOST_BACKENDS = Math.floor(LARGEST / LEAST_SLOTS_PER_BACKEND);

/**
 * The least of the sizes that has enough slots for each backend, else the largest: of so many backends one that goes moves less of the
 * others' slots, not more (0.25 % of 2,500, 0.08 % of 10,000). undefined: more than MOST_BACKENDS.
 */
export function tableSizeFor(backends: number, least: number): number | undefined {
  if (backends > MOST_BACKENDS) return undefined;
  return [least, ...GROWN_SIZES].find((size) => size >= least && size >= backends * SLOTS_PER_BACKEND) ?? LARGEST;
}

export interface Member {
  readonly address: string;
  readonly port: number;
  /** 1 when absent; never 0. */
  readonly weight?: number;
}

const weightOf = ({ weight = 1 }: Member): number => weight;

/** FNV-1a over the text, mixed: 32 bits. */
function hashOf(text: string, seed: number): number {
  let hash = (0x811c9dc5 ^ seed) >>> 0;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad);
  hash = Math.imul(hash ^ (hash >>> 15), 0x735a2d97);
  return (hash ^ (hash >>> 15)) >>> 0;
}

const FREE = 0xffff_ffff;

/** In which rounds a member has its turn: of `most` rounds in `weight` of them, evenly. */
const hasTurn = (round: number, weight: number, most: number): boolean =>
  Math.floor(((round + 1) * weight) / most) > Math.floor((round * weight) / most);

/** A table of so many slots, a prime: positions in `members`. At least one member, and fewer than slots. */
export function maglevTable(members: readonly Member[], size: number): Uint32Array {
  const texts = members.map(({ address, port }) => `${address} ${port}`);
  const order = members.map((_, i) => i).sort((a, b) => (texts[a]! < texts[b]! ? -1 : 1));
  const next = Uint32Array.from(texts, (text) => hashOf(text, 0x5bd1e995) % size);
  const skip = Uint32Array.from(texts, (text) => (hashOf(text, 0x27d4eb2f) % (size - 1)) + 1);
  const most = Math.max(...members.map(weightOf));
  const table = new Uint32Array(size).fill(FREE);
  let left = size;
  for (let round = 0; ; round++) {
    for (const i of order) {
      // Nobody is without a slot, however little it weighs: weight 0 alone drains.
      if (round > 0 && !hasTurn(round, weightOf(members[i]!), most)) continue;
      let at = next[i]!;
      const step = skip[i]!;
      while (table[at] !== FREE) {
        at += step;
        if (at >= size) at -= size;
      }
      table[at] = i;
      next[i] = at;
      if (--left === 0) return table;
    }
  }
}

const LEAST_REPEATS = 256;
const REPEATS_PER_MEMBER = 16;

const divisorOf = (a: number, b: number): number => (b === 0 ? a : divisorOf(b, a % b));

/**
 * Each member as often as its weight says, in turns: positions in `members`. Exactly, where 256 slots, or 16 for each member, are
 * enough for that; else as near as they allow, and each once at least.
 */
export function weightedSlots(members: readonly Member[]): Uint32Array {
  const divisor = members.map(weightOf).reduce(divisorOf, 0);
  let counts = members.map((one) => weightOf(one) / divisor);
  const sum = counts.reduce((total, count) => total + count, 0);
  const limit = Math.max(LEAST_REPEATS, REPEATS_PER_MEMBER * members.length);
  if (sum > limit) counts = counts.map((count) => Math.max(1, Math.round((count * limit) / sum)));
  const most = Math.max(...counts);
  const slots: number[] = [];
  for (let round = 0; round < most; round++) {
    for (let i = 0; i < counts.length; i++) if (hasTurn(round, counts[i]!, most)) slots.push(i);
  }
  return Uint32Array.from(slots);
}

/** Two windows, a prefix and a suffix of a range of slots: see layOut(). */
export interface Spread {
  /** Positions in the layout's slots. */
  readonly positions: Uint32Array;
  readonly localCount: number;
  readonly clusterCount: number;
}

interface Laid {
  readonly slots: readonly Member[];
  readonly localCount: number;
  readonly clusterCount: number;
}

/** Why there is no spread: so many slots it would need, and the least that tables of any size would; or there are too many endpoints. */
export type NoSpread = { readonly slots: number; readonly least: number } | { readonly endpoints: number };

/**
 * The layout's endpoints spread, each window by itself, in no more slots than `room`; undefined where each is to stand in its slots
 * once. Tables are not made in vain, as they take their time.
 */
export function spreadLayout(layout: Laid, tableSize: number, room: number): Spread | NoSpread | undefined {
  const { slots, localCount, clusterCount } = layout;
  const total = slots.length;
  if (total === 0) return undefined;
  if (tableSize === 0 && slots.every((one) => weightOf(one) === weightOf(slots[0]!))) return undefined;
  const isOne = localCount === total && clusterCount === total;
  const counts = isOne ? [total] : [localCount, clusterCount].filter((count) => count > 0);
  if (tableSize > 0) {
    const most = Math.max(...counts);
    if (most > MOST_BACKENDS) return { endpoints: most };
    const slotsOf = (size: number): number => counts.reduce((sum, count) => sum + tableSizeFor(count, size)!, 0);
    if (slotsOf(tableSize) > room) return { slots: slotsOf(tableSize), least: slotsOf(TABLE_SIZES[0]) };
  }
  const positionsOf = (from: number, to: number): Uint32Array => {
    const members = slots.slice(from, to);
    if (members.length === 0) return new Uint32Array(0);
    const size = tableSize === 0 ? 0 : tableSizeFor(members.length, tableSize)!;
    const found = size === 0 ? weightedSlots(members) : maglevTable(members, size);
    return found.map((position) => position + from);
  };
  const local = positionsOf(0, localCount);
  const lacks = (slots: number): NoSpread => ({ slots, least: slots });
  if (isOne)
    return local.length > room
      ? lacks(local.length)
      : { positions: local, localCount: local.length, clusterCount: local.length };
  const cluster = positionsOf(total - clusterCount, total);
  const positions = new Uint32Array(local.length + cluster.length);
  if (positions.length > room) return lacks(positions.length);
  positions.set(local);
  positions.set(cluster, local.length);
  return { positions, localCount: local.length, clusterCount: cluster.length };
}
