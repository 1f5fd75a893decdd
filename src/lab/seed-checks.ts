// What each example must show, group by group, on a cluster of three nodes: the table behind `make demo`, the lab's tests and
// those of a real cluster.
// A group is taken away before the next comes; an example's verdict is given when the last group that holds it is over.
import { familyOf } from "../lib/address.ts";
import type { KubernetesObject } from "../standalone/mod.ts";
import { LAN_PREFIX } from "./addressing.ts";
import { type CheckedCluster, type LoadBalancing, UNREADY_FILE } from "./checked-cluster.ts";
import { CheckFailure, clientOn, eventually, expect, isReady, ownerOf, SeedStory } from "./seed-story.ts";

/** The examples, in their order. */
export const SEEDS = [
  "01-pods",
  "02-two-containers-hostport",
  "03-replication-controller",
  "04-rc-exposed",
  "05-deployment",
  "06-clusterip",
  "07-clusterip-fixed",
  "08-headless",
  "09-nodeport-auto",
  "10-nodeport-30001",
  "11-no-selector",
  "12-external-name",
  "13-lb-pool",
  "14-loadbalancer",
  "15-job",
  "16-daemonset",
  "17-host-network",
] as const;

export type Seed = (typeof SEEDS)[number];

export interface SeedVerdict {
  readonly seed: Seed;
  /** "" when everything held, else what did not. */
  readonly failure: string;
}

export interface SeedRun {
  /** A cluster of three nodes, up. */
  readonly cluster: CheckedCluster;
  /** Directory of the examples. */
  readonly examples: string;
  readonly dualStack: boolean;
  readonly progress: (text: string) => void;
  readonly verdict: (verdict: SeedVerdict) => void;
  /** Looks at the cluster after each check; what it throws counts against the check's example. */
  readonly inspect?: () => Promise<void>;
}

/** One check of one example. */
type Check = (seed: Seed, what: string, body: () => Promise<void>) => Promise<void>;

interface Group {
  readonly seeds: readonly Seed[];
  readonly run: (story: SeedStory, check: Check) => Promise<void>;
}

const NGINX = { app: "nginx-deployment" };
const OUTSIDE = ["client1"];

const pods: Group = {
  seeds: ["01-pods"],
  async run(story, check) {
    await check("01-pods", "pods reach each other by address", async () => {
      await story.apply("01-pods");
      for (const name of ["nginx-pod", "busybox"]) {
        const to = story.podAddresses(await story.pod(name));
        const other = name === "nginx-pod" ? "busybox" : "nginx-pod";
        await story.allAnswer({ from: [...story.insiders, other], to, port: 80, pods: [name] });
        await story.allPing([...story.insiders, other], to);
      }
    });
    await story.delete("01-pods");
  },
};

const hostPorts: Group = {
  seeds: ["02-two-containers-hostport"],
  async run(story, check) {
    const seed = "02-two-containers-hostport";
    await check(seed, "two containers share one address", async () => {
      await story.apply(seed);
      const pod = await story.pod("nginxpod");
      for (const port of [80, 8800]) {
        await story.allAnswer({ from: ["nginxpod"], to: ["127.0.0.1"], port, pods: ["nginxpod"] });
        await story.allAnswer({ from: [...story.clients], to: story.podAddresses(pod), port, pods: ["nginxpod"] });
      }
    });
    await check(seed, "host ports answer on the pod's node", async () => {
      const node = await story.nodeOf("nginxpod");
      const to = await story.nodeAddresses(node);
      for (const port of [80, 8800]) {
        await story.allAnswer({ from: [...OUTSIDE, ...story.insiders], to, port, pods: ["nginxpod"] });
      }
    });
    await check(seed, "another pod's localhost:80 is its own", async () => {
      const node = await story.nodeOf("nginxpod");
      await story.allAnswer({ from: [clientOn(node)], to: ["127.0.0.1"], port: 80, pods: [clientOn(node)] });
    });
    await story.delete(seed);
  },
};

