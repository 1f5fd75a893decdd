// What `millrace doctor` says of what it found, a line for each case; and that every check has a case in which it has something to say.
import { describe, expect, it } from "vitest";
import { judgeAgent } from "../../../src/agent/doctor/agent-status.ts";
import { judgeApi } from "../../../src/agent/doctor/api.ts";
import { judgeCgroup } from "../../../src/agent/doctor/cgroup.ts";
import { judgeDevices } from "../../../src/agent/doctor/devices.ts";
import { CHECKS, type CheckName, type Finding, GROUPS, groupOf } from "../../../src/agent/doctor/finding.ts";
import { judgeFirewall } from "../../../src/agent/doctor/firewall.ts";
import { judgeKernel } from "../../../src/agent/doctor/kernel.ts";
import { judgeMachine } from "../../../src/agent/doctor/machine.ts";
import { compileObjects, judgeObjects, type ObjectFacts } from "../../../src/agent/doctor/objects.ts";
import { judgePlatform, PLATFORMS, type PlatformFacts } from "../../../src/agent/doctor/platform.ts";
import { judgeProxies } from "../../../src/agent/doctor/proxies.ts";
import { judgePorts, judgeRanges } from "../../../src/agent/doctor/ranges.ts";
import type { AgentStatus } from "../../../src/agent/view.ts";
import type { ObjectEvent } from "../../../src/model/objects.ts";
import { device, route } from "../../decide/inputs.ts";
import { eventsOf, node, service, slice } from "../../flows/builders.ts";
import * as facts from "./facts.ts";

/** "level check: text -> advice": what is expected is part of one of these lines. */
const lineOf = ({ level, check, says, do: todo }: Finding): string =>
  `${level} ${check}: ${says}${todo === "" ? "" : ` -> ${todo}`}`;

interface Case {
  readonly name: string;
  readonly found: readonly Finding[];
  readonly says: string;
  /** No line has this in it. */
  readonly not?: string;
}

const options = {
  nodeName: "node1",
  mapSizes: { services: 64, frontends: 64, backends: 64, slots: 128, flows: 64, openings: 64 },
  balancing: { byDefault: "hash", tableSize: 251 },
  externalIpCidrs: [],
  nodePortAddresses: ["primary", "localhost"],
  loadBalancerClass: "",
  serviceClusterIpRange: ["10.96.0.0/12"],
  manifests: [],
} as const satisfies Parameters<typeof compileObjects>[1];
function ofObjects(events: readonly ObjectEvent[], given: Partial<ObjectFacts> = {}): Finding[] {
  const all = facts.objects({ events, ...given });
  return judgeObjects(all, compileObjects(all, options), "");
}
const balanced = { type: "LoadBalancer", clusterIPs: ["10.96.0.10"] } as const;

const ofMachine = (given: Parameters<typeof facts.machine>[0]): Finding[] => judgeMachine(facts.machine(given));
const ofKernel = (given: Parameters<typeof facts.kernel>[0]): Finding[] => judgeKernel(facts.kernel(given));
const ofCgroup = (given: Parameters<typeof facts.cgroup>[0]): Finding[] => judgeCgroup(facts.cgroup(given));
const ofDevices = (given: Parameters<typeof facts.devices>[0]): Finding[] => judgeDevices(facts.devices(given));
const ofApi = (given: Parameters<typeof facts.api>[0]): Finding[] => judgeApi(facts.api(given));
const ofProxies = (given: Parameters<typeof facts.proxies>[0]): Finding[] => judgeProxies(facts.proxies(given));
const ofFirewall = (given: Parameters<typeof facts.firewall>[0]): Finding[] => judgeFirewall(facts.firewall(given));
const ofRanges = (given: Parameters<typeof facts.ranges>[0]): Finding[] => judgeRanges(facts.ranges(given));
const ofPorts = (given: Parameters<typeof facts.ports>[0]): Finding[] => judgePorts(facts.ports(given));
const ofPlatform = (given: Partial<PlatformFacts>): Finding[] => judgePlatform(facts.platform(given));

const SYS_ADMIN = 1n << 21n;
const NET = (1n << 12n) | (1n << 13n);
const ETH1 = device("eth1", 3, { addresses: facts.at("10.1.0.11/24") });
const DEFAULT_BY_ETH1 = { ...facts.withDevices(ETH1), routes: [...facts.NETWORK.routes, route("0.0.0.0/0", "eth1")] };
const STATUS = { version: "0.1.0", healthy: true, unhealthy: [], bypass: false, notices: [] } as unknown as AgentStatus;

