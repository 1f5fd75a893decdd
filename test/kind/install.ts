// Millrace on a kind cluster, as docs/install/kind.md says.
import { join } from "node:path";
import { waitUntil } from "../cluster/wait-until.ts";
import { checkedOnHost } from "./docker.ts";
import type { KindCluster } from "./kind-cluster.ts";
import { REPOSITORY } from "./paths.ts";

const ARCHITECTURE = process.arch === "arm64" ? "arm64" : "amd64";
export const IMAGE_ARCHIVE = join(REPOSITORY, `build/millrace-image-${ARCHITECTURE}.tar`);

export async function loadImage(cluster: KindCluster): Promise<void> {
  await checkedOnHost(["kind", "load", "image-archive", IMAGE_ARCHIVE, `--name=${cluster.config.name}`]);
}

export async function install(cluster: KindCluster): Promise<void> {
  await loadImage(cluster);
  await checkedOnHost([join(REPOSITORY, "dist/millrace"), "install", "--yes"], { timeoutMs: 600_000 });
  await waitUntil("CoreDNS", async () => (await isAvailable(cluster, "coredns")) || undefined, {
    timeoutMs: 180_000,
    everyMs: 500,
  });
}

async function isAvailable(cluster: KindCluster, deployment: string): Promise<boolean> {
  const path = `/apis/apps/v1/namespaces/kube-system/deployments/${deployment}`;
  const { status } = await cluster.ask<{ status: { replicas?: number; availableReplicas?: number } }>(path);
  return (status.replicas ?? 0) > 0 && status.availableReplicas === status.replicas;
}
