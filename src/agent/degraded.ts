// What the agent does where the kernel lacks a feature, in the words of `millrace status` and docs/kernels.md.
import { type FeatureName, features } from "../libbpf/mod.ts";
import type { AgentStatus } from "./view.ts";

/** Features whose lack is felt, and how. Those that are not here are required, or nobody notices. */
export const INSTEAD: Readonly<Partial<Record<FeatureName, string>>> = {
  tcx: "tc programs are filters of a clsact qdisc",
  set_retval: "a refused TCP connect goes to a closed loopback port, a refused sendmsg gets EPERM",
  netns_cookie: "loopback node ports are off, and --sockets=host-only leaves every socket to the packet programs",
  csum_ipv6: "NICs that hand over complete checksums log 'hw csum failure' for translated IPv6",
  fib_mtu: "the size of what is redirected is measured by its device's MTU, not its route's",
  xdp_features: "XDP sends packets out of the device that they came by only, tc does the rest",
  batch: "rows are written one by one",
  sock_destroy: "a socket of the host whose UDP backend left learns of it by the refusal of its next packet",
  ct_lookup:
    "an answer to a node port or host port is known by its socket or by what went out before it; conntrack is not asked, and connections that kube-proxy opened are not known (where nf_conntrack is a module, load it, and give the agent CAP_SYS_ADMIN)",
  membarrier: "grace periods wait for a map-in-map update",
};

/** What this kernel lacks, with the version that has it. */
export function degradedFeatures(): AgentStatus["degraded"] {
  return Object.values(features()).flatMap(({ name, available, since }) => {
    const instead = INSTEAD[name];
    return available || instead === undefined ? [] : { feature: name, needs: since, instead };
  });
}
