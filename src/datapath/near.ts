// The filter that tells a packet that may be ours from one that is none, before any lookup: bpf/near.h reads it, and reckons the
// same. It may only err toward looking closer:
//
//   set      before what it stands for can be found, by whoever puts it there
//   cleared  by a rebuild alone, which gathers bits anew from what can be found and stores the words that differ. What comes or
//            goes while it gathers, in slices, is set in the new bits too: so a bit is cleared only for what was nowhere to be
//            found from the rebuild's beginning to its end, however many changes were applied between its slices.
//
// No count is kept of what stands behind a bit: the 272 KiB of bits are all there is, and as many again during a rebuild.
import { BACKEND, FLOW, FLOW_PATH_VALUES, FRONTEND_KEY, NEAR_FLAG_VALUES, TUPLE } from "./layout.gen.ts";

const { NEAR_FRONTEND, NEAR_NODE, NEAR_BACKEND } = NEAR_FLAG_VALUES;

/** 32-bit halves of words that hold the ports of one protocol, a bit each. */
const PORT_HALVES = 65_536 / 32;
/** Four bits each. */
const BUCKETS_PER_HALF = 8;
/** So many rows are gathered for the filter between two turns for others. */
export const NEAR_STEP = 4096;
const TCP = 6;
/** As bpf/maps.h has it: so many bits number the elements of `met_backends`. */
const MET_BITS = 19;

/** near_sum() of the 16 bytes of an address at `at`. */
export function nearSum(view: DataView, at: number): number {
  return (
    (Math.imul(view.getUint32(at), 0x9e3779b1) +
      Math.imul(view.getUint32(at + 4), 0x85ebca77) +
      Math.imul(view.getUint32(at + 8), 0xc2b2ae3d) +
      Math.imul(view.getUint32(at + 12), 0x27d4eb2f)) >>>
    0
  );
}

/** near_mix(). */
export function nearMix(sum: number): number {
  return Math.imul(sum ^ (sum >>> 15), 0x2c1b3c6d) >>> 0;
}

/**
 * The element of `met_backends`, as near_backend() has it. `rawPort`: the two bytes of the port, read as a little-endian number;
 * `hook`: the one that sees the answers.
 */
export function metIndex(sum: number, rawPort: number, proto: number, hook: number): number {
  return nearMix(sum + Math.imul(rawPort | (proto << 16) | (hook << 24), 0x165667b1)) >>> (32 - MET_BITS);
}

/** What tells the bucket of a backend, by nearSum of its address and its port as metIndex() has it: near_is_backend(). */
export function backendSum(sum: number, rawPort: number): number {
  return (sum + Math.imul(rawPort, 0x165667b1)) >>> 0;
}

/** Of an entry of the flow tables: backendSum of its backend, and the backend's element of `met_backends`. */
export function backendOfFlow(
  key: DataView,
  keyAt: number,
  flow: DataView,
  flowAt: number,
): { readonly sum: number; readonly met: number } {
  const answers = flow.getUint8(flowAt + FLOW.answer) !== 0;
  const view = answers ? key : flow;
  const tuple = answers ? keyAt : flowAt + FLOW.write;
  const sum = nearSum(view, tuple + (answers ? TUPLE.source : TUPLE.destination));
  const port = view.getUint16(tuple + (answers ? TUPLE.sourcePort : TUPLE.destinationPort), true);
  const hook = view.getUint8(tuple + TUPLE.hook);
  return { sum: backendSum(sum, port), met: metIndex(sum, port, key.getUint8(keyAt + TUPLE.proto), hook) };
}

/** :: or ::ffff:0.0.0.0, under which the node's own ports stand. */
function isUnspecified(view: DataView, at: number): boolean {
  if (view.getUint32(at, true) !== 0 || view.getUint32(at + 4, true) !== 0 || view.getUint32(at + 12, true) !== 0)
    return false;
  const third = view.getUint32(at + 8, true);
  return third === 0 || third === 0xffff0000;
}

/** Sets what something needs, wherever the bits go. Keys and values are as the maps have them. */
export interface NearBits {
  /** The frontend_key at `at`: a frontend's, or that of a backend in `retired`. */
  frontend(view: DataView, at: number): void;
  address(view: DataView, at: number, roles: { readonly node: boolean; readonly refuse: boolean }): void;
  /** The struct backend at `at`. */
  backend(view: DataView, at: number): void;
  /**
   * An entry of the flow tables: a flow goes on when its frontend is gone, and its source port stays taken when its backend is.
   * `sum`: what backendOfFlow() told. After the addresses: at one of the node's own, a look is taken by the port.
   */
  flow(key: DataView, keyAt: number, flow: DataView, flowAt: number, sum: number): void;
}

