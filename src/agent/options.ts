// The agent's configuration after flags, environment and file were merged: nothing optional, everything checked.
import type { FlowTimeouts } from "../datapath/flow-timeouts.ts";
import type { LoadOptions } from "../datapath/load.ts";
import type { LogChoice } from "../lib/log.ts";
import type { Range } from "../lib/range.ts";
import type { Balancing } from "../model/spread.ts";

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
  readonly clusterDomain: string;
  readonly sockets: "all" | "host-only" | "auto";
  readonly xdp: "auto" | "on" | "off";
  /** Clients outside this node are served on cluster addresses too. */
  readonly externalClusterIPs: boolean;
  /** Resets, ICMP errors and echo replies that a CPU makes in a second at most. */
  readonly replyLimit: number;
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
  /** netfilter's timeouts that are set, in seconds; 0 leaves one as it is. */
  readonly conntrack: { readonly udp_timeout: number; readonly udp_timeout_stream: number };
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
