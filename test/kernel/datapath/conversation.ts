// What the tests of packets talk about: clients, addresses and backends of both families, a Service over TCP and UDP, and
// packets of its conversations. Data and packets only.
import type { Address } from "../../../src/lib/address.ts";
import type { EndpointSlice, Service } from "../../../src/model/objects.ts";
import { endpoint, service, slice } from "../../flows/builders.ts";
import {
  type PacketBuilder,
  type Parsed,
  PROTOCOL,
  packet,
  parsePacket,
  SCTP_CHUNK,
  type TcpFields,
} from "./packet.ts";
import { macOf } from "./test-node.ts";

export interface Family {
  readonly name: "IPv4" | "IPv6";
  readonly client: Address;
  readonly otherClient: Address;
  readonly node: Address;
  readonly otherNode: Address;
  readonly vip: Address;
  /** A LoadBalancer address. */
  readonly lb: Address;
  /** Pods of this node: two backends, a client, and one without bridge. */
  readonly here: Address;
  readonly hereToo: Address;
  readonly pod: Address;
  readonly ptp: Address;
  /** Pods of another node: by the LAN, and behind a tunnel of MTU 1400. */
  readonly there: Address;
  readonly far: Address;
  /** What the kernel would use toward a pod, and out of up1. */
  readonly bridge: Address;
  readonly tunnel: Address;
  /** In the Service range, nobody's. */
  readonly free: Address;
  readonly router: Address;
  readonly header: 20 | 40;
}

export const V4: Family = {
  name: "IPv4",
  client: "192.168.122.51",
  otherClient: "192.168.122.52",
  node: "192.168.122.11",
  otherNode: "192.168.122.12",
  vip: "10.96.0.10",
  lb: "192.168.122.111",
  here: "10.244.1.2",
  hereToo: "10.244.1.3",
  pod: "10.244.1.99",
  ptp: "10.244.1.5",
  there: "10.244.2.2",
  far: "10.244.9.2",
  bridge: "10.244.1.1",
  tunnel: "10.8.0.1",
  free: "10.96.7.7",
  router: "203.0.113.1",
  header: 20,
};

export const V6: Family = {
  name: "IPv6",
  client: "fd00:192:168:122::51",
  otherClient: "fd00:192:168:122::52",
  node: "fd00:192:168:122::11",
  otherNode: "fd00:192:168:122::12",
  vip: "fd00:10:96::a",
  lb: "fd00:192:168:122::111",
  here: "fd00:10:244:1::2",
  hereToo: "fd00:10:244:1::3",
  pod: "fd00:10:244:1::99",
  ptp: "fd00:10:244:1::5",
  there: "fd00:10:244:2::2",
  far: "fd00:10:244:9::2",
  bridge: "fd00:10:244:1::1",
  tunnel: "fd00:8::1",
  free: "fd00:10:96::77",
  router: "2001:db8::1",
  header: 40,
};

export const FAMILIES = [V4, V6] as const;

export type Transport = "TCP" | "UDP" | "UDP without checksum" | "SCTP";
export const TRANSPORTS: readonly Transport[] = ["TCP", "UDP", "UDP without checksum"];

/** Family and transport of each conversation; IPv6 knows no UDP without checksum. */
export const CONVERSATIONS: readonly (readonly [Family, Transport])[] = FAMILIES.flatMap((family) =>
  TRANSPORTS.filter((transport) => family === V4 || transport !== "UDP without checksum").map(
    (transport) => [family, transport] as const,
  ),
);

/** Ports by transport: of the cluster address, of nodes, of backends. */
export const portsOf = (transport: Transport): { port: number; nodePort: number; target: number } =>
  transport === "TCP"
    ? { port: 80, nodePort: 30080, target: 8080 }
    : transport === "SCTP"
      ? { port: 3868, nodePort: 30868, target: 13868 }
      : { port: 53, nodePort: 30053, target: 5353 };

/** Service "web" of both families and protocols with these endpoints ("here" and so on, by family). */
export function objects(
  names: readonly ("here" | "hereToo" | "there" | "far" | "ptp")[],
  given: Partial<Omit<Service, "ports" | "namespace" | "name">> = {},
): { services: readonly Service[]; slices: readonly EndpointSlice[] } {
  const ports = [
    { name: "t", protocol: "TCP", port: 8080 },
    { name: "u", protocol: "UDP", port: 5353 },
  ] as const;
  return {
    services: [
      service({
        type: "LoadBalancer",
        clusterIPs: [V4.vip, V6.vip],
        loadBalancerAddresses: [V4, V6].map(({ lb }) => ({ address: lb, ipMode: "VIP", fromPool: true })),
        ports: [
          { name: "t", protocol: "TCP", port: 80, nodePort: 30080 },
          { name: "u", protocol: "UDP", port: 53, nodePort: 30053 },
        ],
        ...given,
      }),
    ],
    slices: FAMILIES.map((family) =>
      slice({
        name: `web-${family.name}`,
        family: family.name,
        ports,
        endpoints: names.map((name) => endpoint(family[name], name === "there" || name === "far" ? "node2" : "node1")),
      }),
    ),
  };
}