const MACHINE: readonly Case[] = [
  {
    name: "four capabilities are all that an agent needs",
    found: ofMachine({ isRoot: false, capabilities: facts.AGENT_CAPABILITIES }),
    says: "ok machine.rights: not root, with every capability",
  },
  {
    name: "SYS_ADMIN stands for BPF and PERFMON",
    found: ofMachine({ capabilities: SYS_ADMIN | NET }),
    says: "ok machine.rights: root, with SYS_ADMIN",
  },
  {
    name: "SYS_ADMIN stands for no other",
    found: ofMachine({ capabilities: SYS_ADMIN | (1n << 12n) }),
    says: "error machine.rights: NET_RAW is lacking",
  },
  {
    name: "BPF alone is not enough before 5.8",
    found: ofMachine({ kernel: [5, 4], capabilities: facts.AGENT_CAPABILITIES }),
    says: "error machine.rights: SYS_ADMIN is lacking",
  },
  {
    name: "root in a container without capabilities",
    found: ofMachine({ capabilities: 0n }),
    says: "error machine.rights: the capabilities NET_ADMIN, NET_RAW, PERFMON and BPF are lacking",
  },
  {
    name: "a user is told what is not looked at",
    found: ofMachine({ isRoot: false, capabilities: 0n, canWriteSysctls: false, stateDirProblem: "EACCES" }),
    says: "warning machine.rights: not root: programs, maps, rules",
    not: "machine.sysctls",
  },
  {
    name: "32 bits",
    found: ofMachine({ architecture: "arm" }),
    says: "error machine.architecture: the architecture arm is not supported",
  },
  {
    name: "a small machine",
    found: ofMachine({ memoryBytes: 512 * 2 ** 20 }),
    says: "warning machine.memory: 512 MiB of memory, 4 processors; flow tables take 140 MiB of it",
  },
  {
    name: "no libbpf",
    found: ofMachine({ libbpf: "", libbpfProblem: "could not load libbpf.so.1" }),
    says: "error machine.libbpf: could not load libbpf.so.1 -> install libbpf 1.1",
  },
  { name: "an old libbpf", found: ofMachine({ libbpf: "0.8" }), says: "error machine.libbpf: libbpf 0.8 is too old" },
  {
    name: "an old Node.js",
    found: ofMachine({ node: "20.19.2" }),
    says: "error machine.node: Node.js 20.19.2 is too old",
  },
  {
    name: "no firewall can be asked",
    found: ofMachine({ programs: ["nsenter", "ethtool"] }),
    says: "warning machine.programs: found ethtool and nsenter; there is no iptables and nft",
  },
  {
    name: "no bpffs where an agent mounts one",
    found: ofMachine({ isPinDirBpffs: false }),
    says: "ok machine.bpffs: no bpffs is mounted at /sys/fs/bpf: an agent mounts one",
  },
  {
    name: "no bpffs where an agent refuses to",
    found: ofMachine({ isPinDirBpffs: false, inPod: true, bpffsRefusal: "it would go with the pod; mount the host's" }),
    says: "error machine.bpffs: no bpffs is mounted at /sys/fs/bpf, and an agent would not mount one: it would go with the pod -> mount the host's",
  },
  {
    name: "pins on something else",
    found: ofMachine({ isPinDirBpffs: false, pinDir: "/var/lib/pins" }),
    says: "error machine.bpffs: /var/lib/pins is on no bpffs",
  },
  {
    name: "another bpffs than the machine's",
    found: ofMachine({ machineMounts: facts.mounts("40 23 0:77 / /sys/fs/bpf rw - bpf bpf rw") }),
    says: "error machine.bpffs: the bpffs at /sys/fs/bpf is not the host's",
  },
  {
    name: "the machine's bpffs",
    found: ofMachine({ machineMounts: facts.mounts(...facts.MOUNTS) }),
    says: "ok machine.bpffs: the bpffs at /sys/fs/bpf is the machine's",
  },
  {
    name: "a bpffs that a pod was given",
    found: ofMachine({ inPod: true }),
    says: "ok machine.bpffs: the bpffs at /sys/fs/bpf is mounted into this pod",
  },
  {
    name: "a state directory that cannot be written",
    found: ofMachine({ stateDirProblem: "EROFS" }),
    says: "warning machine.state: /var/lib/millrace cannot be written: EROFS",
  },
  {
    name: "a state directory in the image",
    found: ofMachine({ inPod: true, mounts: facts.mounts("27 1 0:9 / / rw - overlay overlay rw") }),
    says: "warning machine.state: /var/lib/millrace is on overlay",
  },
  {
    name: "a state directory in memory",
    found: ofMachine({ mounts: facts.mounts("27 1 0:9 / / rw - tmpfs tmpfs rw") }),
    says: "warning machine.state: /var/lib/millrace is on tmpfs: what is kept there goes with this boot",
  },
  {
    name: "/proc/sys is read-only",
    found: ofMachine({ canWriteSysctls: false }),
    says: "warning machine.sysctls: /proc/sys is read-only here",
  },
  {
    name: "locked memory below 5.11",
    found: ofMachine({ kernel: [5, 10], memlockBytes: 65_536, capabilities: SYS_ADMIN | NET }),
    says: "error machine.memlock: the limit of locked memory is 64 KiB, and maps take 181 MiB",
  },
  {
    name: "locked memory that can be raised",
    found: ofMachine({ kernel: [5, 10], memlockBytes: 65_536 }),
    says: "ok machine.memlock: the limit of locked memory is no obstacle",
  },
  {
    name: "few inotify instances where a kubelet runs",
    found: ofMachine({ inotifyInstances: 128 }),
    says: 'warning machine.inotify: each user may have 128 inotify instances (fs.inotify.max_user_instances), all containers together: with none left kubelet, containerd and kube-proxy fail with "too many open files" -> sysctl -w fs.inotify.max_user_instances=512',
  },
  {
    name: "enough inotify instances",
    found: ofMachine({ inotifyInstances: 512 }),
    says: "ok machine.inotify: each user may have 512",
  },
  {
    name: "few inotify instances where no kubelet runs",
    found: ofMachine({ inotifyInstances: 128, hasKubelet: false }),
    says: "ok machine.clock",
    not: "machine.inotify",
  },
  {
    name: "a boot clock of one's own",
    found: ofMachine({ bootOffsetSeconds: -40 }),
    says: "error machine.clock: a time namespace shifts the boot clock by -40 s",
  },
  {
    name: "what may forbid bpf is named",
    found: ofMachine({ lockdown: "confidentiality", selinux: true, seccomp: true }),
    says: "ok machine.security: SELinux enforces, a seccomp filter is in force and the kernel is locked down (confidentiality)",
  },
];