/** `halves`: bits that are there already. `set`: adds bits to a half. */
function nearBits(halves: Uint32Array, set: (half: number, bits: number) => void): NearBits {
  const addressHalves = halves.length - 2 * PORT_HALVES;
  const shift = Math.clz32(addressHalves * BUCKETS_PER_HALF) + 1;
  const bucketOf = (sum: number): number => nearMix(sum) >>> shift;
  const flag = (bucket: number, flags: number): void => set(bucket >>> 3, flags << ((bucket & 7) * 4));
  const port = (number: number, proto: number): void =>
    set(addressHalves + (proto === TCP ? 0 : PORT_HALVES) + (number >>> 5), 1 << (number & 31));
  return {
    frontend(view, at) {
      if (isUnspecified(view, at + FRONTEND_KEY.address))
        port(view.getUint16(at + FRONTEND_KEY.port, false), view.getUint8(at + FRONTEND_KEY.proto));
      else flag(bucketOf(nearSum(view, at + FRONTEND_KEY.address)), NEAR_FRONTEND);
    },
    address(view, at, { node, refuse }) {
      if (node || refuse) flag(bucketOf(nearSum(view, at)), (node ? NEAR_NODE : 0) | (refuse ? NEAR_FRONTEND : 0));
    },
    backend(view, at) {
      const sum = nearSum(view, at + BACKEND.address);
      flag(bucketOf(backendSum(sum, view.getUint16(at + BACKEND.port, true))), NEAR_BACKEND);
    },
    flow(key, keyAt, flow, flowAt, sum) {
      flag(bucketOf(sum), NEAR_BACKEND);
      // A connection of this node itself: what it leads to is the backend.
      if (flow.getUint8(flowAt + FLOW.path) === FLOW_PATH_VALUES.PATH_PORT_CHANGE) return;
      const answers = flow.getUint8(flowAt + FLOW.answer) !== 0;
      const view = answers ? flow : key;
      const tuple = answers ? flowAt + FLOW.write : keyAt;
      const bucket = bucketOf(nearSum(view, tuple + (answers ? TUPLE.source : TUPLE.destination)));
      if ((halves[bucket >>> 3]! >>> ((bucket & 7) * 4)) & NEAR_NODE) {
        const at = tuple + (answers ? TUPLE.sourcePort : TUPLE.destinationPort);
        port(view.getUint16(at, false), key.getUint8(keyAt + TUPLE.proto));
      } else flag(bucket, NEAR_FRONTEND);
    },
  };
}

/** Bits gathered anew. One that begins takes the place of one that did not finish. */
export interface NearRebuild {
  readonly needs: NearBits;
  /** Stores what differs: afterwards the filter has what `needs` was told, and what came or went meanwhile. */
  finish(): void;
}

export interface NearFilter {
  /** What is about to come: called before it can be found. */
  readonly comes: NearBits;
  /** What goes: its bits stay for now. */
  readonly goes: NearBits;
  /** There may be bits for nothing. */
  isStale(): boolean;
  rebuild(): NearRebuild;
}

/** Over the mapped array `near`. */
export function createNearFilter(mapped: ArrayBuffer): NearFilter {
  const halves = new Uint32Array(mapped);
  let gathered: Uint32Array | undefined;
  // What an agent before left behind is not known.
  let gone = 1;
  let goneAtRebuild = 0;
  const gather = (half: number, bits: number): void => {
    if (gathered !== undefined) gathered[half]! |= bits;
  };
  return {
    comes: nearBits(halves, (half, bits) => {
      // One that is set already keeps its cache line shared between the CPUs.
      if ((halves[half]! & bits) >>> 0 !== bits >>> 0) Atomics.or(halves, half, bits);
      gather(half, bits);
    }),
    goes: nearBits(halves, (half, bits) => {
      gone++;
      gather(half, bits);
    }),
    isStale: () => gone !== goneAtRebuild,
    rebuild() {
      const fresh = new Uint32Array(halves.length);
      const goneBefore = gone;
      gathered = fresh;
      return {
        needs: nearBits(fresh, (half, bits) => {
          fresh[half]! |= bits;
        }),
        finish() {
          if (gathered !== fresh) return;
          gathered = undefined;
          for (let i = 0; i < fresh.length; i++) {
            const half = fresh[i]!;
            if (halves[i] !== half) Atomics.store(halves, i, half);
          }
          goneAtRebuild = goneBefore;
        },
      };
    },
  };
}
