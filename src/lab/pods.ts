// The pods of a lab: made and ended as the controllers say, placed as the scheduler says, and what of them is still awaited.
import { randomBytes, randomUUID } from "node:crypto";
import { join } from "node:path";
import type { Address } from "../lib/address.ts";
import type { Notice } from "../model/objects.ts";
import type { PodObject } from "../wire/kubernetes.ts";
import { nameLetters } from "../wire/names.ts";
import { fixedPodAddresses, nextPodAddress, podAddresses } from "./addressing.ts";
import type { AppliedObjects } from "./applied-objects.ts";
import { type PodAction, type PodFacts, planPods, workloadPending } from "./controllers.ts";
import { podObject } from "./kubernetes-objects.ts";
import type { LabNode } from "./lab-node.ts";
import { LabPod, type PodOrigin, type PodSurroundings } from "./lab-pod.ts";
import type { LabNodes } from "./nodes.ts";
import { millraceCommand } from "./programs.ts";
import { are, cannot, labNotice } from "./refusals.ts";
import { type NodeFacts, schedule } from "./scheduler.ts";
import { DNS_POD_KEY, dnsPod, isSystemPod } from "./service-side.ts";
import { hostPortsOf, POD_IP_ANNOTATION, type Workload } from "./workloads.ts";

/** A pod whose server ended so often is reported, not waited for. */
const PATIENCE_RESTARTS = 3;

export class LabPods {
  readonly #pods = new Map<string, LabPod>();
  readonly #around: PodSurroundings;
  readonly #applied: AppliedObjects;
  readonly #nodes: LabNodes;
  #sequence = 0;

  constructor(around: PodSurroundings, applied: AppliedObjects, nodes: LabNodes) {
    this.#around = around;
    this.#applied = applied;
    this.#nodes = nodes;
  }

