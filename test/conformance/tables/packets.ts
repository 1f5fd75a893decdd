// The packets of kube-proxy's own tests as flow cases: the objects and addresses that they are about, moved to where the
// executors of flow cases have their nodes, pods and clients.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Address, familyOf } from "../../../src/lib/address.ts";
import type { RowProtocol } from "../../../src/model/operations.ts";
import type { EndpointSliceObject, ServiceObject } from "../../../src/wire/kubernetes.ts";
import { normaliseEndpointSlice, normaliseService } from "../../../src/wire/normalise.ts";
import { endpointText } from "../../fakes/fake-maps.ts";
import { node } from "../../flows/builders.ts";
import { type FlowCase, NODE1, NODE1_6, NODES, type Verdict } from "../../flows/flow-case.ts";
import { TABLES } from "./paths.ts";

/** As packets.go writes it. */
interface DumpedPacket {
  readonly test: string;
  readonly name: string;
  readonly source: string;
  readonly protocol: string;
  readonly address: string;
  readonly port: number;
  /** "REJECT", "DROP", "" for none of kube-proxy's business, or the endpoints, by commas. */
  readonly output: string;
  readonly masquerade: boolean;
  readonly masqueradeAll: boolean;
  readonly knowsLocal: boolean;
  /** Addresses of the node that answer on node ports. */
  readonly nodePortAddresses: readonly Address[];
  readonly services: readonly ServiceObject[];
  readonly slices: readonly EndpointSliceObject[];
}

export interface PacketCase {
  readonly name: string;
  readonly flowCase: FlowCase;
  /** kube-proxy's answer: a verdict, or the endpoints that it may choose. */
  readonly answer: Verdict | readonly string[];
}

/** The node of kube-proxy's tests, and where it, its pods and Services are in the lab. */
const NODE_NAME = "test-node";
const NODE_ADDRESSES = new Map<Address, Address>([
  ["192.168.0.2", NODE1],
  ["2001:db8::1", NODE1_6],
]);
const NODE_NETWORK = "192.168.0.0/24";
const PODS = /^10\.(?:0|180)\.|^fd00:10:(?::|180:)/;
/** kube-proxy serves external IPs unasked. */
const EXTERNAL_IPS = "192.168.99.0/24";
const SERVICES = /^172\.30\./;

export function packetCases(): PacketCase[] {
  const lines = readFileSync(join(TABLES, "packets.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as DumpedPacket).flatMap((packet) => caseOf(packet) ?? []);
}

function caseOf(packet: DumpedPacket): PacketCase | undefined {
  // Settings of kube-proxy's alone: what it masquerades, and whether it can tell a pod from a client outside.
  if (packet.masqueradeAll || !packet.knowsLocal) return undefined;
  const move = mover(packet);
  const from = clientOf(packet.source, move);
  const protocol = (packet.protocol || "TCP") as RowProtocol;
  const answer = answerOf(packet.output, move);
  const name = `${packet.test.replace(/^Test/, "")}: ${packet.name}`;
  const expect = typeof answer === "string" ? { verdict: answer } : { kept: answer };
  const to = { address: move(packet.address), port: packet.port, protocol };
  const flowCase = { name, field: "none", given: objectsOf(packet, move), from, to, expect };
  return { name, flowCase, answer };
}

type Move = (address: Address) => Address;

/** Where each address of a packet's objects is in the lab. */
function mover({ slices }: DumpedPacket): Move {
  const moved = new Map(NODE_ADDRESSES);
  const counts = { here: 2, there: 2 };
  for (const { endpoints: listed } of slices) {
    for (const { addresses, nodeName } of listed ?? []) {
      for (const address of addresses) {
        if (moved.has(address)) continue;
        const prefix = familyOf(address) === "IPv4" ? ["10.244", "."] : ["fd00:10:244", "::"];
        const [number, last] = nodeName === NODE_NAME ? [1, counts.here++] : [2, counts.there++];
        moved.set(address, `${prefix[0]}${prefix[1]![0]}${number}${prefix[1]}${last}`);
      }
    }
  }
  return (address) => {
    const known = moved.get(address);
    if (known !== undefined) return known;
    if (SERVICES.test(address)) return address.replace(SERVICES, "10.96.");
    if (!PODS.test(address)) return address;
    return familyOf(address) === "IPv4" ? "10.244.1.99" : "fd00:10:244:1::99";
  };
}

function clientOf(source: Address, move: Move): FlowCase["from"] {
  const address = move(source);
  if (address === NODE1 || address === NODE1_6) return { kind: "host", address };
  return { kind: /^10\.244\.|^fd00:10:244:/.test(address) ? "pod" : "outside", address };
}

function answerOf(output: string, move: Move): PacketCase["answer"] {
  if (output === "") return "pass";
  if (output === "REJECT") return "refuse";
  if (output === "DROP") return "drop";
  const moved = output.split(", ").map((endpoint) => {
    const [, address = "", port = ""] = /^\[?(.*?)\]?:(\d+)$/.exec(endpoint) ?? [];
    return endpointText(move(address), Number(port));
  });
  return moved.sort();
}

function objectsOf({ services, slices, nodePortAddresses }: DumpedPacket, move: Move): FlowCase["given"] {
  const moved = <T>(object: T): T =>
    JSON.parse(JSON.stringify(object), (_, value) => {
      if (value === NODE_NAME) return "node1";
      if (value === NODE_NETWORK) return "192.168.122.0/24";
      return typeof value === "string" && /^[\da-f]*[.:][\da-f.:]+$/.test(value) ? move(value) : value;
    }) as T;
  const served = nodePortAddresses.map(move);
  const given = {
    services: services.map((object) => normaliseService(moved(object))),
    slices: slices.flatMap((object) => normaliseEndpointSlice(moved(withNodes(object))).slice ?? []),
    nodes: [node(1, { internalAddresses: [...new Set([NODE1, NODE1_6, ...served])] }), ...NODES.slice(1)],
    externalIPRanges: [EXTERNAL_IPS],
    nodePortAddresses: served.map((address) => `${address}/${familyOf(address) === "IPv4" ? 32 : 128}`),
  };
  return given;
}

/** An endpoint that names no node, or another than kube-proxy's own, is one of the second node's. */
function withNodes(slice: EndpointSliceObject): EndpointSliceObject {
  const endpoints = (slice.endpoints ?? []).map((endpoint) => ({
    ...endpoint,
    nodeName: endpoint.nodeName === NODE_NAME ? NODE_NAME : "node2",
  }));
  return { ...slice, endpoints } as EndpointSliceObject;
}
