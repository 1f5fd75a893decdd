// Facts about a node where all is well, for judgements: a case shows only its difference.
import type { ApiFacts } from "../../../src/agent/doctor/api.ts";
import type { CgroupFacts } from "../../../src/agent/doctor/cgroup.ts";
import type { DeviceFacts } from "../../../src/agent/doctor/devices.ts";
import type { FirewallFacts } from "../../../src/agent/doctor/firewall.ts";
import type { KernelFacts } from "../../../src/agent/doctor/kernel.ts";
import type { MachineFacts } from "../../../src/agent/doctor/machine.ts";
import type { ObjectFacts } from "../../../src/agent/doctor/objects.ts";
import type { PlatformFacts } from "../../../src/agent/doctor/platform.ts";
import type { ProxyFacts } from "../../../src/agent/doctor/proxies.ts";
import type { PortFacts, RangeFacts } from "../../../src/agent/doctor/ranges.ts";
import type { Device, Network } from "../../../src/decide/network.ts";
import { otherNodes } from "../../../src/decide/node-addresses.ts";
import { AGENT_RIGHTS } from "../../../src/kube/api-rights.ts";
import { parseMounts } from "../../../src/lib/mountinfo.ts";
import { at, ETH0, NETWORK } from "../../decide/inputs.ts";

const ALL_CAPABILITIES = (1n << 41n) - 1n;
/** BPF, PERFMON, NET_ADMIN, NET_RAW. */
export const AGENT_CAPABILITIES = (1n << 39n) | (1n << 38n) | (1n << 12n) | (1n << 13n);

export const MOUNTS = [
  "27 1 254:0 / / rw - ext4 /dev/vda rw",
  "23 27 0:22 / /sys rw shared:7 - sysfs sysfs rw",
  "40 23 0:31 / /sys/fs/bpf rw shared:9 - bpf bpf rw",
];
export const mounts = (...lines: readonly string[]) => parseMounts(lines.join("\n"));

export const machine = (given: Partial<MachineFacts> = {}): MachineFacts => ({
  ...{ isRoot: true, capabilities: ALL_CAPABILITIES, architecture: "x64", memoryBytes: 8 * 2 ** 30, cpus: 4 },
  ...{ flowBytes: 140 * 2 ** 20, libbpf: "1.1", libbpfProblem: "", node: "24.1.0", kernel: [6, 12] },
  programs: ["ethtool", "iptables", "nft", "nsenter"],
  ...{ pinDir: "/sys/fs/bpf/millrace", isPinDirBpffs: true, mounts: mounts(...MOUNTS), machineMounts: undefined },
  ...{ inPod: false, bpffsRefusal: "", stateDir: "/var/lib/millrace", stateDirProblem: "", canWriteSysctls: true },
  ...{ inotifyInstances: 8192, hasKubelet: true },
  ...{ memlockBytes: Number.POSITIVE_INFINITY, bootOffsetSeconds: 0, lockdown: "", selinux: false, seccomp: false },
  ...given,
});

export const kernel = (given: Partial<KernelFacts> = {}): KernelFacts => ({
  ...{ release: "6.12.1-amd64", version: [6, 12], required: [], degraded: [], jit: 1 },
  ...{
    trial: { programs: 20, ms: 900, problem: "" },
    isConntrackLoaded: true,
    asksConntrack: true,
    findsModules: true,
    realtime: "",
  },
  ...given,
});

export const cgroup = (given: Partial<CgroupFacts> = {}): CgroupFacts => ({
  ...{
    cgroup: "/sys/fs/cgroup",
    isCgroup2: true,
    place: "root",
    mounts: ["/sys/fs/cgroup"],
    hasPods: true,
    inPod: false,
  },
  ...given,
});

export const OWN = "192.168.122.11";