const KERNEL: readonly Case[] = [
  {
    name: "too old",
    found: ofKernel({ release: "5.4.0", version: [5, 4] }),
    says: "error kernel.version: Linux 5.4.0 is too old",
  },
  {
    name: "without what is needed",
    found: ofKernel({ required: [{ feature: "mmap_array", since: "5.5" }] }),
    says: "error kernel.features: this kernel lacks mmap_array (Linux 5.5)",
  },
  {
    name: "without what has a fallback",
    found: ofKernel({ degraded: [{ feature: "tcx", needs: "6.6", instead: "filters" }] }),
    says: "ok kernel.features: without tcx (Linux 6.6): filters",
  },
  { name: "interpreted", found: ofKernel({ jit: 0 }), says: "warning kernel.jit: BPF programs are interpreted" },
  {
    name: "a program that does not load",
    found: ofKernel({ trial: { programs: 0, ms: 3, problem: "could not load tc: EPERM" } }),
    says: "error kernel.programs: programs cannot be loaded: could not load tc: EPERM",
  },
  { name: "all programs load", found: ofKernel({}), says: "ok kernel.programs: all 20 programs load, in 0.9 s" },
  {
    name: "what was not tried is not said",
    found: ofKernel({ trial: undefined, jit: undefined }),
    says: "ok kernel.version",
    not: "kernel.programs",
  },
  {
    name: "conntrack that may not be asked",
    found: ofKernel({ asksConntrack: false, version: [6, 1] }),
    says: "warning kernel.conntrack: programs may not ask conntrack, this kernel was built without it",
  },
  {
    name: "conntrack in a module that cannot be looked into",
    found: ofKernel({ asksConntrack: false, findsModules: false }),
    says: "warning kernel.conntrack: programs may not ask conntrack: where it is a module",
  },
  {
    name: "conntrack before 5.18",
    found: ofKernel({ asksConntrack: false, version: [5, 15] }),
    says: "warning kernel.conntrack: programs may not ask conntrack, Linux 5.18 is the first that can",
  },
  {
    name: "no conntrack",
    found: ofKernel({ asksConntrack: false, isConntrackLoaded: false }),
    says: "ok kernel.conntrack: conntrack is not loaded",
  },
  {
    name: "PREEMPT_RT",
    found: ofKernel({ realtime: "this kernel is PREEMPT_RT; use another" }),
    says: "error kernel.realtime: this kernel is PREEMPT_RT -> use another",
  },
];

const CGROUP: readonly Case[] = [
  { name: "the root", found: ofCgroup({}), says: "ok cgroup.directory: /sys/fs/cgroup is the root of all cgroups" },
  {
    name: "no cgroup2",
    found: ofCgroup({ isCgroup2: false, mounts: ["/sys/fs/cgroup/unified"] }),
    says: "error cgroup.directory: /sys/fs/cgroup is no cgroup2 directory: there is one at /sys/fs/cgroup/unified",
  },
  {
    name: "a kind node",
    found: ofCgroup({ place: "machine" }),
    says: "ok cgroup.directory: /sys/fs/cgroup is the root of this node, which is a container itself",
  },
  {
    name: "a pod's own",
    found: ofCgroup({ place: "pod", inPod: true }),
    says: "error cgroup.directory: /sys/fs/cgroup is the root of this pod's cgroup namespace",
  },
  {
    name: "a part without pods",
    found: ofCgroup({ place: "chosen", hasPods: false }),
    says: "warning cgroup.directory: /sys/fs/cgroup is a part of the hierarchy",
  },
  {
    name: "a part with pods",
    found: ofCgroup({ place: "chosen" }),
    says: "ok cgroup.directory: /sys/fs/cgroup is a part of the hierarchy, with pods below it",
  },
];

