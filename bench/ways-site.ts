// One cluster of the ways' bench with the servers and askers in it (ways.c), and the ways that lead to the servers: directly,
// and by a Service. What is sent goes to addresses of the cluster's own namespaces only.
import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { createInterface, type Interface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { inCgroup, makeCgroup } from "../src/lab/cgroups.ts";
import type { Cluster } from "../test/cluster/cluster.ts";
import { enterPod, isPodReady, type PodObject } from "../test/cluster/cluster-pod.ts";
import { loadPod } from "../test/cluster/load/load-pods.ts";
import { manifest } from "../test/cluster/workloads.ts";

export const KINDS = ["short", "kept", "udp"] as const;
/** Short TCP connections; request and answer on kept ones; datagrams, each with its answer. */
export type Kind = (typeof KINDS)[number];

interface WayPlan {
  readonly name: string;
  readonly from: "pod" | "outside";
  /** On the pod's node, or the one whose node port is asked; or on another one. */
  readonly isElsewhere: boolean;
}

export const WAYS = [
  { name: "pod, backend on its node", from: "pod", isElsewhere: false },
  { name: "pod, backend elsewhere", from: "pod", isElsewhere: true },
  { name: "outside, backend on the node", from: "outside", isElsewhere: false },
  { name: "outside, backend elsewhere", from: "outside", isElsewhere: true },
] as const satisfies readonly WayPlan[];
export type Way = (typeof WAYS)[number];

export type Means = "direct" | "service";

export interface Sample {
  readonly requests: number;
  readonly perSecond: number;
  readonly p50Ns: number;
  readonly p99Ns: number;
  readonly errors: number;
}

const PROGRAM = path.resolve(import.meta.dirname, "../build/ways");
/** Of the server's TCP and UDP; kept connections have the next one. */
const SERVICE_PORT = 7000;
/** With one port both means would share tuples in TIME_WAIT, whose timestamps differ: SYNs are then dropped. */
const DIRECT_PORT = 7010;
const ASKER = "asker";
const NODE = "node1";
const BACKENDS = [
  { name: "near", node: NODE, nodePort: 30110 },
  { name: "far", node: "node2", nodePort: 30120 },
] as const;
const PARALLEL = 8;
const PATIENCE_MS = 15_000;
const READY_LIMIT_MS = 60_000;

/** A program that is asked by lines and answers each with one. It ends when its standard input does, so with this process. */
class LineProgram implements Disposable {
  readonly #child: ChildProcess;
  readonly #lines: Interface;

  constructor([file, ...args]: readonly [string, ...string[]]) {
    // A session of its own: where processes are scheduled by session, no end shares a turn with another or with this process.
    this.#child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"], detached: true });
    this.#child.on("error", () => {});
    this.#child.stdin!.on("error", () => {});
    this.#lines = createInterface({ input: this.#child.stdout! });
  }

  /** @throws when the program ends, or says nothing for `limitMs` */
  async line(limitMs: number): Promise<string> {
    const end = new AbortController();
    try {
      return await new Promise<string>((resolve, reject) => {
        this.#lines.once("line", resolve);
        const ended = (): void => reject(new Error("a program of the ways' bench ended"));
        if (this.#child.exitCode !== null || this.#child.signalCode !== null) ended();
        this.#child.once("close", ended);
        pause(limitMs, undefined, { signal: end.signal }).then(
          () => reject(new Error("a program of the ways' bench does not answer")),
          () => {},
        );
      });
    } finally {
      end.abort();
      this.#child.removeAllListeners("close");
      this.#lines.removeAllListeners("line");
    }
  }

  ask(line: string, limitMs: number): Promise<string> {
    const answer = this.line(limitMs);
    this.#child.stdin!.write(`${line}\n`);
    return answer;
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }
}

function serviceObject({ name, nodePort }: (typeof BACKENDS)[number]): object {
  const port = (id: string, protocol: string, offset: number): object => {
    const number = SERVICE_PORT + offset;
    return { name: id, protocol, port: number, targetPort: number, nodePort: nodePort + offset };
  };
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "default" },
    spec: {
      type: "NodePort",
      selector: { app: name },
      ports: [port("short", "TCP", 0), port("udp", "UDP", 0), port("kept", "TCP", 1)],
    },
  };
}

