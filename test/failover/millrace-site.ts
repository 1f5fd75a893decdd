// Millrace's agents and its controller on a real cluster.
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { millraceCommand } from "../../src/lab/programs.ts";
import { VERSION } from "../../src/lib/version.ts";
import { Cluster } from "../cluster/cluster.ts";
import type { Component } from "../cluster/component.ts";
import { inForce } from "../cluster/load/ask-cluster.ts";
import { ANNOUNCERS, type ClusterProduct } from "./cluster-site.ts";
import { OtherBuild } from "./other-build.ts";
import { manifests } from "./site.ts";

/** In a node's own mounts. */
const SECRET = "/var/lib/cluster/announcer";
const CRDS = resolve(import.meta.dirname, "../../deploy/crds.yaml");

export function millraceProduct(name: string): ClusterProduct {
  const build = new OtherBuild();
  let controller: Component | undefined;
  /** A cluster is found by its name: this one differs by what its agents are started from. */
  const asBuilt = (cluster: Cluster): Cluster => new Cluster({ ...cluster.config, dist: build.dist });
  const startAgent = async (cluster: Cluster, node: string): Promise<void> => {
    const began = Date.now();
    await asBuilt(cluster).agent(node).start();
    // While the API is away nothing new can be in force.
    if (cluster.apiserver.pid !== undefined) await inForce(cluster, node, began);
  };
  return {
    version: VERSION,
    hasEventLoop: true,
    wishes: { name, proxy: "millrace", agentFlags: ["--announcer-secret", SECRET] },
    async install(cluster) {
      const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "metallb-system" } };
      await cluster.apply([readFileSync(CRDS, "utf8"), manifests(namespace)].join("---\n"));
      const key = randomBytes(16).toString("hex");
      for (const node of cluster.nodes) {
        const directory = join(node.files, SECRET.replace("/var/", ""));
        mkdirSync(directory, { recursive: true });
        writeFileSync(join(directory, "current"), key, { mode: 0o600 });
      }
      controller = cluster.control.component("millrace-controller", {
        command: () => millraceCommand(["controller", "--kubeconfig", cluster.kubeconfig]),
      });
      await controller.start();
    },
    agentPids(cluster, node) {
      const { pid } = cluster.agent(node);
      return pid === undefined ? [] : [pid];
    },
    killAgent: (cluster, node) => cluster.agent(node).kill(),
    startAgent,
    async upgrade(cluster) {
      await build.change();
      for (const node of ANNOUNCERS) {
        await cluster.agent(node).kill();
        await startAgent(cluster, node);
      }
    },
    async settled(cluster) {
      await Promise.all(cluster.nodes.map((node) => inForce(cluster, node.name)));
    },
    remove: () => build[Symbol.asyncDispose](),
  };
}