const DEVICES: readonly Case[] = [
  {
    name: "an uplink by the Node's address",
    found: ofDevices({}),
    says: "ok devices.uplinks: eth0 is an uplink: it has 192.168.122.11 of this Node",
  },
  {
    name: "an uplink by the default route",
    found: ofDevices({ network: DEFAULT_BY_ETH1 }),
    says: "ok devices.uplinks: eth1 is an uplink: it has the default route",
  },
  {
    name: "an uplink by a route to others",
    found: ofDevices({
      network: { ...facts.withDevices(ETH1), routes: [...facts.NETWORK.routes, route("10.244.2.0/24", "eth1")] },
    }),
    says: "eth1 is an uplink: a route to another node's address or pods leaves by it",
  },
  {
    name: "an uplink by its name",
    found: ofDevices({ network: facts.withDevices(ETH1), named: ["eth1"] }),
    says: "eth1 is an uplink: it is named by --devices",
  },
  {
    name: "an uplink above another one",
    found: ofDevices({
      network: facts.withDevices(
        device("vip0", 4, { kind: "macvlan", lower: "eth0", addresses: facts.at("192.168.122.50/32") }),
      ),
    }),
    says: "vip0 is an uplink: it has an address of its own and lies on the uplink eth0",
  },
  {
    name: "an uplink without carrier",
    found: ofDevices({ network: { ...facts.NETWORK, devices: [{ ...facts.ETH0, running: false }] } }),
    says: "warning devices.uplinks: eth0 is an uplink: it has 192.168.122.11 of this Node; it is down",
  },
  {
    name: "no uplink",
    found: ofDevices({ network: { ...facts.NETWORK, devices: [device("dummy0", 9)], routes: [] } }),
    says: "error devices.uplinks: no device is an uplink, so nothing from outside this node is served; there is dummy0",
  },
  {
    name: "a name that is no device's",
    found: ofDevices({ named: ["eth0", "eht1"] }),
    says: "error devices.named: no device is called eht1",
  },
  {
    name: "names that are all there",
    found: ofDevices({ named: ["eth0"] }),
    says: "ok devices.named: every device of --devices is there: eth0",
  },
  {
    name: "a device that is nobody's",
    found: ofDevices({
      network: facts.withDevices(device("docker0", 4, { kind: "bridge" }), device("eno1", 5, { master: "bond0" })),
    }),
    says: "ok devices.others: docker0 is neither uplink nor a pod's: without an address of this Node",
  },
  {
    name: "pods by routes",
    found: ofDevices({
      network: {
        ...facts.withDevices(device("veth1", 7, { kind: "veth" })),
        routes: [...facts.NETWORK.routes, route("10.244.1.5/32", "veth1")],
      },
    }),
    says: "ok devices.pods: 1 pod device: veth1",
  },
  {
    name: "forwarding off",
    found: ofDevices({ forwarding: new Map([["ipv4 eth0", false]]) }),
    says: "error devices.forwarding: forwarding is off: IPv4 on eth0; packets for backends elsewhere are dropped -> set net.ipv4.conf.eth0.forwarding=1",
  },
  {
    name: "forwarding off in a family that no Service has",
    found: ofDevices({}),
    says: "ok devices.forwarding: forwarding is on for IPv4",
  },
  {
    name: "forwarding off where Services are not known",
    found: ofDevices({ families: undefined, forwarding: new Map([["ipv4 eth0", false]]) }),
    says: "warning devices.forwarding: forwarding is off: IPv4 on eth0",
  },
  {
    name: "strict filtering with two ways in",
    found: ofDevices({ network: DEFAULT_BY_ETH1, rpFilter: new Map([["eth1", 1]]) }),
    says: "warning devices.rp-filter: rp_filter is strict on eth1",
  },
  {
    name: "strict filtering with one way in",
    found: ofDevices({ rpFilter: new Map([["eth0", 1]]) }),
    says: "ok devices.rp-filter: strict, with one way in and out",
  },
  {
    name: "uplinks of different size",
    found: ofDevices({ network: { ...DEFAULT_BY_ETH1, devices: [facts.ETH0, { ...ETH1, mtu: 9000 }] } }),
    says: "warning devices.mtu: uplinks differ in MTU (eth0 1500 and eth1 9000)",
  },
  {
    name: "an overlay is smaller by nature",
    found: ofDevices({ network: { ...DEFAULT_BY_ETH1, devices: [facts.ETH0, { ...ETH1, kind: "vxlan", mtu: 1450 }] } }),
    says: "ok devices.mtu: MTU 1500",
  },
  { name: "XDP on a NIC", found: ofDevices({}), says: "ok devices.xdp: tried on eth0" },
  {
    name: "XDP that no driver has",
    found: ofDevices({ xdp: "on", xdpFeatures: new Map([["eth0", 0]]) }),
    says: "warning devices.xdp: --xdp=on is asked for: no uplink's driver has it",
  },
  {
    name: "XDP on a veth",
    found: ofDevices({ xdp: "on", network: { ...facts.NETWORK, devices: [{ ...facts.ETH0, kind: "veth" }] } }),
    says: "warning devices.xdp: --xdp=on is asked for: eth0 is a veth",
  },
  {
    name: "a bond",
    found: ofDevices({
      network: {
        ...facts.NETWORK,
        devices: [{ ...facts.ETH0, name: "eth0", kind: "bond" }, device("eno1", 5, { master: "eth0" })],
      },
    }),
    says: "ok devices.stacked: eth0 is a bond over eno1: programs are on the bond",
  },
  {
    name: "a VLAN",
    found: ofDevices({ network: { ...facts.NETWORK, devices: [{ ...facts.ETH0, kind: "vlan", lower: "eno1" }] } }),
    says: "ok devices.stacked: eth0 is a vlan over eno1",
  },
  {
    name: "encapsulations that are not handled",
    found: ofDevices({
      network: {
        ...facts.NETWORK,
        routes: [...facts.NETWORK.routes, route("10.244.2.0/24", "eth0", { encapsulation: "mpls" })],
      },
    }),
    says: "error devices.encapsulation: packets from outside for backends behind such routes are dropped (DROP_NO_ROUTE)",
  },
  {
    name: "one tunnel for all",
    found: ofDevices({
      network: {
        ...facts.withDevices(device("tun0", 8)),
        routes: [...facts.NETWORK.routes, route("10.244.2.0/24", "tun0", { encapsulation: "ip" })],
      },
    }),
    says: "ok devices.encapsulation: routes wrap packets for tun0",
  },
];