export function devices(
  given: Partial<DeviceFacts> & { network?: Network; named?: readonly string[] } = {},
): DeviceFacts {
  const { network = NETWORK, named = [], ...rest } = given;
  const names = network.devices.map(({ name }) => name);
  const others = otherNodes({ others: ["192.168.122.12"], otherPodCIDRs: ["10.244.2.0/24"] });
  return {
    question: { network, named, ownAddresses: [OWN], others },
    xdp: "auto",
    families: ["ipv4"],
    forwarding: new Map(names.flatMap((name) => [[`ipv4 ${name}`, true] as const, [`ipv6 ${name}`, false] as const])),
    rpFilter: new Map(),
    xdpFeatures: new Map(),
    ...rest,
  };
}

export const withDevices = (...list: readonly Device[]): Network => ({ ...NETWORK, devices: [ETH0, ...list] });
export { at, ETH0, NETWORK };

const NOW = Date.parse("2026-05-01T12:00:00Z");
export const nodeObject = (...addresses: readonly string[]) => ({
  metadata: { name: "node1", labels: {} },
  status: { addresses: addresses.map((address) => ({ type: "InternalIP", address })) },
});

export const api = (given: Partial<ApiFacts> = {}): ApiFacts => ({
  noWay: "",
  ways: [{ server: "10.0.0.1:6443", origin: "--apiserver", problem: "", ms: 12.4 }],
  ...{ version: "v1.34.1", latencyMs: 2.25, clockAheadMs: 0, certificateExpiresAtMs: NOW + 90 * 86_400_000 },
  rights: AGENT_RIGHTS.flatMap((right) => right.verbs.map((verb) => ({ right, verb, allowed: true }))),
  node: nodeObject(OWN),
  ...{ nodeName: "node1", namespace: "kube-system", deviceAddresses: [OWN], nowMs: NOW },
  ...given,
});

/** The rights that `denied` says something of, others granted. */
export const rightsWithout = (denied: (resource: string, verb: string) => boolean | undefined) =>
  api().rights.map((asked) => ({ ...asked, allowed: denied(asked.right.resource, asked.verb) }));

export const platform = (given: Partial<PlatformFacts> = {}): PlatformFacts => ({
  ...{ labels: {}, providerId: "", osImage: "Debian GNU/Linux 12", kubeletVersion: "v1.34.1", osId: "debian" },
  ...{ files: [], dmi: ["QEMU"] },
  ...given,
});

export const proxies = (given: Partial<ProxyFacts> = {}): ProxyFacts => ({
  ...{
    processes: ["/usr/bin/kubelet --config=x"],
    processesElsewhere: [],
    seesProcesses: true,
    devices: ["lo", "eth0"],
    nftChains: [],
  },
  ...{ legacyChains: [], ipvsServers: 0, pins: [], tcpPorts: new Set([22]), agentAnswers: false, programs: [] },
  ...given,
});

export const firewall = (given: Partial<FirewallFacts> = {}): FirewallFacts => ({
  ...{ iptables: [], dropping: [], forwardMark: 0x1000, managers: [] },
  ...given,
});

export const ranges = (given: Partial<RangeFacts> = {}): RangeFacts => ({
  services: ["10.96.0.0/12", "fd00:10:96::/112"],
  pods: ["10.244.0.0/24", "10.244.1.0/24"],
  pools: [{ name: "metallb-system/lan", range: "192.168.122.200-192.168.122.210" }],
  nodes: [{ name: "node1", address: OWN }],
  networks: [{ device: "eth0", range: "192.168.122.11/24" }],
  ...given,
});

export const ports = (given: Partial<PortFacts> = {}): PortFacts => ({
  nodePorts: { first: 30000, last: 32767 },
  snatPorts: { first: 49152, last: 65535 },
  local: { first: 32768, last: 60999 },
  reserved: [{ first: 49152, last: 65535 }],
  canReserve: true,
  own: [
    { what: "health", port: 10256, protocol: "TCP" },
    { what: "liveness", port: 7948, protocol: "UDP" },
  ],
  ...{ tcp: new Set([22]), udp: new Set([68]), agentAnswers: false },
  ...given,
});

export const objects = (given: Partial<ObjectFacts> = {}): ObjectFacts => ({
  ...{ source: "kubernetes", events: [], sourceNotices: [], absent: [], complete: true, bgp: {}, heldNetworks: [] },
  ...given,
});
