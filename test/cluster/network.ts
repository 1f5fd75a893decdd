// The cluster's network: the lab's LAN, nodes and clients, with the control plane as one more member of the LAN. Pods are
// the CNI plugins' affair; the routes to their prefixes are made here.
import { lanGateways } from "../../src/lab/addressing.ts";
import { addClient, addLan, addNode, type LabNetwork } from "../../src/lab/network.ts";
import { NetworkScript } from "../../src/lab/shell.ts";
import { familyOf } from "../../src/lib/address.ts";
import { CONTROL_ADDRESSES } from "./addressing.ts";
import { type ClusterPaths, memberNamespace } from "./paths.ts";

const CONTROL_MAC = "02:4d:52:04:00:01";

/** The cluster's LAN in the lab's words; `ptp` leaves the pods' devices on a node to others, whichever plugin makes them. */
export function clusterNetwork(paths: ClusterPaths): LabNetwork {
  return {
    lab: paths.network,
    cni: "ptp",
    ipv6: true,
    netfilter: false,
    bridgeNetfilter: false,
    txOffload: true,
    xdpPassObject: "",
  };
}

/** Namespaces with their links, addresses and routes: the LAN, the control plane, `nodes` nodes, one client. */
export async function makeNetwork(paths: ClusterPaths, nodes: number): Promise<void> {
  const network = clusterNetwork(paths);
  const script = new NetworkScript();
  addLan(script, network);
  addControl(script, paths);
  const numbers = Array.from({ length: nodes }, (_, i) => i + 1);
  for (const node of numbers) addNode(script, network, node, numbers.slice(0, node - 1));
  addClient(script, network, 1);
  await script.run(`cluster ${paths.name}`);
}

function addControl(script: NetworkScript, paths: ClusterPaths): void {
  const namespace = memberNamespace(paths, "control");
  const isIpv6 = (address: string) => familyOf(address) === "IPv6";
  script
    .ip("", [`netns add ${namespace}`])
    .ip(memberNamespace(paths, "lan"), [
      `link add control type veth peer name eth0 address ${CONTROL_MAC} netns ${namespace}`,
      "link set control master lan0 up",
    ])
    .ip(namespace, [
      "link set lo up",
      ...CONTROL_ADDRESSES.map(
        (address) => `addr add ${address}/${isIpv6(address) ? "64 dev eth0 nodad" : "24 dev eth0"}`,
      ),
      "link set eth0 up",
      ...lanGateways(true).map(
        (gateway) => `route add ${isIpv6(gateway) ? "::/0" : "default"} via ${gateway} dev eth0`,
      ),
    ]);
}