const API: readonly Case[] = [
  {
    name: "nothing says where it is",
    found: ofApi({ noWay: "could not find the API server", ways: [] }),
    says: "error api.way: could not find the API server",
  },
  {
    name: "a server that answers",
    found: ofApi({}),
    says: "ok api.way: 10.0.0.1:6443 (by --apiserver) answers, in 12 ms",
  },
  {
    name: "one that does not, beside one that does",
    found: ofApi({
      ways: [
        { server: "10.0.0.1:6443", origin: "kubeconfig", problem: "", ms: 1 },
        {
          server: "10.96.0.1:443",
          origin: "KUBERNETES_SERVICE_HOST",
          problem: "could not reach the API server 10.96.0.1: it takes no connection; check it",
          ms: 0,
        },
      ],
    }),
    says: "warning api.way: 10.96.0.1:443 (by KUBERNETES_SERVICE_HOST, if nobody else answers): could not reach the API server 10.96.0.1: it takes no connection -> check it",
  },
  {
    name: "none that answers",
    found: ofApi({
      ways: [{ server: "10.96.0.1:443", origin: "KUBERNETES_SERVICE_HOST", problem: "it takes no connection", ms: 0 }],
    }),
    says: "error api.way: 10.96.0.1:443",
    not: "api.version",
  },
  { name: "a tested version", found: ofApi({}), says: "ok api.version: Kubernetes v1.34.1" },
  {
    name: "an old version",
    found: ofApi({ version: "v1.29.4+k3s1" }),
    says: "warning api.version: Kubernetes v1.29.4+k3s1 is older than what is tested (1.34 to 1.37)",
  },
  {
    name: "a new version",
    found: ofApi({ version: "v1.41.0" }),
    says: "warning api.version: Kubernetes v1.41.0 is newer",
  },
  {
    name: "no version",
    found: ofApi({ version: "" }),
    says: "warning api.version: the server does not tell its version",
  },
  { name: "a slow server", found: ofApi({ latencyMs: 812.4 }), says: "warning api.latency: an answer takes 812 ms" },
  { name: "a fast server", found: ofApi({}), says: "ok api.latency: an answer takes 2.3 ms" },
  { name: "clocks that agree", found: ofApi({ clockAheadMs: 900 }), says: "ok api.clock" },
  {
    name: "a clock behind",
    found: ofApi({ clockAheadMs: -90_000 }),
    says: "warning api.clock: the server's clock is 90s behind this machine's",
  },
  {
    name: "a certificate that ended",
    found: ofApi({ certificateExpiresAtMs: Date.parse("2026-05-01T11:00:00Z") }),
    says: "error api.certificate: the client certificate ended 60m ago",
  },
  {
    name: "a certificate that ends",
    found: ofApi({ certificateExpiresAtMs: Date.parse("2026-05-04T12:00:00Z") }),
    says: "warning api.certificate: the client certificate ends in 3d",
  },
  {
    name: "no certificate",
    found: ofApi({ certificateExpiresAtMs: undefined }),
    says: "ok api.version",
    not: "api.certificate",
  },
  { name: "all rights", found: ofApi({}), says: "ok api.rights: this account has all 18 rights" },
  {
    name: "a right that is needed",
    found: ofApi({ rights: facts.rightsWithout((resource) => resource !== "endpointslices") }),
    says: "error api.rights: this account may not list endpointslices.discovery.k8s.io and watch endpointslices.discovery.k8s.io: no Service is served",
  },
  {
    name: "a right in a namespace",
    found: ofApi({
      rights: facts.rightsWithout((resource, verb) => resource !== "servicel2statuses" || verb !== "delete"),
    }),
    says: "warning api.rights: this account may not delete servicel2statuses.metallb.io in namespace kube-system: nobody is told",
  },
  {
    name: "a server that does not say",
    found: ofApi({ rights: facts.rightsWithout(() => undefined) }),
    says: "warning api.rights: the server does not say whether this account may list services",
  },
  { name: "the Node", found: ofApi({}), says: "ok api.node: the Node node1 has 192.168.122.11" },
  { name: "no such Node", found: ofApi({ node: undefined }), says: "error api.node: there is no Node called node1" },
  {
    name: "Nodes that cannot be read",
    found: ofApi({ node: undefined, rights: facts.rightsWithout((resource) => resource !== "nodes") }),
    says: "warning api.node: Nodes cannot be read",
  },
  {
    name: "a Node without an address",
    found: ofApi({ node: facts.nodeObject() }),
    says: "error api.node: the Node node1 has no InternalIP",
  },
  {
    name: "another Node",
    found: ofApi({ deviceAddresses: ["10.9.9.9"] }),
    says: "error api.node: no device here has an address of the Node node1 (192.168.122.11)",
  },
  {
    name: "an address that is not here",
    found: ofApi({ node: facts.nodeObject(facts.OWN, "fd00::11") }),
    says: "warning api.node: no device here has fd00::11 of the Node node1",
  },
];

