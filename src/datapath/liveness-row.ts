// The one element of `liveness`: what the kernel program answers to other nodes that ask whether this one lives. It outlives the
// agent, whose last renewal it tells the age of. Each word changes by one store; a question that meets a change of keys is lost.
import { type Mac, macBytes } from "../lib/mac.ts";
import { sipHashKeyId } from "../lib/siphash.ts";
import type { BpfMap } from "../libbpf/mod.ts";
import {
  FRONTEND_KEY,
  LIVENESS,
  LIVENESS_FLAG_VALUES,
  LIVENESS_LIMIT_VALUES,
  type LivenessKey,
  readLiveness,
  writeFrontendKey,
  writeLiveness,
} from "./layout.gen.ts";
import { MappedArray, WORD } from "./mapped-array.ts";
import type { NearBits, NearFilter } from "./near.ts";
import { viewOf } from "./row-codec.ts";

const { LIVENESS_KEYS, LIVENESS_MACS } = LIVENESS_LIMIT_VALUES;
const { LIVENESS_SOUND, LIVENESS_LEAVING } = LIVENESS_FLAG_VALUES;
/** Keys have ids that are never 0. */
const IS_KEY = 0x100;
const UDP = 17;
const NO_KEY: LivenessKey = { half: [0n, 0n], id: 0 };

export interface LivenessIdentity {
  /** 16 hex digits that stand for the node's name. */
  readonly nodeId: string;
  readonly incarnation: number;
}

export interface LivenessRow {
  /** Who this node is, from this agent on. Its renewals come later: until then the age of those of the agent before is told. */
  identify(identity: LivenessIdentity): void;
  /** Answers at this UDP port to who has one of these keys, of 16 bytes each, of which the first four count. Port 0, or no key: to nobody. */
  listen(port: number, keys: readonly Uint8Array[]): void;
  /** MACs that are this node's, up to eight: the first four are told, and no frame with any of them is another machine's. */
  setMacs(macs: readonly Mac[]): void;
  /**
   * What the node is now. `renews`, as `isSound` when it is not given: it has just renewed what it announces, at `now` of the boot
   * clock in nanoseconds; else the age of the last renewal goes on growing, as that of its rows does.
   */
  renew(
    now: bigint,
    state: { readonly isSound: boolean; readonly isLeaving: boolean; readonly renews?: boolean },
  ): void;
  /** Tells the filter what a question needs to be looked at. */
  needs(bits: NearBits): void;
}

export function createLivenessRow(map: BpfMap, near: NearFilter): LivenessRow {
  const { words, bytes, view } = new MappedArray(map);

  /** Stores the words that differ, of those that `change` changes. */
  function store(change: Partial<ReturnType<typeof readLiveness>>): void {
    const fresh = new BigUint64Array(LIVENESS.size / WORD);
    writeLiveness(new Uint8Array(fresh.buffer), 0, { ...readLiveness(bytes), ...change });
    fresh.forEach((word, i) => {
      if (words[i] !== word) Atomics.store(words, i, word);
    });
  }

  function needs(bits: NearBits, port: number): void {
    if (port === 0) return;
    const key = new Uint8Array(FRONTEND_KEY.size);
    writeFrontendKey(key, 0, { address: "0.0.0.0", port, proto: UDP });
    bits.frontend(viewOf(key), 0);
  }

  return {
    identify: ({ nodeId, incarnation }) => store({ node: BigInt(`0x${nodeId}`), incarnation: BigInt(incarnation) }),
    listen(port, keys) {
      needs(near.comes, port);
      const given = keys.slice(0, LIVENESS_KEYS).map((key): LivenessKey => {
        const halves = viewOf(key);
        const half = [halves.getBigUint64(0, true), halves.getBigUint64(WORD, true)];
        return { half, id: IS_KEY | sipHashKeyId(key) };
      });
      const isOff = port === 0 || given.length === 0;
      const raw = new DataView(new ArrayBuffer(WORD));
      raw.setUint16(0, port, false);
      store({
        port: isOff ? 0n : raw.getBigUint64(0, true),
        keys: Array.from({ length: LIVENESS_KEYS }, (_, i) => given[i] ?? NO_KEY),
      });
    },
    setMacs(macs) {
      const raw = new Uint8Array(LIVENESS_MACS * WORD);
      for (const [i, mac] of macs.slice(0, LIVENESS_MACS).entries()) raw.set(macBytes(mac), i * WORD);
      store({ macs: [...new BigUint64Array(raw.buffer)] });
    },
    renew(now, { isSound, isLeaving, renews = isSound }) {
      const flags = (isSound ? LIVENESS_SOUND : 0) | (isLeaving ? LIVENESS_LEAVING : 0);
      Atomics.store(words, LIVENESS.flags / WORD, BigInt(flags));
      if (renews) Atomics.store(words, LIVENESS.renewed / WORD, now);
    },
    needs: (bits) => needs(bits, view.getUint16(LIVENESS.port, false)),
  };
}
