// What is tested on kind, cluster by cluster.
import { existsSync, readdirSync } from "node:fs";
import { resolve } from "node:path";
import { runSeeds } from "../../src/lab/seed-checks.ts";
import { AGNHOST_IMAGE } from "../cluster/images.ts";
import { waitUntil } from "../cluster/wait-until.ts";
import { CheckedKind } from "./checked-kind.ts";
import { docker } from "./docker.ts";
import { makeShims, readGuide, runBlock } from "./guide.ts";
import { install, leftOn, loadAnotherImage, loadImage, readyAgents, uninstall } from "./install.ts";
import type { KindCluster, ProxyMode } from "./kind-cluster.ts";
import { STATE } from "./paths.ts";
import type { Report } from "./report.ts";
import { Ways, type WaysOptions } from "./ways.ts";

const EXAMPLES = resolve(import.meta.dirname, "../../deploy/examples");

export interface Scenario {
  /** Of the cluster, too. */
  readonly name: string;
  readonly title: string;
  readonly proxy: ProxyMode;
  readonly nodes: number;
  readonly run: (report: Report, cluster: KindCluster) => Promise<void>;
}

/** Of a cluster that is born without kube-proxy: everything but what has to do with that. */
async function withoutKubeProxy(report: Report, cluster: KindCluster): Promise<void> {
  const options: WaysOptions = { loadBalancing: true };
  const nodes = cluster.nodeNames.slice(0, 3);
  // The fourth joins later.
  await cluster.leave(cluster.nodeNames[3]!);
  await report.step("kind load image-archive", () => loadImage(cluster));
  await report.step("millrace install", () => install(cluster));
  await commandsInPods(report, cluster);
  const checked = new CheckedKind(cluster);
  const ways = new Ways(cluster, checked, EXAMPLES);
  await report.step("pods and Services for the checks", () => ways.prepare(options));
  await report.step("every way to a Service", () => ways.run(report, options));
  await upgradeUnderLoad(report, cluster, ways);
  await restartNode(report, cluster, checked, nodes[1]!);
  await report.step("every way to a Service again", () => ways.run(report, { ...options, when: "restarted: " }));
  await ways.remove();
  await report.step("every example manifest, both families", () => examples(report, checked));
  await report.step("millrace uninstall", () => uninstall(cluster, ["--without-proxy", "--drain-timeout=0"]));
  await nothingIsLeft(report, cluster, nodes);
}

async function commandsInPods(report: Report, cluster: KindCluster): Promise<void> {
  for (const { metadata, spec } of await readyAgents(cluster)) {
    await report.check(`kubectl exec: millrace status on ${spec.nodeName}`, async () => {
      const exec = ["exec", "--namespace=kube-system", metadata.name, "--container=agent", "--"];
      const said = await cluster.kubectl([...exec, "millrace", "status"]);
      const health = /^Health:\s+(.*)$/m.exec(said)?.[1] ?? "";
      if (health !== "healthy") throw new Error(said.trim());
      return health;
    });
  }
}

async function upgradeUnderLoad(report: Report, cluster: KindCluster, ways: Ways): Promise<void> {
  const image = await report.step("another image", () => loadAnotherImage(cluster));
  await report.check("an upgrade under load loses no request", async () => {
    await using load = await ways.startLoad({ loadBalancing: true });
    await install(cluster, [`--image=${image}`, "--no-test"]);
    const images = new Set((await readyAgents(cluster)).flatMap(({ spec }) => spec.containers.map((one) => one.image)));
    if ([...images].join() !== image) throw new Error(`agents run ${[...images].join(", ")}`);
    return await load.stop();
  });
}

/** Programs, maps and pins of a node's namespaces are gone when its container stops; its files stay. */
async function restartNode(report: Report, cluster: KindCluster, checked: CheckedKind, node: string): Promise<void> {
  await report.check(`docker restart ${node}: its agent comes, and its pins`, async () => {
    const start = Date.now();
    const before = await agentOn(cluster, node);
    await docker("restart", node);
    await waitUntil(
      `${node} to be up`,
      async () => (await cluster.tryInNode(node, ["true"])).status === 0 || undefined,
    );
    // kind's own CNI would do this again.
    await cluster.connectPods();
    // What the API says of the node is from before for a while.
    const isAnew = async () => {
      const now = await agentOn(cluster, node);
      return now !== undefined && now !== before ? true : undefined;
    };
    await waitUntil(`another agent on ${node}`, isAnew, { timeoutMs: 300_000, everyMs: 500 });
    const seconds = ((Date.now() - start) / 1000).toFixed(0);
    const pins = await cluster.nodeFile(node, "/sys/fs/bpf/millrace");
    if (!existsSync(pins) || readdirSync(pins).length === 0) throw new Error("it has no pins");
    await checked.settle();
    return `the agent after ${seconds} s`;
  });
}

/** The container of the agent that is Ready on a node. */
async function agentOn(cluster: KindCluster, node: string): Promise<string | undefined> {
  const pod = (await readyAgents(cluster)).find(({ spec }) => spec.nodeName === node);
  return pod?.status.containerStatuses?.find(({ name }) => name === "agent")?.containerID;
}

