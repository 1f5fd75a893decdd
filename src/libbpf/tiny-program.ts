// Programs of a few instructions, written here and loaded without an object: probes, and questions that only a program can ask.
import { PROGRAM_TYPES, type ProgramType } from "./constants.ts";
import { addressOf, native } from "./native.ts";

// Instructions, 8 bytes each: opcode, registers (source << 4 | destination), offset, immediate.
export type Instruction = readonly [opcode: number, registers: number, offset: number, immediate: number];
export const moveImmediate = (register: number, value: number): Instruction => [0xb7, register, 0, value];
export const moveRegister = (to: number, from: number): Instruction => [0xbf, (from << 4) | to, 0, 0];
export const addImmediate = (register: number, value: number): Instruction => [0x07, register, 0, value];
export const storeDouble = (register: number, offset: number, value: number): Instruction => [
  0x7a,
  register,
  offset,
  value,
];
/** A 4-byte word of memory. */
export const loadWord = (to: number, from: number, offset: number): Instruction => [0x61, (from << 4) | to, offset, 0];
export const storeRegister = (register: number, offset: number, from: number): Instruction => [
  0x7b,
  (from << 4) | register,
  offset,
  0,
];
/** Skips `count` instructions when the lower half of a register is not `value`. */
export const skipUnless32 = (register: number, value: number, count: number): Instruction => [
  0x56,
  register,
  count,
  value,
];
/** A map's address; two instructions. */
export const loadMap = (register: number, fd: number): readonly Instruction[] => [
  [0x18, (1 << 4) | register, 0, fd],
  [0, 0, 0, 0],
];
export const call = (helper: number): Instruction => [0x85, 0, 0, helper];
/** A function of the kernel's. `place`: its module's in the list of descriptors, 0 for one that is built in. */
export const callKernel = (id: number, place: number): Instruction => [0x85, 2 << 4, place, id];
export const storeWord = (register: number, offset: number, value: number): Instruction => [
  0x62,
  register,
  offset,
  value,
];
export const storeByte = (register: number, offset: number, value: number): Instruction => [
  0x72,
  register,
  offset,
  value,
];
/** Skips `count` instructions when a register is `value`. */
export const skipIf = (register: number, value: number, count: number): Instruction => [0x15, register, count, value];
export const exit: Instruction = [0x95, 0, 0, 0];

export const HELPER = {
  mapUpdate: 2,
  l4CsumReplace: 11,
  fibLookup: 69,
  getNetnsCookie: 122,
  ktimeGetBootNs: 125,
  checkMtu: 163,
  setRetval: 187,
} as const;

function assemble(instructions: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(instructions.length * 8);
  const view = new DataView(bytes.buffer);
  instructions.forEach(([opcode, registers, offset, immediate], i) => {
    view.setUint8(i * 8, opcode);
    view.setUint8(i * 8 + 1, registers);
    view.setInt16(i * 8 + 2, offset, true);
    view.setInt32(i * 8 + 4, immediate, true);
  });
  return bytes;
}

export interface Tiny {
  readonly type: ProgramType;
  readonly attachType?: number;
  readonly flags?: number;
  readonly instructions: readonly Instruction[];
  /** The module whose functions `callKernel` names by place 1. */
  readonly module?: number | undefined;
}

/** The verifier gives up with EAGAIN when a signal is pending, and children end all the time. */
const LOAD_ATTEMPTS = 100;

/** Descriptor of a small program, which the caller closes, or -errno. */
export function loadTiny(tiny: Tiny): number {
  const descriptors = Int32Array.of(0, tiny.module ?? 0);
  const options = new Uint8Array(104);
  const view = new DataView(options.buffer);
  view.setBigUint64(0, 104n, true);
  view.setInt32(8, LOAD_ATTEMPTS, true);
  view.setUint32(12, tiny.attachType ?? 0, true);
  view.setUint32(20, tiny.flags ?? 0, true);
  if (tiny.module !== undefined) view.setBigUint64(48, addressOf(descriptors), true);
  const bytes = assemble(tiny.instructions);
  return native().progLoad(PROGRAM_TYPES[tiny.type], "probe", "GPL", bytes, tiny.instructions.length, options);
}
