// What a flow entry's words must agree with: the check word over all that is constant, and the hook of each direction. The programs
// reckon the same (flow_check() and path_hook() of bpf/flow.h): entries are made here for benchmarks, and made over when the
// layout of those in use is another build's.
import { FLOW, FLOW_PATH_VALUES, HOOK_VALUES, TUPLE } from "./layout.gen.ts";

/** Of the five words of the key, and of those of `write`. */
const KEY_FACTORS = [0x1e3779b1, 0x42b2ae3d, 0x165667b1, 0x56e8feb9, 0x7f51afd7];
const WRITE_FACTORS = [0x27d4eb2f, 0x61c88647, 0x2545f491, 0x5bd1e995, 0x4f1bbcdd];
const BACKEND_FACTOR = 0x3c6ef373;
const SERVICE_FACTOR = 0x7feb352d;
const KIND_FACTOR = 0x046ca68b;
const U32 = 2 ** 32;
const U16 = 2 ** 16;

/**
 * flow_check(): of the key at `keyAt` and the flow at `flowAt`. A sum of 64-bit words times 32-bit factors, modulo 2^64, without
 * BigInt, as a table is hundreds of thousands of them: what a word's lower half makes with each half of a factor is below 2^48, and
 * thirteen of those are still exact.
 */
export function flowCheck(key: DataView, keyAt: number, flow: DataView, flowAt: number): number {
  let even = 0;
  let odd = 0;
  let high = 0;
  const add = (low: number, upper: number, factor: number): void => {
    even += low * (factor & 0xffff);
    odd += low * (factor >>> 16);
    high = (high + Math.imul(upper, factor)) | 0;
  };
  for (let i = 0; i < KEY_FACTORS.length; i++) {
    const k = keyAt + i * 8;
    add(key.getUint32(k, true), key.getUint32(k + 4, true), KEY_FACTORS[i]!);
    const w = flowAt + FLOW.write + i * 8;
    add(flow.getUint32(w, true), flow.getUint32(w + 4, true), WRITE_FACTORS[i]!);
  }
  const u32 = (offset: number): number => flow.getUint32(flowAt + offset, true);
  add(u32(FLOW.backend), u32(FLOW.generation), BACKEND_FACTOR);
  add(u32(FLOW.service), 0, SERVICE_FACTOR);
  add((flow.getUint8(flowAt + FLOW.path) << 8) | flow.getUint8(flowAt + FLOW.answer), 0, KIND_FACTOR);
  const lower = even + (odd % U16) * U16;
  const upper = Math.floor(lower / U32) + Math.floor(odd / U16) + high;
  return ((lower % U32) ^ (upper % U32)) >>> 0;
}

const { HOOK_NONE, HOOK_UPLINK_INGRESS, HOOK_UPLINK_EGRESS, HOOK_POD_INGRESS, HOOK_POD_EGRESS } = HOOK_VALUES;

/** Where requests are translated, and where answers are. */
const HOOKS: Readonly<Record<number, readonly [request: number, answer: number]>> = {
  [FLOW_PATH_VALUES.PATH_OUTSIDE_LOCAL]: [HOOK_UPLINK_INGRESS, HOOK_UPLINK_EGRESS],
  [FLOW_PATH_VALUES.PATH_OUTSIDE_REMOTE]: [HOOK_UPLINK_INGRESS, HOOK_UPLINK_INGRESS],
  [FLOW_PATH_VALUES.PATH_POD]: [HOOK_POD_INGRESS, HOOK_POD_EGRESS],
  [FLOW_PATH_VALUES.PATH_HAIRPIN]: [HOOK_POD_INGRESS, HOOK_POD_INGRESS],
  [FLOW_PATH_VALUES.PATH_HOST_REMOTE]: [HOOK_UPLINK_EGRESS, HOOK_UPLINK_INGRESS],
  [FLOW_PATH_VALUES.PATH_HOST_LOCAL]: [HOOK_UPLINK_EGRESS, HOOK_POD_INGRESS],
  [FLOW_PATH_VALUES.PATH_PORT_CHANGE]: [HOOK_UPLINK_EGRESS, HOOK_UPLINK_INGRESS],
};

/** path_hook(): at which hook a direction of a path is translated, HOOK_UPLINK_INGRESS for XDP too; HOOK_NONE for what is no path. */
export function pathHook(path: number, answer: boolean): number {
  return HOOKS[path]?.[answer ? 1 : 0] ?? HOOK_NONE;
}

/** Gives the entry of a table both of its hooks, by its path, and its check word. False when its path is none: then it is no flow. */
export function sealFlow(key: DataView, keyAt: number, flow: DataView, flowAt: number): boolean {
  const path = flow.getUint8(flowAt + FLOW.path);
  const answer = flow.getUint8(flowAt + FLOW.answer) !== 0;
  const hook = pathHook(path, answer);
  if (hook === HOOK_NONE) return false;
  key.setUint8(keyAt + TUPLE.hook, hook);
  flow.setUint8(flowAt + FLOW.write + TUPLE.hook, pathHook(path, !answer));
  flow.setUint32(flowAt + FLOW.check, flowCheck(key, keyAt, flow, flowAt), true);
  return true;
}
