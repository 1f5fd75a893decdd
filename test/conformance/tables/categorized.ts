// The cases of kube-proxy's CategorizeEndpoints as objects that the model is fed with, and as questions to its windows.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { EndpointSliceObject, NodeObject, ServiceObject } from "../../../src/wire/kubernetes.ts";
import { normaliseEndpointSlice, normaliseNode, normaliseService } from "../../../src/wire/normalise.ts";
import type { FlowCase } from "../../flows/flow-case.ts";
import { TABLES } from "./paths.ts";

/** As categorized.go writes it. */
export interface CategorizedCase {
  readonly name: string;
  /** Whether hints for nodes count: of a kube-proxy of today always. */
  readonly nodeHints: boolean;
  readonly nodeName: string;
  readonly nodeLabels: Readonly<Record<string, string>> | null;
  /** Whether clients outside have a way to it. */
  readonly external: boolean;
  readonly externalLocal: boolean;
  readonly internalLocal: boolean;
  readonly endpoints: readonly DumpedEndpoint[] | null;
  readonly cluster?: readonly string[];
  readonly local?: readonly string[];
  /** There are endpoints, on other nodes alone: what finds none is dropped, not refused. */
  readonly onlyRemote: boolean;
}

interface DumpedEndpoint {
  readonly endpoint: string;
  readonly local: boolean;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly zoneHints: readonly string[];
  readonly nodeHints: readonly string[];
}

export interface WindowQuestion {
  readonly name: string;
  readonly given: FlowCase["given"];
  readonly from: FlowCase["from"]["kind"];
  readonly to: FlowCase["to"];
  /** Endpoints, or what a client is told when there is none. */
  readonly answer: readonly string[] | "refuse" | "drop";
}

const CLUSTER_IP = "10.96.0.41";
const NODE_PORT = 30080;
const OTHER_NODE = "another-node";

/** Each window of each case: who asks where, and which endpoints kube-proxy would choose from. */
export function windowQuestions(): WindowQuestion[] {
  const lines = readFileSync(join(TABLES, "categorized.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as CategorizedCase).flatMap(questionsOf);
}

function questionsOf(one: CategorizedCase): WindowQuestion[] {
  // kube-proxy before 1.35 could be told to pass hints for nodes over.
  if (!one.nodeHints && one.endpoints?.some(({ nodeHints }) => nodeHints?.length > 0)) return [];
  const given = objectsOf(one);
  const answer = (endpoints: readonly string[] | undefined): WindowQuestion["answer"] => {
    if (endpoints !== undefined && endpoints.length > 0) return [...endpoints].sort();
    return one.onlyRemote || (one.cluster ?? []).length + (one.local ?? []).length > 0 ? "drop" : "refuse";
  };
  const ask = (who: string, from: WindowQuestion["from"], to: FlowCase["to"], endpoints?: readonly string[]) => ({
    name: `${one.name}: ${who}`,
    given,
    from,
    to,
    answer: answer(endpoints),
  });
  const clusterIP = { address: CLUSTER_IP, port: 80, protocol: "TCP" } as const;
  const nodePort = { address: nodeAddress, port: NODE_PORT, protocol: "TCP" } as const;
  return [
    ask("a pod at its cluster address", "pod", clusterIP, one.internalLocal ? one.local : one.cluster),
    ...(one.external
      ? [
          ask("a pod at its node port", "pod", nodePort, one.cluster),
          ask("a client outside at its node port", "outside", nodePort, one.externalLocal ? one.local : one.cluster),
        ]
      : []),
  ];
}

const nodeAddress = "192.168.122.11";

function objectsOf(one: CategorizedCase): FlowCase["given"] {
  const thisNode = one.nodeName || "node1";
  const endpoints = (one.endpoints ?? []).map(
    ({ endpoint, local, ready, serving, terminating, zoneHints, nodeHints }) => ({
      addresses: [endpoint.split(":")[0]!],
      // kube-proxy's tests leave `serving` of a ready endpoint unset.
      conditions: { ready, serving: serving || ready, terminating },
      nodeName: local ? thisNode : OTHER_NODE,
      hints: {
        ...(zoneHints?.length > 0 ? { forZones: zoneHints.map((name) => ({ name })) } : {}),
        ...(nodeHints?.length > 0 ? { forNodes: nodeHints.map((name) => ({ name })) } : {}),
      },
    }),
  );
  const port = Number(one.endpoints?.[0]?.endpoint.split(":")[1] ?? 80);
  const slice = {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: "web-1", namespace: "default", labels: { "kubernetes.io/service-name": "web" } },
    addressType: "IPv4",
    endpoints,
    ports: [{ name: "", protocol: "TCP", port }],
  };
  return {
    services: [normaliseService(serviceObject(one))],
    slices: [normaliseEndpointSlice(slice as unknown as EndpointSliceObject).slice!],
    nodes: [normaliseNode(nodeObject(thisNode, one.nodeLabels ?? {}))],
    thisNode,
  };
}

function serviceObject({ external, externalLocal, internalLocal }: CategorizedCase): ServiceObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", namespace: "default" },
    spec: {
      type: external ? "NodePort" : "ClusterIP",
      clusterIPs: [CLUSTER_IP],
      ports: [{ port: 80, ...(external ? { nodePort: NODE_PORT } : {}) }],
      externalTrafficPolicy: externalLocal ? "Local" : "Cluster",
      internalTrafficPolicy: internalLocal ? "Local" : "Cluster",
    },
  };
}

function nodeObject(name: string, labels: Readonly<Record<string, string>>): NodeObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { ...labels } },
    spec: {},
    status: { addresses: [{ type: "InternalIP", address: nodeAddress }] },
  } as unknown as NodeObject;
}
