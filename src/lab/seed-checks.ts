// What each example must show, group by group, on a lab of three nodes: the table behind `make demo` and the lab's tests.
// A group is taken away before the next comes; an example's verdict is given when the last group that holds it is over.
import { LAN_PREFIX } from "./addressing.ts";
import type { LabSession } from "./lab-session.ts";
import { CheckFailure, clientOn, eventually, expect, SeedStory } from "./seed-story.ts";

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
  /** A lab of three nodes, up. */
  readonly session: LabSession;
  /** Directory of the examples. */
  readonly examples: string;
  readonly dualStack: boolean;
  readonly progress: (text: string) => void;
  readonly verdict: (verdict: SeedVerdict) => void;
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
        const pod = await story.pod(name);
        const to = story.asked(pod.addresses);
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
        await story.allAnswer({ from: [...story.clients], to: story.asked(pod.addresses), port, pods: ["nginxpod"] });
      }
    });
    await check(seed, "host ports answer on the pod's node", async () => {
      const { node } = await story.pod("nginxpod");
      const to = await story.nodeAddresses(node);
      for (const port of [80, 8800]) {
        await story.allAnswer({ from: [...OUTSIDE, ...story.insiders], to, port, pods: ["nginxpod"] });
      }
    });
    await check(seed, "another pod's localhost:80 is its own", async () => {
      const { node } = await story.pod("nginxpod");
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
      const service = await story.session.service("default/podtoservcie");
      await story.allAnswer({ from: story.insiders, to: story.clusterIPs(service), port: 80, pods: names });
    });
    await check("04-rc-exposed", "without a pool there is no address, and everything else answers", async () => {
      const names = await story.pods({ app: "nginx" }, 2);
      const service = await story.session.service("default/my-second-service");
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
    await check("13-lb-pool", "with the pool the waiting Service gets an address", async () => {
      await story.apply("13-lb-pool");
      const names = await story.pods({ app: "nginx" }, 2);
      const service = await story.session.service("default/my-second-service");
      const addresses = story.loadBalancerAddresses(service);
      expect(
        addresses.length > 0 && addresses.every(isFromPool),
        `my-second-service has the address '${addresses.join(", ")}', which is not of the pool`,
      );
      await story.allAnswer({ from: [...OUTSIDE, ...story.insiders], to: addresses, port: 80, pods: names });
    });
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
  const service = await story.session.service("default/nginx-service");
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
      const service = await story.session.service("default/nginx-service");
      const resolved = await story.lookup(clientOn("node1"), "nginx-service");
      expect(
        resolved.join() === [...story.clusterIPs(service)].sort().join(),
        `nginx-service resolves to ${resolved.join(", ")}`,
      );
      await story.allAnswer({ from: story.clients, to: ["nginx-service"], port: 80, pods: names });
    });
    await check("05-deployment", "unready, dead and absent pods serve nothing, and come back", () =>
      comesAndGoes(story),
    );
    await check("07-clusterip-fixed", "the same at 10.96.100.100", async () => {
      await story.apply("05-deployment", "07-clusterip-fixed");
      const service = await story.session.service("default/nginx-service");
      expect(story.clusterIPs(service)[0] === "10.96.100.100", `the address is ${story.clusterIPs(service)[0]}`);
      await nginxAnswers(story);
      await story.allAnswer({ from: story.clients, to: ["nginx-service"], port: 80, pods: await story.pods(NGINX, 3) });
    });
    await check("08-headless", "no address, nothing in the maps, the name leads to the pods", async () => {
      await story.apply("05-deployment", "08-headless");
      const { spec } = await story.session.service("default/nginx-service");
      expect(spec.clusterIP === "None", `the cluster address is ${spec.clusterIP}`);
      await story.notInMaps("default/nginx-service");
      const found = await story.session.podsWith("default", NGINX);
      const addresses = found.flatMap((pod) => story.asked((pod.status?.podIPs ?? []).map((one) => one.ip)));
      for (const client of story.clients) {
        const resolved = await story.lookup(client, "nginx-service");
        expect(
          resolved.join() === [...addresses].sort().join(),
          `nginx-service resolves to ${resolved.join(", ")} from ${client}`,
        );
      }
      for (const pod of found) {
        await story.allAnswer({
          from: story.clients,
          to: story.asked((pod.status?.podIPs ?? []).map((one) => one.ip)),
          port: 80,
          pods: [pod.metadata.name],
        });
      }
    });
    await check("09-nodeport-auto", "a free node port answers on every node", async () => {
      await story.apply("05-deployment", "09-nodeport-auto");
      const port = story.nodePort(await story.session.service("default/nginx-service"));
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
      const names = await story.cname(clientOn("node1"), "service-external-name.default.svc.cluster.local");
      expect(names.join() === "nginx-service.default.svc.cluster.local", `the CNAME is ${names.join(", ")}`);
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
  await story.session.scale("deployment/nginx-deployment", 2);
  await nginxAnswersOnNodePort(story, port, 2);
  await story.session.scale("deployment/nginx-deployment", 3);
  await nginxAnswersOnNodePort(story, port, 3);
}

async function comesAndGoes(story: SeedStory): Promise<void> {
  const { session } = story;
  const names = await story.pods(NGINX, 3);
  const to = story.clusterIPs(await session.service("default/nginx-service"));
  const [first, second] = names as [string, string];
  const answering = (expected: readonly string[]) =>
    story.allAnswer({ from: story.insiders, to, port: 80, pods: expected });
  const within = async (what: string, act: () => Promise<void>) => {
    const began = performance.now();
    await act();
    const tookMs = Math.round(performance.now() - began);
    expect(tookMs < 1000, `${what} took ${tookMs} ms to be in force`);
  };
  await within("making a pod unready", () => session.ready(first, false));
  await answering(names.filter((name) => name !== first));
  await within("making it ready again", () => session.ready(first, true));
  await answering(names);
  await within("a pod's death", () => session.kill(second));
  const { answers } = await session.probe(clientOn("node1"), { via: "tcp", host: to[0]!, port: 80, count: 20 });
  expect(
    answers.every((answer) => answer.error === ""),
    `after a pod's death: ${answers.find((answer) => answer.error !== "")?.error}`,
  );
  await eventually(5000, () => answering(names));
  await session.scale("deployment/nginx-deployment", 0);
  await story.allRefused(story.insiders, to, 80);
  await session.scale("deployment/nginx-deployment", 3);
  await answering(await story.pods(NGINX, 3));
}

async function outOfRange(story: SeedStory): Promise<void> {
  const [service] = await story.exampleObjects("10-nodeport-30001");
  const spec = service!["spec"] as { ports: object[] };
  const changed = { ...service, spec: { ...spec, ports: spec.ports.map((port) => ({ ...port, nodePort: 29999 })) } };
  const { notices } = await story.session.apply(story.session.manifest([changed]));
  const words =
    "Invalid value: 29999: provided port is not in the valid range. The range of valid ports is 30000-32767";
  const said = notices.map((notice) => notice.message);
  expect(
    said.some((text) => text.includes(words)),
    `29999 is not refused in the API server's words, but: ${said.join("; ") || "not at all"}`,
  );
  // The Service that was there goes on.
  await nginxAnswersOnNodePort(story, 30001, 3);
  await story.allRefused(OUTSIDE, await story.nodeAddresses("node1"), 29999);
  await story.apply("10-nodeport-30001");
}

const OUTSIDE_HOST = { name: "outside-web", address: "110.242.68.3" };

async function handMadeEndpoints(story: SeedStory): Promise<void> {
  const { session } = story;
  const [service, endpoints] = await story.exampleObjects("11-no-selector");
  await session.apply(session.manifest([service]));
  const to = story.clusterIPs(await session.service("default/service-no-selector"));
  await story.allRefused(story.insiders, to, 80);
  const fixed = [
    ["demo-fixed-1", "10.244.36.82", "node1"],
    ["demo-fixed-2", "10.244.169.141", "node3"],
  ].map(([name, address, nodeName]) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, annotations: { "millrace.io/pod-ip": address } },
    spec: { nodeName, containers: [{ name: "web", image: "demo" }] },
  }));
  const pods = session.manifest(fixed);
  await session.apply(pods);
  const { hosts } = await session.status();
  if (!hosts.some((host) => host.name === OUTSIDE_HOST.name))
    await session.host(OUTSIDE_HOST.name, OUTSIDE_HOST.address);
  await story.apply("11-no-selector");
  const names = ["demo-fixed-1", "demo-fixed-2", OUTSIDE_HOST.name];
  await story.allAnswer({ from: story.insiders, to, port: 80, pods: names });
  const subsets = (endpoints!["subsets"] as { ports: { name: string }[] }[]).map((subset) => ({
    ...subset,
    ports: subset.ports.map((port) => ({ ...port, name: "web" })),
  }));
  await session.apply(session.manifest([{ ...endpoints, subsets }]));
  await story.expectNotice("Endpoints default/service-no-selector", /port/i);
  await story.allRefused(story.insiders, to, 80);
  await story.apply("11-no-selector");
  await story.allAnswer({ from: story.clients, to, port: 80, pods: names });
  await session.delete(pods);
}