const replicationController: Group = {
  seeds: ["03-replication-controller", "04-rc-exposed", "13-lb-pool"],
  async run(story, check) {
    await check("03-replication-controller", "two pods answer in turn behind a ClusterIP", async () => {
      await story.apply("03-replication-controller", "04-rc-exposed");
      const names = await story.pods({ app: "nginx" }, 2);
      const service = await story.cluster.service("podtoservcie");
      await story.allAnswer({ from: story.insiders, to: story.clusterIPs(service), port: 80, pods: names });
    });
    await check("04-rc-exposed", "without a pool there is no address, and everything else answers", async () => {
      const names = await story.pods({ app: "nginx" }, 2);
      const service = await story.cluster.service("my-second-service");
      const given = story.loadBalancerAddresses(service);
      expect(given.length === 0, `my-second-service has the address ${given.join(", ")} without any pool`);
      await story.expectNotice("Service default/my-second-service", /^no-pool\b/);
      await story.allAnswer({ from: story.insiders, to: story.clusterIPs(service), port: 80, pods: names });
      for (const node of story.nodes) {
        await story.allAnswer({
          from: [...OUTSIDE, clientOn(node)],
          to: await story.nodeAddresses(node),
          port: story.nodePort(service),
          pods: names,
        });
      }
    });
    if (story.cluster.loadBalancing !== undefined) {
      await check("13-lb-pool", "with the pool the waiting Service gets an address", async () => {
        await story.apply("13-lb-pool");
        const names = await story.pods({ app: "nginx" }, 2);
        const service = await story.cluster.service("my-second-service");
        const addresses = story.loadBalancerAddresses(service);
        expect(
          addresses.length > 0 && addresses.every(isFromPool),
          `my-second-service has the address '${addresses.join(", ")}', which is not of the pool`,
        );
        await story.allAnswer({ from: [...OUTSIDE, ...story.insiders], to: addresses, port: 80, pods: names });
      });
    }
    await story.delete("13-lb-pool", "04-rc-exposed", "03-replication-controller");
  },
};

function isFromPool(address: string): boolean {
  const last = Number(address.slice(LAN_PREFIX.length + 1));
  return address.startsWith(`${LAN_PREFIX}.`) && last >= 110 && last <= 119;
}

/** Every pod of nginx-service through its cluster address, from everywhere inside. */
async function nginxAnswers(story: SeedStory, count = 3): Promise<void> {
  const names = await story.pods(NGINX, count);
  const service = await story.cluster.service("nginx-service");
  await story.allAnswer({ from: story.insiders, to: story.clusterIPs(service), port: 80, pods: names });
}

async function nginxAnswersOnNodePort(story: SeedStory, port: number, count: number): Promise<void> {
  const names = await story.pods(NGINX, count);
  for (const node of story.nodes)
    await story.allAnswer({ from: OUTSIDE, to: await story.nodeAddresses(node), port, pods: names });
}

