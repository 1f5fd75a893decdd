// What the checks of the examples are made of: a lab, the example files, and questions whose answers must be so. A check
// that does not hold throws CheckFailure with a reason for people.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Address, familyOf } from "../lib/address.ts";
import { type KubernetesObject, readManifests, type ServiceObject } from "../standalone/mod.ts";
import { uplinkMac } from "./addressing.ts";
import type { LabStatus } from "./lab.ts";
import type { LabSession, Probe } from "./lab-session.ts";

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
  readonly session: LabSession;
  /** The three nodes that a lab starts with. */
  readonly nodes = ["node1", "node2", "node3"] as const;
  /** Services of the examples get addresses of both families, and both are asked. */
  readonly dualStack: boolean;
  readonly #examples: string;
  readonly #changed = new Map<string, string>();

  constructor(session: LabSession, examples: string, dualStack: boolean) {
    this.session = session;
    this.#examples = examples;
    this.dualStack = dualStack;
  }

  /** A pod on each node, to ask from. */
  async addClients(): Promise<void> {
    const pods = this.nodes.map((node) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: clientOn(node), labels: CLIENT_LABELS },
      spec: { nodeName: node, containers: [{ name: "client", image: "demo" }] },
    }));
    const service = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "demo-clients" },
      spec: { selector: CLIENT_LABELS, ports: [{ port: 80 }], ...this.#families() },
    };
    await this.session.apply(this.session.manifest([...pods, service]));
  }

  #families(): { ipFamilyPolicy?: string } {
    return this.dualStack ? { ipFamilyPolicy: "PreferDualStack" } : {};
  }

  get clients(): readonly string[] {
    return this.nodes.map(clientOn);
  }

  get insiders(): readonly string[] {
    return [...this.clients, ...this.nodes];
  }

  /** The file of an example, by its name without extension; for dual stack a copy whose Services ask for it. */
  async example(name: string): Promise<string> {
    const path = join(this.#examples, `${name}.yaml`);
    if (!this.dualStack) return path;
    let copy = this.#changed.get(name);
    if (copy === undefined) {
      copy = this.session.manifest((await this.exampleObjects(name)).map((object) => this.#asDualStack(object)));
      this.#changed.set(name, copy);
    }
    return copy;
  }

  #asDualStack(object: KubernetesObject): KubernetesObject {
    const spec = object["spec"] as ServiceObject["spec"] | undefined;
    const suits = object.kind === "Service" && spec?.selector !== undefined;
    return suits ? { ...object, spec: { ...spec, ipFamilyPolicy: "PreferDualStack" } } : object;
  }

  async exampleObjects(name: string): Promise<readonly KubernetesObject[]> {
    const { documents, notices } = await readManifests([join(this.#examples, `${name}.yaml`)]);
    expect(
      documents.length > 0,
      `${name}.yaml could not be read: ${notices.map((notice) => notice.message).join("; ")}`,
    );
    return documents.map((document) => document.object as KubernetesObject);
  }

  async apply(...names: readonly string[]): Promise<void> {
    const result = await this.session.apply(...(await Promise.all(names.map((name) => this.example(name)))));
    const errors = result.notices.filter((notice) => notice.severity === "error");
    expect(errors.length === 0, errors.map((notice) => notice.message).join("; "));
  }

  async delete(...names: readonly string[]): Promise<void> {
    await this.session.delete(...(await Promise.all(names.map((name) => this.example(name)))));
  }

  /** Names of the running pods with these labels in namespace default. */
  async pods(labels: Readonly<Record<string, string>>, count: number): Promise<readonly string[]> {
    const names = (await this.session.podsWith("default", labels)).map((pod) => pod.metadata.name);
    expect(names.length === count, `${count} pods expected, ${names.length} there: ${names.join(", ")}`);
    return names;
  }

  async pod(name: string): Promise<LabStatus["pods"][number]> {
    const pod = (await this.session.status()).pods.find((one) => one.namespace === "default" && one.name === name);
    expect(pod !== undefined, `there is no pod ${name}`);
    return pod;
  }

  /** A pod's addresses of the families that are asked. */
  asked(addresses: readonly Address[]): readonly Address[] {
    return this.dualStack ? addresses : addresses.filter((address) => familyOf(address) === "IPv4");
  }

  async nodeAddresses(node: string): Promise<readonly Address[]> {
    const found = (await this.session.status()).nodes.find((one) => one.name === node);
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

  #ask(from: string, to: string, { port, pods, via = "tcp" }: Question): Promise<Probe> {
    // With three pods and random choice, one stays unheard in 40 turns once in ten million times.
    return this.session.probe(from, { via, host: to, port, count: 40, until: pods, untilError: true, timeoutMs: 3000 });
  }

  /** Refused at once, not after a timeout. */
  async allRefused(from: readonly string[], to: readonly string[], port: number): Promise<void> {
    await each(pairs(from, to), async ([source, host]) => {
      const { answers } = await this.session.probe(source, { via: "tcp", host, port, count: 2, timeoutMs: 3000 });
      for (const { text, error, ms } of answers) {
        const where = `from ${source} to ${shown(host)}:${port}`;
        expect(error === "ECONNREFUSED", `${where}: ${error || `answered ${text}`}, where it ought to be refused`);
        expect(ms < 1000, `${where}: refused only after ${ms} ms`);
      }
    });
  }

  async allPing(from: readonly string[], to: readonly Address[]): Promise<void> {
    await each(pairs(from, to), async ([source, address]) => {
      const { status } = await this.session.exec(source, ["ping", "-n", "-q", "-c", "1", "-W", "3", address]);
      expect(status === 0, `ping from ${source} to ${address} is not answered`);
    });
  }

  /** What the system's resolver makes of a name there, sorted. */
  async lookup(from: string, name: string): Promise<readonly string[]> {
    const { answers } = await this.session.probe(from, { via: "lookup", host: name });
    const [answer] = answers;
    expect(answer?.error === "", `${name} does not resolve from ${from}: ${answer?.error}`);
    return answer.text.split(",").sort();
  }

  async cname(from: string, name: string): Promise<readonly string[]> {
    const { answers } = await this.session.probe(from, { via: "cname", host: name });
    const [answer] = answers;
    expect(answer?.error === "", `${name} has no CNAME from ${from}: ${answer?.error}`);
    return answer.text.split(",");
  }

  /** No agent has a backend of this Service. */
  async notInMaps(key: string): Promise<void> {
    for (const node of this.nodes) {
      const there = (await this.session.agentBackends(node)).filter((backend) => backend.service === key);
      expect(there.length === 0, `${node} has ${there.length} backends of ${key} in its maps`);
      const ids = (await this.session.agentServices(node))
        .filter((service) => `${service.namespace}/${service.name}` === key)
        .flatMap((service) => service.ports.filter((port) => port.serviceId !== 0));
      expect(ids.length === 0, `${node} has a service id for ${key} in its maps`);
    }
  }

  async expectNotice(object: string, reason: RegExp): Promise<void> {
    const notices = (await this.session.notices()).filter((notice) => notice.object === object);
    const said = notices.map((notice) => `${notice.reason}: ${notice.message}`);
    expect(
      said.some((text) => reason.test(text)),
      `no notice of ${object} says ${reason.source}${said.length > 0 ? `, but: ${said.join("; ")}` : ""}`,
    );
  }

  /** Nodes that answer ARP for an address, as an outside client hears it. */
  async arpHolders(client: string, address: Address): Promise<readonly string[]> {
    const [file, ...args] = await this.session.command(client, [
      "tcpdump",
      "-n",
      "-e",
      "-l",
      "--immediate-mode",
      "-i",
      "eth0",
      "arp and arp[6:2] = 2",
    ]);
    const listener = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
    let heard = "";
    listener.stdout.on("data", (data: Buffer) => {
      heard += data.toString();
    });
    try {
      await new Promise<void>((resolve, reject) => {
        listener.stderr.on("data", (data: Buffer) => {
          if (data.includes("listening on")) resolve();
        });
        listener.on("error", reject);
        listener.on("exit", (code) => reject(new CheckFailure(`tcpdump ended with status ${code}`)));
      });
      await this.session.exec(client, ["ip", "neigh", "flush", "dev", "eth0"]);
      await this.session.exec(client, ["ping", "-n", "-q", "-c", "2", "-i", "0.3", "-W", "1", address]);
    } finally {
      listener.kill("SIGKILL");
    }
    const macs = [...heard.matchAll(/Reply (\S+) is-at ([0-9a-f:]{17})/g)]
      .filter((match) => match[1] === address)
      .map((match) => match[2]);
    return this.nodes.filter((_node, i) => macs.includes(uplinkMac("node", i + 1)));
  }
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
