// Every way that a translated conversation takes, with the programs and devices that see its two directions: for tests of what
// must hold on all of them.

import {
  again,
  answer,
  type Family,
  frame,
  type objects,
  podFrame,
  portsOf,
  send,
  type Transport,
} from "./conversation.ts";
import type { PacketBuilder } from "./packet.ts";
import { type Device, macOf, type Program, type Run, type TestNode } from "./test-node.ts";

export const CLIENT_PORT = 40000;

interface Side {
  readonly program: Program;
  readonly device: Device;
  /** The device that the packet came in by, when it was forwarded. */
  readonly from?: Device;
}

export interface Way {
  readonly name: string;
  readonly backend: Parameters<typeof objects>[0][number];
  /** What `flow_path` calls it. */
  readonly path: string;
  readonly client: keyof Family & ("client" | "pod" | "ptp" | "here" | "node");
  readonly frontend: "node" | "vip";
  readonly request: Side;
  readonly reply: Side;
}

const OUTSIDE = { client: "client", frontend: "node" } as const;
const uplinkIn = { program: "tc_uplink_ingress", device: "up0" } as const;
const uplinkOut = { program: "tc_uplink_egress", device: "up0" } as const;
const podIn = (device: Device): Side => ({ program: "tc_pod_ingress", device });
const podOut = (device: Device): Side => ({ program: "tc_pod_egress", device });

export const WAYS: readonly Way[] = [
  {
    ...OUTSIDE,
    name: "outside, backend on this node",
    backend: "here",
    path: "OUTSIDE_LOCAL",
    request: uplinkIn,
    reply: { ...uplinkOut, from: "cni0" },
  },
  {
    ...OUTSIDE,
    name: "outside, backend on another node",
    backend: "there",
    path: "OUTSIDE_REMOTE",
    request: uplinkIn,
    reply: uplinkIn,
  },
  {
    name: "a pod on a bridge",
    backend: "there",
    path: "POD",
    client: "pod",
    frontend: "vip",
    request: podIn("pod99"),
    reply: podOut("pod99"),
  },
  {
    name: "a pod without bridge",
    backend: "there",
    path: "POD",
    client: "ptp",
    frontend: "vip",
    request: podIn("p5"),
    reply: podOut("p5"),
  },
  {
    name: "a pod that is its own backend",
    backend: "here",
    path: "HAIRPIN",
    client: "here",
    frontend: "vip",
    request: podIn("pod2"),
    reply: podIn("pod2"),
  },
  {
    name: "the host, backend on another node",
    backend: "there",
    path: "HOST_REMOTE",
    client: "node",
    frontend: "vip",
    request: uplinkOut,
    reply: uplinkIn,
  },
  {
    name: "the host, backend on this node",
    backend: "here",
    path: "HOST_LOCAL",
    client: "node",
    frontend: "vip",
    request: uplinkOut,
    reply: podIn("pod2"),
  },
];

const starts: Readonly<Record<Way["client"], () => PacketBuilder>> = {
  client: () => frame(),
  pod: () => podFrame(99),
  ptp: () => podFrame(5),
  here: () => podFrame(2),
  node: () => frame(macOf("lan", 11), macOf("lan", 1)),
};

export interface Talk {
  /** MACs of what the client sends. */
  readonly start: PacketBuilder;
  readonly client: { readonly address: string; readonly port: number };
  readonly frontend: { readonly address: string; readonly port: number };
  /** The client's first packet. */
  readonly first: Uint8Array;
  request(packet: Uint8Array): Run;
  reply(packet: Uint8Array): Run;
  /** Until both directions agree; what the client's first packet became. */
  establish(): Uint8Array;
}

/** A conversation by that way, on a node that serves its backend. */
export function talkBy(way: Way, node: TestNode, family: Family, transport: Transport, port = CLIENT_PORT): Talk {
  const ports = portsOf(transport);
  const start = starts[way.client]();
  const client = { address: family[way.client], port };
  const frontend = { address: family[way.frontend], port: way.frontend === "node" ? ports.nodePort : ports.port };
  const first = send(start, transport, client, frontend);
  const run = ({ program, device, from }: Side, packet: Uint8Array): Run =>
    node.run(program, packet, { device, ...(from === undefined ? {} : { ingressIfindex: node.ifindex(from) }) });
  return {
    start,
    client,
    frontend,
    first,
    request: (packet) => run(way.request, packet),
    reply: (packet) => run(way.reply, packet),
    establish() {
      const { packet } = run(way.request, first);
      run(way.reply, answer(packet));
      run(way.request, transport === "TCP" ? again(first) : first);
      return packet;
    },
  };
}

/** A way that has this name. */
export function wayOf(name: string): Way {
  const found = WAYS.find((way) => way.name === name);
  if (found === undefined) throw new Error(`there is no way '${name}'`);
  return found;
}
