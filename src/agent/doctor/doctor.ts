// `millrace doctor`: gathers what there is to know, in parallel and each within its time, and has it judged. One thing that cannot be
// looked at is a line of its own, and keeps nothing else from being looked at. Changes nothing on the machine or in the cluster.
import { readFileSync } from "node:fs";
import { OBJECTS, objectPath } from "../../datapath/objects.ts";
import { defaultRouteAddresses, deviceRoles, heldNetworks, type RolesQuestion } from "../../decide/device-roles.ts";
import type { Network } from "../../decide/network.ts";
import { nodeAddresses, otherNodes } from "../../decide/node-addresses.ts";
import { servedFamilies } from "../../decide/served-families.ts";
import type { ApiExamination } from "../../kube/api-examination.ts";
import { parseBindAddress } from "../../lib/bind-address.ts";
import { entriesOf } from "../../lib/entries.ts";
import { parseMounts } from "../../lib/mountinfo.ts";
import { patience } from "../../lib/patience.ts";
import { isCgroup2, openObject } from "../../libbpf/mod.ts";
import type { Node } from "../../model/objects.ts";
import { readCgroupPlace } from "../cgroup-root.ts";
import { readNetwork } from "../network.ts";
import { type AgentOptions, clusterRangesOf } from "../options.ts";
import type { AgentStatus } from "../view.ts";
import { judgeAgent } from "./agent-status.ts";
import { judgeApi } from "./api.ts";
import { judgeCgroup } from "./cgroup.ts";
import { judgeDevices } from "./devices.ts";
import { readDeviceSettings } from "./devices-reading.ts";
import { CHECKS, type CheckName, type Finding, type Group, groupOf, warning } from "./finding.ts";
import { judgeFirewall } from "./firewall.ts";
import { judgeKernel } from "./kernel.ts";
import { readKernel } from "./kernel-reading.ts";
import { isAdmin, judgeMachine, mayUseBpf } from "./machine.ts";
import { readMachine } from "./machine-reading.ts";
import { commandLines, readListeners, readNeighbours, readPortSettings } from "./neighbours-reading.ts";
import { type Compiled, compileObjects, judgeObjects, type ObjectFacts } from "./objects.ts";
import { readManifests } from "./objects-reading.ts";
import { judgePlatform } from "./platform.ts";
import { readPlatform } from "./platform-reading.ts";
import { judgeProxies } from "./proxies.ts";
import { judgePorts, judgeRanges } from "./ranges.ts";

export interface DoctorOptions {
  readonly agent: AgentOptions;
  readonly memoryBytes: number;
  readonly cpus: number;
  /** Status of the agent that answers at its socket; rejects where none does. */
  readonly askAgent: () => Promise<AgentStatus>;
  readonly signal: AbortSignal;
  /** For each thing that is gathered. @default 90000, which only cuts off what hangs */
  readonly withinMs?: number;
}

/** The check under which it is said that a whole group could not be looked at. */
const SPEAKS_FOR: Readonly<Record<Group, CheckName>> = {
  machine: "machine.rights",
  kernel: "kernel.programs",
  cgroup: "cgroup.directory",
  devices: "devices.uplinks",
  api: "api.way",
  platform: "platform.name",
  proxies: "proxies.rules",
  firewall: "firewall.forward",
  ranges: "ranges.overlap",
  objects: "objects.read",
  agent: "agent.status",
};

