// Flows put into the tables by hand, such that each one's packets are rewritten to the next one's tuple, and the last one's to
// the first's: a program that rewrites its packet can then be repeated on it a million times, over as many flows as one likes.
import type { Dataplane } from "../src/datapath/dataplane.ts";
import { sealFlow } from "../src/datapath/flow-check.ts";
import { readClocks } from "../src/datapath/flow-table.ts";
import {
  FLOW,
  FLOW_STATE_VALUES,
  type NextHop,
  TUPLE,
  type Tuple,
  writeFlow,
  writeNextHop,
  writeTuple,
} from "../src/datapath/layout.gen.ts";
import { backendOfFlow } from "../src/datapath/near.ts";
import { NO_HOP } from "../test/datapath/no-hop.ts";

/** The two ends of a packet; the hook is the path's to say. */
export type Ends = Omit<Tuple, "hook">;

export interface CycleStep {
  readonly key: Ends;
  readonly backend: number;
  readonly generation: number;
  readonly service: number;
}

function reversed(tuple: Ends): Ends {
  return {
    source: tuple.destination,
    destination: tuple.source,
    sourcePort: tuple.destinationPort,
    destinationPort: tuple.sourcePort,
    proto: tuple.proto,
  };
}

/** A next hop that every packet of the cycle leaves by: out of the device, from and to the same MAC. */
export interface CycleHop {
  readonly ifindex: number;
  readonly mac: Uint8Array;
}

const HOP_FACTORS = [0x1e3779b1n, 0x42b2ae3dn, 0x165667b1n];
const U64 = (1n << 64n) - 1n;

/** hop_remember() and hop_check() of bpf/flow.h, for a flow whose check word is there. */
function putHop(flow: DataView, flowAt: number, { ifindex, mac }: CycleHop, asked: number): void {
  const hop: NextHop = { ifindex, asked, destinationMac: mac, mtu: 1500, sourceMac: mac, flags: 0, valid: 1 };
  const at = flowAt + FLOW.hop;
  writeNextHop(new Uint8Array(flow.buffer, flow.byteOffset), at, hop);
  let h = BigInt(flow.getUint32(flowAt + FLOW.check, true));
  HOP_FACTORS.forEach((factor, i) => {
    h += flow.getBigUint64(at + i * 8, true) * factor;
  });
  h &= U64;
  flow.setUint32(flowAt + FLOW.hopCheck, Number((h ^ (h >> 32n)) & 0xffffffffn), true);
}

/**
 * Enters the cycle as established flows, their partners too, with what makes programs look for them: their backends' marks, and the
 * filter's bits. All steps are of one protocol.
 */
export function putCycle(
  dataplane: Dataplane,
  steps: readonly CycleStep[],
  path: number,
  answer: boolean,
  hop?: CycleHop,
): void {
  const tcp = steps[0]?.key.proto === 6;
  const count = steps.length * 2;
  const keys = new Uint8Array(count * TUPLE.size);
  const values = new Uint8Array(count * FLOW.size);
  const keyView = new DataView(keys.buffer);
  const valueView = new DataView(values.buffer);
  const { jiffies: seen, allJiffies } = readClocks(dataplane);
  const state = FLOW_STATE_VALUES.STATE_ANSWERED | FLOW_STATE_VALUES.STATE_ESTABLISHED;
  let row = 0;
  const put = (key: Ends, write: Ends, step: CycleStep, answers: boolean): void => {
    const { backend, generation, service } = step;
    const common = {
      backend,
      generation,
      service,
      seen,
      state,
      number: 0,
      path,
      check: 0,
      hop: NO_HOP,
      hopCheck: 0,
      policy: 0,
    };
    const keyAt = row * TUPLE.size;
    const valueAt = row * FLOW.size;
    // sealFlow gives both their hooks.
    writeTuple(keys, keyAt, { ...key, hook: 0 });
    writeFlow(values, valueAt, { ...common, write: { ...write, hook: 0 }, answer: answers ? 1 : 0 });
    sealFlow(keyView, keyAt, valueView, valueAt);
    if (hop !== undefined) putHop(valueView, valueAt, hop, seen);
    const { sum, met } = backendOfFlow(keyView, keyAt, valueView, valueAt);
    dataplane.near.comes.flow(keyView, keyAt, valueView, valueAt, sum);
    Atomics.store(dataplane.metBackends, met, allJiffies);
    row++;
  };
  steps.forEach((step, i) => {
    const next = steps[(i + 1) % steps.length]!.key;
    put(step.key, next, step, answer);
    put(reversed(next), reversed(step.key), step, !answer);
  });
  dataplane.map(tcp ? "tcp_flows" : "udp_flows").updateBatch(keys, values, count);
}