const loadBalancer: Group = {
  seeds: ["05-deployment", "10-nodeport-30001", "13-lb-pool", "14-loadbalancer"],
  async run(story, check) {
    const { session } = story;
    const own = { selector: NGINX, ports: [{ name: "http", port: 80, targetPort: 80 }], type: "LoadBalancer" };
    const free = { apiVersion: "v1", kind: "Service", metadata: { name: "demo-lb-free" }, spec: own };
    const foreign = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "demo-lb-foreign" },
      spec: { ...own, loadBalancerIP: "192.168.200.1" },
    };
    const extra = session.manifest([free, foreign]);
    await check("14-loadbalancer", "192.168.122.111 is answered by exactly one node", async () => {
      await story.apply("05-deployment", "10-nodeport-30001", "13-lb-pool", "14-loadbalancer");
      const given = story.loadBalancerAddresses(await session.service("default/nginxlb"));
      expect(given.join() === "192.168.122.111", `nginxlb has the address '${given.join(", ")}'`);
      await oneHolder(story, "192.168.122.111");
    });
    await check("14-loadbalancer", "address, node port and ClusterIP answer", async () => {
      const names = await story.pods(NGINX, 3);
      const service = await session.service("default/nginxlb");
      await story.allAnswer({ from: [...OUTSIDE, ...story.insiders], to: ["192.168.122.111"], port: 80, pods: names });
      await nginxAnswersOnNodePort(story, story.nodePort(service), 3);
      await story.allAnswer({ from: story.insiders, to: story.clusterIPs(service), port: 80, pods: names });
    });
    await check("10-nodeport-30001", "goes on at 30001 beside the LoadBalancer", async () =>
      nginxAnswersOnNodePort(story, 30001, 3),
    );
    await check("05-deployment", "answers through both Services", async () => nginxAnswers(story));
    await check("13-lb-pool", "free addresses come from the pool, others are not given", async () => {
      await session.apply(extra);
      const addresses = story.loadBalancerAddresses(await session.service("default/demo-lb-free"));
      expect(
        addresses.length === 1 && addresses.every(isFromPool) && addresses[0] !== "192.168.122.111",
        `demo-lb-free has the address '${addresses.join(", ")}'`,
      );
      await oneHolder(story, addresses[0]!);
      await story.allAnswer({ from: OUTSIDE, to: addresses, port: 80, pods: await story.pods(NGINX, 3) });
      const refused = story.loadBalancerAddresses(await session.service("default/demo-lb-foreign"));
      expect(refused.length === 0, `demo-lb-foreign has the address ${refused.join(", ")}`);
      await story.expectNotice("Service default/demo-lb-foreign", /./);
    });
    await session.delete(extra);
    await story.delete("14-loadbalancer", "13-lb-pool", "10-nodeport-30001", "05-deployment");
  },
};

