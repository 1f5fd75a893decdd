// A lab while it is up. Every operation of `millrace lab` but `up`'s spawning and `down` is a method: it changes nodes, pods or
// applied objects, and returns when the loop has brought them in line and every live agent has read what it wrote.
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { canonicalAddress } from "../lib/address.ts";
import type { Log } from "../lib/log.ts";
import { patience } from "../lib/patience.ts";
import type { Notice } from "../model/objects.ts";
import { fileOfPlace } from "../standalone/field-places.ts";
import type { KubernetesObject } from "../wire/kubernetes.ts";
import { AppliedObjects, type ChangeResult } from "./applied-objects.ts";
import type { AgentSettings, LabNode } from "./lab-node.ts";
import type { LabPaths } from "./lab-paths.ts";
import type { LabPod } from "./lab-pod.ts";
import { type LabStatus, nodeStatus, podStatus } from "./lab-status.ts";
import { LanMembers } from "./lan-members.ts";
import { Loop } from "./loop.ts";
import { addFixedRoutes, addLan, healLan, type LabNetwork, splitLan } from "./network.ts";
import { LabNodes } from "./nodes.ts";
import { LabPods } from "./pods.ts";
import { are, cannot, counted, labNotice, unique } from "./refusals.ts";
import { compareNames } from "./scheduler.ts";
import type { ServiceSide } from "./service-side.ts";
import { changeNetwork, NetworkScript, runChecked } from "./shell.ts";
import { StateDirectory } from "./state-directory.ts";

export interface LabConfig {
  readonly network: LabNetwork;
  readonly nodes: number;
  readonly agent: AgentSettings;
  /** false: nodes without agents, for what needs none. */
  readonly agents: boolean;
  /** The executable's directory of another build for the agents, "" for this one. */
  readonly dist: string;
}

export type Progress = (text: string) => void;

/** Where `exec` runs a command. */
export interface ExecTarget {
  readonly netns: string;
  readonly cgroup: string;
  /** The namespace has a resolv.conf of its own. */
  readonly ownResolver: boolean;
}

const nothing = (): undefined => undefined;

export class Lab {
  readonly config: LabConfig;
  readonly #paths: LabPaths;
  readonly #services: ServiceSide;
  readonly #applied: AppliedObjects;
  readonly #nodes: LabNodes;
  readonly #pods: LabPods;
  readonly #members: LanMembers;
  readonly #state: StateDirectory;
  readonly #loop: Loop;
  #serviceNotices: readonly Notice[] = [];
  #objects: readonly KubernetesObject[] = [];
  #split: readonly (readonly string[])[] = [];

  constructor(config: LabConfig, paths: LabPaths, services: ServiceSide, log: Log) {
    const { network, agent } = config;
    this.config = config;
    this.#services = services;
    this.#paths = paths;
    for (const directory of [join(paths.runDir, "pods"), paths.secretDir])
      mkdirSync(directory, { recursive: true, mode: 0o700 });
    writeFileSync(join(paths.secretDir, "current"), `${randomBytes(16).toString("hex")}\n`, { mode: 0o600 });
    this.#loop = new Loop(() => this.#reconcile(), { name: paths.name, controlLog: paths.controlLog, log });
    const changed = () => this.#loop.changed();
    this.#applied = new AppliedObjects();
    this.#state = new StateDirectory(paths.stateDir);
    this.#nodes = new LabNodes({ paths, network, agent, log, changed }, this.#applied);
    const nodeNumbers = () => this.#nodes.numbers();
    const heard = () => this.#loop.wake();
    this.#pods = new LabPods({ paths, network, log, nodeNumbers, changed, heard }, this.#applied, this.#nodes);
    this.#members = new LanMembers(network, paths, log);
  }

