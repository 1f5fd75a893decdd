// Every way to a Service on a kind cluster, both families: from pods, nodes, the machine that Docker runs on, and another machine of
// Docker's network.

import { type Question, SeedStory } from "../../src/lab/seed-story.ts";
import { familyOf } from "../../src/lib/address.ts";
import type { ServiceObject } from "../../src/wire/kubernetes.ts";
import { serverOnEachNode, serviceOf } from "../cluster/workloads.ts";
import type { CheckedKind } from "./checked-kind.ts";
import type { KindCluster } from "./kind-cluster.ts";
import { Load } from "./load.ts";
import type { Report } from "./report.ts";

/** Of the pools of the examples. */
const POOL_NAMESPACE = "metallb-system";
const NAME = "ways";
const NODE_PORT = 30080;
const LOCAL_PORT = 30081;
export const OUTSIDERS = ["host", "client1"] as const;
/** Of the pool in the examples' network. */
const LOCAL_ADDRESS = "192.168.122.118";

function objects(): object[] {
  const named = (name: string) => ({ metadata: { name, namespace: "default" } });
  const port = (nodePort: number) => ({ name: "http", port: 80, targetPort: 80, nodePort });
  const both = [
    { name: "http", port: 80, targetPort: 80 },
    { name: "udp", port: 80, targetPort: 80, protocol: "UDP" },
  ];
  const service = (spec: object) => serviceOf({ name: NAME }, spec) as { metadata: object };
  return [
    serverOnEachNode({ name: NAME }),
    service({ ports: both }),
    { ...service({ type: "NodePort", ports: [port(NODE_PORT)] }), ...named("ways-port") },
    {
      ...service({ type: "NodePort", externalTrafficPolicy: "Local", ports: [port(LOCAL_PORT)] }),
      ...named("ways-local"),
    },
    { ...service({ type: "LoadBalancer" }), ...named("ways-lb") },
    {
      ...service({ type: "LoadBalancer", externalTrafficPolicy: "Local" }),
      metadata: {
        name: "ways-lb-local",
        namespace: "default",
        annotations: { "metallb.io/loadBalancerIPs": LOCAL_ADDRESS },
      },
    },
  ];
}

/** An upload that a pod answers only once it has all of it. */
const UPLOAD = `head -c 67108864 /dev/zero >/tmp/upload
code=$(curl -s -m 60 -o /dev/null -w '%{http_code} %{time_total}s' -F file=@/tmp/upload "$0"); rm -f /tmp/upload; echo "$code"`;

export interface WaysOptions {
  /** There is a pool, and somebody gives addresses from it. */
  readonly loadBalancing: boolean;
  /** Before the title of each check, such as "after a restart: ". */
  readonly when?: string;
}

export class Ways {
  readonly #cluster: KindCluster;
  readonly #checked: CheckedKind;
  readonly #story: SeedStory;

  constructor(cluster: KindCluster, checked: CheckedKind, examples: string) {
    this.#cluster = cluster;
    this.#checked = checked;
    this.#story = new SeedStory(checked, examples, true);
  }

  async prepare({ loadBalancing }: WaysOptions): Promise<void> {
    if (loadBalancing) {
      await this.#cluster.tryKubectl(["create", "namespace", POOL_NAMESPACE]);
      await this.#story.apply("13-lb-pool");
    }
    await this.#story.addClients();
    await this.#story.applyObjects(objects() as never);
  }

  async remove(): Promise<void> {
    await this.#checked.delete(objects() as never);
    await this.#story.removeClients();
    await this.#story.delete("13-lb-pool");
  }