/** Findings in the order of the checks. Rejects with the signal's reason alone. */
export async function examine(options: DoctorOptions): Promise<Finding[]> {
  const { agent, signal, withinMs = patience(90_000) } = options;
  const findings: Finding[] = [];
  /** Resolves to undefined when it failed: that is said. `work` is given a signal that ends it with its time. */
  async function gather<T>(group: Group, work: (within: AbortSignal) => T | Promise<T>): Promise<T | undefined> {
    const within = AbortSignal.any([signal, AbortSignal.timeout(withinMs)]);
    try {
      return await inTime(
        Promise.resolve().then(() => work(within)),
        within,
      );
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      const why = within.aborted ? `nothing was known within ${withinMs / 1000} s` : (cause as Error).message;
      const says = `not everything could be looked at: ${why.split("\n", 1)[0]}`;
      findings.push(warning(SPEAKS_FOR[group], says, "see whether root, and this machine's network namespace, help"));
      return undefined;
    }
  }
  const { here, elsewhere } = commandLines();
  const machine = readMachine(agent, options, [...here, ...elsewhere]);
  findings.push(...judgeMachine(machine));

  const [status, network, api] = await Promise.all([
    options.askAgent().catch((): undefined => undefined),
    gather("devices", readNetwork),
    agent.manifests.length > 0 ? undefined : gather("api", (within) => askApi(agent, within)),
    gather("kernel", async () => findings.push(...judgeKernel(await readKernel(mayUseBpf(machine), isAdmin(machine))))),
    gather("cgroup", () => findings.push(...judgeCgroup(readCgroup(agent.cgroup, machine.inPod)))),
  ]);
  const agentAnswers = status !== undefined;
  findings.push(...judgeAgent(status, agent.apiSocket));

  const own = network === undefined ? [] : defaultRouteAddresses(network).addresses;
  const objects = await gather("objects", async (): Promise<ObjectFacts | undefined> => {
    const held = network === undefined ? [] : heldNetworks(network);
    if (agent.manifests.length > 0) {
      return { ...(await readManifests(agent, { name: agent.nodeName, addresses: own })), heldNetworks: held };
    }
    if (api === undefined || api.version === "") return undefined;
    const { events, notices, ...rest } = api.objects;
    return { source: "kubernetes", events, sourceNotices: notices, ...rest, heldNetworks: held };
  });
  const compiled = objects && (await gather("objects", () => compileObjects(objects, agent)));
  if (objects !== undefined && compiled !== undefined) {
    findings.push(...judgeObjects(objects, compiled, agent.loadBalancerClass));
  }
  if (api !== undefined) {
    const { objects: _read, ...rest } = api;
    const deviceAddresses = network?.devices.flatMap(({ addresses }) => addresses.map(({ address }) => address)) ?? [];
    const { nodeName, namespace } = agent;
    findings.push(...judgeApi({ ...rest, nodeName, namespace, deviceAddresses, nowMs: Date.now() }));
  }
  findings.push(...judgePlatform(readPlatform(api?.node)));
  await Promise.all([
    gather("ranges", () => {
      if (network !== undefined)
        findings.push(...judgeRanges(rangesOf(agent, network, compiled, roleQuestion(agent, network, compiled))));
      findings.push(...judgePorts(portsOf(agent, agentAnswers, machine.canWriteSysctls || !machine.isRoot)));
    }),
    gather("devices", () => {
      if (network === undefined) return;
      const question = roleQuestion(agent, network, compiled);
      const families = objects && servedFamilies([], objects.events);
      findings.push(...judgeDevices({ question, xdp: agent.xdp, families, ...readDeviceSettings(network) }));
    }),
    gather("proxies", async () => {
      const all = network?.devices ?? [];
      const roles = network === undefined ? new Map() : deviceRoles(roleQuestion(agent, network, compiled));
      const ours = all.filter(({ ifindex }) => roles.has(ifindex));
      const { proxies, firewall } = await readNeighbours(all, ours, ownPrograms(), {
        inPod: machine.inPod,
        isRoot: machine.isRoot,
      });
      findings.push(...judgeProxies({ ...proxies, agentAnswers }));
      if (machine.isRoot) findings.push(...judgeFirewall({ ...firewall, forwardMark: agent.forwardMark }));
    }),
  ]);
  const order = Object.keys(CHECKS);
  const groups = [...new Set(order.map((name) => groupOf(name as CheckName)))];
  const place = ({ check }: Finding): number => groups.indexOf(groupOf(check)) * 1_000 + order.indexOf(check);
  return findings.sort((a, b) => place(a) - place(b));
}

/** Rejects when the signal is aborted; what goes on is left to itself. */
function inTime<T>(work: Promise<T>, within: AbortSignal): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const abort = (): void => reject(within.reason);
  within.addEventListener("abort", abort, { once: true });
  work.then(resolve, reject);
  return promise.finally(() => within.removeEventListener("abort", abort));
}

