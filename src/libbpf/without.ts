// Features that the environment variable MILLRACE_WITHOUT (names, comma-separated) takes away, so that every fallback can
// be tested on a new kernel. Never probes; that is features.ts.
import { Failure, UnsupportedError } from "../lib/errors.ts";

/** Each feature and the first Linux version that has it. */
export const FEATURES = {
  /** Links on a device's ingress and egress that don't need a qdisc. */
  tcx: "6.6",
  /** bpf_set_retval, so that a socket program can choose the errno. */
  set_retval: "5.18",
  /** bpf_get_netns_cookie in socket address programs. */
  netns_cookie: "5.7",
  /** SO_NETNS_COOKIE for the agent's own namespace; without it a socket program tells. */
  netns_cookie_option: "5.14",
  /** XDP programs that take frames of several buffers. */
  xdp_frags: "5.18",
  /** Lookup, update and delete of many rows in one call. */
  batch: "5.6",
  /** BPF_F_IPV6 of bpf_l4_csum_replace. */
  csum_ipv6: "6.16",
  /** BPF_FIB_LOOKUP_SRC of bpf_fib_lookup. */
  fib_src: "6.7",
  /** mtu_result of bpf_fib_lookup; came with bpf_check_mtu. */
  fib_mtu: "5.12",
  ringbuf: "5.8",
  /** Links that hold an XDP program. */
  xdp_link: "5.9",
  /** Links that hold a cgroup's program. */
  cgroup_link: "5.7",
  /** Arrays that can be mapped into memory. */
  mmap_array: "5.5",
  /** bpf_ktime_get_boot_ns. */
  ktime_boot: "5.8",
  /** membarrier(MEMBARRIER_CMD_GLOBAL), which a kernel with nohz_full refuses. */
  membarrier: "4.3",
  /** Generic netlink tells which XDP actions a device has. */
  xdp_features: "6.3",
  /** SOCK_DESTROY of UDP sockets, which is a choice of the kernel's build (INET_DIAG_DESTROY). */
  sock_destroy: "4.9",
  /** bpf_skb_ct_lookup: a program may ask netfilter's connection tracking. Only while that is loaded. */
  ct_lookup: "5.18",
} as const;

export type FeatureName = keyof typeof FEATURES;

let parsed: { readonly text: string; readonly names: ReadonlySet<string> } = { text: "", names: new Set() };

/** Names in MILLRACE_WITHOUT. Throws a Failure "usage" for a name that is no feature: a typing error must not pass as a test. */
function without(): ReadonlySet<string> {
  const text = process.env["MILLRACE_WITHOUT"] ?? "";
  if (text !== parsed.text) {
    const names = new Set(text.split(",").map((name) => name.trim()));
    names.delete("");
    for (const name of names) {
      if (!Object.hasOwn(FEATURES, name)) {
        throw new Failure(
          "usage",
          "MILLRACE_WITHOUT",
          `could not use MILLRACE_WITHOUT: '${name}' is no feature; features are ${Object.keys(FEATURES).join(", ")}`,
        );
      }
    }
    parsed = { text, names };
  }
  return parsed.names;
}

/** Whether the environment says to do without `name`. */
export function isWithout(name: FeatureName): boolean {
  return without().has(name);
}

/** Throws UnsupportedError when the environment says to do without `name`. */
export function requireNotOverridden(name: FeatureName): void {
  if (isWithout(name)) throw new UnsupportedError(name, FEATURES[name]);
}
