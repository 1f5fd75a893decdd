// Where failover is watched: nodes that may announce, one more that serves, a client outside; and what can happen to a node.
import { stringify } from "yaml";
import { type Address, type Family, familyOf } from "../../src/lib/address.ts";
import type { Lan } from "./lan.ts";

/** TCP and UDP, of the servers and of every Service. */
export const PORT = 80;

/** One product in one place. What is done to it and to its LAN is kept in `lan.changes`, and can be taken back there. */
export interface Site extends AsyncDisposable {
  readonly lan: Lan;
  /** Of the product. */
  readonly version: string;
  /** Its agents have one that could be blocked. */
  readonly hasEventLoop: boolean;
  /** The nodes that may announce. Whatever becomes of them, the servers are on another. */
  readonly announcers: readonly string[];
  /** Makes LoadBalancer Services, by name, each with one address of the pool. */
  expose(services: ReadonlyMap<string, Address>): Promise<void>;
  /** Takes them away again. */
  withdraw(names: Iterable<string>): Promise<void>;
  /** Everything of the node ends or stands still without a word, and its link is cut. */
  cutPower(node: string): Promise<void>;
  restorePower(node: string): Promise<void>;
  /** The process that announces dies, and nobody starts another. */
  killAgent(node: string): Promise<void>;
  startAgent(node: string): Promise<void>;
  /** The processes that announce: more than one when it has helpers. */
  agentPids(node: string): readonly number[];
  /** Every process of the node stands still; its kernel goes on. */
  freeze(node: string): Promise<void>;
  thaw(node: string): Promise<void>;
  /** Replaces every node's agent, one after the other, by another build where there is one. */
  upgrade(): Promise<void>;
  /** undefined where there is no API that could be away. */
  readonly api: { away(): Promise<void>; back(): Promise<void> } | undefined;
  /** Resolves when every node is as it ought to be. */
  settled(): Promise<void>;
}

export const manifests = (...objects: readonly object[]): string => objects.map((one) => stringify(one)).join("---\n");

export function serviceManifest(name: string, address: Address): object {
  const port = (protocol: string) => ({ name: protocol.toLowerCase(), protocol, port: PORT, targetPort: PORT });
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "default" },
    spec: {
      type: "LoadBalancer",
      loadBalancerIP: address,
      selector: { app: "server" },
      ipFamilyPolicy: "SingleStack",
      ipFamilies: [familyOf(address)],
      allocateLoadBalancerNodePorts: false,
      ports: [port("TCP"), port("UDP")],
    },
  };
}

/** The last is for many at once: no prefix of the LAN's. */
const POOL = ["192.168.122.110-192.168.122.189", "fd00:192:168:122::a:0/112", "198.18.0.0/21"];

/** One address of the pool after the other. */
export function poolAddress(index: number, family: Family): Address {
  return family === "IPv4"
    ? `192.168.122.${110 + (index % 80)}`
    : `fd00:192:168:122::a:${(1 + (index % 65_000)).toString(16)}`;
}

/** MetalLB's objects: one pool of both families, announced by these nodes. */
export function poolManifests(announcers: readonly string[]): object[] {
  const metadata = (name: string) => ({ name, namespace: "metallb-system" });
  return [
    {
      apiVersion: "metallb.io/v1beta1",
      kind: "IPAddressPool",
      metadata: metadata("failover"),
      spec: { addresses: POOL },
    },
    {
      apiVersion: "metallb.io/v1beta1",
      kind: "L2Advertisement",
      metadata: metadata("failover"),
      spec: {
        ipAddressPools: ["failover"],
        nodeSelectors: announcers.map((node) => ({ matchLabels: { "kubernetes.io/hostname": node } })),
      },
    },
  ];
}

/** `count` Services of addresses that are in no prefix of the LAN. */
export function manyServices(count: number): ReadonlyMap<string, Address> {
  return new Map(Array.from({ length: count }, (_, i) => [`many-${i}`, `198.18.${i >> 8}.${i & 0xff}`]));
}
