// Agents as the pods of deploy/millrace.yaml: what they may do, what they need of a node, and that nothing which happens to the pods
// is felt by traffic. What Services then do is the other tests' matter, with THROUGH=daemonset.
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { residentMemory } from "../../bench/memory.ts";
import { parseMounts } from "../../src/lib/mountinfo.ts";
import { isBpffs, isCgroup2 } from "../../src/libbpf/mod.ts";
import { MILLRACE, pause, show } from "../lab/traffic/test-lab.ts";
import { API_URL } from "./addressing.ts";
import { AGENT_CONTAINER, AGENT_LABELS } from "./agent-pod.ts";
import type { Cluster } from "./cluster.ts";
import type { PodObject } from "./cluster-pod.ts";
import { CHART, helm } from "./helm.ts";
import { agentStatus, clusterIP, inForce, podsReady } from "./load/ask-cluster.ts";
import { ClusterLoad } from "./load/cluster-load.ts";
import {
  expectIntact,
  expectLossesCounted,
  expectNewAnswered,
  type Overflows,
  receiveOverflows,
} from "./load/expect-traffic.ts";
import { loadPod, TRAFFIC_PORTS, trafficService } from "./load/load-pods.ts";
import { type Flow, NumberedTraffic, type Outcome, printTraffic } from "./load/numbered-traffic.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";
import { manifest, serverOnEachNode, serviceOf } from "./workloads.ts";

const NODES = ["node1", "node2", "node3"];
const WEB_PORT = 30080;
const MEGABYTE = 1e6;
/** At one Service; the machine's pages of libraries differ a little. */
const RESIDENT_MB = 110;
/** Bits of capability sets: linux/capability.h. */
const CAPABILITIES = { NET_ADMIN: 12, NET_RAW: 13, PERFMON: 38, BPF: 39 } as const;

const isHybrid = !isCgroup2("/sys/fs/cgroup");

const OBJECTS = manifest(
  loadPod({ name: "near", node: "node1" }),
  loadPod({ name: "far", node: "node2" }),
  loadPod({ name: "caller", node: "node1" }),
  trafficService({ name: "near", selector: { app: "near" }, firstNodePort: 30100 }),
  trafficService({ name: "far", selector: { app: "far" }, firstNodePort: 30200 }),
  serverOnEachNode({ name: "web" }),
  serviceOf({ name: "web" }, { type: "NodePort", ports: [{ port: 80, targetPort: 80, nodePort: WEB_PORT }] }),
);

interface Step {
  readonly name: string;
  readonly ms: number;
}

