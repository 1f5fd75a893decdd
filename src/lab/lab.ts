// A lab while it is up: what was applied, which pods and nodes there are, and the loop that brings one in line with the
// other and writes what the agents read. Every operation of `millrace lab` but `up`'s spawning and `down` is a method.
import { randomBytes, randomUUID } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Address, canonicalAddress } from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { patience } from "../lib/patience.ts";
import type { Notice } from "../model/objects.ts";
import { fileOfPlace } from "../standalone/field-places.ts";
import { createCatalogue, type KubernetesObject, objectTitle, readManifests } from "../standalone/mod.ts";
import { fixedPodAddresses, nextPodAddress, podAddresses } from "./addressing.ts";
import { AppliedManifests, type AppliedObject } from "./applied-manifests.ts";
import { type PodFacts, planPods, workloadPending } from "./controllers.ts";
import { nodeObject, podObject, standardNodeLabels } from "./kubernetes-objects.ts";
import { type AgentSettings, LabNode } from "./lab-node.ts";
import type { LabPaths } from "./lab-paths.ts";
import { LabPod } from "./lab-pod.ts";
import { LanMembers } from "./lan-members.ts";
import { addFixedRoutes, addLan, addNode, healLan, type LabNetwork, setLink, splitLan } from "./network.ts";
import { millraceCommand } from "./programs.ts";
import { compareNames, type NodeFacts, schedule } from "./scheduler.ts";
import { DNS_POD_KEY, dnsPod, isSystemPod, type ServiceSide } from "./service-side.ts";
import { NetworkScript, runChecked } from "./shell.ts";
import { StateDirectory } from "./state-directory.ts";
import {
  hostPortsOf,
  isWorkloadKind,
  POD_IP_ANNOTATION,
  parseWorkload,
  WORKLOAD_KINDS,
  type Workload,
} from "./workloads.ts";

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

/** What `apply` and the like return: how many objects, and everything wrong with them. */
export interface ChangeResult {
  readonly objects: readonly string[];
  readonly notices: readonly Notice[];
}

export interface LabStatus {
  readonly name: string;
  readonly cni: string;
  readonly ipv6: boolean;
  readonly nodes: readonly {
    readonly name: string;
    readonly addresses: readonly Address[];
    readonly podCIDRs: readonly string[];
    readonly ready: boolean;
    readonly link: "up" | "down";
    readonly agent: "running" | "stopped";
    readonly pods: number;
    readonly namespace: string;
    readonly cgroup: string;
    readonly socket: string;
  }[];
  readonly pods: readonly {
    readonly namespace: string;
    readonly name: string;
    readonly node: string;
    readonly addresses: readonly Address[];
    readonly phase: string;
    readonly ready: boolean;
    readonly terminating: boolean;
    readonly hostNetwork: boolean;
    readonly restarts: number;
    readonly owner: string;
    /** Why it is not running, "" when it is. */
    readonly trouble: string;
    readonly netns: string;
    readonly cgroup: string;
  }[];
  readonly clients: readonly {
    readonly name: string;
    readonly addresses: readonly Address[];
    readonly netns: string;
  }[];
  readonly hosts: readonly { readonly name: string; readonly addresses: readonly Address[]; readonly netns: string }[];
  readonly split: readonly (readonly string[])[];
  readonly notices: readonly Notice[];
}

/** Where `exec` runs a command. */
export interface ExecTarget {
  readonly netns: string;
  readonly cgroup: string;
  /** The namespace has a resolv.conf of its own. */
  readonly ownResolver: boolean;
}

const READY_TIMEOUT_MS = patience(60_000);
const APPLY_TIMEOUT_MS = patience(60_000);
/** A pod whose server ended so often is reported, not waited for. */
const PATIENCE_RESTARTS = 3;

export class Lab {
  readonly config: LabConfig;
  readonly #paths: LabPaths;
  readonly #log: Log;
  readonly #applied: AppliedManifests;
  readonly #state: StateDirectory;
  readonly #services: ServiceSide;
  readonly #members: LanMembers;
  readonly #nodes = new Map<string, LabNode>();
  readonly #pods = new Map<string, LabPod>();
  readonly #workloads = new Map<string, Workload>();
  /** Every workload there was, by uid: its pods outlive it. */
  readonly #owners = new Map<string, Workload>();
  readonly #fileNotices = new Map<string, readonly Notice[]>();
  #serviceNotices: readonly Notice[] = [];
  #objects: readonly KubernetesObject[] = [];
  #sequence = 0;
  #split: readonly (readonly string[])[] = [];
  #dirty = false;
  #working = false;
  #stopped = false;
  #waiters = new Set<() => void>();
  #broken: Error | undefined;

