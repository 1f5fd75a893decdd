// Test runs by the million: one call of bpf(2) each, over buffers that are made once.
import { Command } from "../../../src/libbpf/constants.ts";
import { EINVAL } from "../../../src/libbpf/errno.ts";
import { errnoName } from "../../../src/libbpf/mod.ts";
import { addressOf, bpfCall } from "../../../src/libbpf/native.ts";
import type { Device, Program, TestNode } from "../datapath/test-node.ts";

/** Where a packet is put to a program. */
export interface Place {
  readonly program: Program;
  readonly device: Device;
  /** The packet was forwarded from there. */
  readonly from?: Device;
  readonly gsoSize?: number;
}

export interface Answer {
  readonly action: number;
  /** Overwritten by the next run. */
  readonly packet: Uint8Array;
}

const ROOM = 4096;

/** A kernel may want the whole of the network header that the frame's type promises. */
const SHORTEST_TAKEN = 14 + 40;

/** Runs packets on the node's programs. Called inside the node's namespace. undefined: too short for this kernel's test runs. */
export function createRunner(node: TestNode): (place: Place, packet: Uint8Array) => Answer | undefined {
  const data = new Uint8Array(ROOM);
  const out = new Uint8Array(ROOM);
  const contexts = new Map<Place, { readonly bytes: Uint8Array; readonly fd: number; readonly isXdp: boolean }>();
  const attributes = new Uint8Array(80);
  const view = new DataView(attributes.buffer);
  const [dataAt, outAt] = [addressOf(data), addressOf(out)];
  const contextOf = (place: Place) => {
    const isXdp = place.program === "xdp_uplink";
    const bytes = new Uint8Array(isXdp ? 24 : 192);
    const fields = new DataView(bytes.buffer);
    if (isXdp) fields.setUint32(12, node.ifindex(place.device), true);
    else {
      fields.setUint32(36, place.from === undefined ? 0 : node.ifindex(place.from), true);
      fields.setUint32(40, node.ifindex(place.device), true);
      fields.setUint32(176, place.gsoSize ?? 0, true);
    }
    return { bytes, fd: node.dataplane.program(place.program).fd, isXdp };
  };
  return (place, packet) => {
    let context = contexts.get(place);
    if (context === undefined) {
      context = contextOf(place);
      contexts.set(place, context);
    }
    data.set(packet);
    if (context.isXdp) new DataView(context.bytes.buffer).setUint32(4, packet.length, true);
    view.setUint32(0, context.fd, true);
    view.setUint32(8, packet.length, true);
    view.setUint32(12, ROOM, true);
    view.setBigUint64(16, dataAt, true);
    view.setBigUint64(24, outAt, true);
    view.setUint32(32, 1, true);
    view.setUint32(40, context.bytes.length, true);
    view.setBigUint64(48, addressOf(context.bytes), true);
    const result = bpfCall(Command.progTestRun, attributes);
    if (result === -EINVAL && packet.length < SHORTEST_TAKEN) return undefined;
    if (result < 0) throw new Error(`${place.program} took no packet of ${packet.length} bytes: ${errnoName(-result)}`);
    return { action: view.getInt32(4, true), packet: out.subarray(0, view.getUint32(12, true)) };
  };
}
