// What a loaded program consists of: its functions and who calls whom, by the kernel's own listing of the instructions.
import { fillInfo, infoOf } from "../../src/libbpf/descriptor.ts";
import type { BpfProgram } from "../../src/libbpf/mod.ts";
import { addressOf } from "../../src/libbpf/native.ts";

export interface ProgramFunction {
  /** Where its first instruction stands in the program. */
  readonly start: number;
  /** Of its type in the BTF that the program was loaded with. */
  readonly typeId: number;
  /** Positions, in the list of functions, of those it calls or hands to a helper as a callback; each once, ascending. */
  readonly calls: readonly number[];
}

const INFO_SIZE = 232;
const INSTRUCTION_SIZE = 8;
const CALL = 0x85;
const LOAD_DOUBLE = 0x18;
const PSEUDO_CALL = 1;
const PSEUDO_FUNCTION = 4;

/** Fields of the kernel's bpf_prog_info. */
const INFO = {
  xlatedLength: 20,
  xlated: 32,
  jitedSymbolCount: 104,
  functionInfoSize: 132,
  functionInfo: 136,
  functionCount: 144,
} as const;

/**
 * The functions of a loaded program in their order, its own first, as the kernel runs it: without what the verifier found to be dead. Empty
 * when it was loaded without BTF. Throws KernelError.
 */
export function functionsOf({ fd, name: subject }: BpfProgram): ProgramFunction[] {
  const sizes = infoOf(fd, INFO_SIZE, subject);
  const count = sizes.getUint32(INFO.functionCount, true);
  const recordSize = sizes.getUint32(INFO.functionInfoSize, true);
  const jited = sizes.getUint32(INFO.jitedSymbolCount, true) > 0;
  if (count === 0) return [];
  const instructions = new Uint8Array(sizes.getUint32(INFO.xlatedLength, true));
  const records = new Uint8Array(count * recordSize);
  const info = new Uint8Array(INFO_SIZE);
  const request = new DataView(info.buffer);
  request.setUint32(INFO.xlatedLength, instructions.length, true);
  request.setBigUint64(INFO.xlated, addressOf(instructions), true);
  request.setUint32(INFO.functionInfoSize, recordSize, true);
  request.setBigUint64(INFO.functionInfo, addressOf(records), true);
  request.setUint32(INFO.functionCount, count, true);
  fillInfo(fd, info, subject);
  return readFunctions(new DataView(instructions.buffer), new DataView(records.buffer), { count, recordSize, jited });
}

function readFunctions(
  code: DataView,
  records: DataView,
  { count, recordSize, jited }: { readonly count: number; readonly recordSize: number; readonly jited: boolean },
): ProgramFunction[] {
  const starts = Array.from({ length: count }, (_, at) => records.getUint32(at * recordSize, true));
  const calls = starts.map(() => new Set<number>());
  const end = code.byteLength / INSTRUCTION_SIZE;
  let within = 0;
  for (let at = 0; at < end; at++) {
    while (within + 1 < count && at >= starts[within + 1]!) within++;
    const called = target(code, at, jited);
    if (called === undefined) continue;
    const position = called.position ?? starts.indexOf(called.start);
    if (position >= 0 && position < count) calls[within]!.add(position);
  }
  return starts.map((start, at) => ({
    start,
    typeId: records.getUint32(at * recordSize + 4, true),
    calls: [...calls[at]!].sort((a, b) => a - b),
  }));
}

/** Whom the instruction at `at` calls. A compiled program's calls hold the function's number, an interpreted one's the distance. */
function target(
  code: DataView,
  at: number,
  jited: boolean,
): { readonly position?: number; readonly start: number } | undefined {
  const offset = at * INSTRUCTION_SIZE;
  const opcode = code.getUint8(offset);
  const source = code.getUint8(offset + 1) >> 4;
  if (opcode === CALL && source === PSEUDO_CALL) {
    if (jited) return { position: code.getInt32(offset + 4, true), start: -1 };
    return { start: at + 1 + code.getInt32(offset + 4, true) };
  }
  if (opcode === LOAD_DOUBLE && source === PSEUDO_FUNCTION) {
    if (jited) return { position: code.getInt32(offset + INSTRUCTION_SIZE + 4, true), start: -1 };
    return { start: at + 1 + code.getInt32(offset + 4, true) };
  }
  return undefined;
}
