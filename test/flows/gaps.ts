// Why a cell of docs/semantics.md has no flow case. The first that fits counts; a cell without a case that none fits fails a test.
import type { Protocol } from "../../src/model/objects.ts";
import type { Client } from "./semantics-page.ts";

export interface Gap {
  readonly fields?: readonly string[];
  readonly clients?: readonly Client[];
  readonly protocols?: readonly Protocol[];
  readonly families?: readonly ("IPv4" | "IPv6")[];
  readonly why: string;
}

/** They decide which endpoints a Service has. */
const OF_ENDPOINTS = [
  "conditions.ready",
  "conditions.serving",
  "conditions.terminating",
  "endpoints",
  "ports",
  "publishNotReadyAddresses",
  "selector",
  "targetPort",
];
/** They decide which frontends a Service or a pod has. */
const OF_FRONTENDS = [
  "allocateLoadBalancerNodePorts",
  "externalIPs",
  "externalName",
  "headless",
  "hostIP",
  "ipFamilies",
  "ipFamilyPolicy",
  "ipMode",
  "loadBalancerClass",
  "precedence",
  "protocol",
  "service-proxy-name",
  "type",
];
/** They decide which of the endpoints this node uses. */
const OF_TOPOLOGY = ["hints", "trafficDistribution", "topology"];

export const GAPS: readonly Gap[] = [
  {
    fields: ["hints.forNodes"],
    families: ["IPv6"],
    why: "it decides which endpoints this node uses, before their family counts: hints for zones have cases of both",
  },
  {
    fields: ["nodeport-addresses"],
    families: ["IPv6"],
    clients: ["a pod's socket", "a pod's packets", "the host's packets"],
    why: "one list says for both families which addresses have node ports: clients outside have cases of both",
  },
  {
    clients: ["a pod's socket", "the host's socket"],
    protocols: ["SCTP"],
    why: "sockets of SCTP are left alone: what they send is translated by packet",
  },
  {
    fields: OF_ENDPOINTS,
    why: "it decides which endpoints the Service has, before any client is known: one client stands for all",
  },
  {
    fields: OF_TOPOLOGY,
    why: "it decides which endpoints this node uses, before any client is known: one client stands for all",
  },
  {
    fields: ["protocol"],
    protocols: ["TCP", "UDP"],
    why: "its cases are of SCTP; those of TCP and UDP stand under the fields that they are about",
  },
  {
    fields: ["ipFamilies", "ipMode", "loadBalancerClass", "externalIPs"],
    families: ["IPv6"],
    why: "its cases are about addresses of one family; both are told apart in the same place",
  },
  {
    fields: OF_FRONTENDS,
    why: "it decides which frontends there are, before any client is known: one client stands for all",
  },
  {
    fields: ["none"],
    clients: ["the host's socket", "the host's packets"],
    families: ["IPv6"],
    why: "the networks that the cases name are of IPv4; prefixes of both families are compared by the same code",
  },
];