async function askApi(options: AgentOptions, signal: AbortSignal): Promise<ApiExamination> {
  const { examineApi } = await import("../../kube/api-examination.ts");
  const { kubeconfig, apiServer, stateDir, nodeName, namespace } = options;
  return examineApi({
    ...(kubeconfig === "" ? {} : { kubeconfig }),
    ...(apiServer === "" ? {} : { apiServer }),
    ...{ stateDir, nodeName, namespace, signal },
  });
}

function readCgroup(cgroup: string, inPod: boolean): Parameters<typeof judgeCgroup>[0] {
  const mounts = parseMounts(readFileSync("/proc/self/mountinfo", "utf8"));
  return {
    cgroup,
    isCgroup2: isCgroup2(cgroup),
    place: readCgroupPlace(cgroup),
    mounts: mounts.filter(({ type }) => type === "cgroup2").map(({ path }) => path),
    hasPods: entriesOf(cgroup).some((name) => /^kube(pods|let)/.test(name)),
    inPod,
  };
}

/** What the kernel keeps of our programs' names: 15 bytes. */
function ownPrograms(): ReadonlySet<string> {
  const names = OBJECTS.flatMap((name) => {
    using object = openObject(objectPath(name));
    return object.programs();
  });
  return new Set(names.flatMap((name) => [name, name.slice(0, 15)]));
}

function roleQuestion(
  options: AgentOptions,
  network: Network,
  compiled: Compiled | undefined,
): RolesQuestion & { readonly network: Network } {
  const addresses = nodeAddresses(compiled?.nodes ?? [], options.nodeName);
  const own = addresses.own.length > 0 ? addresses.own : defaultRouteAddresses(network).addresses;
  return { network, named: options.devices, ownAddresses: own, others: otherNodes(addresses) };
}

const WIRED: ReadonlySet<string> = new Set(["", "veth", "bond", "bridge", "vlan", "team"]);

function rangesOf(
  options: AgentOptions,
  network: Network,
  compiled: Compiled | undefined,
  question: RolesQuestion,
): Parameters<typeof judgeRanges>[0] {
  const roles = deviceRoles(question);
  const nodes: readonly Node[] = compiled?.nodes ?? [];
  const wired = network.devices.filter(({ ifindex, kind }) => roles.get(ifindex) === "uplink" && WIRED.has(kind));
  const ofObjects = (compiled?.serviceCIDRs ?? []).flatMap(({ cidrs }) => cidrs);
  return {
    services: [...new Set([...clusterRangesOf(options), ...ofObjects])],
    pods: [...new Set(nodes.flatMap(({ podCIDRs }) => podCIDRs))],
    pools: (compiled?.pools ?? []).flatMap(({ namespace, name, ranges }) =>
      ranges.map((range) => ({ name: `${namespace}/${name}`, range })),
    ),
    nodes: nodes.flatMap(({ name, internalAddresses }) => internalAddresses.map((address) => ({ name, address }))),
    networks: wired.flatMap(({ name, addresses }) =>
      addresses.map(({ address, length }) => ({ device: name, range: `${address}/${length}` })),
    ),
  };
}

function portsOf(options: AgentOptions, agentAnswers: boolean, canReserve: boolean): Parameters<typeof judgePorts>[0] {
  const listens = (what: string, address: string) => {
    const port = parseBindAddress(address)?.port;
    return port === undefined ? [] : [{ what, port, protocol: "TCP" as const }];
  };
  const liveness = { what: "liveness", port: options.livenessPort, protocol: "UDP" as const };
  return {
    nodePorts: options.serviceNodePortRange,
    snatPorts: options.snatPortRange,
    ...readPortSettings(),
    ...readListeners(),
    own: [
      ...listens("health", options.healthzBindAddress),
      ...listens("metrics", options.metricsBindAddress),
      ...listens("API", options.apiAddress),
      ...(options.livenessPort === 0 ? [] : [liveness]),
    ],
    canReserve,
    agentAnswers,
  };
}
