// A kind cluster that stands: made of the node image, with pods connected as kind's own CNI does, and the ways into its nodes and pods.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { inCgroup } from "../../src/lab/cgroups.ts";
import { cgroupRoot } from "../../src/lab/lab-paths.ts";
import type { RunOptions, RunResult } from "../../src/lab/shell.ts";
import { Failure } from "../../src/lib/errors.ts";
import type { ApiAnswer, ApiRequest } from "../cluster/api-client.ts";
import { waitUntil } from "../cluster/wait-until.ts";
import { checkedOnHost, docker, hostEnvironment, runOnHost } from "./docker.ts";
import { kubeconfigOf, NETWORK, STATE } from "./paths.ts";

export const PROXY_MODES = ["none", "iptables", "nftables"] as const;
export type ProxyMode = (typeof PROXY_MODES)[number];

export interface KindConfig {
  readonly name: string;
  readonly image: string;
  readonly nodes: number;
  readonly proxy: ProxyMode;
}

export interface KindNode {
  readonly name: string;
  /** Both families. */
  readonly addresses: readonly string[];
  /** Its first process, as this machine counts them. */
  readonly pid: number;
}

interface NodeObject {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly podCIDRs?: readonly string[] };
  readonly status: {
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly addresses?: readonly { readonly type: string; readonly address: string }[];
  };
}

/** `kind create cluster`'s configuration. */
function kindConfiguration({ nodes, proxy }: KindConfig): string {
  const patches = [
    // Machines that still have the older hierarchies.
    { kind: "KubeletConfiguration", apiVersion: "kubelet.config.k8s.io/v1beta1", failCgroupV1: false },
    // Pods may run on every node: the examples count on three. Of a cluster of one node kind itself sees to that.
    ...(nodes > 1 ? [{ kind: "InitConfiguration", nodeRegistration: { taints: [] } }] : []),
  ];
  return stringify({
    kind: "Cluster",
    apiVersion: "kind.x-k8s.io/v1alpha4",
    networking: { ipFamily: "dual", kubeProxyMode: proxy, disableDefaultCNI: true },
    kubeadmConfigPatches: patches.map((patch) => stringify(patch)),
    nodes: Array.from({ length: nodes }, (_, i) => ({ role: i === 0 ? "control-plane" : "worker" })),
  });
}

export class KindCluster {
  readonly config: KindConfig;
  #agent: Agent | undefined;
  #server = "";

  constructor(config: KindConfig) {
    this.config = config;
  }

  get kubeconfig(): string {
    return kubeconfigOf(this.config.name);
  }

  /** What programs that use this cluster find in their environment. */
  get environment(): NodeJS.ProcessEnv {
    return { ...hostEnvironment(), KUBECONFIG: this.kubeconfig };
  }

  get nodeNames(): readonly string[] {
    const { name, nodes } = this.config;
    return Array.from({ length: nodes }, (_, i) => {
      if (i === 0) return `${name}-control-plane`;
      return i === 1 ? `${name}-worker` : `${name}-worker${i}`;
    });
  }

  /** The machine outside: a container on the same network that is no node. */
  get outside(): string {
    return `${this.config.name}-outside`;
  }

  /** Makes it. Services are served by whoever `proxy` says, pods have their network, and every node is Ready. */
  async up(): Promise<void> {
    const { name, image } = this.config;
    const file = join(STATE, `${name}.yaml`);
    writeFileSync(file, kindConfiguration(this.config));
    const flags = [
      `--name=${name}`,
      `--image=${image}`,
      `--config=${file}`,
      `--kubeconfig=${this.kubeconfig}`,
      "--retain",
    ];
    await checkedOnHost(["kind", "create", "cluster", ...flags], { timeoutMs: 600_000 });
    await this.connectPods();
    const outside = ["--detach", "--name", this.outside, "--hostname", this.outside, "--net", NETWORK];
    await docker("run", ...outside, "--cap-add=NET_ADMIN", "--entrypoint=sleep", image, "infinity");
    await this.waitForNodes();
  }