const services: Group = {
  seeds: [
    "05-deployment",
    "06-clusterip",
    "07-clusterip-fixed",
    "08-headless",
    "09-nodeport-auto",
    "10-nodeport-30001",
    "11-no-selector",
    "12-external-name",
  ],
  async run(story, check) {
    await check("05-deployment", "three replicas answer through the ClusterIP", async () => {
      await story.apply("05-deployment", "06-clusterip");
      await nginxAnswers(story);
    });
    await check("06-clusterip", "by address and by name", async () => {
      await nginxAnswers(story);
      const names = await story.pods(NGINX, 3);
      const service = await story.cluster.service("nginx-service");
      await story.allResolve(story.clients, "nginx-service", story.clusterIPs(service));
      await story.allAnswer({ from: story.clients, to: ["nginx-service"], port: 80, pods: names });
    });
    await check("05-deployment", "a pod that turns unready serves nothing, and comes back", () => turnsUnready(story));
    await check("05-deployment", "dead and absent pods serve nothing, and others come in their place", () =>
      dieAndReturn(story),
    );
    await check("07-clusterip-fixed", "the same at 10.96.100.100", async () => {
      await story.apply("05-deployment", "07-clusterip-fixed");
      const service = await story.cluster.service("nginx-service");
      expect(story.clusterIPs(service)[0] === "10.96.100.100", `the address is ${story.clusterIPs(service)[0]}`);
      await nginxAnswers(story);
      await story.allResolve(story.clients, "nginx-service", story.clusterIPs(service));
      await story.allAnswer({ from: story.clients, to: ["nginx-service"], port: 80, pods: await story.pods(NGINX, 3) });
    });
    await check("08-headless", "no address, nothing in the maps, the name leads to the pods", async () => {
      await story.apply("05-deployment", "08-headless");
      const { spec } = await story.cluster.service("nginx-service");
      expect(spec.clusterIP === "None", `the cluster address is ${spec.clusterIP}`);
      await story.notInMaps("default/nginx-service");
      const found = await story.podsWith(NGINX);
      const addresses = found.flatMap((pod) => story.podAddresses(pod));
      await story.allResolve(story.clients, "nginx-service", addresses);
      for (const pod of found) {
        await story.allAnswer({
          from: story.clients,
          to: story.podAddresses(pod),
          port: 80,
          pods: [pod.metadata.name],
        });
      }
    });
    await check("09-nodeport-auto", "a free node port answers on every node", async () => {
      await story.apply("05-deployment", "09-nodeport-auto");
      const port = story.nodePort(await story.cluster.service("nginx-service"));
      expect(port >= 30000 && port <= 32767, `the node port is ${port}`);
      await nodePortEverywhere(story, port);
    });
    await check("10-nodeport-30001", "node port 30001 answers on every node", async () => {
      await story.apply("05-deployment", "10-nodeport-30001");
      await nodePortEverywhere(story, 30001);
    });
    await check("10-nodeport-30001", "29999 is refused", () => outOfRange(story));
    await check("11-no-selector", "without a selector, Endpoints say who answers", () => handMadeEndpoints(story));
    await check("12-external-name", "the name is a CNAME and leads to nginx-service", async () => {
      await story.apply("05-deployment", "10-nodeport-30001", "12-external-name");
      await story.notInMaps("default/service-external-name");
      await eventually(story.cluster.namesInForceMs, async () => {
        const names = await story.cname(clientOn("node1"), "service-external-name.default.svc.cluster.local");
        expect(names.join() === "nginx-service.default.svc.cluster.local", `the CNAME is ${names.join(", ")}`);
      });
      const service = await story.cluster.service("nginx-service");
      await story.allResolve(story.clients, "service-external-name", story.clusterIPs(service));
      await story.allAnswer({
        from: story.clients,
        to: ["service-external-name"],
        port: 80,
        pods: await story.pods(NGINX, 3),
      });
    });
    await story.delete("12-external-name", "11-no-selector", "10-nodeport-30001", "05-deployment");
  },
};

async function nodePortEverywhere(story: SeedStory, port: number): Promise<void> {
  await nginxAnswersOnNodePort(story, port, 3);
  await nginxAnswers(story);
  await story.cluster.scale("deployment/nginx-deployment", 2);
  await nginxAnswersOnNodePort(story, port, 2);
  await story.cluster.scale("deployment/nginx-deployment", 3);
  await nginxAnswersOnNodePort(story, port, 3);
}

/** Not longer than the cluster takes for anything. */
async function inTime({ cluster }: SeedStory, what: string, act: () => Promise<void>): Promise<void> {
  const began = performance.now();
  await act();
  const tookMs = Math.round(performance.now() - began);
  expect(tookMs < cluster.inForceMs, `${what} took ${tookMs} ms to be in force`);
}

const MOODY = { app: "demo-moody" };

/** Pods that say whether they are ready: those of the examples do not. */
function moodyObjects(story: SeedStory): readonly KubernetesObject[] {
  const readinessProbe = {
    exec: { command: ["sh", "-c", `! test -e ${UNREADY_FILE}`] },
    periodSeconds: 1,
    failureThreshold: 1,
  };
  const deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "demo-moody" },
    spec: {
      replicas: 3,
      selector: { matchLabels: MOODY },
      template: {
        metadata: { labels: MOODY },
        spec: { containers: [{ name: "web", image: "demo", readinessProbe }] },
      },
    },
  };
  const service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "demo-moody" },
    spec: { selector: MOODY, ports: [{ port: 80 }] },
  };
  return [deployment, story.inFamilies(service)];
}

async function turnsUnready(story: SeedStory): Promise<void> {
  const { cluster } = story;
  await story.applyObjects(moodyObjects(story));
  const names = await story.pods(MOODY, 3);
  const to = story.clusterIPs(await cluster.service("demo-moody"));
  const [first, ...others] = names as [string, ...string[]];
  await story.allAnswer({ from: story.insiders, to, port: 80, pods: names });
  await inTime(story, "making a pod unready", () => cluster.ready(first, false));
  await story.allAnswer({ from: story.insiders, to, port: 80, pods: others });
  await inTime(story, "making it ready again", () => cluster.ready(first, true));
  await story.allAnswer({ from: story.insiders, to, port: 80, pods: names });
  await cluster.delete(moodyObjects(story));
}

