// What the checks of the examples are made of: a cluster, the example files, and questions whose answers must be so. A check
// that does not hold throws CheckFailure with a reason for people.
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Address, familyOf } from "../lib/address.ts";
import { patience } from "../lib/patience.ts";
import { readManifests } from "../standalone/manifest-reader.ts";
import type { KubernetesObject, PodObject, ServiceObject } from "../wire/kubernetes.ts";
import type { CheckedCluster, Probe } from "./checked-cluster.ts";

export class CheckFailure extends Error {
  override readonly name: string = "CheckFailure";
}

export function expect(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new CheckFailure(otherwise);
}

export interface Question {
  readonly from: readonly string[];
  /** Addresses or names. */
  readonly to: readonly string[];
  readonly port: number;
  /** Pods that must all answer, and no other. */
  readonly pods: readonly string[];
  /** @default tcp */
  readonly via?: "tcp" | "udp";
}

const CLIENT_LABELS = { app: "demo-client" };

export class SeedStory {
  readonly cluster: CheckedCluster;
  /** The three nodes that a cluster starts with. */
  readonly nodes = ["node1", "node2", "node3"] as const;
  /** Services of the examples get addresses of both families, and both are asked. */
  readonly dualStack: boolean;
  readonly #examples: string;

  constructor(cluster: CheckedCluster, examples: string, dualStack: boolean) {
    this.cluster = cluster;
    this.#examples = examples;
    this.dualStack = dualStack;
  }