  async waitForNodes(): Promise<void> {
    const areReady = async () => (await this.unready()).length === 0 || undefined;
    await waitUntil("every node Ready", areReady, { timeoutMs: 180_000, everyMs: 500 });
  }

  async stands(): Promise<boolean> {
    return (await checkedOnHost(["kind", "get", "clusters"])).split("\n").includes(this.config.name);
  }

  /** What kind's own CNI does: a configuration for each node's pods, routes to the others', and a new source on the way out. */
  async connectPods(): Promise<void> {
    // The controller manager gives ranges some time after the first node is there.
    const haveRanges = async () => {
      const all = await this.#nodeObjects();
      return all.every(({ spec }) => spec.podCIDRs?.length === 2) ? all : undefined;
    };
    const nodes = await waitUntil("every node's pod ranges", haveRanges, { timeoutMs: 120_000, everyMs: 200 });
    for (const node of nodes) {
      const { name } = node.metadata;
      await this.inNode(name, ["sh", "-c", "mkdir -p /etc/cni/net.d && cat >/etc/cni/net.d/10-ptp.conflist"], {
        input: cniConfiguration(node.spec.podCIDRs ?? []),
      });
      const lines = nodes.filter((other) => other !== node).flatMap(routesTo);
      await this.inNode(name, ["sh", "-c", `${lines.join("\n")}\n${MASQUERADE}`]);
    }
  }

