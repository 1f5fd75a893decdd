// How a node's pods are connected: the configuration of Debian's CNI plugins.
import { podGateways, podPrefixes } from "../../src/lab/addressing.ts";

export const CNI_PLUGINS = "/usr/lib/cni";

export const CNIS = ["ptp", "bridge"] as const;
export type ClusterCni = (typeof CNIS)[number];

/** A network configuration list: pods of node `node` get addresses of both families from its prefixes. */
export function cniConfiguration(cni: ClusterCni, node: number): object {
  const gateways = podGateways(node, true);
  const ipam = {
    type: "host-local",
    ranges: podPrefixes(node, true).map((subnet, i) => [{ subnet, gateway: gateways[i] }]),
    routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
  };
  const bridge = { bridge: "cni0", isGateway: true, hairpinMode: true };
  return {
    cniVersion: "1.0.0",
    name: "pods",
    plugins: [
      { type: cni, ipMasq: false, ipam, ...(cni === "bridge" ? bridge : {}) },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  };
}