  all(): LabPod[] {
    return [...this.#pods.values()];
  }

  on(node: LabNode): LabPod[] {
    return this.all().filter((pod) => pod.node === node);
  }

  get dns(): LabPod | undefined {
    return this.#pods.get(DNS_POD_KEY);
  }

  /** The pod that answers the cluster's names. */
  addDns(): void {
    const own = dnsPod();
    const { stateDir, runDir } = this.#around.paths;
    const flags = ["--manifests", stateDir, "--state-dir", join(runDir, "dns")];
    const command = millraceCommand(["lab", "dns", ...flags]);
    this.#add({ ...own, uid: randomUUID(), hostname: "", subdomain: "", job: false, command }, "", own.template.labels);
  }

  #add(
    origin: Omit<PodOrigin, "sequence" | "createdMs">,
    owner: string,
    labels: Readonly<Record<string, string>>,
  ): void {
    const numbered = { ...origin, sequence: ++this.#sequence, createdMs: Date.now() };
    const pod = new LabPod(numbered, owner, labels, this.#around);
    this.#pods.set(pod.key, pod);
  }

  /** A pod by NAME or NAMESPACE/NAME. `outside`: clients and hosts, to be named too. @throws not_found; usage when several have the name */
  find(target: string, verb: string, outside: readonly string[]): LabPod {
    const all = this.all();
    const found = all.filter(({ key, origin }) => (target.includes("/") ? key : origin.name) === target);
    if (found.length === 1) return found[0]!;
    if (found.length > 1) {
      const keys = found.map(({ key }) => key).join(", ");
      throw cannot("usage", verb, target, `several pods have this name: ${keys}`);
    }
    const alike = all.filter(({ origin }) => origin.name.startsWith(target.slice(0, 6)));
    const candidates = alike.length > 0 ? alike : all.filter(({ key }) => !isSystemPod(key));
    const there = [...this.#nodes.names(), ...outside, ...candidates.map(({ origin }) => origin.name).slice(0, 12)];
    throw cannot("not_found", verb, target, `there is no such node, pod or client; there ${are(there)}`);
  }

  /** Ends these, whoever made them. */
  delete(keys: ReadonlySet<string>): void {
    for (const pod of this.all()) if (keys.has(pod.key)) pod.markDeleted();
  }

  // The loop

  /** Forgets those that are gone, makes and ends others, and gives the new ones their places. */
  step(): void {
    for (const pod of this.all()) if (pod.gone) this.#forget(pod);
    // Each round may make room for the next step of a controller; a handful is enough for all of them.
    for (let round = 0; round < 8; round++) {
      const actions = planPods(this.#applied.workloads(), this.#facts(), this.#nodes.labels(), randomSuffix);
      if (actions.length === 0) break;
      for (const action of actions) this.#act(action);
    }
    const used = new Set(this.all().flatMap((pod) => (pod.holdsAddresses ? pod.addresses : [])));
    for (const pod of this.all()) if (pod.node === undefined && !pod.terminating) this.#place(pod, used);
  }

  /** Ends those that were deleted. Called after their objects were written as terminating. */
  endDeleted(): void {
    for (const pod of this.all()) {
      if (!pod.terminating) continue;
      if (pod.node === undefined || pod.gone) this.#forget(pod);
      else pod.end();
    }
  }

  #forget(pod: LabPod): void {
    this.#pods.delete(pod.key);
    this.#applied.forgetPod(pod.key, pod.owner);
    this.#around.changed();
  }

  #act(action: PodAction): void {
    if (action.act === "create") {
      const { workload, name, hostname, labels, node } = action;
      const origin = {
        namespace: workload.namespace,
        name,
        uid: workload.kind === "Pod" ? workload.uid : randomUUID(),
        template: node === "" ? workload.template : { ...workload.template, nodeName: node },
        hostname,
        subdomain: hostname === "" ? "" : workload.serviceName,
        job: workload.kind === "Job",
      };
      this.#add(origin, workload.uid, labels);
      return;
    }
    const pod = this.#pods.get(action.key)!;
    if (action.act === "delete") {
      pod.markDeleted();
      if (pod.node === undefined) this.#forget(pod);
    } else if (action.act === "adopt") pod.owner = action.owner;
    else {
      pod.labels = action.labels;
      pod.annotations = action.annotations;
    }
  }

  #place(pod: LabPod, used: Set<Address>): void {
    const { template } = pod.origin;
    const { nodeName, nodeSelector } = template;
    const placement = schedule({ nodeName, nodeSelector, hostPorts: hostPortsOf(template) }, this.#nodeFacts());
    if ("pending" in placement) {
      pod.trouble = placement.pending;
      return;
    }
    const node = this.#nodes.get(placement.node)!;
    const annotation = pod.annotations[POD_IP_ANNOTATION];
    const addresses = template.hostNetwork ? node.addresses : this.#addressesFor(node, annotation, used);
    if (typeof addresses === "string") {
      pod.trouble = addresses;
      return;
    }
    pod.trouble = "";
    if (!template.hostNetwork) for (const address of addresses) used.add(address);
    pod.place(node, addresses, annotation !== undefined);
    void pod.start();
  }

  #addressesFor(
    node: LabNode,
    annotation: string | undefined,
    used: ReadonlySet<Address>,
  ): readonly Address[] | string {
    const { ipv6 } = this.#around.network;
    if (annotation !== undefined) {
      const fixed = fixedPodAddresses(annotation, ipv6);
      if (typeof fixed === "string") return `annotation ${POD_IP_ANNOTATION}: ${fixed}`;
      return used.has(fixed[0]!) ? `its address ${fixed[0]} is in use` : fixed;
    }
    const next = nextPodAddress(node.number, node.lastPodAddress, used);
    if (next === undefined) return `${node.name} has no pod address left`;
    node.lastPodAddress = next.last;
    return podAddresses(next.address, ipv6);
  }

  #nodeFacts(): NodeFacts[] {
    return this.#nodes.labels().map(({ name, labels }) => {
      const node = this.#nodes.get(name)!;
      const pods = this.on(node).filter((pod) => !pod.over && !pod.terminating);
      return {
        name,
        labels,
        ready: node.up,
        unschedulable: this.#nodes.isUnschedulable(name),
        pods: pods.filter((pod) => !isSystemPod(pod.key)).length,
        hostPorts: new Set(pods.flatMap((pod) => hostPortsOf(pod.origin.template))),
      };
    });
  }

  // What is said of them

  objects(): PodObject[] {
    return this.all().map((pod) => podObject(pod, this.#applied.owner(pod.owner)));
  }

  #facts(): PodFacts[] {
    return this.all().map((pod) => ({
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

  /** What keeps these workloads, or the cluster's DNS, from being as they were asked to be. */
  pending(workloads: readonly Workload[]): string | undefined {
    const facts = this.#facts();
    for (const workload of workloads) {
      const owned = facts.filter((pod) =>
        workload.kind === "Pod" ? pod.key === `${workload.namespace}/${workload.name}` : pod.owner === workload.uid,
      );
      const excused = ({ key }: PodFacts): boolean => isExcused(this.#pods.get(key)!);
      const pending = workloadPending(workload, owned, excused, this.#nodes.labels());
      if (pending !== undefined) return pending;
    }
    const { dns } = this;
    return dns === undefined || dns.ready || isExcused(dns) ? undefined : "the cluster's DNS does not answer yet";
  }

  /** What keeps the pods of a node that was started from being ready. */
  pendingOn(node: LabNode): string | undefined {
    const late = this.on(node).find((pod) => !pod.over && !pod.terminating && !pod.ready && !isExcused(pod));
    return late === undefined ? undefined : `pod ${late.key} is not ready`;
  }

  /** Some pod that ought to be gone and is not. */
  left(isGoing: (pod: LabPod) => boolean): string | undefined {
    const found = this.all().find(isGoing);
    return found === undefined ? undefined : `pod ${found.key} is still there`;
  }

  notices(): Notice[] {
    return this.all()
      .filter((pod) => pod.trouble !== "" && !pod.over && !pod.terminating && pod.node?.up !== false)
      .filter((pod) => pod.node === undefined || pod.restarts >= PATIENCE_RESTARTS)
      .map((pod) => {
        const object = `Pod ${pod.key}`;
        const reason = pod.node === undefined ? "unschedulable" : "pod-failing";
        return labNotice({ object, file: this.#applied.fileOf(object) }, reason, pod.trouble);
      });
  }
}

/** Nobody waits for it. */
function isExcused(pod: LabPod): boolean {
  if (pod.node === undefined) return pod.trouble !== "";
  return !pod.node.up || !pod.allowedReady || pod.restarts >= PATIENCE_RESTARTS;
}

const randomSuffix = (): string => nameLetters(randomBytes(5));