  async #nodeObjects(): Promise<readonly NodeObject[]> {
    const { items } = await this.ask<{ items: readonly NodeObject[] }>("/api/v1/nodes");
    return items;
  }

  /** Names of nodes that are not Ready. */
  async unready(): Promise<readonly string[]> {
    return (await this.#nodeObjects())
      .filter(({ status }) => !status.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True"))
      .map(({ metadata }) => metadata.name);
  }

  async node(name: string): Promise<KindNode> {
    const said = await docker("inspect", name);
    const [found] = JSON.parse(said) as {
      State: { Pid: number };
      NetworkSettings: { Networks: Record<string, { IPAddress: string; GlobalIPv6Address: string }> };
    }[];
    const network = found?.NetworkSettings.Networks[NETWORK];
    if (found === undefined || network === undefined) throw new Failure("not_found", name, `could not find ${name}`);
    return { name, addresses: [network.IPAddress, network.GlobalIPv6Address], pid: found.State.Pid };
  }

  /** Runs one of a node's own programs there. @throws machine for another status than 0 */
  inNode(name: string, command: readonly string[], options: RunOptions = {}): Promise<string> {
    return checkedOnHost(["docker", "exec", "-i", name, ...command], options);
  }

  /** As inNode, but never throws for the status. */
  tryInNode(name: string, command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return runOnHost(["docker", "exec", "-i", name, ...command], options);
  }

  /** Program and arguments that run one of this machine's programs with the network and the cgroup of a node, or of the container outside. */
  async enterNode(name: string, command: readonly string[]): Promise<[string, ...string[]]> {
    const { pid } = await this.node(name);
    return within(`/proc/${pid}`, command);
  }

  /** As enterNode, for a pod's first container. @throws not_found */
  async enterPod(namespace: string, pod: string, command: readonly string[]): Promise<[string, ...string[]]> {
    return within(await this.#podProcess(namespace, pod), command);
  }

  /** Takes a node out: no pods, no kubelet, no Node object. Its container stays. */
  async leave(name: string): Promise<void> {
    const isIn = (await this.#nodeObjects()).some(({ metadata }) => metadata.name === name);
    if (!isIn) return;
    await this.inNode(name, ["systemctl", "stop", "kubelet"]);
    await this.ask({ method: "DELETE", path: `/api/v1/nodes/${name}` });
    // What the controllers would do some time later.
    const ofNode = ["--all-namespaces", `--field-selector=spec.nodeName=${name}`, "--force", "--grace-period=0"];
    await this.kubectl(["delete", "pods", ...ofNode]);
    await this.tryInNode(name, ["crictl", "rmp", "--all", "--force"]);
    await this.inNode(name, ["sh", "-c", "rm -rf /etc/cni/net.d/* /run/cni-ipam-state"]);
  }

  /** A node that was taken out comes as one that was never seen: its kubelet registers it. Returns when it is Ready. */
  async join(name: string): Promise<void> {
    await this.inNode(name, ["systemctl", "start", "kubelet"]);
    const hasRange = async () => {
      const own = (await this.#nodeObjects()).find(({ metadata }) => metadata.name === name);
      return own?.spec.podCIDRs === undefined ? undefined : true;
    };
    await waitUntil(`${name} registered`, hasRange, { timeoutMs: 120_000, everyMs: 200 });
    await this.connectPods();
    const isReady = async () => !(await this.unready()).includes(name) || undefined;
    await waitUntil(`${name} Ready`, isReady, { timeoutMs: 120_000, everyMs: 200 });
  }

  /** A pod's first process, as the machine sees it through its node's /proc. */
  async #podProcess(namespace: string, pod: string): Promise<string> {
    const { spec, status } = await this.ask<{
      spec: { nodeName: string };
      status: { containerStatuses?: readonly { containerID?: string }[] };
    }>(`/api/v1/namespaces/${namespace}/pods/${pod}`);
    const id = status.containerStatuses?.[0]?.containerID?.replace(/^containerd:\/\//, "");
    if (id === undefined)
      throw new Failure("not_found", pod, `could not enter pod ${namespace}/${pod}: it does not run`);
    const template = "{{.info.pid}}";
    const said = await this.inNode(spec.nodeName, [
      "crictl",
      "inspect",
      "--output=go-template",
      "--template",
      template,
      id,
    ]);
    const { pid } = await this.node(spec.nodeName);
    return `/proc/${pid}/root/proc/${said.trim()}`;
  }

  /** A file of a node, as this process finds it. */
  async nodeFile(name: string, path: string): Promise<string> {
    const { pid } = await this.node(name);
    return `/proc/${pid}/root${path}`;
  }

  /** @throws machine for another status than 0 */
  kubectl(args: readonly string[], options: RunOptions = {}): Promise<string> {
    return checkedOnHost(["kubectl", ...args], { env: this.environment, ...options });
  }

  tryKubectl(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return runOnHost(["kubectl", ...args], { env: this.environment, ...options });
  }

  apply(yaml: string): Promise<string> {
    return this.kubectl(["apply", "--server-side", "--force-conflicts", "-f", "-"], { input: yaml });
  }

  delete(yaml: string): Promise<string> {
    return this.kubectl(["delete", "--ignore-not-found", "--wait", "-f", "-"], { input: yaml });
  }

  /** One request to the API server as the administrator. Never throws for a status. This process is in the host's network. */
  async send({ method = "GET", path, body, contentType = "application/json" }: ApiRequest): Promise<ApiAnswer> {
    const agent = this.#connection();
    const headers = { accept: "application/json", "content-type": contentType };
    return new Promise((resolve, reject) => {
      const call = request(new URL(path, this.#server), { agent, method, headers, timeout: 30_000 }, (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("error", reject);
        response.on("end", () => {
          const text = Buffer.concat(parts).toString();
          const isJson = response.headers["content-type"]?.startsWith("application/json") === true;
          resolve({ status: response.statusCode ?? 0, body: isJson ? JSON.parse(text) : text });
        });
      });
      call.on("timeout", () => call.destroy(new Error("no answer for 30 s")));
      call.on("error", reject);
      call.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** The answer's body. @throws not_found, or invalid_object for another status that is no success */
  async ask<T = unknown>(wish: ApiRequest | string): Promise<T> {
    const sent = typeof wish === "string" ? { path: wish } : wish;
    const { status, body } = await this.send(sent);
    if (status >= 200 && status < 300) return body as T;
    const said = (body as { message?: string }).message ?? String(body).slice(0, 200);
    const message = `could not ${sent.method ?? "GET"} ${sent.path}: ${status}, ${said}`;
    throw new Failure(status === 404 ? "not_found" : "invalid_object", sent.path, message);
  }

  #connection(): Agent {
    if (this.#agent !== undefined) return this.#agent;
    const { clusters, users } = parse(readFileSync(this.kubeconfig, "utf8")) as {
      clusters: { name: string; cluster: Record<string, string> }[];
      users: { name: string; user: Record<string, string> }[];
    };
    const name = `kind-${this.config.name}`;
    const cluster = clusters.find((one) => one.name === name)?.cluster;
    const user = users.find((one) => one.name === name)?.user;
    if (cluster === undefined || user === undefined) {
      throw new Failure("not_found", name, `could not find ${name} in ${this.kubeconfig}`);
    }
    const bytes = (text = ""): Buffer => Buffer.from(text, "base64");
    this.#server = cluster["server"] ?? "";
    this.#agent = new Agent({
      keepAlive: true,
      ca: bytes(cluster["certificate-authority-data"]),
      cert: bytes(user["client-certificate-data"]),
      key: bytes(user["client-key-data"]),
    });
    return this.#agent;
  }

  /** Removes its containers and what they had. */
  async down(): Promise<void> {
    this.#agent?.destroy();
    this.#agent = undefined;
    await runOnHost(["docker", "rm", "--force", "--volumes", this.outside]);
    await checkedOnHost(["kind", "delete", "cluster", `--name=${this.config.name}`, `--kubeconfig=${this.kubeconfig}`]);
  }
}

function cniConfiguration(prefixes: readonly string[]): string {
  const routes = prefixes.map((prefix) => ({ dst: prefix.includes(":") ? "::/0" : "0.0.0.0/0" }));
  const ipam = {
    type: "host-local",
    dataDir: "/run/cni-ipam-state",
    routes,
    ranges: prefixes.map((subnet) => [{ subnet }]),
  };
  const plugins = [
    { type: "ptp", ipMasq: false, mtu: 1500, ipam },
    { type: "portmap", capabilities: { portMappings: true } },
  ];
  return JSON.stringify({ cniVersion: "0.3.1", name: "ptp", plugins });
}

function routesTo({ spec, status }: NodeObject): string[] {
  const own = (status.addresses ?? []).filter(({ type }) => type === "InternalIP").map(({ address }) => address);
  return (spec.podCIDRs ?? []).map((prefix) => {
    const family = prefix.includes(":") ? "-6" : "-4";
    const via = own.find((address) => address.includes(":") === prefix.includes(":"));
    return `ip ${family} route replace ${prefix} via ${via}`;
  });
}

const MASQUERADE = [
  ["iptables", "10.244.0.0/16"],
  ["ip6tables", "fd00:10:244::/56"],
]
  .map(([program, pods]) => {
    const rule = `POSTROUTING -s ${pods} ! -d ${pods} -j MASQUERADE`;
    return `${program} -w -t nat -C ${rule} 2>/dev/null || ${program} -w -t nat -A ${rule}`;
  })
  .join("\n");

/** Program and arguments that run `command` with the network and in the cgroup of a process, which is named by its directory in a /proc. */
function within(process: string, command: readonly string[]): [string, ...string[]] {
  const own = /^0::(.*)$/m.exec(readFileSync(`${process}/cgroup`, "utf8"))?.[1] ?? "";
  const cgroup = join(cgroupRoot(), own);
  if (!existsSync(cgroup)) throw new Failure("not_found", cgroup, `could not find the cgroup ${cgroup} of ${process}`);
  return inCgroup(cgroup, ["nsenter", `--net=${process}/ns/net`, "--", ...command]);
}