  async #service(name: string): Promise<ServiceObject> {
    return await this.#checked.service(name);
  }

  async #everyPod(): Promise<readonly string[]> {
    return await this.#story.pods({ app: NAME }, 3);
  }

  /** The checks, a line each. */
  async run(all: Report, { loadBalancing, when = "" }: WaysOptions): Promise<void> {
    const report = { check: (title: string, act: () => Promise<string>) => all.check(`${when}${title}`, act) };
    const story = this.#story;
    const pods = await this.#everyPod();
    const answers = (title: string, question: Omit<Question, "pods" | "port"> & Partial<Question>) =>
      report.check(title, async () => {
        await story.allAnswer({ port: 80, pods, ...question });
        return `${question.from.length} x ${question.to.length}`;
      });
    const cluster = story.clusterIPs(await this.#service(NAME));
    await answers("pods -> ClusterIP, TCP", { from: story.clients, to: cluster });
    await answers("pods -> ClusterIP, UDP", { from: story.clients, to: cluster, via: "udp" });
    await answers("nodes -> ClusterIP", { from: story.nodes, to: cluster });
    await answers("pods -> name of the Service", { from: story.clients, to: [`${NAME}.default.svc.cluster.local`] });
    await answers("a backend -> its own Service (hairpin)", { from: [pods[0]!], to: cluster });
    for (const node of story.nodes) {
      const to = await story.nodeAddresses(node);
      const from = [...OUTSIDERS, ...story.clients, ...story.nodes];
      await answers(`host, outside, pods, nodes -> node port of ${node}`, { from, to, port: NODE_PORT });
    }
    await answers("a node -> node port on its loopback", { from: ["node2"], to: ["127.0.0.1"], port: NODE_PORT });
    await this.#local(report, "node port", await story.nodeAddresses("node2"), LOCAL_PORT);
    await report.check("pods -> default/kubernetes", async () => {
      const url = "https://kubernetes.default/version";
      const { stdout } = await this.#checked.exec(story.clients[0]!, ["curl", "-sk", "-m", "5", url]);
      return must(/"gitVersion": "([^"]+)"/.exec(stdout)?.[1], stdout);
    });
    await report.check("64 MiB from outside by a node port, the backend on another node", async () => {
      const [address] = await story.nodeAddresses("node1");
      const url = `http://${address}:${NODE_PORT}/upload`;
      const { stdout } = await this.#checked.exec("client1", ["sh", "-c", UPLOAD, url]);
      return must(/^200 .*/m.exec(stdout)?.[0], stdout);
    });
    if (loadBalancing) await this.#loadBalancers(report, pods);
  }

  async #loadBalancers(report: Pick<Report, "check">, pods: readonly string[]): Promise<void> {
    const story = this.#story;
    await report.check("a LoadBalancer Service has an address, which one node answers ARP for", async () => {
      const [address] = story.loadBalancerAddresses(await this.#service("ways-lb"));
      if (address === undefined) throw new Error("it has none");
      const holders = await this.#checked.loadBalancing.holders("client1", address);
      if (holders.length !== 1) throw new Error(`${address} is answered for by ${holders.join() || "nobody"}`);
      return `${address} at ${holders.join()}`;
    });
    await report.check("host, outside, pods, nodes -> LoadBalancer address", async () => {
      const to = story.loadBalancerAddresses(await this.#service("ways-lb"));
      await story.allAnswer({ from: [...OUTSIDERS, ...story.insiders], to, port: 80, pods });
      return to.join();
    });
    await this.#local(report, "LoadBalancer address", [LOCAL_ADDRESS], 80);
  }

  /** With policy Local a backend of the node that is asked answers, and sees who asks. */
  async #local(report: Pick<Report, "check">, what: string, to: readonly string[], port: number): Promise<void> {
    await report.check(`${what}, policy Local: the client's address stays`, async () => {
      const seen = [];
      for (const from of OUTSIDERS) {
        for (const address of to) {
          const host = address.includes(":") ? `[${address}]` : address;
          const { stdout } = await this.#checked.exec(from, [
            "curl",
            "-s",
            "-m",
            "5",
            `http://${host}:${port}/clientip`,
          ]);
          const heard = stdout
            .trim()
            .replace(/:\d+$/, "")
            .replace(/^\[|\]$/g, "");
          const own = await this.#addressesOf(from);
          if (!own.includes(heard)) throw new Error(`from ${from} (${own.join()}) to ${host}: '${stdout.trim()}'`);
          seen.push(heard);
        }
      }
      return [...new Set(seen)].join();
    });
  }

  async #addressesOf(from: string): Promise<readonly string[]> {
    const { stdout } = await this.#checked.exec(from, ["ip", "-j", "address", "show"]);
    const devices = JSON.parse(stdout) as { addr_info: { local: string }[] }[];
    return devices.flatMap(({ addr_info: own }) => own.map(({ local }) => local));
  }

  /** Requests on every kind of way; `loadBalancing` as for the checks. They go on until they are stopped. */
  async startLoad({ loadBalancing }: WaysOptions): Promise<Load> {
    const story = this.#story;
    const nodes = await Promise.all(story.nodes.map((node) => story.nodeAddresses(node)));
    const nodePorts = nodes.flat().map((address) => withPort(address, NODE_PORT));
    const inside = story.clusterIPs(await this.#service(NAME)).map((address) => withPort(address, 80));
    const given = loadBalancing ? story.loadBalancerAddresses(await this.#service("ways-lb")) : [];
    return await Load.start(this.#cluster, [
      { from: "host", kind: "host", to: [...nodePorts, ...given.map((address) => withPort(address, 80))] },
      { from: this.#cluster.outside, kind: "container", to: nodePorts },
      ...story.clients.map((from) => ({ from, kind: "pod" as const, to: inside })),
      { from: this.#cluster.nodeNames[1]!, kind: "container", to: inside },
    ]);
  }
}

function withPort(address: string, port: number): string {
  return `${familyOf(address) === "IPv6" ? `[${address}]` : address}:${port}`;
}

function must(found: string | undefined, said: string): string {
  if (found === undefined) throw new Error(`answered '${said.trim().slice(0, 200)}'`);
  return found;
}