async function dieAndReturn(story: SeedStory): Promise<void> {
  const { cluster } = story;
  const names = await story.pods(NGINX, 3);
  const to = story.clusterIPs(await cluster.service("nginx-service"));
  const allAnswer = async () =>
    story.allAnswer({ from: story.insiders, to, port: 80, pods: await story.pods(NGINX, 3) });
  await inTime(story, "a pod's death", () => cluster.kill(names[1]!));
  const { answers } = await cluster.probe(clientOn("node1"), { via: "tcp", host: to[0]!, port: 80, count: 20 });
  expect(
    answers.every((answer) => answer.error === ""),
    `after a pod's death: ${answers.find((answer) => answer.error !== "")?.error}`,
  );
  await eventually(5000, allAnswer);
  await cluster.scale("deployment/nginx-deployment", 0);
  await story.allRefused(story.insiders, to, 80);
  await cluster.scale("deployment/nginx-deployment", 3);
  await allAnswer();
}

async function outOfRange(story: SeedStory): Promise<void> {
  const [service] = await story.example("10-nodeport-30001");
  const spec = service!["spec"] as { ports: object[] };
  const changed = { ...service!, spec: { ...spec, ports: spec.ports.map((port) => ({ ...port, nodePort: 29999 })) } };
  const said = await story.cluster.apply([changed]);
  const words =
    "Invalid value: 29999: provided port is not in the valid range. The range of valid ports is 30000-32767";
  expect(
    said.some((text) => text.includes(words)),
    `29999 is not refused in the API server's words, but: ${said.join("; ") || "not at all"}`,
  );
  // The Service that was there goes on.
  await nginxAnswersOnNodePort(story, 30001, 3);
  await story.allRefused(OUTSIDE, await story.nodeAddresses("node1"), 29999);
  await story.apply("10-nodeport-30001");
}

async function handMadeEndpoints(story: SeedStory): Promise<void> {
  const { cluster } = story;
  const [service, endpoints] = (await story.example("11-no-selector")) as [KubernetesObject, KubernetesObject];
  const backends = await cluster.handMadeBackends();
  const bothFamilies = backends.addresses.some((address) => familyOf(address) === "IPv6");
  const endpointsAt = (portName: string) => ({
    ...endpoints,
    subsets: (endpoints["subsets"] as { ports: { name: string }[] }[]).map(({ ports }) => ({
      addresses: backends.addresses.map((ip) => ({ ip })),
      ports: ports.map((port) => ({ ...port, name: portName })),
    })),
  });
  await story.applyObjects([bothFamilies ? story.inFamilies(service) : service]);
  const to = story.clusterIPs(await cluster.service("service-no-selector"));
  const all = { to, port: 80, pods: backends.names };
  await story.allRefused(story.insiders, to, 80);
  await story.applyObjects([endpointsAt("http")]);
  await story.allAnswer({ ...all, from: story.insiders });
  await story.applyObjects([endpointsAt("web")]);
  await story.expectNotice("Endpoints default/service-no-selector", /port/i);
  await story.allRefused(story.insiders, to, 80);
  await story.applyObjects([endpointsAt("http")]);
  await story.allAnswer({ ...all, from: story.clients });
  await backends.remove();
}