async function readyPod(cluster: Cluster, name: string): Promise<PodObject> {
  const limit = Date.now() + READY_LIMIT_MS;
  for (;;) {
    const pod = await cluster.pod("default", name);
    if (isPodReady(pod)) return pod;
    if (Date.now() > limit) throw new Error(`pod ${name} of cluster ${cluster.config.name} is not ready`);
    await pause(100);
  }
}

type Askers = Readonly<Record<Way["from"], LineProgram>>;
/** Host and port of short TCP and UDP, by way and means. */
type Addresses = ReadonlyMap<string, readonly [host: string, port: number]>;

export class Site {
  readonly cluster: Cluster;
  readonly #askers: Askers;
  readonly #addresses: Addresses;

  private constructor(cluster: Cluster, askers: Askers, addresses: Addresses) {
    this.cluster = cluster;
    this.#askers = askers;
    this.#addresses = addresses;
  }

  /** Puts pods, Services, servers and askers into a cluster. What it starts ends with `stack`; its objects with the cluster. */
  static async prepare(cluster: Cluster, stack: AsyncDisposableStack): Promise<Site> {
    const run = (command: readonly [string, ...string[]]): LineProgram => stack.use(new LineProgram(command));
    const pods = [{ name: ASKER, node: NODE }, ...BACKENDS];
    await cluster.apply(
      manifest(...pods.map(({ name, node }) => loadPod({ name, node })), ...BACKENDS.map(serviceObject)),
    );
    const inPod = async (pod: PodObject, args: readonly string[]): Promise<LineProgram> => {
      const { cgroup } = cluster.node(pod.spec.nodeName ?? "");
      return run(enterPod(pod, cgroup, [PROGRAM, ...args], { tools: "machine" }));
    };
    const addresses = new Map<string, readonly [string, number]>();
    const [nodeAddress = ""] = cluster.node(NODE).addresses;
    for (const { name, nodePort } of BACKENDS) {
      const pod = await readyPod(cluster, name);
      const server = await inPod(pod, ["serve", String(SERVICE_PORT), String(DIRECT_PORT)]);
      await server.line(PATIENCE_MS);
      const path = `/api/v1/namespaces/default/services/${name}`;
      const { spec } = await cluster.api.ask<{ spec: { clusterIP: string } }>(path);
      for (const way of WAYS) {
        if (way.isElsewhere !== (name === "far")) continue;
        addresses.set(`${way.name} direct`, [pod.status.podIPs?.[0]?.ip ?? "", DIRECT_PORT]);
        const service =
          way.from === "pod" ? ([spec.clusterIP, SERVICE_PORT] as const) : ([nodeAddress, nodePort] as const);
        addresses.set(`${way.name} service`, service);
      }
    }
    const { client } = cluster;
    const cgroup = path.join(client.cgroup, "exec");
    makeCgroup(cgroup);
    const askers = {
      pod: await inPod(await readyPod(cluster, ASKER), ["ask"]),
      outside: run(inCgroup(cgroup, client.enter([PROGRAM, "ask"]))),
    };
    const site = new Site(cluster, askers, addresses);
    await site.#waitForAll();
    return site;
  }

  /** Asks for so long, so many at a time. */
  async ask(way: Way, means: Means, kind: Kind, milliseconds: number): Promise<Sample> {
    const [host, port] = this.#addresses.get(`${way.name} ${means}`)!;
    const line = `${kind} ${host} ${kind === "kept" ? port + 1 : port} ${milliseconds} ${PARALLEL}`;
    const answer = await this.#askers[way.from].ask(line, milliseconds + PATIENCE_MS);
    const [requests = 0, ns = 0, p50Ns = 0, p99Ns = 0, errors = 0] = answer.split(" ").map(Number);
    return { requests, perSecond: (requests / ns) * 1e9, p50Ns, p99Ns, errors };
  }

  /** Until every way that there is answers without an error. */
  async #waitForAll(): Promise<void> {
    const { name, proxy } = this.cluster.config;
    const limit = Date.now() + READY_LIMIT_MS;
    for (const way of WAYS) {
      for (const means of proxy === "none" ? (["direct"] as const) : (["direct", "service"] as const)) {
        for (const kind of KINDS) {
          for (;;) {
            const { requests, errors } = await this.ask(way, means, kind, 50);
            if (requests > 0 && errors === 0) break;
            if (Date.now() > limit) {
              throw new Error(`cluster ${name} does not serve '${way.name}', ${means}, ${kind}: ${errors} errors`);
            }
            await pause(100);
          }
        }
      }
    }
  }
}