  constructor(config: LabConfig, paths: LabPaths, services: ServiceSide, log: Log) {
    this.config = config;
    this.#services = services;
    this.#paths = paths;
    this.#log = log;
    mkdirSync(join(paths.runDir, "pods"), { recursive: true, mode: 0o700 });
    this.#applied = new AppliedManifests(paths.appliedDir);
    this.#state = new StateDirectory(paths.stateDir);
    this.#members = new LanMembers(config.network, paths, log);
  }

  // Bringing up

  /** The LAN, the nodes, a client, the cluster's DNS, and what the files hold. */
  async up(files: readonly string[], progress: Progress): Promise<ChangeResult> {
    const { network, nodes } = this.config;
    progress(
      `network of ${nodes} ${nodes === 1 ? "node" : "nodes"} (${network.cni}${network.ipv6 ? ", IPv4 and IPv6" : ""})`,
    );
    const script = new NetworkScript();
    addLan(script, network);
    for (let number = 1; number <= nodes; number++) this.#addNode(script, number);
    this.#members.addClient(script, 1);
    await script.run(`lab ${network.lab}`);
    for (const node of this.#nodes.values()) node.prepare();
    await mountBpffs();
    this.#startDns();
    this.#changed();
    if (this.config.agents) {
      progress("agents");
      await this.#settled(() => undefined);
      await Promise.all([...this.#nodes.values()].map((node) => node.startAgent(this.config.dist)));
    }
    if (files.length > 0) return this.apply(files, progress);
    await this.#inForce(() => this.#podsPending([]), progress);
    return { objects: [], notices: [] };
  }

  #addNode(script: NetworkScript, number: number): LabNode {
    const node = new LabNode(number, {
      paths: this.#paths,
      network: this.config.network,
      agent: this.config.agent,
      log: this.#log,
      changed: () => this.#changed(),
    });
    addNode(script, this.config.network, number, this.#numbers());
    this.#nodes.set(node.name, node);
    return node;
  }

  #numbers(): number[] {
    return [...this.#nodes.values()].map((node) => node.number);
  }

  #startDns(): void {
    const own = dnsPod();
    const pod = new LabPod(
      {
        ...own,
        uid: randomUUID(),
        sequence: ++this.#sequence,
        hostname: "",
        subdomain: "",
        createdMs: Date.now(),
        job: false,
        command: millraceCommand([
          "lab",
          "dns",
          "--manifests",
          this.#paths.stateDir,
          "--state-dir",
          join(this.#paths.runDir, "dns"),
        ]),
      },
      "",
      own.template.labels,
      this.#around,
    );
    this.#pods.set(pod.key, pod);
  }

  get #around(): ConstructorParameters<typeof LabPod>[3] {
    return {
      paths: this.#paths,
      network: this.config.network,
      log: this.#log,
      nodeNumbers: () => this.#numbers(),
      changed: () => this.#changed(),
      heard: () => this.#wake(),
    };
  }

  // Manifests

  /** Applies manifests; returns when their effect is in force on every live node. What is wrong in them is in the notices. */
  async apply(files: readonly string[], progress: Progress): Promise<ChangeResult> {
    const result = await this.#change(files, progress);
    const changed = new Set(result.objects);
    await this.#inForce(
      () =>
        this.#podsPending(
          [...this.#workloads].filter(([identity]) => changed.has(identity)).map(([, workload]) => workload),
        ),
      progress,
    );
    const own = new Set([...files, ...(await this.#filesOf(result.objects))]);
    const late = [...this.#serviceNotices, ...this.#podNotices()].filter(
      (notice) => changed.has(notice.object) || own.has(fileOfPlace(notice.file)),
    );
    return { objects: result.objects, notices: unique([...result.notices, ...late]) };
  }

  async #filesOf(identities: readonly string[]): Promise<string[]> {
    return identities.flatMap((identity) => this.#applied.get(identity)?.file ?? []);
  }

  async #change(files: readonly string[], progress: Progress): Promise<ChangeResult> {
    const { documents, notices: readNotices } = await readManifests(files);
    const content = createCatalogue({ workloads: "run" }).update(documents);
    const notices: Notice[] = [...readNotices, ...content.notices];
    const objects: string[] = [];
    for (const document of [...content.skipped.values(), ...content.objects.values(), ...content.workloads.values()]) {
      const identity = objectTitle(document.object);
      const { kind } = document.object;
      if (isWorkloadKind(kind) && !content.skipped.has(identity)) {
        const workload = parseWorkload(document, "");
        if (Array.isArray(workload)) {
          notices.push(...workload);
          continue;
        }
      } else if (content.workloads.has(identity)) {
        notices.push({
          object: identity,
          file: document.file,
          field: "kind",
          reason: "workload-not-run",
          message: `the lab does not run a ${kind}`,
          severity: "info",
        });
      }
      if (kind === "Node" && !this.#nodes.has(document.object.metadata.name)) {
        const message = `${identity} is no node of this lab: join it first; its labels count from then on`;
        notices.push({
          object: identity,
          file: document.file,
          field: "metadata.name",
          reason: "unknown-node",
          message,
          severity: "warning",
        });
      }
      const applied = this.#applied.put(document);
      if (!content.skipped.has(identity)) this.#track(identity, applied);
      objects.push(identity);
    }
    for (const file of new Set([...files, ...documents.map((document) => document.file)]))
      this.#fileNotices.delete(file);
    // What has no object here was never applied: it was said once, and there is nothing of it to mend.
    const heldFiles = new Set(objects.map((identity) => this.#applied.get(identity)?.file));
    for (const notice of notices) {
      const file = fileOfPlace(notice.file);
      if (heldFiles.has(file)) this.#fileNotices.set(file, [...(this.#fileNotices.get(file) ?? []), notice]);
    }
    progress(`${objects.length} ${objects.length === 1 ? "object" : "objects"} applied`);
    this.#changed();
    return { objects, notices };
  }

  #track(identity: string, applied: AppliedObject): void {
    if (!isWorkloadKind(applied.object.kind)) return;
    const workload = parseWorkload(applied, applied.uid);
    if (Array.isArray(workload)) return;
    this.#workloads.set(identity, workload);
    this.#owners.set(workload.uid, workload);
  }

  /** Takes away what the files define; returns when its pods are gone and no live node serves it. */
  async delete(files: readonly string[], progress: Progress): Promise<ChangeResult> {
    const { documents, notices: readNotices } = await readManifests(files);
    const content = createCatalogue({ workloads: "run" }).update(documents);
    const notices: Notice[] = [
      ...readNotices,
      ...content.notices.filter((notice) => notice.severity === "error" && notice.reason !== "duplicate-object"),
    ];
    const objects: string[] = [];
    const uids = new Set<string>();
    const bare = new Set<string>();
    for (const document of [...content.workloads.values(), ...content.objects.values(), ...content.skipped.values()]) {
      const identity = objectTitle(document.object);
      const applied = this.#applied.get(identity);
      if (applied === undefined) {
        notices.push({
          object: identity,
          file: document.file,
          field: "",
          reason: "not-found",
          message: `${identity} was not there`,
          severity: "warning",
        });
        continue;
      }
      uids.add(applied.uid);
      if (applied.object.kind === "Pod")
        bare.add(`${applied.object.metadata.namespace}/${applied.object.metadata.name}`);
      this.#applied.remove(identity);
      this.#workloads.delete(identity);
      objects.push(identity);
    }
    for (const file of new Set([...files, ...documents.map((document) => document.file)]))
      this.#fileNotices.delete(file);
    for (const pod of this.#pods.values()) if (bare.has(pod.key)) pod.markDeleted();
    this.#changed();
    progress(`${objects.length} ${objects.length === 1 ? "object" : "objects"} deleted`);
    await this.#inForce(() => {
      const left = [...this.#pods.values()].find((pod) => uids.has(pod.owner) || bare.has(pod.key));
      return left === undefined ? undefined : `pod ${left.key} is still there`;
    }, progress);
    return { objects, notices };
  }

  /** Sets the replicas of a workload, given as KIND/NAME or KIND/NAMESPACE/NAME; returns when that many serve. */
  async scale(target: string, replicas: number, progress: Progress): Promise<ChangeResult> {
    const [kindText = "", ...rest] = target.split("/");
    const kind = workloadKind(kindText);
    const name = rest.length === 1 ? `default/${rest[0]}` : rest.join("/");
    const identity = `${kind} ${name}`;
    const applied = this.#applied.get(identity);
    const scalable = ["ReplicationController", "ReplicaSet", "Deployment", "StatefulSet"];
    if (applied === undefined || !scalable.includes(kind)) {
      const there = [...this.#workloads.keys()].filter((known) => scalable.includes(known.split(" ")[0]!));
      throw new Failure(
        "not_found",
        target,
        `could not scale ${target}: there is no such workload; there ${are(there.map((one) => one.toLowerCase().replace(" ", "/")))}`,
      );
    }
    if (!Number.isInteger(replicas) || replicas < 0 || replicas > 1000)
      throw new Failure("usage", target, `could not scale ${target}: the number of pods must be 0 to 1000`);
    const { object } = applied;
    const changed = { ...object, spec: { ...(object["spec"] as object), replicas } };
    this.#track(identity, this.#applied.put({ ...applied, object: changed }));
    this.#changed();
    // Pods that are about to end serve while there is no other: nobody is served only when the last has gone.
    const uid = applied.uid;
    const last = () => (replicas > 0 ? undefined : [...this.#pods.values()].find((pod) => pod.owner === uid));
    await this.#inForce(
      () =>
        last() === undefined
          ? this.#podsPending([this.#workloads.get(identity)!])
          : `pod ${last()!.key} is still there`,
      progress,
    );
    return {
      objects: [identity],
      notices: this.#podNotices().filter((notice) => notice.object.startsWith(`Pod ${name}-`)),
    };
  }

  // Pods

  async ready(target: string, ready: boolean, progress: Progress): Promise<void> {
    const pod = this.#pod(target, "change");
    pod.allowedReady = ready;
    this.#changed();
    await this.#inForce(
      () =>
        !ready || pod.ready ? undefined : `pod ${pod.key} is not ready: ${pod.trouble || "its server does not listen"}`,
      progress,
    );
  }

  /** A pod or node by name; a pod comes back by itself. Returns when every live node knows. */
  async kill(target: string, progress: Progress): Promise<void> {
    const node = this.#nodes.get(target);
    if (node === undefined) this.#pod(target, "kill").kill();
    else {
      if (!node.up)
        throw new Failure(
          "conflict",
          target,
          `could not kill ${target}: it is down already, start it with \`millrace lab start ${target}\``,
        );
      for (const pod of this.#podsOn(node)) pod.nodeDied();
      const off = node.powerOff();
      this.#changed();
      await Promise.all([off, this.#link(node, "down")]);
    }
    this.#changed();
    await this.#inForce(() => undefined, progress);
  }

  async start(target: string, progress: Progress): Promise<void> {
    const node = this.#node(target, "start");
    if (node.up) throw new Failure("conflict", target, `could not start ${target}: it is up already`);
    await this.#link(node, "up");
    node.powerOn();
    for (const pod of this.#podsOn(node)) void pod.start();
    if (this.config.agents) await node.startAgent(this.config.dist);
    this.#changed();
    const late = () =>
      this.#podsOn(node).find((pod) => !pod.over && !pod.terminating && !pod.ready && !this.#excused(pod));
    await this.#inForce(() => (late() === undefined ? undefined : `pod ${late()!.key} is not ready`), progress);
  }

  async killAgent(target: string): Promise<void> {
    await this.#node(target, "kill the agent of").killAgent();
  }

  async startAgent(target: string, dist: string, progress: Progress): Promise<void> {
    await this.#node(target, "start the agent of").startAgent(dist);
    await this.#inForce(() => undefined, progress);
  }

  async join(target: string, progress: Progress): Promise<void> {
    const number = Number(/^node([1-9]\d?)$/.exec(target)?.[1] ?? Number.NaN);
    if (Number.isNaN(number))
      throw new Failure("usage", target, `could not join '${target}': nodes are called node1 to node39`);
    if (this.#nodes.has(target))
      throw new Failure("conflict", target, `could not join ${target}: it is a node of the lab already`);
    const script = new NetworkScript();
    const before = this.#numbers();
    const node = this.#addNode(script, number);
    for (const pod of this.#pods.values()) {
      if (pod.attachment?.fixed && before.includes(pod.attachment.node))
        addFixedRoutes(script, this.config.network, pod.attachment, [number]);
    }
    this.#nodes.delete(target);
    await script.run(target);
    node.prepare();
    this.#nodes.set(target, node);
    if (this.#split.length > 0) await this.#applySplit();
    this.#changed();
    if (this.config.agents) await node.startAgent(this.config.dist);
    await this.#inForce(() => this.#podsPending([...this.#workloads.values()]), progress);
  }

  async link(target: string, state: "up" | "down"): Promise<void> {
    await this.#link(this.#node(target, "change the link of"), state);
  }

  async #link(node: LabNode, state: "up" | "down"): Promise<void> {
    const script = new NetworkScript();
    setLink(script, this.config.network, node.number, state);
    await script.run(node.name);
    node.link = state === "up";
  }

  /** Parts the LAN: nothing passes between the two sides. What is named on neither sees both. */
  async split(left: readonly string[], right: readonly string[]): Promise<void> {
    for (const name of [...left, ...right]) {
      if (!this.#nodes.has(name) && this.#members.port(name) === undefined) {
        const there = [...this.#nodes.keys(), ...this.#members.names()];
        throw new Failure("not_found", name, `could not split off ${name}: it is not on the LAN; there ${are(there)}`);
      }
      if (left.includes(name) && right.includes(name))
        throw new Failure("usage", name, `could not split the LAN: ${name} is on both sides`);
    }
    this.#split = [left, right];
    await this.#applySplit();
  }

  async #applySplit(): Promise<void> {
    const ports = (names: readonly string[]) => names.map((name) => this.#members.port(name) ?? name);
    const script = new NetworkScript();
    splitLan(script, this.config.network, ports(this.#split[0] ?? []), ports(this.#split[1] ?? []));
    await script.run("the LAN");
  }

  async heal(): Promise<void> {
    this.#split = [];
    const script = new NetworkScript();
    healLan(script, this.config.network);
    await script.run("the LAN");
  }

  async host(name: string, address: string): Promise<void> {
    const canonical = canonicalAddress(address);
    if (canonical === undefined)
      throw new Failure("usage", address, `could not add host ${name}: '${address}' is no IP address`);
    if (this.#nodes.has(name)) throw new Failure("conflict", name, `could not add host ${name}: a node has this name`);
    await this.#members.addHost(name, canonical);
  }

  /** Where a command for TARGET runs; makes the client when it is a new one. */
  async target(name: string): Promise<ExecTarget> {
    const node = this.#nodes.get(name);
    if (node !== undefined) {
      if (!node.up)
        throw new Failure(
          "conflict",
          name,
          `could not run anything on ${name}: it is down, start it with \`millrace lab start ${name}\``,
        );
      return { netns: node.netns, cgroup: join(node.cgroup, "exec"), ownResolver: false };
    }
    const member = await this.#members.target(name);
    if (member !== undefined) return { ...member, ownResolver: false };
    const pod = this.#pod(name, "run anything in");
    if (pod.over || pod.node === undefined || pod.phase === "Pending") {
      throw new Failure(
        "conflict",
        name,
        `could not run anything in pod ${pod.key}: it ${pod.over ? `has ended (${pod.phase})` : `is not running: ${pod.trouble || "it is being started"}`}`,
      );
    }
    if (!pod.node.up)
      throw new Failure(
        "conflict",
        name,
        `could not run anything in pod ${pod.key}: its node ${pod.node.name} is down`,
      );
    return { netns: pod.netns, cgroup: pod.cgroup, ownResolver: !pod.origin.template.hostNetwork };
  }

  // Looking

  status(): LabStatus {
    const nodes = [...this.#nodes.values()].sort((a, b) => a.number - b.number);
    const pods = [...this.#pods.values()].sort((a, b) => compareNames(a.key, b.key));
    return {
      name: this.#paths.name,
      cni: this.config.network.cni,
      ipv6: this.config.network.ipv6,
      nodes: nodes.map((node) => ({
        name: node.name,
        addresses: node.addresses,
        podCIDRs: node.prefixes,
        ready: node.up,
        link: node.link ? "up" : "down",
        agent: node.agentRunning ? "running" : "stopped",
        pods: this.#podsOn(node).filter((pod) => !pod.over).length,
        namespace: node.netns,
        cgroup: node.cgroup,
        socket: node.socket,
      })),
      pods: pods.map((pod) => ({
        namespace: pod.origin.namespace,
        name: pod.origin.name,
        node: pod.node?.name ?? "",
        addresses: pod.addresses,
        phase: pod.phase,
        ready: pod.ready && !pod.terminating,
        terminating: pod.terminating,
        hostNetwork: pod.origin.template.hostNetwork,
        restarts: pod.restarts,
        owner: this.#ownerTitle(pod),
        trouble: pod.trouble,
        netns: pod.netns,
        cgroup: pod.cgroup,
      })),
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

  #ownerTitle(pod: LabPod): string {
    const owner = this.#owners.get(pod.owner);
    return owner === undefined || owner.kind === "Pod" ? "" : `${owner.kind}/${owner.name}`;
  }

  notices(): Notice[] {
    const agents = [...this.#nodes.values()]
      .filter((node) => node.agentTrouble !== "")
      .map(
        (node): Notice => ({
          object: `Node ${node.name}`,
          file: node.agentLog,
          field: "",
          reason: "agent-ended",
          message: node.agentTrouble,
          severity: "error",
        }),
      );
    const broken = this.#broken;
    const own: Notice[] =
      broken === undefined
        ? []
        : [
            {
              object: "lab",
              file: this.#paths.controlLog,
              field: "",
              reason: "control-failed",
              message: broken.message,
              severity: "error",
            },
          ];
    return unique([
      ...own,
      ...agents,
      ...[...this.#fileNotices.values()].flat(),
      ...this.#serviceNotices,
      ...this.#podNotices(),
    ]);
  }

  #podNotices(): Notice[] {
    return [...this.#pods.values()]
      .filter(
        (pod) =>
          pod.trouble !== "" &&
          !pod.over &&
          !pod.terminating &&
          pod.node?.up !== false &&
          (pod.node === undefined || pod.restarts >= PATIENCE_RESTARTS),
      )
      .map((pod) => ({
        object: `Pod ${pod.key}`,
        file: this.#applied.get(`Pod ${pod.key}`)?.file ?? "",
        field: "",
        reason: pod.node === undefined ? "unschedulable" : "pod-failing",
        message: `Pod ${pod.key}: ${pod.trouble}`,
        severity: "warning",
      }));
  }

  #pod(target: string, verb: string): LabPod {
    const all = [...this.#pods.values()];
    const found = target.includes("/")
      ? all.filter((pod) => pod.key === target)
      : all.filter((pod) => pod.origin.name === target);
    if (found.length === 1) return found[0]!;
    if (found.length > 1) {
      throw new Failure(
        "usage",
        target,
        `could not ${verb} ${target}: several pods have this name: ${found.map((pod) => pod.key).join(", ")}`,
      );
    }
    const alike = all.filter((pod) => pod.origin.name.startsWith(target.slice(0, 6))).map((pod) => pod.origin.name);
    const candidates =
      alike.length > 0 ? alike : all.filter((pod) => !isSystemPod(pod.key)).map((pod) => pod.origin.name);
    throw new Failure(
      "not_found",
      target,
      `could not ${verb} ${target}: there is no such node, pod or client; there ${are([...this.#nodes.keys(), ...candidates.slice(0, 12)])}`,
    );
  }

  #node(target: string, verb: string): LabNode {
    const node = this.#nodes.get(target);
    if (node === undefined)
      throw new Failure(
        "not_found",
        target,
        `could not ${verb} ${target}: there is no such node; there ${are([...this.#nodes.keys()])}`,
      );
    return node;
  }

  #podsOn(node: LabNode): LabPod[] {
    return [...this.#pods.values()].filter((pod) => pod.node === node);
  }

  // The loop

  #changed(): void {
    this.#dirty = true;
    if (this.#working || this.#stopped) return;
    this.#working = true;
    setImmediate(() => void this.#work());
  }

  async #work(): Promise<void> {
    while (this.#dirty && !this.#stopped) {
      this.#dirty = false;
      try {
        await this.#reconcile();
        this.#broken = undefined;
      } catch (error) {
        this.#broken = error as Error;
        this.#log.error({ error: String((error as Error).stack ?? error) }, "could not reconcile");
        await delay(200);
        // Tried again with the next change; a failure that stays is seen by whoever waits.
      }
    }
    this.#working = false;
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiters) wake();
    this.#waiters.clear();
  }

  async #reconcile(): Promise<void> {
    for (const [key, pod] of this.#pods) if (pod.gone) this.#forget(key, pod);
    this.#plan();
    this.#place();
    await this.#write();
    for (const pod of this.#pods.values()) {
      if (!pod.terminating) continue;
      if (pod.node === undefined || pod.gone) this.#forget(pod.key, pod);
      else pod.end();
    }
  }

  #forget(key: string, pod: LabPod): void {
    this.#pods.delete(key);
    // A bare pod that its adopter ended is not to come back from its manifest.
    const manifest = this.#applied.get(`Pod ${key}`);
    if (manifest !== undefined && pod.owner !== manifest.uid) {
      this.#applied.remove(`Pod ${key}`);
      this.#workloads.delete(`Pod ${key}`);
    }
    this.#dirty = true;
  }

  #facts(): PodFacts[] {
    return [...this.#pods.values()].map((pod) => ({
      key: pod.key,
      namespace: pod.origin.namespace,
      name: pod.origin.name,
      labels: pod.labels,
      owner: pod.owner,
      revision: pod.origin.template.revision,
      node: pod.node?.name ?? pod.origin.template.nodeName,
      phase: pod.phase,
      ready: pod.ready,
      terminating: pod.terminating,
      sequence: pod.origin.sequence,
    }));
  }

  #nodeManifest(name: string): KubernetesObject | undefined {
    return this.#applied.get(`Node ${name}`)?.object;
  }

  #nodeLabels(): { name: string; labels: Record<string, string> }[] {
    return [...this.#nodes.keys()].map((name) => ({
      name,
      labels: { ...standardNodeLabels(name), ...this.#nodeManifest(name)?.metadata.labels },
    }));
  }

  #plan(): void {
    // Each round may make room for the next step of a controller; a handful is enough for all of them.
    for (let round = 0; round < 8; round++) {
      const actions = planPods([...this.#workloads.values()], this.#facts(), this.#nodeLabels(), randomSuffix);
      if (actions.length === 0) return;
      for (const action of actions) {
        if (action.act === "create") {
          const { workload, name } = action;
          const pod = new LabPod(
            {
              namespace: workload.namespace,
              name,
              uid: workload.kind === "Pod" ? workload.uid : randomUUID(),
              sequence: ++this.#sequence,
              template: action.node === "" ? workload.template : { ...workload.template, nodeName: action.node },
              hostname: action.hostname,
              subdomain: action.hostname === "" ? "" : workload.serviceName,
              createdMs: Date.now(),
              job: workload.kind === "Job",
            },
            workload.uid,
            action.labels,
            this.#around,
          );
          this.#pods.set(pod.key, pod);
        } else {
          const pod = this.#pods.get(action.key)!;
          if (action.act === "delete") {
            pod.markDeleted();
            if (pod.node === undefined) this.#forget(action.key, pod);
          } else if (action.act === "adopt") pod.owner = action.owner;
          else {
            pod.labels = action.labels;
            pod.annotations = action.annotations;
          }
        }
      }
    }
  }

  #place(): void {
    const used = new Set([...this.#pods.values()].filter((pod) => pod.holdsAddresses).flatMap((pod) => pod.addresses));
    for (const pod of this.#pods.values()) {
      if (pod.node !== undefined || pod.terminating) continue;
      const { template } = pod.origin;
      const placement = schedule(
        { nodeName: template.nodeName, nodeSelector: template.nodeSelector, hostPorts: hostPortsOf(template) },
        this.#nodeFacts(),
      );
      if ("pending" in placement) {
        pod.trouble = placement.pending;
        continue;
      }
      const node = this.#nodes.get(placement.node)!;
      const annotation = pod.annotations[POD_IP_ANNOTATION];
      const addresses = template.hostNetwork ? node.addresses : this.#podAddresses(node, annotation, used);
      if (typeof addresses === "string") {
        pod.trouble = addresses;
        continue;
      }
      pod.trouble = "";
      if (!template.hostNetwork) for (const address of addresses) used.add(address);
      pod.place(node, addresses, annotation !== undefined);
      void pod.start();
    }
  }

  #podAddresses(
    node: LabNode,
    annotation: string | undefined,
    used: ReadonlySet<Address>,
  ): readonly Address[] | string {
    if (annotation !== undefined) {
      const fixed = fixedPodAddresses(annotation, this.config.network.ipv6);
      if (typeof fixed === "string") return `annotation ${POD_IP_ANNOTATION}: ${fixed}`;
      return used.has(fixed[0]!) ? `its address ${fixed[0]} is in use` : fixed;
    }
    const next = nextPodAddress(node.number, node.lastPodAddress, used);
    if (next === undefined) return `${node.name} has no pod address left`;
    node.lastPodAddress = next.last;
    return podAddresses(next.address, this.config.network.ipv6);
  }

  #nodeFacts(): NodeFacts[] {
    return this.#nodeLabels().map(({ name, labels }) => {
      const node = this.#nodes.get(name)!;
      const pods = this.#podsOn(node).filter((pod) => !pod.over && !pod.terminating);
      return {
        name,
        labels,
        ready: node.up,
        unschedulable:
          (this.#nodeManifest(name)?.["spec"] as { unschedulable?: boolean } | undefined)?.unschedulable === true,
        pods: pods.filter((pod) => !isSystemPod(pod.key)).length,
        hostPorts: new Set(pods.flatMap((pod) => hostPortsOf(pod.origin.template))),
      };
    });
  }

  async #write(): Promise<void> {
    const nodes = [...this.#nodes.values()].map((node) => nodeObject(node, this.#nodeManifest(node.name)));
    const pods = [...this.#pods.values()].map((pod) =>
      podObject(
        pod,
        pod.owner === "" || this.#owners.get(pod.owner)?.kind === "Pod" ? undefined : this.#owners.get(pod.owner),
      ),
    );
    const applied = this.#applied.all().filter(({ object }) => object.kind !== "Node" && object.kind !== "Pod");
    const { objects, notices } = await this.#services.reconcile(applied, [...nodes, ...pods]);
    this.#serviceNotices = notices;
    this.#objects = objects;
    this.#state.write(objects);
  }

  // Waiting

  #excused(pod: {
    readonly key?: string;
    readonly node: LabNode | undefined;
    readonly allowedReady: boolean;
    readonly restarts: number;
    readonly trouble: string;
  }): boolean {
    if (pod.node === undefined) return pod.trouble !== "";
    return !pod.node.up || !pod.allowedReady || pod.restarts >= PATIENCE_RESTARTS;
  }

  #podsPending(workloads: readonly Workload[]): string | undefined {
    const facts = this.#facts();
    const excused = (fact: PodFacts) => this.#excused(this.#pods.get(fact.key)!);
    for (const workload of workloads) {
      const owned = facts.filter((pod) =>
        workload.kind === "Pod" ? pod.key === `${workload.namespace}/${workload.name}` : pod.owner === workload.uid,
      );
      const pending = workloadPending(workload, owned, excused, this.#nodeLabels());
      if (pending !== undefined) return pending;
    }
    const dns = this.#pods.get(DNS_POD_KEY);
    return dns === undefined || dns.ready || this.#excused(dns) ? undefined : "the cluster's DNS does not answer yet";
  }

  /** Resolves when the loop is at rest and `pending` has nothing to say. */
  async #settled(pending: () => string | undefined): Promise<void> {
    const deadline = Date.now() + READY_TIMEOUT_MS;
    for (;;) {
      const reason = this.#dirty || this.#working ? "the lab is busy" : (this.#broken?.message ?? pending());
      if (reason === undefined) return;
      const leftMs = deadline - Date.now();
      if (leftMs <= 0)
        throw new Failure(
          "timeout",
          this.#paths.name,
          `could not finish within ${READY_TIMEOUT_MS / 1000} s: ${reason}; the log is ${this.#paths.controlLog}`,
        );
      await new Promise<void>((resolve) => {
        const timer = setTimeout(wake, Math.min(leftMs, 1000));
        const waiters = this.#waiters;
        function wake(): void {
          clearTimeout(timer);
          waiters.delete(wake);
          resolve();
        }
        waiters.add(wake);
      });
    }
  }

  /** As #settled, and then every live node's agent has in its kernel what was written. */
  async #inForce(pending: () => string | undefined, progress: Progress): Promise<void> {
    await this.#settled(pending);
    const turn = this.#state.turn;
    await this.#settled(() => this.#dnsPending(turn));
    if (!this.config.agents) return;
    let said = false;
    const announce = () => {
      if (!said) progress("waiting for the nodes");
      said = true;
    };
    await Promise.all([...this.#nodes.values()].map((node) => this.#waitForNode(node, turn, announce)));
  }

  #dnsPending(turn: number): string | undefined {
    const dns = this.#pods.get(DNS_POD_KEY);
    if (dns?.ready !== true || this.#state.turnOf(dns.appliedDigest) >= turn) return undefined;
    return "the cluster's DNS has not read the newest state yet";
  }

  async #waitForNode(node: LabNode, turn: number, announce: () => void): Promise<void> {
    const began = Date.now();
    let last = "it does not answer";
    while (node.up) {
      if (!node.agentRunning) {
        if (node.agentTrouble === "") return;
        throw new Failure(
          "unreachable",
          node.name,
          `could not bring the change into force on ${node.name}: ${node.agentTrouble}`,
        );
      }
      const status = await node.agentStatus();
      if (status !== undefined && this.#state.turnOf(status.appliedDigest) >= turn) return;
      if (status !== undefined) {
        const wrong = [...status.unhealthy, status.lastApply.error].filter((text) => text !== "");
        last = wrong.length > 0 ? wrong.join("; ") : "it has not applied the newest state yet";
      }
      if (Date.now() - began > APPLY_TIMEOUT_MS) {
        throw new Failure(
          "timeout",
          node.name,
          `could not bring the change into force on ${node.name} within ${APPLY_TIMEOUT_MS / 1000} s: ${last}; the agent's log is ${node.agentLog}`,
        );
      }
      if (Date.now() - began > 1000) announce();
      await delay(status === undefined ? 40 : 10);
    }
  }

  /** No more changes; what is there stays as it is, for `down`. */
  stop(): void {
    this.#stopped = true;
  }
}

/** Before the agents start: each of them would mount one of its own otherwise. */
async function mountBpffs(): Promise<void> {
  const mounts = readFileSync("/proc/self/mounts", "utf8");
  if (!/^\S+ \/sys\/fs\/bpf bpf /m.test(mounts)) await runChecked("mount", ["-t", "bpf", "bpf", "/sys/fs/bpf"]);
}

function unique(notices: readonly Notice[]): Notice[] {
  const seen = new Map(
    notices.map((notice) => [`${notice.object}\0${notice.field}\0${notice.reason}\0${notice.message}`, notice]),
  );
  return [...seen.values()];
}

function are(names: readonly string[]): string {
  return names.length === 0 ? "is none" : `${names.length === 1 ? "is" : "are"} ${names.join(", ")}`;
}

function workloadKind(text: string): string {
  const short: Record<string, string> = {
    rc: "ReplicationController",
    rs: "ReplicaSet",
    deploy: "Deployment",
    sts: "StatefulSet",
    ds: "DaemonSet",
  };
  const wanted = text.toLowerCase().replace(/s$/, "");
  return WORKLOAD_KINDS.find((kind) => kind.toLowerCase() === wanted) ?? short[text.toLowerCase()] ?? text;
}

const SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789";

function randomSuffix(): string {
  return [...randomBytes(5)].map((byte) => SUFFIX_LETTERS[byte % SUFFIX_LETTERS.length]).join("");
}
