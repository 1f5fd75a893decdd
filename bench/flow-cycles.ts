// Flows put into the tables by hand, such that each one's packets are rewritten to the next one's tuple, and the last one's to
// the first's: a program that rewrites its packet can then be repeated on it a million times, over as many flows as one likes.
import type { Dataplane } from "../src/datapath/dataplane.ts";
import { readClocks } from "../src/datapath/flow-table.ts";
import {
  FLOW,
  FLOW_STATE_VALUES,
  type NextHop,
  TUPLE,
  type Tuple,
  writeFlow,
  writeTuple,
} from "../src/datapath/layout.gen.ts";

const KEY_WORDS = [0x1e3779b1n, 0x42b2ae3dn, 0x165667b1n, 0x56e8feb9n, 0x7f51afd7n];
const WRITE_WORDS = [0x27d4eb2fn, 0x61c88647n, 0x2545f491n, 0x5bd1e995n, 0x4f1bbcddn];
const U64 = (1n << 64n) - 1n;

/** flow_check() of bpf/flow.h. */
function flowCheck(key: DataView, keyAt: number, flow: DataView, flowAt: number): number {
  const u32 = (offset: number): bigint => BigInt(flow.getUint32(flowAt + offset, true));
  const u8 = (offset: number): bigint => BigInt(flow.getUint8(flowAt + offset));
  let h = 0n;
  KEY_WORDS.forEach((factor, i) => {
    h += key.getBigUint64(keyAt + i * 8, true) * factor;
  });
  WRITE_WORDS.forEach((factor, i) => {
    h += flow.getBigUint64(flowAt + FLOW.write + i * 8, true) * factor;
  });
  h += ((u32(FLOW.generation) << 32n) | u32(FLOW.backend)) * 0x3c6ef373n;
  h += u32(FLOW.service) * 0x7feb352dn + ((u8(FLOW.path) << 8n) | u8(FLOW.answer)) * 0x046ca68bn;
  h &= U64;
  return Number((h ^ (h >> 32n)) & 0xffffffffn);
}

export interface CycleStep {
  readonly key: Tuple;
  readonly backend: number;
  readonly generation: number;
  readonly service: number;
}

/** Never asked for a route: the first packet does. */
const NO_HOP: NextHop = {
  ifindex: 0,
  asked: 0,
  destinationMac: new Uint8Array(6),
  mtu: 0,
  sourceMac: new Uint8Array(6),
  flags: 0,
  valid: 0,
};

function reversed(tuple: Tuple): Tuple {
  return {
    source: tuple.destination,
    destination: tuple.source,
    sourcePort: tuple.destinationPort,
    destinationPort: tuple.sourcePort,
    proto: tuple.proto,
  };
}

/** Enters the cycle as established flows, their partners too. All steps are of one protocol. */
export function putCycle(dataplane: Dataplane, steps: readonly CycleStep[], path: number, answer: boolean): void {
  const tcp = steps[0]?.key.proto === 6;
  const count = steps.length * 2;
  const keys = new Uint8Array(count * TUPLE.size);
  const values = new Uint8Array(count * FLOW.size);
  const keyView = new DataView(keys.buffer);
  const valueView = new DataView(values.buffer);
  const seen = readClocks(dataplane).jiffies;
  const state = FLOW_STATE_VALUES.STATE_ANSWERED | FLOW_STATE_VALUES.STATE_ESTABLISHED;
  let row = 0;
  const put = (key: Tuple, write: Tuple, step: CycleStep, answers: boolean): void => {
    const { backend, generation, service } = step;
    const common = { backend, generation, service, seen, state, sequence: 0, path, check: 0, hop: NO_HOP, hopCheck: 0 };
    writeTuple(keys, row * TUPLE.size, key);
    writeFlow(values, row * FLOW.size, { ...common, write, answer: answers ? 1 : 0 });
    const check = flowCheck(keyView, row * TUPLE.size, valueView, row * FLOW.size);
    valueView.setUint32(row * FLOW.size + FLOW.check, check, true);
    row++;
  };
  steps.forEach((step, i) => {
    const next = steps[(i + 1) % steps.length]!.key;
    put(step.key, next, step, answer);
    put(reversed(next), reversed(step.key), step, !answer);
  });
  dataplane.map(tcp ? "tcp_flows" : "udp_flows").updateBatch(keys, values, count);
}
