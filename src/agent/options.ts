// The agent's configuration after flags, environment and file were merged: nothing optional, everything checked.

export interface AgentOptions {
  readonly nodeName: string;
  /** Directory of manifests (or single file). */
  readonly manifests: readonly string[];
  readonly stateDir: string;
  /** Reads Services with addresses, Nodes, EndpointSlices and Pods; allocates and writes nothing. */
  readonly readOnly: boolean;
  /** cgroup2 directory that holds all processes and pods of this node. */
  readonly cgroup: string;
  /** Directory on a bpffs, made when absent. */
  readonly pinDir: string;
  /** Uplinks by name; empty means found by itself. */
  readonly devices: readonly string[];
  readonly serviceClusterIpRange: readonly string[];
  readonly serviceNodePortRange: { readonly first: number; readonly last: number };
  readonly clusterDomain: string;
  readonly sockets: "all" | "host-only" | "auto";
  readonly xdp: "auto" | "on" | "off";
  /** Source ports for SNAT, reserved in ip_local_reserved_ports. */
  readonly snatPortRange: { readonly first: number; readonly last: number };
  /** Bit set in the mark of translated packets where a firewall forwards nothing by default; 0: nothing is done about that. */
  readonly forwardMark: number;
  readonly apiSocket: string;
  /** "" means no TCP listener for the API. */
  readonly apiAddress: string;
  readonly healthzBindAddress: string;
  readonly metricsBindAddress: string;
  readonly mapSizes: {
    readonly services: number;
    readonly frontends: number;
    readonly backends: number;
    readonly slots: number;
    readonly flows: number;
    readonly openings: number;
  };
}
