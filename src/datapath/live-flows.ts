// How many flows the programs still have to translate packets of: what is waited for before they are taken out.
import type { RowProtocol } from "../model/operations.ts";
import type { Dataplane } from "./dataplane.ts";
import { type FlowTableName, readClocks, wasReset } from "./flow-table.ts";
import { FLOW, FLOW_PATH_VALUES, FLOW_STATE_VALUES, TUPLE } from "./layout.gen.ts";
import { protocolName, viewOf } from "./row-codec.ts";

/** A flow on its way from `openings` to its established table is counted once at least. */
const TABLES: readonly FlowTableName[] = ["openings", "tcp_flows", "udp_flows"];
const STEP = 2048;
const { STATE_FIN_CLIENT, STATE_FIN_BACKEND } = FLOW_STATE_VALUES;
const BOTH_FINS = STATE_FIN_CLIENT | STATE_FIN_BACKEND;
/** A flow that ended may have its last acknowledgement under way, or one more of it. */
const ENDED_SECONDS = 3;

export type LiveFlows = Readonly<Record<RowProtocol, number>>;

/** Are both ends written as they are read? */
function changesNothing(keys: Uint8Array, key: number, values: Uint8Array, flow: number): boolean {
  const from = keys.subarray(key, key + TUPLE.proto);
  return Buffer.compare(from, values.subarray(flow + FLOW.write, flow + FLOW.write + TUPLE.proto)) === 0;
}

/** Flows by protocol, yielding nothing where others may have their turn. Those that only claim a pair of ports are none. */
export function* countLiveFlows(dataplane: Dataplane, hz: number): Generator<void, LiveFlows> {
  const { jiffies } = readClocks(dataplane);
  const found = { TCP: 0, UDP: 0, SCTP: 0 };
  for (const table of TABLES) {
    for (const { keys, values, count } of dataplane.map(table).batches(STEP)) {
      const view = viewOf(values);
      for (let i = 0; i < count; i++) {
        const key = i * TUPLE.size;
        const flow = i * FLOW.size;
        if (values[flow + FLOW.answer] !== 0) continue;
        if (values[flow + FLOW.path] === FLOW_PATH_VALUES.PATH_PORT_CHANGE && changesNothing(keys, key, values, flow))
          continue;
        const state = view.getUint32(flow + FLOW.state, true);
        const idle = (jiffies - view.getUint32(flow + FLOW.seen, true)) | 0;
        if (((state & BOTH_FINS) === BOTH_FINS || wasReset(state)) && idle > ENDED_SECONDS * hz) continue;
        const protocol = protocolName(keys[key + TUPLE.proto]!);
        if (protocol !== undefined) found[protocol]++;
      }
      yield;
    }
  }
  return found;
}