const loadBalancer: Group = {
  seeds: ["05-deployment", "10-nodeport-30001", "13-lb-pool", "14-loadbalancer"],
  async run(story, check) {
    const { cluster } = story;
    const { loadBalancing } = cluster;
    const own = { selector: NGINX, ports: [{ name: "http", port: 80, targetPort: 80 }], type: "LoadBalancer" };
    const free = { apiVersion: "v1", kind: "Service", metadata: { name: "demo-lb-free" }, spec: own };
    const foreign = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "demo-lb-foreign" },
      spec: { ...own, loadBalancerIP: "192.168.200.1" },
    };
    const extra = [free, foreign];
    const address = "192.168.122.111";
    await check("14-loadbalancer", "node port and ClusterIP answer", async () => {
      await story.apply("05-deployment", "10-nodeport-30001", "13-lb-pool", "14-loadbalancer");
      const names = await story.pods(NGINX, 3);
      const service = await cluster.service("nginxlb");
      await nginxAnswersOnNodePort(story, story.nodePort(service), 3);
      await story.allAnswer({ from: story.insiders, to: story.clusterIPs(service), port: 80, pods: names });
    });
    if (loadBalancing !== undefined) {
      await check("14-loadbalancer", `${address} is answered by exactly one node, and leads to every pod`, async () => {
        const given = story.loadBalancerAddresses(await cluster.service("nginxlb"));
        expect(given.join() === address, `nginxlb has the address '${given.join(", ")}'`);
        await oneHolder(loadBalancing, address);
        const names = await story.pods(NGINX, 3);
        await story.allAnswer({ from: [...OUTSIDE, ...story.insiders], to: given, port: 80, pods: names });
      });
    }
    await check("10-nodeport-30001", "goes on at 30001 beside the LoadBalancer", async () =>
      nginxAnswersOnNodePort(story, 30001, 3),
    );
    await check("05-deployment", "answers through both Services", async () => nginxAnswers(story));
    if (loadBalancing !== undefined) {
      await check("13-lb-pool", "free addresses come from the pool, others are not given", async () => {
        await story.applyObjects(extra);
        const addresses = story.loadBalancerAddresses(await cluster.service("demo-lb-free"));
        expect(
          addresses.length === 1 && addresses.every(isFromPool) && addresses[0] !== address,
          `demo-lb-free has the address '${addresses.join(", ")}'`,
        );
        await oneHolder(loadBalancing, addresses[0]!);
        await story.allAnswer({ from: OUTSIDE, to: addresses, port: 80, pods: await story.pods(NGINX, 3) });
        const refused = story.loadBalancerAddresses(await cluster.service("demo-lb-foreign"));
        expect(refused.length === 0, `demo-lb-foreign has the address ${refused.join(", ")}`);
        await story.expectNotice("Service default/demo-lb-foreign", /./);
      });
      await cluster.delete(extra);
    }
    await story.delete("14-loadbalancer", "13-lb-pool", "10-nodeport-30001", "05-deployment");
  },
};

async function oneHolder(loadBalancing: LoadBalancing, address: string): Promise<void> {
  const holders = await loadBalancing.holders("client1", address);
  expect(
    holders.length === 1,
    `ARP for ${address} is answered by ${holders.length === 0 ? "nobody" : holders.join(", ")}`,
  );
}

const jobs: Group = {
  seeds: ["15-job"],
  async run(story, check) {
    const { cluster } = story;
    const labels = { image: "ubuntu", test: "dpkg" };
    const service = story.inFamilies({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "demo-jobs" },
      spec: { selector: labels, ports: [{ port: 80 }] },
    });
    const wanted = (await story.example("15-job")).map(({ metadata }) => `Job/${metadata.name}`);
    await check("15-job", "Jobs run, and a pod that ended serves nothing", async () => {
      await story.applyObjects([service]);
      const to = story.clusterIPs(await cluster.service("demo-jobs"));
      await story.apply("15-job");
      const ownPods = async () => (await cluster.pods()).filter((pod) => ownerOf(pod).startsWith("Job/"));
      const started = await ownPods();
      const owners = started.map(ownerOf).sort();
      expect(owners.join() === wanted.sort().join(), `the Jobs' pods are of ${owners.join(", ") || "nobody"}`);
      // They serve for a few seconds only: whoever asks must be quick.
      const names = started.map(({ metadata }) => metadata.name);
      await story.allAnswer({ from: [clientOn("node1")], to, port: 80, pods: names });
      await eventually(20_000, async () => {
        const open = (await ownPods())
          .filter(({ status }) => status?.phase !== "Succeeded")
          .map(({ metadata, status }) => `${metadata.name} is ${status?.phase}`);
        expect(open.length === 0, open.join(", "));
      });
      await eventually(cluster.inForceMs, () => story.allRefused(story.insiders, to, 80));
      // Kubernetes keeps the endpoint of a pod that ended, as one that is not ready.
      const left = (await cluster.slices("demo-jobs")).flatMap(({ endpoints }) => endpoints ?? []);
      const serving = left.filter(({ conditions }) => conditions?.ready !== false || conditions.serving !== false);
      expect(serving.length === 0, `${serving.length} endpoints of the slices of demo-jobs still serve`);
    });
    await story.delete("15-job");
    await cluster.delete([service]);
  },
};