async function examples(report: Report, checked: CheckedKind): Promise<void> {
  await runSeeds({
    cluster: checked,
    examples: EXAMPLES,
    dualStack: true,
    progress: () => {},
    verdict: ({ seed, failure }) =>
      failure === "" ? report.pass(`example ${seed}`) : report.fail(`example ${seed}`, failure),
  });
}

async function nothingIsLeft(report: Report, cluster: KindCluster, nodes: readonly string[]): Promise<void> {
  for (const node of nodes) {
    await report.check(`nothing of Millrace is left on ${node}`, async () => {
      const left = await leftOn(cluster, node);
      if (left.length > 0) throw new Error(left.join("; "));
      return "";
    });
  }
  await report.check("nothing of Millrace is left in the API", async () => {
    const kinds = "daemonsets,deployments,configmaps,secrets,serviceaccounts,roles,rolebindings";
    const own = await cluster.kubectl(["get", kinds, "--namespace=kube-system", "--output=name"]);
    const wide = await cluster.kubectl(["get", "clusterroles,clusterrolebindings", "--output=name"]);
    const reports = ["get", "configurationstates.metallb.io,servicel2statuses.metallb.io", "--namespace=kube-system"];
    // Their CRDs may have gone, too.
    const crds = await cluster.kubectl(["get", "customresourcedefinitions", "--output=name"]);
    const reported = crds.includes("/servicel2statuses.metallb.io")
      ? await cluster.kubectl([...reports, "--output=name"])
      : "";
    const labels = await cluster.kubectl(["get", "nodes", "--selector=millrace.io/service-proxy", "--output=name"]);
    const left = `${own}\n${wide}`.split("\n").filter((line) => line.includes("millrace"));
    left.push(...`${labels}\n${reported}`.split("\n").filter(Boolean));
    if (left.length > 0) throw new Error(left.join(", "));
    return "";
  });
}

/** Blocks of docs/install/kubeadm.md under one heading. */
async function kubeadmGuide(report: Report, cluster: KindCluster, heading: string): Promise<void> {
  const blocks = readGuide("docs/install/kubeadm.md").filter((block) => block.heading === heading);
  if (blocks.length === 0) throw new Error(`docs/install/kubeadm.md has no commands under '${heading}'`);
  for (const block of blocks) report.quote(block.commands, await runBlock(cluster, block, STATE));
}

/** kube-proxy, Millrace and kube-proxy again by docs/install/kubeadm.md, with requests all the while. */
async function withKubeProxy(report: Report, cluster: KindCluster): Promise<void> {
  const options: WaysOptions = { loadBalancing: false };
  const checked = new CheckedKind(cluster);
  const ways = new Ways(cluster, checked, EXAMPLES);
  makeShims();
  await report.step("kind load image-archive", () => loadImage(cluster));
  checked.hasAgents = false;
  await report.step("pods and Services for the checks", () => ways.prepare(options));
  await report.check("from kube-proxy to Millrace under load: no request is lost", async () => {
    await using load = await ways.startLoad(options);
    await kubeadmGuide(report, cluster, "Install");
    return await load.stop();
  });
  checked.hasAgents = true;
  await report.step("every way to a Service", () => ways.run(report, options));
  await report.check("from Millrace to kube-proxy under load: no request is lost", async () => {
    await using load = await ways.startLoad(options);
    await kubeadmGuide(report, cluster, "Go back");
    return await load.stop();
  });
  await nothingIsLeft(report, cluster, cluster.nodeNames);
  await report.check("kube-proxy serves again", async () => {
    await using load = await ways.startLoad(options);
    await new Promise((resolve) => setTimeout(resolve, 5000));
    return await load.stop();
  });
}

/** docs/install/kind.md, on the cluster of one node that `kind create cluster` makes. */
async function guide(report: Report, cluster: KindCluster): Promise<void> {
  makeShims();
  // What the guide pulls from a registry.
  for (const node of cluster.nodeNames) {
    const tag = ["ctr", "--namespace=k8s.io", "images", "tag", "--force", AGNHOST_IMAGE];
    await cluster.inNode(node, [...tag, "registry.k8s.io/e2e-test-images/agnhost:2.53"]);
  }
  for (const [i, block] of readGuide("docs/install/kind.md").entries()) {
    await report.check(`docs/install/kind.md, ${block.heading}, block ${i + 1}`, async () => {
      report.quote(block.commands, await runBlock(cluster, block));
      return "";
    });
  }
  await nothingIsLeft(report, cluster, cluster.nodeNames);
}

export const SCENARIOS: readonly Scenario[] = [
  { name: "mr", title: "without kube-proxy", proxy: "none", nodes: 4, run: withoutKubeProxy },
  { name: "kp", title: "with kube-proxy", proxy: "iptables", nodes: 3, run: withKubeProxy },
  { name: "kind", title: "docs/install/kind.md", proxy: "iptables", nodes: 1, run: guide },
];
