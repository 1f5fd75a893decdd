// Runs flow cases on the loaded programs: packets by BPF_PROG_TEST_RUN at the hook where the case's client comes in. The
// outcome has the form of an expectation, so that it compares with the case itself and with the model of the datapath.
import { SETTING_FLAG_VALUES } from "../../src/datapath/layout.gen.ts";
import { familyOf, unusableReason } from "../../src/lib/address.ts";
import { hasFeature } from "../../src/libbpf/mod.ts";
import { endpointText } from "../fakes/fake-maps.ts";
import type { Namespace } from "../kernel/datapath/namespace.ts";
import { packet, parsePacket, SCTP_CHUNK } from "../kernel/datapath/packet.ts";
import { openSocket } from "../kernel/datapath/raw-sockets.ts";
import {
  ACTION,
  type Device,
  macOf,
  type Program,
  type Run,
  type TestNode,
  XDP_ACTION,
} from "../kernel/datapath/test-node.ts";
import { expected } from "./expected.ts";
import { type FlowCase, modelOptions, type Served, type Verdict } from "./flow-case.ts";

/** Enough that of up to four backends each is chosen. */
const FLOWS = 64;
const CONNECTIONS = 32;
/** Of what is not served: nothing is chosen. */
const FEW = 8;
const FIRST_PORT = 20000;

const isServed = ({ expect }: FlowCase): boolean => !("verdict" in expect);

/** No socket sends such a packet as the first one, or none that the socket programs point elsewhere. */
export function isForPacketsOnly({ packet, to }: FlowCase): boolean {
  return packet !== undefined || to.protocol === "SCTP" || unusableReason(to.address) === "unspecified";
}

export interface FlowOutcome {
  readonly verdict: Verdict | undefined;
  readonly backend: string | undefined;
  readonly source: "kept" | "translated" | undefined;
}

/** Has no packets: what goes to loopback never meets a hook for packets. */
export function isForSocketsOnly({ from, to }: FlowCase): boolean {
  return from.kind === "host" && unusableReason(to.address) === "loopback";
}

function hookOf(from: FlowCase["from"]): { readonly program: Program; readonly device: Device } {
  if (from.kind === "outside") return { program: "tc_uplink_ingress", device: "up0" };
  if (from.kind === "host") return { program: "tc_uplink_egress", device: "up0" };
  const last = /(?:\.|::)(\d+)$/.exec(from.address)?.[1];
  return { program: "tc_pod_ingress", device: last === "2" || last === "3" ? `pod${last}` : "pod99" };
}

/** The first packet of the flow from `clientPort`. */
export function firstPacket({ given, from, to, packet: kind }: FlowCase, clientPort: number): Uint8Array {
  const last = Number(/(?:\.|::)(\d+)$/.exec(from.address)?.[1] ?? 1);
  const side = from.kind === "outside" ? "lan" : "pod";
  // The uplink's MAC, or that of the pods' bridge.
  const own = side === "lan" ? 10 + Number((given.thisNode ?? "node1").slice("node".length)) : 1;
  const start = packet()
    .eth(macOf(side, last), macOf(side, kind === "another-mac" ? 77 : own))
    .ip(from.address, to.address)
    .payload(to.protocol === "TCP" ? 0 : 12);
  if (kind === "echo") return start.icmp(familyOf(to.address) === "IPv4" ? 8 : 128, 0, clientPort).bytes();
  const answers = kind === "syn-ack";
  switch (to.protocol) {
    case "TCP":
      return start.tcp(clientPort, to.port, { flags: answers ? "SA" : "S" }).bytes();
    case "SCTP":
      return start.sctp(clientPort, to.port, { chunk: answers ? SCTP_CHUNK.initAck : SCTP_CHUNK.init }).bytes();
    default:
      return start.udp(clientPort, to.port).bytes();
  }
}