async function oneHolder(story: SeedStory, address: string): Promise<void> {
  const holders = await story.arpHolders("client1", address);
  expect(
    holders.length === 1,
    `ARP for ${address} is answered by ${holders.length === 0 ? "nobody" : holders.join(", ")}`,
  );
}

const jobs: Group = {
  seeds: ["15-job"],
  async run(story, check) {
    const { session } = story;
    const labels = { image: "ubuntu", test: "dpkg" };
    const service = session.manifest([
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "demo-jobs" },
        spec: {
          selector: labels,
          ports: [{ port: 80 }],
          ...(story.dualStack ? { ipFamilyPolicy: "PreferDualStack" } : {}),
        },
      },
    ]);
    await check("15-job", "both Jobs run, and a pod that ended serves nothing", async () => {
      await session.apply(service);
      const to = story.clusterIPs(await session.service("default/demo-jobs"));
      await story.apply("15-job");
      const ownPods = async () =>
        (await session.status()).pods.filter((pod) => pod.namespace === "default" && pod.owner.startsWith("Job/"));
      const started = await ownPods();
      const owners = started.map((pod) => pod.owner).sort();
      expect(
        owners.join() === "Job/package-check,Job/package-check-original",
        `the Jobs' pods are of ${owners.join(", ") || "nobody"}`,
      );
      // They serve for three seconds only: whoever asks must be quick.
      await story.allAnswer({ from: [clientOn("node1")], to, port: 80, pods: started.map((pod) => pod.name) });
      await eventually(10_000, async () => {
        const open = (await ownPods())
          .filter((pod) => pod.phase !== "Succeeded")
          .map((pod) => `${pod.name} is ${pod.phase}`);
        expect(open.length === 0, open.join(", "));
      });
      await eventually(1000, () => story.allRefused(story.insiders, to, 80));
      const slices = (await session.objects("EndpointSlice")).filter(
        (slice) => slice.metadata.labels?.["kubernetes.io/service-name"] === "demo-jobs",
      );
      const left = slices.flatMap((slice) => slice["endpoints"] as unknown[]);
      expect(left.length === 0, `${left.length} endpoints are left in the slices of demo-jobs`);
    });
    await story.delete("15-job");
    await session.delete(service);
  },
};