const PROXIES: readonly Case[] = [
  { name: "nobody", found: ofProxies({}), says: "ok proxies.kube-proxy: no kube-proxy runs" },
  {
    name: "a kube-proxy",
    found: ofProxies({ processes: ["/usr/local/bin/kube-proxy --config=/var/lib/kube-proxy/config.conf"] }),
    says: "warning proxies.kube-proxy: a kube-proxy runs on this node",
  },
  {
    name: "words that look like one",
    found: ofProxies({ processes: ["vi kube-proxy.yaml", "/bin/kube-proxy-watch"] }),
    says: "ok proxies.kube-proxy: no kube-proxy runs",
  },
  {
    name: "a kube-proxy of a cluster in containers here",
    found: ofProxies({ processesElsewhere: ["/usr/local/bin/kube-proxy --config=x"] }),
    says: "ok proxies.kube-proxy: no kube-proxy runs",
  },
  {
    name: "kube-proxy within k3s",
    found: ofProxies({ processes: ["/usr/local/bin/k3s server"], tcpPorts: new Set([10249]) }),
    says: "warning proxies.kube-proxy: kube-proxy runs within k3s",
  },
  {
    name: "its ports, from a pod",
    found: ofProxies({ processes: [], seesProcesses: false, tcpPorts: new Set([10249, 10256]) }),
    says: "warning proxies.kube-proxy: somebody listens on kube-proxy's ports 10249 and 10256",
  },
  {
    name: "its ports are our agent's",
    found: ofProxies({ tcpPorts: new Set([10249, 10256]), agentAnswers: true }),
    says: "ok proxies.kube-proxy",
  },
  {
    name: "rules of iptables",
    found: ofProxies({
      nftChains: ["ip nat KUBE-SERVICES", "ip nat KUBE-SVC-ABC", "ip filter FORWARD"],
      legacyChains: ["ip nat KUBE-SEP-X"],
    }),
    says: "warning proxies.rules: kube-proxy's rules are here: 3 chains of iptables",
  },
  {
    name: "the kubelet's own rules",
    found: ofProxies({
      nftChains: ["ip mangle KUBE-KUBELET-CANARY", "ip filter KUBE-FIREWALL", "ip nat KUBE-MARK-DROP"],
    }),
    says: "ok proxies.rules: kube-proxy left no rules",
  },
  {
    name: "rules of nftables",
    found: ofProxies({ nftChains: ["ip kube-proxy services", "ip6 kube-proxy services"] }),
    says: "warning proxies.rules: kube-proxy's rules are here: 2 chains of nftables",
  },
  {
    name: "IPVS",
    found: ofProxies({ ipvsServers: 12, devices: ["eth0", "kube-ipvs0"] }),
    says: "warning proxies.rules: kube-proxy's rules are here: 12 virtual servers of IPVS",
  },
  {
    name: "IPVS of others",
    found: ofProxies({ ipvsServers: 12 }),
    says: "ok proxies.rules: kube-proxy left no rules",
  },
  {
    name: "rules that cannot be listed",
    found: ofProxies({ nftChains: undefined }),
    says: "ok proxies.rules: no IPVS and no iptables of the old kind; nftables cannot be listed here",
  },
  {
    name: "Cilium runs",
    found: ofProxies({ processes: ["cilium-agent --config-dir=/tmp"] }),
    says: "error proxies.dataplanes: Cilium runs: it translates Services at sockets",
  },
  {
    name: "Cilium was here",
    found: ofProxies({ devices: ["cilium_host"], pins: ["cilium_lb4_services_v2"] }),
    says: "warning proxies.dataplanes: Cilium has left device cilium_host and pin cilium_lb4_services_v2, or runs unseen",
  },
  {
    name: "Calico's eBPF",
    found: ofProxies({ devices: ["bpfin.cali"] }),
    says: "warning proxies.dataplanes: Calico's eBPF dataplane has left device bpfin.cali",
  },
  {
    name: "OVN-Kubernetes",
    found: ofProxies({ processes: ["/usr/bin/ovnkube --init-node x"] }),
    says: "error proxies.dataplanes: OVN-Kubernetes runs",
  },
  {
    name: "MetalLB's speaker",
    found: ofProxies({ processes: ["/speaker --port=7472 --log-level=info"] }),
    says: "error proxies.balancers: MetalLB's speaker runs: it answers ARP",
  },
  {
    name: "its port alone",
    found: ofProxies({ tcpPorts: new Set([7946]) }),
    says: "warning proxies.balancers: MetalLB's speaker has left port 7946, or runs unseen",
  },
  {
    name: "kube-vip",
    found: ofProxies({ processes: ["/kube-vip manager"] }),
    says: "warning proxies.balancers: kube-vip runs",
  },
  {
    name: "klipper-lb",
    found: ofProxies({ processesElsewhere: ["/bin/sh /usr/bin/entry"] }),
    says: "warning proxies.balancers: klipper-lb (servicelb of k3s) runs",
  },
  {
    name: "programs of others",
    found: ofProxies({
      programs: [
        { device: "eth0", hook: "tcx ingress", program: "cil_from_netdev" },
        { device: "eth1", hook: "tcx ingress", program: "cil_from_netdev" },
      ],
    }),
    says: "ok proxies.programs: the program cil_from_netdev is on eth0 and eth1 (tcx ingress)",
  },
  {
    name: "an XDP program of others",
    found: ofProxies({ programs: [{ device: "eth0", hook: "xdp", program: "xdp_filter" }] }),
    says: "warning proxies.programs: the XDP program xdp_filter is on eth0",
  },
  {
    name: "programs that cannot be listed",
    found: ofProxies({ programs: undefined }),
    says: "ok proxies.kube-proxy",
    not: "proxies.programs",
  },
];

const FIREWALL: readonly Case[] = [
  {
    name: "nothing drops",
    found: ofFirewall({}),
    says: "ok firewall.forward: nothing drops forwarded packets by default",
  },
  {
    name: "DROP, which an agent opens",
    found: ofFirewall({ iptables: [{ command: "iptables", policy: "DROP", hasOurs: false }] }),
    says: "ok firewall.forward: the FORWARD policy of iptables is DROP: an agent lets translated packets through",
  },
  {
    name: "DROP, which is left alone",
    found: ofFirewall({ iptables: [{ command: "iptables", policy: "DROP", hasOurs: false }], forwardMark: 0 }),
    says: "error firewall.forward: the FORWARD policy of iptables is DROP, and --forward-mark=0 leaves it alone",
  },
  {
    name: "a chain of nftables",
    found: ofFirewall({ dropping: ["inet firewall forward"] }),
    says: "warning firewall.forward: the nftables chain inet firewall forward drops what it does not accept -> let it accept translated packets (meta mark & 0x1000 == 0x1000)",
  },
  {
    name: "firewalld",
    found: ofFirewall({ managers: ["firewalld"] }),
    says: "warning firewall.manager: firewalld is at work",
  },
  { name: "no manager", found: ofFirewall({}), says: "ok firewall.manager" },
];

