// What kube-proxy's IPVS mode has in this network namespace, and takes out again: virtual servers, its device, sets of addresses. Virtual
// servers of others (keepalived's, an administrator's) stay.
import { setTimeout as wait } from "node:timers/promises";
import { type Address, hostAndPort } from "../lib/address.ts";
import {
  deleteDevice,
  destroySet,
  errnoName,
  type NetworkRecords,
  readNetworkRecords,
  removeVirtualServer,
  type VirtualServer,
  virtualServers,
} from "../libbpf/mod.ts";
import type { CleanupResult } from "./cleanup.ts";
import { hasDevice, IPVS_DEVICE } from "./kube-proxy-rules.ts";

/** Kubernetes' default. Node ports are served at the node's own addresses, which are on no device of kube-proxy's. */
const isNodePort = (port: number): boolean => port >= 30_000 && port <= 32_767;
/** As many virtual servers of others are named. */
const MOST_NAMED = 5;

/** Sets of its IPVS mode. */
const SETS = [
  "KUBE-LOOP-BACK",
  "KUBE-CLUSTER-IP",
  "KUBE-EXTERNAL-IP",
  "KUBE-EXTERNAL-IP-LOCAL",
  "KUBE-LOAD-BALANCER",
  "KUBE-LOAD-BALANCER-LOCAL",
  "KUBE-LOAD-BALANCER-FW",
  "KUBE-LOAD-BALANCER-SOURCE-IP",
  "KUBE-LOAD-BALANCER-SOURCE-CIDR",
  "KUBE-NODE-PORT-TCP",
  "KUBE-NODE-PORT-LOCAL-TCP",
  "KUBE-NODE-PORT-UDP",
  "KUBE-NODE-PORT-LOCAL-UDP",
  "KUBE-NODE-PORT-SCTP-HASH",
  "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
  "KUBE-HEALTH-CHECK-NODE-PORT",
  "KUBE-IPVS-IPS",
];
/** The longest name that a set can have. */
const SET_NAME = 31;
const MISSING: ReadonlySet<string> = new Set(["ENOENT", "EINVAL", "EOPNOTSUPP"]);
/** nftables frees rules after its answer, and lets their sets go only then: 10 to 30 ms later (measured, Linux 6.18). */
const SET_TRIES = 30;
const SET_PAUSE_MS = 100;

/** What is asked of the kernel. */
export interface IpvsKernel {
  readonly hasDevice: typeof hasDevice;
  readonly readNetwork: () => Promise<Pick<NetworkRecords, "links" | "addresses">>;
  readonly virtualServers: typeof virtualServers;
  readonly removeVirtualServer: typeof removeVirtualServer;
  readonly deleteDevice: typeof deleteDevice;
  readonly destroySet: typeof destroySet;
  readonly wait: (ms: number) => Promise<unknown>;
}

const KERNEL: IpvsKernel = {
  hasDevice,
  readNetwork: readNetworkRecords,
  virtualServers,
  removeVirtualServer,
  deleteDevice,
  destroySet,
  wait,
};

/** Rejects with KernelError when something cannot be read or removed. */
export async function removeIpvs(kernel: IpvsKernel = KERNEL): Promise<CleanupResult> {
  const removed: string[] = [];
  const left: string[] = [];
  // kube-proxy's IPVS mode always has the device: without it all virtual servers are of others.
  if (kernel.hasDevice(IPVS_DEVICE)) {
    const isKubeProxys = await recognition(kernel);
    const others: VirtualServer[] = [];
    let count = 0;
    for (const server of await kernel.virtualServers()) {
      if (!isKubeProxys(server)) others.push(server);
      else if (kernel.removeVirtualServer(server)) count++;
    }
    if (count > 0) removed.push(`${count} IPVS virtual servers`);
    if (others.length > 0) left.push(othersText(others));
    // Last: its addresses tell which virtual servers are kube-proxy's, also to a second attempt.
    if (kernel.deleteDevice(IPVS_DEVICE)) removed.push(`device ${IPVS_DEVICE}`);
  }
  const sets = await removeSets(kernel);
  return { removed: [...removed, ...sets.removed], left: [...left, ...sets.left] };
}

async function removeSets({ destroySet, wait }: IpvsKernel): Promise<CleanupResult> {
  const removed: string[] = [];
  const left: string[] = [];
  let names = SETS.flatMap((name) => [name, name.replace("KUBE-", "KUBE-6-").slice(0, SET_NAME)]);
  for (let attempt = 1; attempt <= SET_TRIES && names.length > 0; attempt++) {
    if (attempt > 1) await wait(SET_PAUSE_MS);
    const busy: string[] = [];
    for (const set of names) {
      const errno = destroySet(set);
      const name = errnoName(errno);
      if (errno === 0) removed.push(`set ${set}`);
      else if (name === "EBUSY") busy.push(set);
      else if (!MISSING.has(name)) left.push(`set ${set}: ${name}`);
    }
    names = busy;
  }
  left.push(...names.map((set) => `set ${set}: a rule or a set of somebody else's names it`));
  return { removed, left };
}

/** Those at an address of its device, and at node ports of the node's other addresses. */
async function recognition({ readNetwork }: IpvsKernel): Promise<(server: VirtualServer) => boolean> {
  const { links, addresses } = await readNetwork();
  const ifindex = links.find(({ name }) => name === IPVS_DEVICE)?.ifindex;
  const bound = new Set<Address>();
  const own = new Set<Address>();
  for (const one of addresses) (one.ifindex === ifindex ? bound : own).add(one.address);
  return ({ address, port }) => bound.has(address) || (own.has(address) && isNodePort(port));
}

function othersText(others: readonly VirtualServer[]): string {
  const named = others.slice(0, MOST_NAMED).map(({ address, port }) => hostAndPort(address, port));
  const more = others.length - named.length;
  const names = [...named, ...(more > 0 ? [`${more} more`] : [])].join(", ");
  return `${others.length} IPVS virtual servers that are not kube-proxy's, as their addresses are not on ${IPVS_DEVICE}: ${names}`;
}
