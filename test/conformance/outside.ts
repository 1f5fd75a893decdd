// The network in front of a cluster under test: the load balancers' addresses, and a client that is in none of its nodes' networks.
import { lanGateways } from "../../src/lab/addressing.ts";
import { changeNetwork } from "../../src/lab/shell.ts";
import { type Address, familyOf } from "../../src/lib/address.ts";
import { CONTROL_ADDRESSES } from "../cluster/addressing.ts";
import { type ClusterPaths, memberNamespace } from "../cluster/paths.ts";

/** RFC 2544 and RFC 4193. */
const BALANCERS = ["198.18.0.0/24", "fd00:198:18::/64"] as const;
/** The control plane's as a client of load balancers: specs tell a client outside from a node by its first 16 bits. RFC 5737. */
const CLIENT = ["198.51.100.2", "fd00:198:51:100::2"] as const;

export function loadBalancerAddress(family: "IPv4" | "IPv6", number: number): Address {
  return family === "IPv4" ? `198.18.0.${number}` : `fd00:198:18::${number}`;
}

/** Gives the control plane its address as a client, and routes to it. */
export async function addOutside(paths: ClusterPaths): Promise<void> {
  const gateways = lanGateways(true);
  await changeNetwork(`cluster ${paths.name}`, (script) => {
    script.ip(
      memberNamespace(paths, "control"),
      CLIENT.flatMap((address, i) => [
        `addr add ${address} dev lo${familyOf(address) === "IPv6" ? " nodad" : ""}`,
        `route add ${BALANCERS[i]} via ${gateways[i]} src ${address}`,
      ]),
    );
    script.ip(
      memberNamespace(paths, "lan"),
      CLIENT.map((address, i) => `route add ${address} via ${CONTROL_ADDRESSES[i]}`),
    );
  });
}