const RANGES: readonly Case[] = [
  {
    name: "no two overlap",
    found: ofRanges({}),
    says: "ok ranges.overlap: no two overlap: Services 10.96.0.0/12, fd00:10:96::/112; pods 10.244.0.0/24 and 10.244.1.0/24",
  },
  {
    name: "Services and pods",
    found: ofRanges({ services: ["10.244.0.0/16"] }),
    says: "error ranges.overlap: Service range 10.244.0.0/16 and pod range 10.244.0.0/24 overlap",
  },
  {
    name: "Services and nodes",
    found: ofRanges({ services: ["192.168.0.0/16"] }),
    says: "error ranges.overlap: Service range 192.168.0.0/16 covers 192.168.122.11 of the Node node1",
  },
  {
    name: "Services and a network",
    found: ofRanges({ services: ["192.168.0.0/16"] }),
    says: "warning ranges.overlap: Service range 192.168.0.0/16 covers the network 192.168.122.11/24 of eth0",
  },
  {
    name: "pods and a network",
    found: ofRanges({ pods: ["192.168.122.0/25"] }),
    says: "error ranges.overlap: pod range 192.168.122.0/25 and the network 192.168.122.11/24 of eth0 overlap",
  },
  {
    name: "a pool and pods",
    found: ofRanges({ pools: [{ name: "a/b", range: "10.244.0.200-10.244.0.210" }] }),
    says: "error ranges.overlap: 10.244.0.200-10.244.0.210 of the pool a/b overlaps pod range 10.244.0.0/24",
  },
  {
    name: "a pool and a node",
    found: ofRanges({ pools: [{ name: "a/b", range: "192.168.122.0/24" }] }),
    says: "warning ranges.overlap: 192.168.122.0/24 of the pool a/b holds 192.168.122.11 of the Node node1",
  },
  {
    name: "families are apart",
    found: ofRanges({ services: ["::/0"], pods: ["10.0.0.0/8"] }),
    says: "ok ranges.overlap",
  },
  {
    name: "ports that are free",
    found: ofPorts({}),
    says: "ok ranges.ports: free: health 10256/TCP and liveness 7948/UDP",
  },
  {
    name: "ports that somebody has",
    found: ofPorts({ tcp: new Set([10256]), udp: new Set([7948]) }),
    says: "warning ranges.ports: somebody else has 10256/TCP (health) and 7948/UDP (liveness)",
  },
  { name: "a port of the other protocol", found: ofPorts({ udp: new Set([10256]) }), says: "ok ranges.ports" },
  {
    name: "ports that our agent has",
    found: ofPorts({ tcp: new Set([10256]), agentAnswers: true }),
    says: "ok ranges.ports: an agent has its ports",
  },
  {
    name: "node ports that connections get",
    found: ofPorts({ local: { first: 1024, last: 65535 } }),
    says: "warning ranges.node-ports: the kernel may give node ports (30000-32767) to connections of this node",
  },
  {
    name: "node ports that are reserved",
    found: ofPorts({ local: { first: 1024, last: 65535 }, reserved: [{ first: 30000, last: 65535 }] }),
    says: "ok ranges.node-ports: node ports 30000-32767 are nobody else's",
  },
  {
    name: "listeners among node ports",
    found: ofPorts({ tcp: new Set([30080]) }),
    says: "warning ranges.node-ports: processes listen on ports of the node port range: 30080/TCP",
  },
  {
    name: "source ports that are node ports",
    found: ofPorts({ snatPorts: { first: 32000, last: 40000 } }),
    says: "error ranges.snat-ports: --snat-port-range and --service-node-port-range overlap (32000-32767)",
  },
  {
    name: "source ports that cannot be reserved",
    found: ofPorts({ reserved: [], canReserve: false }),
    says: "warning ranges.snat-ports: source ports 49152-65535 are not reserved, and cannot be from here",
  },
  {
    name: "source ports that an agent reserves",
    found: ofPorts({ reserved: [] }),
    says: "ok ranges.snat-ports: an agent reserves the source ports",
  },
  {
    name: "a listener among source ports may be an agent's own",
    found: ofPorts({ tcp: new Set([50000]), agentAnswers: true }),
    says: "ok ranges.snat-ports: source ports 49152-65535 are reserved",
    not: "warning ranges.snat-ports",
  },
  {
    name: "listeners among source ports",
    found: ofPorts({ tcp: new Set([50000]) }),
    says: "warning ranges.snat-ports: processes listen on ports of --snat-port-range: 50000",
  },
];

const OBJECTS: readonly Case[] = [
  {
    name: "all was read",
    found: ofObjects(eventsOf({ nodes: [node(1)], services: [service()], slices: [slice()] })),
    says: "ok objects.read: read: 1 Service, ",
  },
  {
    name: "not all was read",
    found: ofObjects([], { complete: false }),
    says: "error objects.read: not everything could be read, only 0 Services",
  },
  {
    name: "nothing to say",
    found: ofObjects(eventsOf({ nodes: [node(1)], services: [service()] })),
    says: "ok objects.notices: an agent has nothing to say against them",
  },
  {
    name: "what an agent would say",
    found: ofObjects(eventsOf({ nodes: [node(1)], services: [service({ externalIPs: ["203.0.113.7"] })] })),
    says: "objects.notices: external-ip",
  },
  {
    name: "one fault of many objects is one line",
    found: ofObjects([], {
      sourceNotices: ["a", "b", "c"].map((name) => ({
        object: `Service x/${name}`,
        file: "",
        field: "spec",
        reason: "invalid",
        message: `Service x/${name}: spec: bad`,
        severity: "error" as const,
      })),
    }),
    says: "error objects.notices: invalid: Service x/a: spec: bad; the same of Service x/b and Service x/c -> see docs/troubleshooting.md#invalid",
  },
  {
    name: "SCTP",
    found: ofObjects(eventsOf({ services: [service({ ports: [{ protocol: "SCTP" }] })] })),
    says: "ok objects.limits: 1 Service of SCTP (default/web): by packets alone",
  },
  {
    name: "session affinity",
    found: ofObjects(eventsOf({ services: [service({ affinitySeconds: 60 })] })),
    says: "ok objects.limits: 1 Service with session affinity (default/web)",
  },
  {
    name: "another class",
    found: ofObjects(eventsOf({ services: [service({ ...balanced, loadBalancerClass: "example.com/lb" })] })),
    says: "ok objects.classes: 1 LoadBalancer Service of another class (example.com/lb)",
  },
  {
    name: "no address",
    found: ofObjects(eventsOf({ services: [service(balanced)] })),
    says: "warning objects.addresses: 1 LoadBalancer Service without an address",
  },
  {
    name: "BGP",
    found: ofObjects([], { bgp: { bgppeers: 2, bgpadvertisements: 0 } }),
    says: "warning objects.bgp: 2 bgppeers: Millrace speaks no BGP",
  },
];