function outcomeOf(run: Run, sent: Uint8Array, { from, to, counted }: FlowCase, clientPort: number): FlowOutcome {
  if (counted !== undefined && run.verdict !== counted) throw new Error(`counted as ${run.verdict}`);
  if (run.verdict === "VERDICT_NEXT") {
    if (Buffer.compare(run.packet, sent) !== 0 || run.action !== ACTION.next)
      throw new Error(`a packet that is none of ours was changed: ${run.text}`);
    return { verdict: "pass", backend: undefined, source: undefined };
  }
  if (run.verdict === "VERDICT_REFUSE") return { verdict: "refuse", backend: undefined, source: undefined };
  if (run.verdict === "VERDICT_ECHO") {
    const { source, destination, icmp, problems } = parsePacket(run.packet);
    const wanted = familyOf(to.address) === "IPv4" ? 0 : 129;
    if (source !== to.address || destination !== from.address || icmp?.type !== wanted || problems.length > 0)
      throw new Error(`no answer to an echo request: ${run.text}`);
    return { verdict: "echo", backend: undefined, source: undefined };
  }
  if (run.verdict.startsWith("DROP_")) {
    if (run.action !== ACTION.shot) throw new Error(`${run.verdict} did not drop`);
    return { verdict: "drop", backend: undefined, source: undefined };
  }
  if (run.verdict !== "VERDICT_PASS" && run.verdict !== "VERDICT_FORWARD")
    throw new Error(`unexpected ${run.verdict}: ${run.text}`);
  const parsed = parsePacket(run.packet);
  if (parsed.problems.length > 0) throw new Error(run.text);
  if (familyOf(parsed.destination) !== familyOf(to.address)) throw new Error(`another family: ${run.text}`);
  const kept = parsed.source === from.address && parsed.sourcePort === clientPort;
  return {
    verdict: undefined,
    backend: endpointText(parsed.destination, parsed.destinationPort),
    source: kept ? "kept" : "translated",
  };
}

/** The outcomes in the form of an expectation. Throws when flows of one case were decided differently. */
export function summary(outcomes: readonly FlowOutcome[]): Served | { verdict: Verdict } {
  const verdicts = new Set(outcomes.map(({ verdict }) => verdict));
  if (verdicts.size !== 1) throw new Error(`flows of one case differ: ${[...verdicts].join(", ")}`);
  const [verdict] = verdicts;
  if (verdict !== undefined) return { verdict };
  const backends = (source: string): string[] =>
    [...new Set(outcomes.filter((one) => one.source === source).map(({ backend }) => backend ?? ""))].sort();
  const [kept, translated] = [backends("kept"), backends("translated")];
  return { ...(kept.length > 0 ? { kept } : {}), ...(translated.length > 0 ? { translated } : {}) };
}

/** Fills the node's maps with the case's objects, without any flow. */
export async function prepare(node: TestNode, { given }: FlowCase): Promise<void> {
  node.clearFlows();
  const { SETTING_CLUSTER_IPS_INSIDE, SETTING_LOOPBACK_WITHOUT_NODE_PORTS } = SETTING_FLAG_VALUES;
  node.settings({
    flags:
      (given.clusterIPsInside === true ? SETTING_CLUSTER_IPS_INSIDE : 0) |
      (modelOptions(given).nodePortAddresses.localhost ? 0 : SETTING_LOOPBACK_WITHOUT_NODE_PORTS),
  });
  await node.feed(given);
}

/** What the packet programs make of the case. The node holds the case's objects. */
export function runPackets(node: TestNode, flowCase: FlowCase): ReturnType<typeof summary> {
  const { program, device } = hookOf(flowCase.from);
  return summary(
    Array.from({ length: isServed(flowCase) ? FLOWS : FEW }, (_, i) => {
      const sent = firstPacket(flowCase, FIRST_PORT + i);
      return outcomeOf(node.run(program, sent, { device }), sent, flowCase, FIRST_PORT + i);
    }),
  );
}

/**
 * What XDP with tc behind it makes of a case from outside: what XDP does not take, first packets among it, must reach tc as it
 * came. `taken` says of how many flows it took a later one.
 */
