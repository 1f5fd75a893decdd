// The deepest chain of calls of a program, counted as Linux 6.1 counts it. Pure.

export interface FunctionDepth {
  readonly name: string;
  /** Bytes of stack, as the verifier states them. */
  readonly stack: number;
  /** Positions of those it calls. */
  readonly calls: readonly number[];
}

export interface Chain {
  /** Each frame rounded up, summed. */
  readonly bytes: number;
  /** Positions from the program's entry to the deepest function. */
  readonly functions: readonly number[];
}

/** The kernel's limit is 512; features to come need room. */
export const DEEPEST_ALLOWED = 448;

const ROUNDING = 32;

/** What a frame takes: at least one unit, even of a function that uses none. */
export function frameBytes(stack: number): number {
  return Math.ceil(Math.max(stack, 1) / ROUNDING) * ROUNDING;
}

/** The deepest chain that begins at the first function. @throws Error when functions call in a circle, which no verifier accepts */
export function deepestChain(functions: readonly FunctionDepth[]): Chain {
  const known = new Map<number, Chain>();
  const under = new Set<number>();
  const from = (at: number): Chain => {
    const found = known.get(at);
    if (found !== undefined) return found;
    if (under.has(at)) throw new Error(`${functions[at]?.name} calls itself`);
    under.add(at);
    const { stack, calls } = functions[at]!;
    const below = calls
      .map(from)
      .reduce((a, b) => (b.bytes > a.bytes ? b : a), { bytes: 0, functions: [] as readonly number[] });
    under.delete(at);
    const chain = { bytes: frameBytes(stack) + below.bytes, functions: [at, ...below.functions] };
    known.set(at, chain);
    return chain;
  };
  return from(0);
}

/** "tc_uplink_ingress 64 > decide_uplink_ingress 160": names with their frames. */
export function chainText(functions: readonly FunctionDepth[], chain: Chain): string {
  return chain.functions.map((at) => `${functions[at]!.name} ${frameBytes(functions[at]!.stack)}`).join(" > ");
}