  /** A pod on each node, to ask from. */
  async addClients(): Promise<void> {
    await this.applyObjects(this.#clientObjects());
  }

  async removeClients(): Promise<void> {
    await this.cluster.delete(this.#clientObjects());
  }

  #clientObjects(): readonly KubernetesObject[] {
    const pods = this.nodes.map((nodeName) => demoPod(clientOn(nodeName), nodeName, { labels: CLIENT_LABELS }));
    return [...pods, this.inFamilies(demoService("demo-clients", CLIENT_LABELS))];
  }

  get clients(): readonly string[] {
    return this.nodes.map(clientOn);
  }

  get insiders(): readonly string[] {
    return [...this.clients, ...this.nodes];
  }

  /** For dual stack, a Service that asks for it. */
  inFamilies(service: KubernetesObject): KubernetesObject {
    if (!this.dualStack) return service;
    return { ...service, spec: { ...(service["spec"] as ServiceObject["spec"]), ipFamilyPolicy: "PreferDualStack" } };
  }

  /**
   * The objects of an example that this cluster takes, by its name without extension. For dual stack its Services with a
   * selector ask for it.
   */
  async example(name: string): Promise<readonly KubernetesObject[]> {
    const { documents, notices } = await readManifests([join(this.#examples, `${name}.yaml`)]);
    const said = notices.map(({ message }) => message).join("; ");
    expect(documents.length > 0, `${name}.yaml could not be read: ${said}`);
    const objects = documents.map((document) => document.object as KubernetesObject);
    return objects
      .filter((object) => this.cluster.takes(object))
      .map((object) => (hasSelector(object) ? this.inFamilies(object) : object));
  }

  async #examplesOf(names: readonly string[]): Promise<readonly KubernetesObject[]> {
    return (await Promise.all(names.map((name) => this.example(name)))).flat();
  }

  async apply(...names: readonly string[]): Promise<void> {
    await this.applyObjects(await this.#examplesOf(names));
  }

  async applyObjects(objects: readonly KubernetesObject[]): Promise<void> {
    const refused = await this.cluster.apply(objects);
    expect(refused.length === 0, refused.join("; "));
  }

  async delete(...names: readonly string[]): Promise<void> {
    await this.cluster.delete(await this.#examplesOf(names));
  }

  /** The running pods with these labels, by name. */
  async podsWith(labels: Readonly<Record<string, string>>): Promise<readonly PodObject[]> {
    return (await this.cluster.pods())
      .filter(({ metadata, status }) => !metadata.deletionTimestamp && status?.phase === "Running")
      .filter(({ metadata }) => Object.entries(labels).every(([key, value]) => metadata.labels?.[key] === value))
      .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  }

  /** Names of the running pods with these labels. */
  async pods(labels: Readonly<Record<string, string>>, count: number): Promise<readonly string[]> {
    const names = (await this.podsWith(labels)).map((pod) => pod.metadata.name);
    expect(names.length === count, `${count} pods expected, ${names.length} there: ${names.join(", ")}`);
    return names;
  }

  async pod(name: string): Promise<PodObject> {
    const pod = (await this.cluster.pods()).find(({ metadata }) => metadata.name === name);
    expect(pod !== undefined, `there is no pod ${name}`);
    return pod;
  }

  async nodeOf(pod: string): Promise<string> {
    return (await this.pod(pod)).spec.nodeName ?? "";
  }

  /** A pod's addresses of the families that are asked. */
  podAddresses({ status }: PodObject): readonly Address[] {
    return this.asked((status?.podIPs ?? []).map(({ ip }) => ip));
  }

  /** Those of the families that are asked. */
  asked(addresses: readonly Address[]): readonly Address[] {
    return this.dualStack ? addresses : addresses.filter((address) => familyOf(address) === "IPv4");
  }

  async nodeAddresses(node: string): Promise<readonly Address[]> {
    const found = (await this.cluster.nodes()).find(({ name }) => name === node);
    expect(found !== undefined, `there is no node ${node}`);
    return this.asked(found.addresses);
  }

  clusterIPs(service: ServiceObject): readonly Address[] {
    const addresses = service.spec.clusterIPs ?? [];
    expect(addresses.length > 0 && addresses[0] !== "None", `Service ${service.metadata.name} has no cluster address`);
    return addresses;
  }

  nodePort(service: ServiceObject): number {
    const port = service.spec.ports?.[0]?.nodePort ?? 0;
    expect(port !== 0, `Service ${service.metadata.name} has no node port`);
    return port;
  }

  loadBalancerAddresses(service: ServiceObject): readonly Address[] {
    return (service.status?.loadBalancer?.ingress ?? []).flatMap((one) => one.ip ?? []);
  }

  /** From every source to every destination: each of the pods answers, and nothing else, and nothing fails. */
  async allAnswer(question: Question): Promise<void> {
    await each(pairs(question.from, question.to), async ([from, to]) => {
      const probe = await this.#ask(from, to, question);
      const where = `from ${from} to ${shown(to)}:${question.port}`;
      expect(probe.errors.length === 0, `${where}: ${probe.errors.join(", ")}`);
      const strangers = probe.pods.filter((pod) => !question.pods.includes(pod));
      expect(strangers.length === 0, `${where}: ${strangers.join(", ")} answered, which ought not to`);
      const silent = question.pods.filter((pod) => !probe.pods.includes(pod));
      expect(silent.length === 0, `${where}: ${silent.join(", ")} did not answer in ${probe.answers.length} turns`);
    });
  }

  /** Each of the pods at its own addresses. */
  async eachAnswers(from: readonly string[], pods: readonly PodObject[]): Promise<void> {
    for (const pod of pods)
      await this.allAnswer({ from, to: this.podAddresses(pod), port: 80, pods: [pod.metadata.name] });
  }

  #ask(from: string, to: string, { port, pods, via = "tcp" }: Question): Promise<Probe> {
    // With three pods and random choice, one stays unheard in 40 turns once in ten million times.
    return this.cluster.probe(from, {
      via,
      host: to,
      port,
      count: 40,
      until: pods,
      untilError: true,
      timeoutMs: patience(3000),
    });
  }

  /** Refused at once, not after a timeout. */
  async allRefused(from: readonly string[], to: readonly string[], port: number): Promise<void> {
    await each(pairs(from, to), async ([source, host]) => {
      const { answers } = await this.cluster.probe(source, {
        via: "tcp",
        host,
        port,
        count: 2,
        timeoutMs: patience(3000),
      });
      for (const { text, error, ms } of answers) {
        const where = `from ${source} to ${shown(host)}:${port}`;
        expect(error === "ECONNREFUSED", `${where}: ${error || `answered ${text}`}, where it ought to be refused`);
        expect(ms < patience(1000), `${where}: refused only after ${ms} ms`);
      }
    });
  }

  async allPing(from: readonly string[], to: readonly Address[]): Promise<void> {
    await each(pairs(from, to), async ([source, address]) => {
      const { status } = await this.cluster.exec(source, ["ping", "-n", "-q", "-c", "1", "-W", "3", address]);
      expect(status === 0, `ping from ${source} to ${address} is not answered`);
    });
  }

  /** At every source a name means these addresses, in the end: until then an older answer may be kept. */
  async allResolve(from: readonly string[], name: string, addresses: readonly Address[]): Promise<void> {
    const expected = [...addresses].sort().join(", ");
    await each(from, (source) =>
      eventually(this.cluster.namesInForceMs, async () => {
        const resolved = (await this.lookup(source, name)).join(", ");
        expect(resolved === expected, `${name} resolves to ${resolved} from ${source}, not to ${expected}`);
      }),
    );
  }

  /** What the system's resolver makes of a name there, or which names it is another of; sorted. */
  async lookup(from: string, name: string, via: "lookup" | "cname" = "lookup"): Promise<readonly string[]> {
    const { answers } = await this.cluster.probe(from, { via, host: name });
    const [answer] = answers;
    expect(answer?.error === "", `${via} of ${name} from ${from}: ${answer?.error}`);
    return answer.text.split(",").sort();
  }

  /** No agent has a backend of this Service. */
  async notInMaps(key: string): Promise<void> {
    for (const node of this.nodes) {
      const there = (await this.cluster.agentBackends(node)).filter((backend) => backend.service === key);
      expect(there.length === 0, `${node} has ${there.length} backends of ${key} in its maps`);
      const ids = (await this.cluster.agentServices(node))
        .filter((service) => `${service.namespace}/${service.name}` === key)
        .flatMap((service) => service.ports.filter((port) => port.serviceId !== 0));
      expect(ids.length === 0, `${node} has a service id for ${key} in its maps`);
    }
  }

  /** Where anybody says anything, this was said about an object. */
  async expectNotice(object: string, reason: RegExp): Promise<void> {
    const notices = await this.cluster.notices();
    if (notices === undefined) return;
    const own = notices.filter((notice) => notice.object === object);
    const said = own.map((notice) => `${notice.reason}: ${notice.message}`);
    const isSaid = said.some((text) => reason.test(text));
    expect(isSaid, `no notice of ${object} says ${reason.source}, but: ${said.join("; ") || "nothing"}`);
  }
}

function hasSelector({ kind, spec }: KubernetesObject): boolean {
  return kind === "Service" && (spec as ServiceObject["spec"]).selector !== undefined;
}

export function isReady({ status }: PodObject): boolean {
  return status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True") === true;
}

/** What made the pod, as KIND/NAME; "" when nothing did. */
export function ownerOf({ metadata }: PodObject): string {
  const [owner] = (metadata.ownerReferences ?? []) as { kind: string; name: string }[];
  return owner === undefined ? "" : `${owner.kind}/${owner.name}`;
}

/** A Service of the checks' own: port 80 of the pods with these labels. */
export function demoService(name: string, selector: object, more: object = {}): KubernetesObject {
  const spec = { selector, ports: [{ port: 80 }], ...more };
  return { apiVersion: "v1", kind: "Service", metadata: { name }, spec };
}

export function demoPod(name: string, nodeName: string, metadata: object): KubernetesObject {
  const spec = { nodeName, containers: [{ name: "web", image: "demo" }] };
  return { apiVersion: "v1", kind: "Pod", metadata: { name, ...metadata }, spec };
}

export function clientOn(node: string): string {
  return `demo-${node}`;
}

function shown(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

function pairs(from: readonly string[], to: readonly string[]): [string, string][] {
  return from.flatMap((source) => to.map((destination): [string, string] => [source, destination]));
}

const AT_ONCE = 4;

/** All of them, a few at once; the first failure counts. */
async function each<Item>(items: readonly Item[], act: (item: Item) => Promise<void>): Promise<void> {
  const queue = [...items];
  const work = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await act(item);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

/** Tries again until it holds. @throws the last CheckFailure after `timeoutMs` */
export async function eventually(timeoutMs: number, check: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (!(error instanceof CheckFailure) || Date.now() > deadline) throw error;
      await delay(50);
    }
  }
}