/** The same Service over SCTP alone, whose pods listen on `target`. */
export function sctpObjects(names: Parameters<typeof objects>[0], target: number): ReturnType<typeof objects> {
  const { port, nodePort } = portsOf("SCTP");
  const { services, slices } = objects(names);
  const protocol = "SCTP";
  return {
    services: services.map((one) => ({
      ...one,
      ports: [{ name: "s", protocol, port, nodePort, targetPort: target }],
    })),
    slices: slices.map((one) => ({ ...one, ports: [{ name: "s", protocol, port: target }] })),
  };
}

export interface Peer {
  readonly address: Address;
  readonly port: number;
}

/** MACs of a frame from a host of the LAN to this node, unless said otherwise. */
export function frame(from: string = macOf("lan", 51), to: string = macOf("lan", 11)): PacketBuilder {
  return packet().eth(from, to);
}

/** MACs of a frame from a pod of this node: to its bridge, or from the pod without one to the pod's device. */
export function podFrame(pod: 2 | 3 | 5 | 99 = 99): PacketBuilder {
  return packet().eth(macOf("pod", pod), macOf("pod", pod === 5 ? 0x85 : 1));
}

/** The chunk that stands for a segment with these flags: of the handshake, else data. */
const CHUNK_OF: Readonly<Record<string, number>> = {
  S: SCTP_CHUNK.init,
  SA: SCTP_CHUNK.initAck,
  A: SCTP_CHUNK.cookieEcho,
  R: SCTP_CHUNK.abort,
};

/** A packet of `transport` from one end to another on top of `start`. */
export function send(
  start: PacketBuilder,
  transport: Transport,
  from: Peer,
  to: Peer,
  fields: TcpFields & { readonly payload?: number; readonly ttl?: number; readonly dontFragment?: boolean } = {},
): Uint8Array {
  const { payload = transport === "TCP" ? 0 : 9, ttl = 64, dontFragment = false, ...tcp } = fields;
  const built = start.ip(from.address, to.address, { ttl, dontFragment }).payload(payload);
  if (transport === "TCP") return built.tcp(from.port, to.port, tcp).bytes();
  if (transport === "SCTP") {
    const { flags = "S", seq = 1000, ack = 0 } = tcp;
    const chunk = CHUNK_OF[flags] ?? SCTP_CHUNK.data;
    return built.sctp(from.port, to.port, { chunk, tag: ack, initiateTag: seq + 1 }).bytes();
  }
  return built.udp(from.port, to.port, { checksum: transport === "UDP" }).bytes();
}

function transportOf({ protocol, checksum }: Parsed): Transport {
  if (protocol === PROTOCOL.tcp) return "TCP";
  if (protocol === PROTOCOL.sctp) return "SCTP";
  return checksum === 0 ? "UDP without checksum" : "UDP";
}

/** What the receiver of `bytes` answers: ends and MACs swapped, a SYN-ACK for a SYN unless flags are given. */
export function answer(
  bytes: Uint8Array,
  fields: TcpFields & { readonly payload?: number; readonly ttl?: number } = {},
): Uint8Array {
  const got = parsePacket(bytes);
  return send(
    packet().eth(got.eth!.destination, got.eth!.source),
    transportOf(got),
    { address: got.destination, port: got.destinationPort },
    { address: got.source, port: got.sourcePort },
    { flags: "SA", seq: 7000, ack: got.seq + 1, ...fields },
  );
}

/** The next packet of the same sender. */
export function again(
  bytes: Uint8Array,
  fields: TcpFields & { readonly payload?: number; readonly ttl?: number } = {},
): Uint8Array {
  const got = parsePacket(bytes);
  return send(
    packet().eth(got.eth!.source, got.eth!.destination),
    transportOf(got),
    { address: got.source, port: got.sourcePort },
    { address: got.destination, port: got.destinationPort },
    { flags: "A", seq: got.seq + 1, ack: 7001, ...fields },
  );
}

/** "10.0.0.1:80", "[fd00::1]:80". */
export const at = (address: Address, port: number): string =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;

/** The words after the ends in a packet's text. */
export const words = (transport: Transport, flags = "S"): string =>
  transport === "TCP" ? `tcp ${flags}` : transport === "SCTP" ? `sctp ${CHUNK_OF[flags] ?? SCTP_CHUNK.data}` : "udp";