export function runXdp(
  node: TestNode,
  flowCase: FlowCase,
): { readonly outcome: ReturnType<typeof summary>; taken: number } {
  let taken = 0;
  const outcomes = Array.from({ length: isServed(flowCase) ? FLOWS : FEW }, (_, i) => {
    const sent = firstPacket(flowCase, FIRST_PORT + i);
    const first = node.run("xdp_uplink", sent);
    if (first.action !== XDP_ACTION.pass) throw new Error(`XDP decided ${first.verdict}`);
    if (Buffer.compare(first.packet, sent) !== 0) throw new Error(`XDP changed what it passed on: ${first.text}`);
    const opened = outcomeOf(node.run("tc_uplink_ingress", sent), sent, flowCase, FIRST_PORT + i);
    if (opened.source === undefined) return opened;
    // The next packet asks for the way, and XDP goes on by it.
    node.run("tc_uplink_ingress", sent);
    const later = node.run("xdp_uplink", sent);
    if (later.action === XDP_ACTION.pass) return opened;
    if (later.action !== XDP_ACTION.tx && later.action !== XDP_ACTION.redirect)
      throw new Error(`XDP decided ${later.verdict}`);
    taken++;
    return outcomeOf(later, sent, flowCase, FIRST_PORT + i);
  });
  return { outcome: summary(outcomes), taken };
}

/**
 * What connect() says of what is refused, without waiting. Where a program cannot choose the error, TCP goes to a closed port of the
 * loopback, whose reset comes later.
 */
export function refusalOf(protocol: "TCP" | "UDP"): string {
  if (hasFeature("set_retval")) return "ECONNREFUSED";
  return protocol === "TCP" ? "" : "EPERM";
}

/**
 * What real sockets of the case's client make of it, connect() with the socket programs attached; where they leave the
 * socket alone, what becomes of its packet. Backends only: a socket's packets are never translated.
 */
export function runSockets(node: TestNode, client: Namespace, flowCase: FlowCase): readonly string[] | Verdict {
  const { to } = flowCase;
  const { protocol } = to;
  if (protocol === "SCTP") throw new Error("sockets of SCTP are left alone");
  const backends = new Set<string>();
  const verdicts = new Set<Verdict>();
  for (let i = 0; i < (isServed(flowCase) ? CONNECTIONS : FEW); i++) {
    const before = node.verdicts();
    const { refusal, real, told } = client.inside(() => {
      using socket = openSocket(protocol, familyOf(to.address));
      const refusal = socket.connect(to);
      return { refusal, real: socket.realPeer(), told: socket.peerName() };
    });
    const after = node.verdicts();
    const counted = (verdict: string): boolean => after.get(`CONNECT ${verdict}`) !== before.get(`CONNECT ${verdict}`);
    if (counted("VERDICT_REFUSE")) {
      if (refusal !== refusalOf(protocol)) throw new Error(`refused, but connect() said ${refusal || "yes"}`);
      verdicts.add("refuse");
    } else if (counted("VERDICT_CONNECT")) {
      if (refusal !== "") throw new Error(`served, but connect() said ${refusal}`);
      if (real === undefined) throw new Error("served, but the kernel lists no such socket");
      if (told !== undefined && (told.address !== to.address || told.port !== to.port))
        throw new Error(`getpeername() told ${told.address}:${told.port}`);
      backends.add(endpointText(real.address, real.port));
    } else {
      const outcome = runPackets(node, flowCase);
      if (flowCase.leftToPackets && !("verdict" in outcome)) return backendsOf(outcome);
      // A UDP connect() sends nothing: what it sends later is refused.
      if (!("verdict" in outcome) || (outcome.verdict === "refuse" && to.protocol === "TCP"))
        throw new Error(`sockets left alone what packets ${JSON.stringify(outcome)}`);
      return outcome.verdict;
    }
  }
  if (verdicts.size + Number(backends.size > 0) !== 1) throw new Error("connections of one case differ");
  const [verdict] = verdicts;
  return verdict ?? [...backends].sort();
}

/** The case's expectation, in the form of runSockets(). */
export function socketsExpected(flowCase: FlowCase, found: readonly string[] | Verdict): readonly string[] | Verdict {
  const wanted = expected(
    flowCase,
    typeof found === "string" ? { verdict: found } : { kept: found, translated: found },
  );
  return "verdict" in wanted ? wanted.verdict : backendsOf(wanted);
}

function backendsOf({ kept = [], translated = [] }: Served): readonly string[] {
  return [...kept, ...translated].sort();
}