const daemonSet: Group = {
  seeds: ["16-daemonset"],
  async run(story, check) {
    const { cluster } = story;
    const onePerNode = async () => {
      const own = (await cluster.pods()).filter((pod) => ownerOf(pod) === "DaemonSet/node-web" && isReady(pod));
      for (const { name } of await cluster.nodes()) {
        const here = own.filter(({ spec }) => spec.nodeName === name);
        expect(here.length === 1, `${name} has ${here.length} pods of node-web`);
      }
      for (const pod of own) {
        const to = story.podAddresses(pod);
        await story.allAnswer({ from: story.clients, to, port: 80, pods: [pod.metadata.name] });
      }
    };
    await check("16-daemonset", "one pod on every node", async () => {
      await story.apply("16-daemonset");
      await onePerNode();
    });
    await check("16-daemonset", "also on a node that joins later", async () => {
      const numbers = (await cluster.nodes()).map(({ name }) => Number(name.slice("node".length)));
      await cluster.join(`node${Math.max(...numbers) + 1}`);
      await onePerNode();
    });
    await story.delete("16-daemonset");
  },
};

const hostNetwork: Group = {
  seeds: ["17-host-network"],
  async run(story, check) {
    const seed = "17-host-network";
    const { cluster } = story;
    await check(seed, "reached at its node's address", async () => {
      await story.apply(seed);
      const node = await story.nodeOf("host-web");
      await story.allAnswer({
        from: [...OUTSIDE, ...story.insiders],
        to: await story.nodeAddresses(node),
        port: 8081,
        pods: ["host-web"],
      });
    });
    await check(seed, "reached through its Service", async () => {
      const to = story.clusterIPs(await cluster.service("host-web"));
      await story.allAnswer({ from: [...story.insiders, "host-web"], to, port: 80, pods: ["host-web"] });
    });
    await check(seed, "is a client of a ClusterIP", async () => {
      const to = story.clusterIPs(await cluster.service("demo-clients"));
      await story.allAnswer({ from: ["host-web"], to, port: 80, pods: story.clients });
    });
    await check(seed, "its declared port makes no host-port frontend", async () => {
      const node = await story.nodeOf("host-web");
      for (const one of story.nodes) {
        const backends = (await cluster.agentBackends(one)).filter(
          (backend) => backend.backendPort === 8081 && backend.service !== "default/host-web",
        );
        expect(
          backends.length === 0,
          `${one} has a host-port frontend for 8081: ${backends.map((backend) => backend.service).join(", ")}`,
        );
        if (one !== node) await story.allRefused(OUTSIDE, await story.nodeAddresses(one), 8081);
      }
    });
    await story.delete(seed);
  },
};

const GROUPS: readonly Group[] = [
  pods,
  hostPorts,
  replicationController,
  services,
  loadBalancer,
  jobs,
  daemonSet,
  hostNetwork,
];

/** Runs every group, and gives each example's verdict once; one of which this cluster can show nothing is "not checked". Resolves with all of them, in the examples' order. Never rejects for a check. */
export async function runSeeds(run: SeedRun): Promise<readonly SeedVerdict[]> {
  const story = new SeedStory(run.cluster, run.examples, run.dualStack);
  const failures = new Map<Seed, string>();
  const fail = (seed: Seed, reason: string) => {
    if (!failures.has(seed)) failures.set(seed, reason.replace(/\s+/g, " ").trim());
  };
  const verdicts = new Map<Seed, SeedVerdict>();
  const checked = new Set<Seed>();
  let broken = "";
  await story.addClients().catch((error: Error) => {
    broken = `the demo's own pods did not start: ${error.message}`;
  });
  for (const [index, group] of GROUPS.entries()) {
    const check: Check = async (seed, what, body) => {
      run.progress(`${seed}: ${what}`);
      checked.add(seed);
      try {
        await body();
        await run.inspect?.();
      } catch (error) {
        fail(seed, `${what}: ${error instanceof Error ? error.message : String(error)}`);
      }
    };
    try {
      if (broken !== "") throw new CheckFailure(broken);
      await group.run(story, check);
      await run.inspect?.();
    } catch (error) {
      for (const seed of group.seeds) fail(seed, error instanceof Error ? error.message : String(error));
    }
    for (const seed of group.seeds) {
      if (GROUPS.slice(index + 1).some((later) => later.seeds.includes(seed))) continue;
      const verdict = { seed, failure: failures.get(seed) ?? (checked.has(seed) ? "" : "it was not checked") };
      verdicts.set(seed, verdict);
      run.verdict(verdict);
    }
  }
  return SEEDS.map((seed) => verdicts.get(seed)!);
}

/** The line of a verdict. */
export function verdictLine({ seed, failure }: SeedVerdict): string {
  return failure === "" ? `seed ${seed}: ok` : `seed ${seed}: FAILED: ${failure}`;
}