const AGENT: readonly Case[] = [
  {
    name: "none",
    found: judgeAgent(undefined, "/run/x.sock"),
    says: "ok agent.status: no agent answers at /run/x.sock",
  },
  {
    name: "a healthy one",
    found: judgeAgent(STATUS, ""),
    says: "ok agent.status: an agent (0.1.0) runs and is healthy",
  },
  {
    name: "an unhealthy one",
    found: judgeAgent({ ...STATUS, healthy: false, unhealthy: ["it has not synced"] }, ""),
    says: "error agent.status: the agent (0.1.0) is not healthy: it has not synced",
  },
  { name: "bypass", found: judgeAgent({ ...STATUS, bypass: true }, ""), says: "error agent.status: bypass is on" },
  {
    name: "its errors",
    found: judgeAgent(
      {
        ...STATUS,
        notices: [
          {
            object: "Devices",
            file: "",
            field: "",
            reason: "no-uplink",
            message: "no device is an uplink",
            severity: "error",
          },
        ],
      },
      "",
    ),
    says: "error agent.status: the agent says: Devices: no device is an uplink -> see docs/troubleshooting.md#no-uplink",
  },
];

/** Facts by which each platform is known. */
const KNOWN_BY: Readonly<Record<string, Partial<PlatformFacts>>> = {
  kind: { providerId: "kind://docker/kind/kind-worker" },
  minikube: { labels: { "minikube.k8s.io/name": "minikube" } },
  RKE2: { kubeletVersion: "v1.34.1+rke2r1" },
  k3s: { kubeletVersion: "v1.34.1+k3s1" },
  k0s: { kubeletVersion: "v1.34.1+k0s" },
  MicroK8s: { files: ["/var/snap/microk8s"] },
  Talos: { osImage: "Talos (v1.11.0)" },
  OpenShift: { labels: { "node.openshift.io/os_id": "rhcos" } },
  "Amazon EKS or EC2": { providerId: "aws:///eu-central-1a/i-0123" },
  "Google GKE or Compute Engine": { providerId: "gce://project/zone/name" },
  "Microsoft AKS or Azure": { providerId: "azure:///subscriptions/x" },
  "Hetzner Cloud": { dmi: ["Hetzner", "vServer"] },
  DigitalOcean: { dmi: ["DigitalOcean", "Droplet"] },
  "Oracle Cloud": { dmi: ["OracleCloud.com"] },
  OpenStack: { dmi: ["OpenStack Foundation", "OpenStack Nova"] },
  "VMware vSphere": { dmi: ["VMware, Inc."] },
  kubeadm: { files: ["/etc/kubernetes/kubelet.conf"] },
};

const PLATFORM: readonly Case[] = [
  {
    name: "nothing special",
    found: ofPlatform({}),
    says: "ok platform.name: no platform that is known to be special: Debian GNU/Linux 12",
  },
  {
    name: "kind is more than kubeadm",
    found: ofPlatform({ ...KNOWN_BY["kind"]!, files: ["/etc/kubernetes/kubelet.conf"] }),
    says: "platform.name: kind: nodes are containers",
    not: "kubeadm:",
  },
  {
    name: "two at once",
    found: ofPlatform({ ...KNOWN_BY["k3s"]!, providerId: "aws:///z/i-1" }),
    says: "warning platform.name: k3s:",
  },
  {
    name: "two at once, the other",
    found: ofPlatform({ ...KNOWN_BY["k3s"]!, providerId: "aws:///z/i-1" }),
    says: "warning platform.name: Amazon EKS or EC2: the VPC answers ARP itself",
  },
];

const ALL: Readonly<Record<string, readonly Case[]>> = {
  MACHINE,
  KERNEL,
  CGROUP,
  DEVICES,
  API,
  PROXIES,
  FIREWALL,
  RANGES,
  OBJECTS,
  AGENT,
  PLATFORM,
};

for (const [title, cases] of Object.entries(ALL)) {
  describe(title.toLowerCase(), () => {
    it.each(cases)("$name", ({ found, says, not }) => {
      const lines = found.map(lineOf);
      expect(
        lines.filter((line) => line.includes(says)).length,
        `${says}\nis in none of\n${lines.join("\n")}`,
      ).toBeGreaterThan(0);
      if (not !== undefined) expect(lines.filter((line) => line.includes(not))).toEqual([]);
    });
  });
}

describe("each platform", () => {
  it.each(PLATFORMS.map(({ name }) => name))(
    "%s is known by what tells it, and by nothing that tells others",
    (name) => {
      const given = facts.platform(KNOWN_BY[name]!);
      expect(PLATFORMS.filter(({ is }) => is(given)).map((one) => one.name)).toEqual([name]);
      expect(PLATFORMS.find((one) => one.name === name)!.is(facts.platform())).toBe(false);
    },
  );
});

describe("the catalogue of checks", () => {
  const seen = Object.values(ALL).flat();
  it.each(Object.keys(CHECKS) as CheckName[])("%s has a case in which it is what is said", (check) => {
    expect(seen.filter(({ says }) => says.includes(check)).map(({ name }) => name)).not.toEqual([]);
  });
  it("has groups alone that are shown", () => {
    expect(Object.keys(CHECKS).filter((check) => GROUPS[groupOf(check as CheckName)] === undefined)).toEqual([]);
  });
  it("says what to do wherever something is wrong, and one sentence without its full stop", () => {
    for (const { name, found } of seen) {
      for (const one of found) {
        if (one.level !== "ok") expect(one.do, `${name}: ${one.check}`).not.toBe("");
        expect(one.says, `${name}: ${one.check}`).not.toMatch(/\.$|\n|^$/);
      }
    }
  });
});
