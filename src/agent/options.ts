// The agent's configuration after flags, environment and file were merged: nothing optional, everything checked.
import type { FlowTimeouts } from "../datapath/flow-timeouts.ts";
import type { LoadOptions } from "../datapath/load.ts";
import type { LogChoice } from "../lib/log.ts";
import type { Range } from "../lib/range.ts";
import type { Balancing } from "../model/spread.ts";
import { CLUSTER_CONNTRACK, type ConntrackWishes, NO_CONNTRACK } from "./conntrack-sysctls.ts";

export interface AgentOptions extends LogChoice {
  readonly nodeName: string;
  /** Directories of manifests, or single files; none: the objects come from the Kubernetes API. */
  readonly manifests: readonly string[];
  /** Kubeconfig file for the API, "": the service account of the pod that this runs in. */
  readonly kubeconfig: string;
  /** URL of the API server, "": as the kubeconfig, the last known endpoints or the pod's environment say. */
  readonly apiServer: string;
  /** A list that takes most of the frontends away is believed at once. */
  readonly trustLists: boolean;
  /** Where this node's ServiceL2Status objects are. */
  readonly namespace: string;
  /** Services of this class are given and announced our addresses; "": those without a class. */
  readonly loadBalancerClass: string;
  /** `millrace controller` runs in this process too. */
  readonly withController: boolean;
  readonly stateDir: string;
  /** Reads Services with addresses, Nodes, EndpointSlices and Pods; allocates and writes nothing. */
  readonly readOnly: boolean;
  /** cgroup2 directory that holds all processes and pods of this node. */
  readonly cgroup: string;
  /** Directory on a bpffs, made when absent. */
  readonly pinDir: string;
  /** Uplinks by name; empty means found by itself. */
  readonly devices: readonly string[];
  /** Empty when it is not given: see `clusterRangesOf`. */
  readonly serviceClusterIpRange: readonly string[];
  readonly serviceNodePortRange: Range;
  /** CIDRs in which a Service's externalIPs are served. */
  readonly externalIpCidrs: readonly string[];
  /** "primary", "localhost", "all" and CIDRs. */
  readonly nodePortAddresses: readonly string[];
  readonly clusterDomain: string;
  /** netfilter's limit and timeouts in seconds; 0 leaves one as it is, undefined what `conntrackOf` says. */
  readonly conntrackMaxPerCore: number | undefined;
  readonly conntrackMin: number | undefined;
  readonly conntrackEstablishedSeconds: number | undefined;
  readonly conntrackCloseWaitSeconds: number | undefined;
  /** Of UDP without an answer, and with answers. */
  readonly conntrackUdpSeconds: number;
  readonly conntrackUdpStreamSeconds: number;
  /** netfilter takes TCP segments out of their window for valid; false leaves that as it is. */
  readonly conntrackTcpBeLiberal: boolean;
  readonly sockets: "all" | "host-only" | "auto";
  readonly xdp: "auto" | "on" | "off";
  /** Clients outside this node are served on cluster addresses too. */
  readonly externalClusterIPs: boolean;
  /** Resets, ICMP errors and echo replies that a CPU makes in a second at most. */
  readonly replyLimit: number;
  /** UDP port at which nodes ask each other whether they live; 0: they do not. */
  readonly livenessPort: number;
  /** Directory of the keys that they know each other by, "" when there is none. */
  readonly announcerSecret: string;
  /** Between two unasked announcements of an address that nothing happens to; 0: none. */
  readonly gratuitousArpSeconds: number;
  /** TCP connections of the host's own sockets end with their backend, as those of UDP do. */
  readonly destroyTcpSockets: boolean;
  /** Source ports for SNAT, reserved in ip_local_reserved_ports. */
  readonly snatPortRange: Range;
  /** Bit set in the mark of translated packets where a firewall forwards nothing by default; 0: nothing is done about that. */
  readonly forwardMark: number;
  readonly apiSocket: string;
  /** "" means no TCP listener for the API. */
  readonly apiAddress: string;
  readonly healthzBindAddress: string;
  readonly metricsBindAddress: string;
  readonly mapSizes: LoadOptions["mapSizes"];
  /** How a Service's flows are balanced. */
  readonly balancing: Balancing;
  /** Before netfilter's own are looked at. */
  readonly flowTimeouts: FlowTimeouts;
  /** What was given in kube-proxy's words and has no counterpart here. */
  readonly ignored: readonly IgnoredSetting[];
}

export interface IgnoredSetting {
  /** "--masquerade-all", or "iptables.masqueradeAll in FILE". */
  readonly from: string;
  /** Why nothing is done about it, a clause. */
  readonly why: string;
  /** Somebody who asked for it will miss it. */
  readonly missed: boolean;
}

/**
 * The ranges of cluster addresses that are known without ServiceCIDR objects. An API server that has none, or withholds them, may
 * use any range: what is dropped as a free Service address there would be somebody's own network.
 */
export function clusterRangesOf({
  serviceClusterIpRange,
  manifests,
}: Pick<AgentOptions, "serviceClusterIpRange" | "manifests">): readonly string[] {
  return serviceClusterIpRange.length > 0 || manifests.length === 0 ? serviceClusterIpRange : ["10.96.0.0/12"];
}

/** A node of a cluster is given what kube-proxy gives it; another machine's netfilter is its administrator's. */
export function conntrackOf(
  options: Pick<AgentOptions, "manifests" | Extract<keyof AgentOptions, `conntrack${string}`>>,
): ConntrackWishes {
  const defaults = options.manifests.length === 0 ? CLUSTER_CONNTRACK : NO_CONNTRACK;
  return {
    maxPerCore: options.conntrackMaxPerCore ?? defaults.maxPerCore,
    min: options.conntrackMin ?? defaults.min,
    establishedSeconds: options.conntrackEstablishedSeconds ?? defaults.establishedSeconds,
    closeWaitSeconds: options.conntrackCloseWaitSeconds ?? defaults.closeWaitSeconds,
    udpSeconds: options.conntrackUdpSeconds,
    udpStreamSeconds: options.conntrackUdpStreamSeconds,
    tcpBeLiberal: options.conntrackTcpBeLiberal,
  };
}
