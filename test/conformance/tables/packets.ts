// The packets of kube-proxy's own tests as flow cases: the objects and addresses that they are about, moved to where the
// executors of flow cases have their nodes, pods and clients.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Address } from "../../../src/lib/address.ts";
import type { RowProtocol } from "../../../src/model/operations.ts";
import type { EndpointSliceObject, ServiceObject } from "../../../src/wire/kubernetes.ts";
import { normaliseEndpointSlice, normaliseService } from "../../../src/wire/normalise.ts";
import { type FlowCase, NODE1, type Verdict } from "../../flows/flow-case.ts";
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
  readonly services: readonly ServiceObject[];
  readonly slices: readonly EndpointSliceObject[];
}

export interface PacketCase {
  readonly name: string;
  readonly flowCase: FlowCase;
  /** kube-proxy's answer: a verdict, or the endpoints that it may choose. */
  readonly answer: Verdict | readonly string[];
}

/** The node of kube-proxy's tests, its second address, and the prefixes of its pods and of Services. */
const THEIR = { name: "test-node", address: "192.168.0.2", pods: /^10\.(?:0|180)\./, services: /^172\.30\./ } as const;

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
  return { name, flowCase: { name, given: objectsOf(packet, move), from, to, expect }, answer };
}

type Move = (address: Address) => Address;

/** Where each address of a packet's objects is in the lab. */
function mover({ slices }: DumpedPacket): Move {
  const endpoints = new Map<Address, Address>();
  const counts = { here: 2, there: 2 };
  for (const { endpoints: listed } of slices) {
    for (const { addresses, nodeName } of listed ?? []) {
      const isHere = nodeName === THEIR.name;
      for (const address of addresses) {
        if (endpoints.has(address)) continue;
        endpoints.set(address, isHere ? `10.244.1.${counts.here++}` : `10.244.2.${counts.there++}`);
      }
    }
  }
  return (address) => {
    if (address === THEIR.address) return NODE1;
    const known = endpoints.get(address);
    if (known !== undefined) return known;
    if (THEIR.services.test(address)) return address.replace(THEIR.services, "10.96.");
    return THEIR.pods.test(address) ? "10.244.1.99" : address;
  };
}

function clientOf(source: Address, move: Move): FlowCase["from"] {
  const address = move(source);
  if (address === NODE1) return { kind: "host", address };
  return { kind: address.startsWith("10.244.") ? "pod" : "outside", address };
}

function answerOf(output: string, move: Move): PacketCase["answer"] {
  if (output === "") return "pass";
  if (output === "REJECT") return "refuse";
  if (output === "DROP") return "drop";
  const moved = output.split(", ").map((endpoint) => {
    const [address = "", port = ""] = endpoint.split(":");
    return `${move(address)}:${port}`;
  });
  return moved.sort();
}

function objectsOf({ services, slices }: DumpedPacket, move: Move): FlowCase["given"] {
  const moved = <T>(object: T): T =>
    JSON.parse(JSON.stringify(object), (_, value) =>
      typeof value === "string" && /^[\d.]+$/.test(value) ? move(value) : value === THEIR.name ? "node1" : value,
    ) as T;
  return {
    services: services.map((object) => normaliseService(moved(object))),
    slices: slices.flatMap((object) => normaliseEndpointSlice(moved(withNodes(object))).slice ?? []),
  };
}

/** An endpoint that names no node, or another than kube-proxy's own, is one of the second node's. */
function withNodes(slice: EndpointSliceObject): EndpointSliceObject {
  const endpoints = (slice.endpoints ?? []).map((endpoint) => ({
    ...endpoint,
    nodeName: endpoint.nodeName === THEIR.name ? THEIR.name : "node2",
  }));
  return { ...slice, endpoints } as EndpointSliceObject;
}
