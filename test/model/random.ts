// Random numbers that a printed seed repeats.

/** MILLRACE_SEED, else one that is new in each run. */
export function seedOfRun(): number {
  const given = process.env["MILLRACE_SEED"];
  return given === undefined ? (Math.random() * 2 ** 32) >>> 0 : Number(given) >>> 0;
}

export interface Random {
  /** An integer in [0, end). */
  below(end: number): number;
  chance(probability: number): boolean;
  pick<T>(from: readonly T[]): T;
}

/** A small generator: a 32-bit state that is stepped by an odd constant and mixed (splitmix). */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = state ^ (state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  };
  return {
    below: (end) => next() % end,
    chance: (probability) => next() < probability * 2 ** 32,
    pick: (from) => from[next() % from.length]!,
  };
}

/** Runs `body` with a seed; a failure tells which. */
export function withSeed(seed: number, body: (random: Random) => void): void {
  try {
    body(createRandom(seed));
  } catch (cause) {
    throw new Error(`failed with MILLRACE_SEED=${seed}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}
