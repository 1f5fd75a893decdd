// What `millrace doctor` looks at, and what it says of it: one line for each check that has something to say.

export type Level = "ok" | "warning" | "error";

/** Groups, in the order in which they are shown, with their titles. */
export const GROUPS = {
  machine: "Machine",
  kernel: "Kernel",
  cgroup: "Sockets",
  devices: "Devices",
  api: "Kubernetes API",
  platform: "Platform",
  proxies: "Other proxies and balancers",
  firewall: "Firewall",
  ranges: "Addresses and ports",
  objects: "Objects",
  agent: "Agent",
} as const;

export type Group = keyof typeof GROUPS;

/** Every check by its name, with what it looks at, as docs/doctor.md has it. */
export const CHECKS = {
  "machine.rights":
    "whether this process may do what it is to look at: root, or the capabilities BPF, NET_ADMIN and PERFMON (SYS_ADMIN below Linux 5.8)",
  "machine.architecture": "x86-64, or 64-bit ARM",
  "machine.memory": "memory and processors, and how much of it the maps would take by the options",
  "machine.libbpf": "libbpf 1.1 or later",
  "machine.node": "Node.js 24 or later",
  "machine.programs":
    "programs of others that are called: iptables and nft where there is a firewall, ethtool for `--xdp=on` on a veth",
  "machine.bpffs": "a bpffs where `--pin-dir` is, that outlives this process and is the host's",
  "machine.state": "whether `--state-dir` can be written, and outlives this process",
  "machine.sysctls": "whether `/proc/sys` can be written, or what is set there is set already",
  "machine.memlock": "the limit of locked memory, which counts maps below Linux 5.11",
  "machine.inotify":
    'where a kubelet runs, `fs.inotify.max_user_instances`: when they are used up kubelet, container runtime and kube-proxy fail with "too many open files"',
  "machine.clock": "the boot clock, which the kernel's programs compare with: a time namespace shifts it",
  "machine.security": "kernel lockdown, and a seccomp filter or security module that forbids bpf(2)",
  "kernel.version": "Linux 5.10 or later",
  "kernel.features":
    "features of the kernel, each tried by a small program; what is done instead of those that lack, and since which version they are there",
  "kernel.jit": "whether BPF programs are compiled",
  "kernel.programs":
    "whether the verifier takes every program of this build, loaded into maps of their own that are thrown away",
  "kernel.conntrack": "whether programs may ask conntrack whose an answer is",
  "kernel.realtime": "PREEMPT_RT without the lock that packet programs rely on",
  "cgroup.directory": "whether `--cgroup` is a cgroup2 that holds all processes and pods of the node",
  "devices.uplinks": "devices by which clients outside come, and why each counts",
  "devices.pods": "devices of pods",
  "devices.others": "devices that are neither: no program of ours is on them",
  "devices.named": "names in `--devices` that are no device's",
  "devices.forwarding": "IP forwarding on uplinks and pod devices, in the families that node and Services have",
  "devices.rp-filter":
    "strict reverse path filtering on uplinks where packets may leave by another device than they came by",
  "devices.mtu": "uplinks of different MTU",
  "devices.xdp": "on which uplinks XDP can be used",
  "devices.stacked": "bonds, bridges and VLANs: where programs are attached",
  "devices.encapsulation": "routes with an encapsulation of their own",
  "api.way": "each server that an agent would ask, in its order, and what came of it",
  "api.version": "the API server's version: 1.34 to 1.37 are tested",
  "api.latency": "how long an answer takes",
  "api.clock": "this machine's clock against the server's",
  "api.certificate": "until when the client certificate is valid",
  "api.rights": "each right of `deploy/rbac.yaml`, asked for by SelfSubjectAccessReview",
  "api.node": "the Node object of `--node-name`, and its InternalIPs",
  "platform.name": "which kind of cluster or machine this is, and what is known to be special there",
  "proxies.kube-proxy": "a kube-proxy that runs, or has its ports",
  "proxies.rules": "rules of kube-proxy that are left: iptables, nftables, IPVS",
  "proxies.dataplanes":
    "other dataplanes that serve Services or sit on the same hooks: Cilium, Calico's eBPF, Antrea, kube-router, Kube-OVN",
  "proxies.balancers":
    "others that answer for LoadBalancer addresses: MetalLB's speaker, kube-vip, PureLB, OpenELB, klipper-lb",
  "proxies.programs": "tc and XDP programs of others on our devices",
  "firewall.forward": "whether forwarded packets are dropped by default, and by whom",
  "firewall.manager": "firewalld and ufw",
  "ranges.overlap": "ranges of Services, pods, nodes, devices and pools that overlap",
  "ranges.ports": "ports that the agent listens on and that somebody else has",
  "ranges.node-ports": "node ports against the ports that the kernel gives to connections, and listeners among them",
  "ranges.snat-ports": "`--snat-port-range` against node ports, and whether it is reserved",
  "objects.read": "whether all objects could be read, and how many there are",
  "objects.notices":
    "what an agent would say of the objects, by reason: refused addresses, conflicts, fields that nobody serves",
  "objects.limits": "what is served with limits: SCTP without multihoming, affinity of a pod's addresses together",
  "objects.classes": "LoadBalancer Services of another class",
  "objects.bgp": "MetalLB's BGP objects: nobody serves them here",
  "objects.addresses": "LoadBalancer Services without an address",
  "agent.status": "the agent, where one runs: its health and what it says itself",
} as const satisfies Readonly<Record<`${Group}.${string}`, string>>;

export type CheckName = keyof typeof CHECKS;

export interface Finding {
  readonly check: CheckName;
  readonly level: Level;
  /** One sentence without a full stop. */
  readonly says: string;
  /** What to do, as an imperative clause; "" where there is nothing to do. */
  readonly do: string;
}

export const ok = (check: CheckName, says: string): Finding => ({ check, level: "ok", says, do: "" });
export const warning = (check: CheckName, says: string, todo: string): Finding => ({
  ...{ check, level: "warning", says, do: todo },
});
export const error = (check: CheckName, says: string, todo: string): Finding => ({
  ...{ check, level: "error", says, do: todo },
});

export function groupOf(check: CheckName): Group {
  return check.slice(0, check.indexOf(".")) as Group;
}

/** "a", "a and b", "a, b and 3 more". */
export function someOf(names: readonly string[], most = 5): string {
  if (names.length > most) return `${names.slice(0, most - 1).join(", ")} and ${names.length - most + 1} more`;
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