  /** The LAN, the nodes, a client, the cluster's DNS, and what the files hold. */
  async up(files: readonly string[], progress: Progress): Promise<ChangeResult> {
    const { network, nodes, agents, dist } = this.config;
    progress(`network of ${counted(nodes, "node")} (${network.cni}${network.ipv6 ? ", IPv4 and IPv6" : ""})`);
    const script = new NetworkScript();
    addLan(script, network);
    for (let number = 1; number <= nodes; number++) this.#nodes.enter(this.#nodes.make(script, number));
    this.#members.addClient(script, 1);
    await script.run(`lab ${network.lab}`);
    for (const node of this.#nodes.all()) node.prepare();
    await mountBpffs();
    this.#pods.addDns();
    this.#loop.changed();
    if (agents) {
      progress("agents");
      await this.#loop.settled(nothing);
      await Promise.all(this.#nodes.all().map((node) => node.startAgent(dist)));
    }
    if (files.length > 0) return this.apply(files, progress);
    await this.#inForce(() => this.#pods.pending([]), progress);
    return { objects: [], notices: [] };
  }

  // Manifests

  /** Applies manifests. What is wrong in them is in the notices. */
  async apply(files: readonly string[], progress: Progress): Promise<ChangeResult> {
    const { objects, notices } = await this.#applied.put(files, (name) => this.#nodes.get(name) !== undefined);
    progress(`${counted(objects.length, "object")} applied`);
    const changed = new Set(objects);
    await this.#settle(() => this.#pods.pending(this.#applied.workloads(changed)), progress);
    const own = new Set([...files, ...objects.map((identity) => this.#applied.fileOf(identity))]);
    const late = [...this.#serviceNotices, ...this.#pods.notices()];
    const ours = late.filter(({ object, file }) => changed.has(object) || (file !== "" && own.has(fileOfPlace(file))));
    return { objects, notices: unique([...notices, ...ours]) };
  }

  /** Takes away what the files define; returns when its pods are gone too. */
  async delete(files: readonly string[], progress: Progress): Promise<ChangeResult> {
    const { objects, notices, uids, pods } = await this.#applied.remove(files);
    this.#pods.delete(pods);
    progress(`${counted(objects.length, "object")} deleted`);
    await this.#settle(() => this.#pods.left(({ key, owner }) => uids.has(owner) || pods.has(key)), progress);
    return { objects, notices };
  }

  /** Sets the replicas of a workload, given as KIND/NAME or KIND/NAMESPACE/NAME; returns when that many serve. */
  async scale(target: string, replicas: number, progress: Progress): Promise<ChangeResult> {
    const workload = this.#applied.scale(target, replicas);
    const { kind, namespace, name, uid } = workload;
    // Pods that are about to end serve while there is no other: nobody is served only when the last has gone.
    const pending = () =>
      (replicas > 0 ? undefined : this.#pods.left(({ owner }) => owner === uid)) ?? this.#pods.pending([workload]);
    await this.#settle(pending, progress);
    const own = this.#pods.notices().filter(({ object }) => object.startsWith(`Pod ${namespace}/${name}-`));
    return { objects: [`${kind} ${namespace}/${name}`], notices: own };
  }

  // Pods and nodes

  #findPod(target: string, verb: string): LabPod {
    return this.#pods.find(target, verb, this.#members.names());
  }

  async ready(target: string, ready: boolean, progress: Progress): Promise<void> {
    const pod = this.#findPod(target, "change");
    pod.allowedReady = ready;
    const pending = () => `pod ${pod.key} is not ready: ${pod.trouble || "its server does not listen"}`;
    await this.#settle(() => (ready && !pod.ready ? pending() : undefined), progress);
  }

  /** A pod or node by name; a pod comes back by itself. */
  async kill(target: string, progress: Progress): Promise<void> {
    const node = this.#nodes.get(target);
    if (node === undefined) this.#findPod(target, "kill").kill();
    else {
      if (!node.up)
        throw cannot("conflict", "kill", target, `it is down already, start it with \`millrace lab start ${target}\``);
      for (const pod of this.#pods.on(node)) pod.nodeDied();
      const off = node.powerOff();
      this.#loop.changed();
      await Promise.all([off, this.#nodes.link(node, "down")]);
    }
    await this.#settle(nothing, progress);
  }

  async start(target: string, progress: Progress): Promise<void> {
    const node = this.#nodes.find(target, "start");
    if (node.up) throw cannot("conflict", "start", target, "it is up already");
    await this.#nodes.link(node, "up");
    node.powerOn();
    for (const pod of this.#pods.on(node)) void pod.start();
    await this.#startAgent(node);
    await this.#settle(() => this.#pods.pendingOn(node), progress);
  }

  async #startAgent(node: LabNode): Promise<void> {
    if (this.config.agents) await node.startAgent(this.config.dist);
  }

  async killAgent(target: string): Promise<void> {
    await this.#nodes.find(target, "kill the agent of").killAgent();
  }

  async startAgent(target: string, dist: string, progress: Progress): Promise<void> {
    await this.#nodes.find(target, "start the agent of").startAgent(dist);
    await this.#inForce(nothing, progress);
  }

  async join(target: string, progress: Progress): Promise<void> {
    const number = Number(/^node([1-9]\d?)$/.exec(target)?.[1] ?? Number.NaN);
    if (Number.isNaN(number)) throw cannot("usage", "join", `'${target}'`, "nodes are called node1 to node39");
    if (this.#nodes.get(target) !== undefined)
      throw cannot("conflict", "join", target, "it is a node of the lab already");
    const script = new NetworkScript();
    const before = this.#nodes.numbers();
    const node = this.#nodes.make(script, number);
    for (const { attachment } of this.#pods.all())
      if (attachment?.fixed && before.includes(attachment.node))
        addFixedRoutes(script, this.config.network, attachment, [number]);
    await script.run(target);
    node.prepare();
    this.#nodes.enter(node);
    if (this.#split.length > 0) await this.#applySplit();
    this.#loop.changed();
    await this.#startAgent(node);
    await this.#inForce(() => this.#pods.pending(this.#applied.workloads()), progress);
  }

  // The LAN

  async link(target: string, state: "up" | "down"): Promise<void> {
    await this.#nodes.link(this.#nodes.find(target, "change the link of"), state);
  }

  /** Parts the LAN: nothing passes between the two sides. What is named on neither sees both. */
  async split(left: readonly string[], right: readonly string[]): Promise<void> {
    for (const name of [...left, ...right]) {
      const there = [...this.#nodes.names(), ...this.#members.names()];
      if (!there.includes(name))
        throw cannot("not_found", "split off", name, `it is not on the LAN; there ${are(there)}`);
      if (left.includes(name) && right.includes(name))
        throw cannot("usage", "split", "the LAN", `${name} is on both sides`);
    }
    this.#split = [left, right];
    await this.#applySplit();
  }

  async #applySplit(): Promise<void> {
    const ports = (names: readonly string[] = []) => names.map((name) => this.#members.port(name) ?? name);
    const [left, right] = this.#split;
    await changeNetwork("the LAN", (script) => splitLan(script, this.config.network, ports(left), ports(right)));
  }

  async heal(): Promise<void> {
    this.#split = [];
    await changeNetwork("the LAN", (script) => healLan(script, this.config.network));
  }

  async host(name: string, address: string): Promise<void> {
    const canonical = canonicalAddress(address);
    if (canonical === undefined) throw cannot("usage", "add host", name, `'${address}' is no IP address`);
    if (this.#nodes.get(name) !== undefined) throw cannot("conflict", "add host", name, "a node has this name");
    await this.#members.addHost(name, canonical);
  }

  /** Where a command for TARGET runs; makes the client when it is a new one. */
  async target(name: string): Promise<ExecTarget> {
    const node = this.#nodes.get(name);
    if (node !== undefined) {
      if (node.up) return { netns: node.netns, cgroup: join(node.cgroup, "exec"), ownResolver: false };
      const reason = `it is down, start it with \`millrace lab start ${name}\``;
      throw cannot("conflict", "run anything on", name, reason);
    }
    const member = await this.#members.target(name);
    if (member !== undefined) return { ...member, ownResolver: false };
    const pod = this.#findPod(name, "run anything in");
    const refuse = (reason: string) => cannot("conflict", "run anything in pod", pod.key, reason);
    if (pod.over) throw refuse(`it has ended (${pod.phase})`);
    if (pod.node === undefined || pod.phase === "Pending")
      throw refuse(`it is not running: ${pod.trouble || "it is being started"}`);
    if (!pod.node.up) throw refuse(`its node ${pod.node.name} is down`);
    return { netns: pod.netns, cgroup: pod.cgroup, ownResolver: !pod.origin.template.hostNetwork };
  }

  // Looking

  status(): LabStatus {
    const { lab, cni, ipv6 } = this.config.network;
    const nodes = this.#nodes.all().sort((a, b) => a.number - b.number);
    const pods = this.#pods.all().sort((a, b) => compareNames(a.key, b.key));
    return {
      ...{ name: lab, cni, ipv6 },
      nodes: nodes.map((node) => nodeStatus(node, pods)),
      pods: pods.map((pod) => podStatus(pod, this.#applied.owner(pod.owner))),
      clients: this.#members.clients(),
      hosts: this.#members.hosts(),
      split: this.#split,
      notices: this.notices(),
    };
  }

  /** What the agents read, as it was last written. */
  objects(): readonly KubernetesObject[] {
    return this.#objects;
  }

  notices(): Notice[] {
    const { broken } = this.#loop;
    const about = { object: "lab", file: this.#paths.controlLog };
    return unique([
      ...(broken === undefined ? [] : [labNotice(about, "control-failed", broken.message, "error")]),
      ...this.#nodes.notices(),
      ...this.#applied.notices(),
      ...this.#serviceNotices,
      ...this.#pods.notices(),
    ]);
  }

  // The loop

  async #reconcile(): Promise<void> {
    this.#pods.step();
    const live = [...this.#nodes.objects(), ...this.#pods.objects()];
    const { objects, notices } = await this.#services.reconcile(this.#applied.others(), live);
    this.#serviceNotices = notices;
    this.#objects = objects;
    this.#state.write(objects);
    this.#pods.endDeleted();
  }

  /** Something changed: returns when it is in force, and `pending` has nothing to say. */
  async #settle(pending: () => string | undefined, progress: Progress): Promise<void> {
    this.#loop.changed();
    await this.#inForce(pending, progress);
  }

  /** The loop is at rest, and the cluster's DNS and every live node's agent have read what was written. */
  async #inForce(pending: () => string | undefined, progress: Progress): Promise<void> {
    await this.#loop.settled(pending);
    const { turn } = this.#state;
    const hasSeen = (digest: string): boolean => this.#state.turnOf(digest) >= turn;
    await this.#loop.settled(() => {
      const { dns } = this.#pods;
      return dns?.ready !== true || hasSeen(dns.appliedDigest)
        ? undefined
        : "the cluster's DNS has not read the newest state yet";
    });
    if (!this.config.agents) return;
    let said = false;
    await this.#nodes.inForce(hasSeen, () => {
      if (!said) progress("waiting for the nodes");
      said = true;
    });
  }
}

/** Before the agents start: each of them would mount one of its own otherwise. */
async function mountBpffs(): Promise<void> {
  const mounts = readFileSync("/proc/self/mounts", "utf8");
  if (/^\S+ \/sys\/fs\/bpf bpf /m.test(mounts)) return;
  await runChecked("mount", ["-t", "bpf", "bpf", "/sys/fs/bpf"], { timeoutMs: patience(30_000) });
}
