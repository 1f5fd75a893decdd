// Which addresses and ports may be a frontend, and which may be an endpoint: no other place decides. Pure. No answer may cost a
// node, a pod or the API server its own traffic.
import { type Address, type Family, familyOf, unusableReason } from "../lib/address.ts";
import type { FrontendKind, RowProtocol } from "./operations.ts";

/** What is known of addresses. */
export interface AddressFacts {
  /** An InternalIP of this node. */
  isOwnAddress(address: Address): boolean;
  /** An InternalIP or ExternalIP of any node. */
  isNodeAddress(address: Address): boolean;
  /** A device of this node has it. */
  isDeviceAddress(address: Address): boolean;
  /** The operator lets Services have it as an external IP. */
  mayBeExternal(address: Address): boolean;
  /** The pod network of a node that it lies in, in CIDR notation. */
  podNetworkOf(address: Address): string | undefined;
  /** The API server or a node's kubelet listens there. */
  isControlPlane(address: Address, port: FrontendPort): boolean;
  /** Some Service claims it as its ClusterIP. */
  isClusterIP(address: Address): boolean;
  /** Some Service claims it. */
  isClaimed(address: Address): boolean;
  /** Some Service claims this port of it. */
  isFrontend(address: Address, port: FrontendPort): boolean;
}

export interface FrontendPort {
  readonly protocol: RowProtocol;
  readonly port: number;
}

export interface Refusal {
  readonly reason: "frontend-refused" | "left-to-device" | "external-ip-not-allowed";
  /** Goes on after "it is". */
  readonly why: string;
}

/**
 * Why no frontend of this kind may be at `port` of `address`; without a port: at any of its ports. Undefined when one may. Ports
 * of every address of a node are not asked about.
 */
export function frontendRefusal(
  kind: Exclude<FrontendKind, "node-port">,
  address: Address,
  port: FrontendPort | undefined,
  facts: AddressFacts,
): Refusal | undefined {
  const refuse = (why: string): Refusal => ({ reason: "frontend-refused", why });
  const special = unusableReason(address);
  // The host's own processes are served there, at their sockets.
  if (special !== undefined && !(kind === "host-port" && special === "loopback")) return refuse(special);
  const isNode = facts.isNodeAddress(address);
  if (kind === "cluster-ip") {
    if (isNode) return refuse("the address of a node");
    if (facts.isDeviceAddress(address)) {
      return { reason: "left-to-device", why: "the address of a device of this node, which answers there itself" };
    }
  }
  if (kind === "external-ip") {
    // Whoever may write a Service may name any address there: what is somebody's stays his (CVE-2020-8554).
    if (!facts.mayBeExternal(address)) {
      return { reason: "external-ip-not-allowed", why: "in none of the ranges that --external-ip-cidrs allows" };
    }
    if (isNode) return refuse("the address of a node");
    if (facts.isDeviceAddress(address)) return refuse("the address of a device of this node");
  }
  if ((kind === "load-balancer" || kind === "external-ip") && !isNode) {
    const network = facts.podNetworkOf(address);
    if (network !== undefined) return refuse(`an address of pods, in ${network}`);
  }
  if (kind === "host-port") {
    // From here another node's address is asked as any other: what it serves is its own business.
    if (isNode && !facts.isOwnAddress(address)) return refuse("the address of another node");
    if (!isNode && facts.isClaimed(address)) return refuse("the address of a Service");
  }
  if (port !== undefined && facts.isControlPlane(address, port)) {
    return refuse(`where the API server or a kubelet listens (port ${port.port})`);
  }
  return undefined;
}

/** Why no backend may be at `port` of `address`, or undefined when one may: a loop is refused, and nothing else of a node. */
export function endpointRefusal(
  address: Address,
  port: FrontendPort,
  family: Family,
  facts: AddressFacts,
): string | undefined {
  if (familyOf(address) !== family) return `it is no ${family} address`;
  const special = unusableReason(address);
  if (special !== undefined) return `it is ${special}`;
  if (facts.isClusterIP(address)) return "it is the address of a Service";
  // A node answers at its own address itself.
  if (facts.isNodeAddress(address) || !facts.isFrontend(address, port)) return undefined;
  return `it is where a Service answers (port ${port.port})`;
}