const daemonSet: Group = {
  seeds: ["16-daemonset"],
  async run(story, check) {
    const { session } = story;
    const onePerNode = async () => {
      const { nodes, pods } = await session.status();
      const own = pods.filter((pod) => pod.owner === "DaemonSet/node-web" && pod.ready);
      for (const node of nodes) {
        const here = own.filter((pod) => pod.node === node.name);
        expect(here.length === 1, `${node.name} has ${here.length} pods of node-web`);
      }
      for (const pod of own)
        await story.allAnswer({ from: story.clients, to: story.asked(pod.addresses), port: 80, pods: [pod.name] });
    };
    await check("16-daemonset", "one pod on every node", async () => {
      await story.apply("16-daemonset");
      await onePerNode();
    });
    await check("16-daemonset", "also on a node that joins later", async () => {
      const { nodes } = await session.status();
      const last = Math.max(...nodes.map((node) => Number(node.name.slice("node".length))));
      await session.join(`node${last + 1}`);
      await onePerNode();
    });
    await story.delete("16-daemonset");
  },
};

const hostNetwork: Group = {
  seeds: ["17-host-network"],
  async run(story, check) {
    const seed = "17-host-network";
    const { session } = story;
    await check(seed, "reached at its node's address", async () => {
      await story.apply(seed);
      const { node } = await story.pod("host-web");
      await story.allAnswer({
        from: [...OUTSIDE, ...story.insiders],
        to: await story.nodeAddresses(node),
        port: 8081,
        pods: ["host-web"],
      });
    });
    await check(seed, "reached through its Service", async () => {
      const to = story.clusterIPs(await session.service("default/host-web"));
      await story.allAnswer({ from: [...story.insiders, "host-web"], to, port: 80, pods: ["host-web"] });
    });
    await check(seed, "is a client of a ClusterIP", async () => {
      const to = story.clusterIPs(await session.service("default/demo-clients"));
      await story.allAnswer({ from: ["host-web"], to, port: 80, pods: story.clients });
    });
    await check(seed, "its declared port makes no host-port frontend", async () => {
      const { node } = await story.pod("host-web");
      for (const one of story.nodes) {
        const backends = (await session.agentBackends(one)).filter(
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

/** Runs every group, and gives each example's verdict once. Resolves with all of them, in the examples' order. Never rejects for a check. */
export async function runSeeds(run: SeedRun): Promise<readonly SeedVerdict[]> {
  const story = new SeedStory(run.session, run.examples, run.dualStack);
  const failures = new Map<Seed, string>();
  const fail = (seed: Seed, reason: string) => {
    if (!failures.has(seed)) failures.set(seed, reason.replace(/\s+/g, " ").trim());
  };
  const verdicts = new Map<Seed, SeedVerdict>();
  let broken = "";
  await story.addClients().catch((error: Error) => {
    broken = `the demo's own pods did not start: ${error.message}`;
  });
  for (const [index, group] of GROUPS.entries()) {
    const check: Check = async (seed, what, body) => {
      run.progress(`${seed}: ${what}`);
      try {
        await body();
      } catch (error) {
        fail(seed, `${what}: ${error instanceof Error ? error.message : String(error)}`);
      }
    };
    try {
      if (broken !== "") throw new CheckFailure(broken);
      await group.run(story, check);
    } catch (error) {
      for (const seed of group.seeds) fail(seed, error instanceof Error ? error.message : String(error));
    }
    for (const seed of group.seeds) {
      if (GROUPS.slice(index + 1).some((later) => later.seeds.includes(seed))) continue;
      const verdict = { seed, failure: failures.get(seed) ?? "" };
      verdicts.set(seed, verdict);
      run.verdict(verdict);
    }
  }
  return SEEDS.map((seed) => verdicts.get(seed) ?? { seed, failure: "it was not checked" });
}

/** The line of a verdict. */
export function verdictLine({ seed, failure }: SeedVerdict): string {
  return failure === "" ? `seed ${seed}: ok` : `seed ${seed}: FAILED: ${failure}`;
}
