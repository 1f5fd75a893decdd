// The nodes of a lab: which there are, what the scheduler sees of them, and whether what was written is in force on them.
import { setTimeout as delay } from "node:timers/promises";
import { patience } from "../lib/patience.ts";
import type { Notice } from "../model/objects.ts";
import type { KubernetesObject, NodeObject } from "../wire/kubernetes.ts";
import type { AppliedObjects } from "./applied-objects.ts";
import type { NodeLabels } from "./controllers.ts";
import { nodeObject, standardNodeLabels } from "./kubernetes-objects.ts";
import { LabNode, type NodeSurroundings } from "./lab-node.ts";
import { addNode, setLink } from "./network.ts";
import { are, cannot, labNotice } from "./refusals.ts";
import { changeNetwork, type NetworkScript } from "./shell.ts";

const APPLY_TIMEOUT_MS = patience(60_000);

export class LabNodes {
  readonly #nodes = new Map<string, LabNode>();
  readonly #around: NodeSurroundings;
  readonly #applied: AppliedObjects;

  constructor(around: NodeSurroundings, applied: AppliedObjects) {
    this.#around = around;
    this.#applied = applied;
  }

  /** A node that is none of the lab's before `enter`; the caller runs the script between. */
  make(script: NetworkScript, number: number): LabNode {
    const node = new LabNode(number, this.#around);
    addNode(script, this.#around.network, number, this.numbers());
    return node;
  }

  enter(node: LabNode): void {
    this.#nodes.set(node.name, node);
  }

  all(): LabNode[] {
    return [...this.#nodes.values()];
  }

  names(): string[] {
    return [...this.#nodes.keys()];
  }

  numbers(): number[] {
    return this.all().map(({ number }) => number);
  }

  get(name: string): LabNode | undefined {
    return this.#nodes.get(name);
  }

  /** @throws not_found */
  find(target: string, verb: string): LabNode {
    const node = this.#nodes.get(target);
    if (node === undefined)
      throw cannot("not_found", verb, target, `there is no such node; there ${are(this.names())}`);
    return node;
  }

  labels(): NodeLabels[] {
    return this.names().map((name) => ({
      name,
      labels: { ...standardNodeLabels(name), ...this.#applied.nodeManifest(name)?.metadata.labels },
    }));
  }

  isUnschedulable(name: string): boolean {
    const manifest: KubernetesObject | undefined = this.#applied.nodeManifest(name);
    return (manifest?.["spec"] as { unschedulable?: boolean } | undefined)?.unschedulable === true;
  }

  objects(): NodeObject[] {
    return this.all().map((node) => nodeObject(node, this.#applied.nodeManifest(node.name)));
  }

  async link(node: LabNode, state: "up" | "down"): Promise<void> {
    await changeNetwork(node.name, (script) => setLink(script, this.#around.network, node.number, state));
    node.link = state === "up";
  }

  notices(): Notice[] {
    return this.all()
      .filter(({ agentTrouble }) => agentTrouble !== "")
      .map(({ name, agentLog, agentTrouble }) =>
        labNotice({ object: `Node ${name}`, file: agentLog }, "agent-ended", agentTrouble, "error"),
      );
  }

  /**
   * Resolves when the agent of every node that is up has in its kernel what `hasSeen` asks of its digest. `slow` is called once
   * when that takes a while. @throws unreachable when an agent ended; timeout
   */
  async inForce(hasSeen: (digest: string) => boolean, slow: () => void): Promise<void> {
    await Promise.all(this.all().map((node) => this.#waitFor(node, hasSeen, slow)));
  }

  async #waitFor(node: LabNode, hasSeen: (digest: string) => boolean, slow: () => void): Promise<void> {
    const began = Date.now();
    const verb = "bring the change into force on";
    let last = "it does not answer";
    while (node.up) {
      if (!node.agentRunning) {
        if (node.agentTrouble === "") return;
        throw cannot("unreachable", verb, node.name, node.agentTrouble);
      }
      const status = await node.agentStatus();
      if (status !== undefined && hasSeen(status.appliedDigest)) return;
      if (status !== undefined) {
        const wrong = [...status.unhealthy, status.lastApply.error].filter((text) => text !== "");
        last = wrong.length > 0 ? wrong.join("; ") : "it has not applied the newest state yet";
      }
      if (Date.now() - began > APPLY_TIMEOUT_MS) {
        const limit = `it took longer than ${APPLY_TIMEOUT_MS / 1000} s: ${last}; the agent's log is ${node.agentLog}`;
        throw cannot("timeout", verb, node.name, limit);
      }
      if (Date.now() - began > 1000) slow();
      await delay(status === undefined ? 40 : 10);
    }
  }
}
