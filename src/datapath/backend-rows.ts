// The `backends` array, and `retired`: what becomes of a UDP backend's conversations that go on without knowing that it left.
import { readAddress, writeAddress } from "../lib/address.ts";
import type { BpfMap } from "../libbpf/mod.ts";
import type { Backend, FrontendKey, Operation } from "../model/operations.ts";
import {
  BACKEND,
  BACKEND_STATE_VALUES,
  BACKEND_WORD_VALUES,
  RETIRED_BACKEND,
  writeRetiredBackend,
} from "./layout.gen.ts";
import type { MappedArray } from "./mapped-array.ts";
import type { NearFilter } from "./near.ts";
import { frontendKeyBytes, viewOf } from "./row-codec.ts";

const { BACKEND_FREE, BACKEND_LOCAL, BACKEND_REMOTE, BACKEND_RETIRED } = BACKEND_STATE_VALUES;

const STATE = BigInt(BACKEND_WORD_VALUES.BACKEND_STATE);
/** In the word's upper half. */
const WINDOWS_SHIFT = BACKEND_WORD_VALUES.BACKEND_WINDOWS - BACKEND_WORD_VALUES.BACKEND_STATE;
const STATE_MASK = (1 << WINDOWS_SHIFT) - 1;

const backendWord = (state: number, generation: number, windows: number): bigint =>
  (BigInt(state | (windows << WINDOWS_SHIFT)) << STATE) | BigInt(generation);

type Retire = Extract<Operation, { op: "retire-backend" }>;

export interface BackendRows {
  put(index: number, backend: Backend): void;
  set(index: number, backend: Pick<Backend, "generation" | "local" | "windows">): void;
  /** Backends that leave together. */
  retire(retires: readonly Retire[]): void;
  free(index: number): void;
  /** It is neither free nor retired. */
  serves(index: number): boolean;
  /** It has this generation still, and serves. */
  isAlive(index: number, generation: number): boolean;
  /** Every backend that serves, and the last generation of every index. Tells the filter of all that can be found. */
  read(): { readonly backends: Map<number, Backend>; readonly generations: Map<number, number> };
}

export interface BackendTables {
  readonly backends: MappedArray;
  readonly retired: BpfMap;
  readonly near: NearFilter;
  /** The kernel's jiffies, all 64 bits. */
  now(): bigint;
}

export function createBackendRows({ backends, retired, near, now }: BackendTables): BackendRows {
  const { view } = backends;
  const store = (index: number, state: number, generation: number, windows: number): void => {
    Atomics.store(backends.words, backends.word(index, BACKEND.word), backendWord(state, generation, windows));
  };
  const set: BackendRows["set"] = (index, { local, generation, windows }) =>
    store(index, local ? BACKEND_LOCAL : BACKEND_REMOTE, generation, windows);
  const portOf = (index: number): number => view.getUint16(backends.at(index) + BACKEND.port, false);
  const serviceOf = (index: number): number => view.getUint32(backends.at(index) + BACKEND.service, true);
  const generationOf = (index: number): number => view.getUint32(backends.at(index) + BACKEND.word, true);
  const upperOf = (index: number): number => view.getUint32(backends.at(index) + BACKEND.word + 4, true);
  const stateOf = (index: number): number => upperOf(index) & STATE_MASK;
  const serves = (index: number): boolean => {
    const state = stateOf(index);
    return state === BACKEND_LOCAL || state === BACKEND_REMOTE;
  };
  const keyOfBackend = (index: number): FrontendKey => ({
    address: readAddress(backends.bytes, backends.at(index) + BACKEND.address),
    port: portOf(index),
    protocol: "UDP",
  });
  function rememberRetired(key: FrontendKey): void {
    const value = new Uint8Array(RETIRED_BACKEND.size);
    writeRetiredBackend(value, 0, { seen: now() });
    const bytes = frontendKeyBytes(key);
    near.comes.frontend(viewOf(bytes), 0);
    retired.update(bytes, value);
  }

  return {
    put(index, backend) {
      const at = backends.at(index);
      writeAddress(backend.address, backends.bytes, at + BACKEND.address);
      view.setUint16(at + BACKEND.port, backend.port, false);
      view.setUint32(at + BACKEND.service, backend.serviceId, true);
      near.comes.backend(view, at);
      set(index, backend);
    },
    set,

    /** Sockets that were pointed at a UDP backend send there without knowing better: `retired` has their packets looked at. */
    retire(retires) {
      for (const { index, generation, udp } of retires) {
        if (udp) rememberRetired(keyOfBackend(index));
        // Pods on its bridge ask for its link-layer address.
        if (udp && stateOf(index) === BACKEND_LOCAL) rememberRetired({ ...keyOfBackend(index), port: 0 });
        store(index, BACKEND_RETIRED, generation, 0);
        near.goes.backend(view, backends.at(index));
      }
    },
    free: (index) => store(index, BACKEND_FREE, generationOf(index), 0),
    serves,
    isAlive: (index, generation) => index < backends.length && generationOf(index) === generation && serves(index),

    read() {
      for (const [key] of retired.entries()) near.comes.frontend(viewOf(key), 0);
      const found = new Map<number, Backend>();
      const generations = new Map<number, number>();
      for (let index = 0; index < backends.length; index++) {
        const state = stateOf(index);
        const generation = generationOf(index);
        if (state === 0 && generation === 0) continue;
        generations.set(index, generation);
        if (!serves(index)) continue;
        const at = backends.at(index);
        near.comes.backend(view, at);
        found.set(index, {
          address: readAddress(backends.bytes, at + BACKEND.address),
          port: portOf(index),
          serviceId: serviceOf(index),
          generation,
          local: state === BACKEND_LOCAL,
          windows: upperOf(index) >>> WINDOWS_SHIFT,
        });
      }
      return { backends: found, generations };
    },
  };
}