describe("agents in pods", () => {
  let cluster: Cluster;
  let flows: readonly Flow[] = [];
  let outcome: Outcome;
  let overflows: Overflows = {};
  const steps: Step[] = [];
  const preparedBy: string[] = [];

  const pidOf = (node: string): number => cluster.agent(node).pid!;
  const statusOf = (node: string): string => readFileSync(`/proc/${pidOf(node)}/status`, "utf8");
  const fieldOf = (node: string, field: string): string =>
    new RegExp(`^${field}:\\s*(\\S+)$`, "m").exec(statusOf(node))?.[1] ?? "";

  async function podOn(node: string): Promise<PodObject> {
    const pods = await cluster.pods("kube-system", AGENT_LABELS);
    const found = pods.find(({ spec }) => spec.nodeName === node);
    if (found === undefined) throw new Error(`there is no agent's pod on ${node}`);
    return found;
  }

  async function kubectl(...args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await cluster.kubectl(["--namespace=kube-system", ...args], {
      timeoutMs: 280_000,
    });
    if (status !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  async function must(node: string, command: readonly string[]): Promise<void> {
    const { status, stderr } = await cluster.exec(node, command);
    if (status !== 0) throw new Error(`${node}: ${command.join(" ")}: ${stderr}`);
  }

  async function deletePod(node: string): Promise<void> {
    const began = Date.now();
    await kubectl("delete", "pod", (await podOn(node)).metadata.name);
    await inForce(cluster, node, began);
  }

  async function rollOut(): Promise<void> {
    const began = Date.now();
    await kubectl("rollout", "restart", "daemonset/millrace");
    await kubectl("rollout", "status", "daemonset/millrace", "--timeout=270s");
    for (const node of NODES) await inForce(cluster, node, began);
  }

  /** What a start takes over is in the kernel; the directory only spares work. */
  async function emptyState(node: string): Promise<void> {
    await cluster.agent(node).stop();
    const state = join(cluster.node(node).files, "lib/millrace");
    for (const name of readdirSync(state)) rmSync(join(state, name), { recursive: true });
    const began = Date.now();
    await cluster.agent(node).start();
    await inForce(cluster, node, began);
  }

  async function makeFlows(): Promise<{ outside: Flow[]; pod: Flow[]; node: Flow[] }> {
    const [near, far] = [await clusterIP(cluster, "near"), await clusterIP(cluster, "far")];
    const far6 = await clusterIP(cluster, "far", "IPv6");
    const [node1 = "", node1v6 = ""] = cluster.node("node1").addresses;
    const { udp, stream, short } = TRAFFIC_PORTS;
    const flow = (name: string, kind: Flow["kind"], host: string, port: number): Flow => {
      // Enough to miss what is lost in a tenth of a second, and little enough for a machine that is busy elsewhere.
      return { name, kind, host, port, rate: kind.startsWith("new") ? 10 : 40 };
    };
    return {
      outside: [
        flow("outside-near-tcp", "tcp", node1, 30101),
        flow("outside-far-tcp", "tcp", node1, 30201),
        flow("outside-far-tcp6", "tcp", node1v6, 30201),
        flow("outside-near-udp", "udp", node1, 30100),
        flow("outside-far-udp", "udp", node1, 30200),
        flow("outside-far-new-tcp", "new-tcp", node1, 30202),
        flow("outside-near-new-tcp6", "new-tcp", node1v6, 30102),
      ],
      pod: [
        flow("pod-near-tcp", "tcp", near, stream),
        flow("pod-far-tcp6", "tcp", far6, stream),
        flow("pod-far-udp", "udp", far, udp),
        flow("pod-far-new-tcp", "new-tcp", far, short),
      ],
      node: [
        flow("node-far-tcp", "tcp", far, stream),
        flow("node-far-new-tcp", "new-tcp", far, short),
        flow("node-near-by-node-port-new-tcp", "new-tcp", node1, 30102),
      ],
    };
  }

  beforeAll(async () => {
    cluster = await startCluster({ name: "pods", through: "daemonset", replace: true });
    await cluster.apply(OBJECTS);
    await podsReady(cluster, ["near", "far", "caller"]);
    for (const node of NODES) await inForce(cluster, node);
    await using load = new ClusterLoad(cluster);
    const traffic = new NumberedTraffic(load);
    for (const pod of ["near", "far"]) await traffic.answerIn(pod);
    const made = await makeFlows();
    flows = Object.values(made).flat();
    await traffic.fromMember("client1", made.outside);
    await traffic.fromPod("caller", made.pod);
    await traffic.fromMember("node1", made.node);
    async function step(name: string, body: () => Promise<unknown>): Promise<void> {
      traffic.mark(name);
      const began = Date.now();
      await body();
      steps.push({ name, ms: Date.now() - began });
      await pause(1500);
    }
    await step("undisturbed", () => pause(2000));
    await step("a pod deleted", () => deletePod("node1"));
    await step("the DaemonSet rolled out", rollOut);
    await step("state emptied", () => emptyState("node1"));
    outcome = await traffic.stop();
    overflows = await receiveOverflows(cluster, ["near", "far"]);
    show("\nwhat happened", Object.fromEntries(steps.map(({ name, ms }) => [name, { "took ms": ms }])));
    printTraffic("numbered datagrams and lines, and new connections", flows, outcome);
  }, 600_000);

  afterAll(() => cluster?.down());

  it.each(NODES)("on %s have four capabilities, and none that they could come by", (node) => {
    const wanted = Object.values(CAPABILITIES).reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);
    const sets = ["CapPrm", "CapEff", "CapBnd"].map((set) => BigInt(`0x${fieldOf(node, set)}`));
    expect(sets).toEqual([wanted, wanted, wanted]);
    // 2: a filter, the runtime's.
    expect([fieldOf(node, "NoNewPrivs"), fieldOf(node, "Seccomp")]).toEqual(["1", "2"]);
  });

  it("can write nowhere but to what is theirs", () => {
    const writable = parseMounts(readFileSync(`/proc/${pidOf("node1")}/mountinfo`, "utf8"))
      .filter(({ readOnly, path }) => !readOnly && !/^\/(proc|dev)(\/|$)/.test(path))
      // Hierarchies of version 1 are mounts of their own below the one that is read-only: runtimes before containerd 2 leave them as they are.
      .filter(({ type, path }) => !isHybrid || !(type === "cgroup" || path.includes("/sys/fs/cgroup")))
      .map(({ path }) => path);
    const theirs = ["/run/millrace", "/run/xtables.lock", "/sys/fs/bpf", "/tmp", "/var/lib/millrace"];
    const kubelets = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
    expect([...new Set(writable)].filter((path) => !kubelets.includes(path)).sort()).toEqual(theirs);
  });

  it("are well, and say what they do without SYS_ADMIN", async () => {
    for (const node of NODES) {
      const { healthy, notices, degraded, effects } = await agentStatus(cluster, node);
      const failing = effects.filter(({ error }) => error !== "").map(({ name, error }) => `${name}: ${error}`);
      const errors = notices.filter(({ severity }) => severity === "error").map(({ message }) => message);
      expect({ node, healthy, errors, failing }).toEqual({ node, healthy: true, errors: [], failing: [] });
      process.stdout.write(`${node}: ${notices.map(({ reason, message }) => `${reason}: ${message}`).join("\n  ")}\n`);
      process.stdout.write(`${node} degraded: ${degraded.map(({ feature }) => feature).join(", ") || "nothing"}\n`);
    }
  });

  it("every numbered line and datagram arrives, each way, once, from one address", () => {
    expect(flows).toHaveLength(14);
    expectIntact(flows, outcome);
  });

  it("no datagram to a backend is lost, but those that its own full socket counts", () => {
    expectLossesCounted(flows, outcome, overflows);
  });

  it("new connections work all the while", () => {
    expectNewAnswered(
      flows,
      outcome,
      steps.map(({ name }) => name),
    );
  });

  it("find names by CoreDNS, which they serve", async () => {
    const names = ["far.default.svc.cluster.local", "kubernetes.default.svc.cluster.local"];
    for (const name of names) {
      const { stdout, status } = await cluster.execPod("default", "caller", ["getent", "ahostsv4", name]);
      expect([status, stdout.length > 0]).toEqual([0, true]);
    }
  });

  it("answer `millrace status` in their pod and on their node", async () => {
    const { metadata } = await podOn("node2");
    const inPod = await kubectl("exec", metadata.name, "-c", AGENT_CONTAINER, "--", "millrace", "status");
    expect(inPod).toMatch(/^Node:\s+node2,/m);
  });

  it(`have at most ${RESIDENT_MB} MB resident`, async () => {
    const rows = [];
    for (const node of NODES) {
      const { residentBytes, mappedArrayBytes } = residentMemory(pidOf(node));
      const { capacity } = await agentStatus(cluster, node);
      rows.push([
        node,
        {
          "resident MB": Math.round((residentBytes - mappedArrayBytes) / MEGABYTE),
          "mapped arrays MB": Math.round(mappedArrayBytes / MEGABYTE),
          "maps MB": Math.round(capacity.reduce((sum, { bytes }) => sum + bytes, 0) / MEGABYTE),
        },
      ] as const);
    }
    show("\nmemory of an agent in its pod", Object.fromEntries(rows));
    for (const [node, { "resident MB": resident }] of rows)
      expect.soft(resident, node).toBeLessThanOrEqual(RESIDENT_MB);
  });

  it("come to a node without a bpffs, and mount one that the node sees and that outlives them", async () => {
    const agent = cluster.agent("node3");
    await agent.stop();
    const { root } = cluster.node("node3");
    const places = ["--pin-dir=/sys/fs/bpf/millrace", `--cgroup=${cluster.node("node3").cgroup}`];
    await must("node3", [MILLRACE, "cleanup", ...places]);
    // Below it is the machine's own.
    await must("node3", ["umount", "/sys/fs/bpf"]);
    await must("node3", ["mount", "-t", "tmpfs", "none", "/sys/fs/bpf"]);
    expect(isBpffs(`${root}/sys/fs/bpf`)).toBe(false);
    const began = Date.now();
    await agent.start();
    await inForce(cluster, "node3", began);
    preparedBy.push(await kubectl("logs", (await podOn("node3")).metadata.name, "-c", "prepare"));
    expect(preparedBy[0]).toContain("mounted a bpffs at /sys/fs/bpf");
    expect(readdirSync(`${root}/sys/fs/bpf/millrace`)).toContain("links");
    await deletePod("node3");
    expect(readdirSync(`${root}/sys/fs/bpf/millrace`)).toContain("links");
    expect(await kubectl("logs", (await podOn("node3")).metadata.name, "-c", "prepare")).toBe("nothing to do\n");
  });

  it("have their node's source ports reserved, and write no sysctl themselves", async () => {
    const { stdout } = await cluster.exec("node2", ["cat", "/proc/sys/net/ipv4/ip_local_reserved_ports"]);
    expect(stdout.trim()).toBe("49152-65535");
  });

  it("are replaced by others when they do not answer", async () => {
    const before = (await podOn("node2")).metadata.uid;
    const pid = pidOf("node2");
    cluster.agent("node2").signal("SIGKILL");
    await waitUntil("the kubelet to start the agent of node2 again", () => {
      const now = cluster.agent("node2").pid;
      return now !== undefined && now !== pid ? now : undefined;
    });
    await inForce(cluster, "node2");
    expect((await podOn("node2")).metadata.uid).toBe(before);
  });

  /** The values by which the chart gives the objects that are there: what is different of a cluster on one machine, by names of this test. */
  const values = (more: readonly string[] = []): string[] => [
    `--set-json=agent.env=${JSON.stringify([{ name: "MILLRACE_CGROUP", value: `/host${cluster.paths.cgroup}/$(MILLRACE_NODE_NAME)` }])}`,
    `--set=apiServer=${API_URL}`,
    ...more,
  ];

  async function rolledOut(): Promise<void> {
    await kubectl("rollout", "status", "daemonset/millrace", "--timeout=270s");
    for (const node of NODES) await inForce(cluster, node);
  }

  it.each([
    ["3", ["upgrade", "--install", "millrace", CHART, "--take-ownership"]],
    ["4", ["upgrade", "millrace", CHART, "--force-conflicts", "--server-side=true"]],
  ] as const)("are taken over by Helm %s, and pass its test", async (version, command) => {
    const said = await helm(cluster, version, [...command, ...values()]);
    expect(said).toContain("rollout status daemonset/millrace");
    await rolledOut();
    const tested = await helm(cluster, version, ["test", "millrace", "--timeout=120s"]);
    expect(tested).toMatch(/^Phase:\s+Succeeded$/m);
  });

  it("are taken away by Helm, and leave what they served and the CRDs", async () => {
    await helm(cluster, "4", ["uninstall", "millrace", "--wait", "--timeout=180s"]);
    await waitUntil("the pods to go", async () =>
      (await cluster.pods("kube-system", AGENT_LABELS)).length === 0 ? true : undefined,
    );
    const { stdout } = await cluster.exec("client1", [
      "curl",
      "-s",
      "-m",
      "5",
      `http://${cluster.node("node1").addresses[0]}:${WEB_PORT}/hostname`,
    ]);
    expect(stdout).toMatch(/^web-/);
    expect(await kubectl("get", "crd", "ipaddresspools.metallb.io", "--output=name")).toContain("ipaddresspools");
  });
});
