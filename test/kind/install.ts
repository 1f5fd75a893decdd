// Millrace into a kind cluster and out of it, as docs/install/kind.md says, and what must be so afterwards.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cgroupRoot } from "../../src/lab/lab-paths.ts";
import { runChecked } from "../../src/lab/shell.ts";
import { waitUntil } from "../cluster/wait-until.ts";
import { checkedOnHost, docker } from "./docker.ts";
import type { KindCluster } from "./kind-cluster.ts";
import { REPOSITORY, STATE } from "./paths.ts";

const ARCHITECTURE = process.arch === "arm64" ? "arm64" : "amd64";
const IMAGE_ARCHIVE = join(REPOSITORY, `build/millrace-image-${ARCHITECTURE}.tar`);
const MILLRACE = join(REPOSITORY, "dist/millrace");
const INSTALL_MS = 900_000;

export async function loadImage(cluster: KindCluster, archive = IMAGE_ARCHIVE): Promise<void> {
  await checkedOnHost(["kind", "load", "image-archive", archive, `--name=${cluster.config.name}`]);
}

/** Runs `millrace install`, with its own test at the end, and waits for the cluster's DNS. Returns what it said. */
export async function install(cluster: KindCluster, flags: readonly string[] = []): Promise<string> {
  const said = await millrace(cluster, ["install", "--yes", ...flags]);
  await waitUntil("CoreDNS", async () => (await isAvailable(cluster, "coredns")) || undefined, {
    timeoutMs: 300_000,
    everyMs: 500,
  });
  return said;
}

export async function uninstall(cluster: KindCluster, flags: readonly string[]): Promise<string> {
  return await millrace(cluster, ["uninstall", "--yes", ...flags]);
}

/** What it says is on standard error, as progress; a failure has it all. */
async function millrace({ environment }: KindCluster, args: readonly string[]): Promise<string> {
  const options = { env: environment, timeoutMs: INSTALL_MS };
  return await checkedOnHost(["sh", "-c", 'exec "$0" "$@" 2>&1', MILLRACE, ...args], options);
}

export async function isAvailable(cluster: KindCluster, deployment: string): Promise<boolean> {
  const path = `/apis/apps/v1/namespaces/kube-system/deployments/${deployment}`;
  const { status } = await cluster.ask<{ status: { replicas?: number; availableReplicas?: number } }>(path);
  return (status.replicas ?? 0) > 0 && status.availableReplicas === status.replicas;
}

/** Another image of the same program, with another digest, as an upgrade has. Returns its name. */
export async function loadAnotherImage(cluster: KindCluster): Promise<string> {
  const name = "localhost/millrace:next";
  const archive = join(STATE, "next.tar");
  const script = join(REPOSITORY, "scripts/image.ts");
  await runChecked(process.execPath, [script, "archive", "--name", name, "--output", archive], {
    env: { ...process.env, SOURCE_DATE_EPOCH: "1000000000" },
  });
  await loadImage(cluster, archive);
  return name;
}

interface AgentPod {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly nodeName: string; readonly containers: readonly { readonly image: string }[] };
  readonly status: {
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly { readonly name: string; readonly containerID?: string }[];
  };
}

/** The agents' pods that are Ready. */
export async function readyAgents(cluster: KindCluster): Promise<readonly AgentPod[]> {
  const selector = encodeURIComponent("app.kubernetes.io/name=millrace,app.kubernetes.io/component=agent");
  const path = `/api/v1/namespaces/kube-system/pods?labelSelector=${selector}`;
  const { items } = await cluster.ask<{ items: readonly AgentPod[] }>(path);
  return items.filter(({ status }) =>
    status.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True"),
  );
}

/** One line for each thing of Millrace's that a node has: pins, programs on its cgroup and its devices, tables, settings, files. */
export async function leftOn(cluster: KindCluster, node: string): Promise<readonly string[]> {
  const left: string[] = [];
  const pins = await cluster.nodeFile(node, "/sys/fs/bpf/millrace");
  if (existsSync(pins)) left.push("pins in /sys/fs/bpf/millrace");
  const id = (await docker("inspect", "--format", "{{.Id}}", node)).trim();
  const cgroup = join(cgroupRoot(), "millrace-kind", id);
  // Nothing at all where nothing is attached.
  const shown = await runChecked("bpftool", ["-j", "cgroup", "show", cgroup]);
  const attached = JSON.parse(shown.trim() || "[]") as { name: string }[];
  // systemd has programs of its own there.
  const own = attached.filter(({ name }) => /connect|sendmsg|recvmsg|getpeername|post_bind|sock_release/.test(name));
  left.push(...own.map(({ name }) => `program ${name} on the cgroup`));
  const { pid } = await cluster.node(node);
  const inNode = (...command: string[]) => runChecked("nsenter", [`--net=/proc/${pid}/ns/net`, "--", ...command]);
  const onDevices = await inNode(process.execPath, "--no-warnings", join(import.meta.dirname, "attached.ts"));
  left.push(...onDevices.split("\n").filter(Boolean));
  const tables = (await inNode("nft", "list", "tables")).split("\n").filter((line) => line.includes("millrace"));
  left.push(...tables);
  const forward = await cluster.inNode(node, ["sh", "-c", "iptables-save; ip6tables-save"]);
  left.push(...forward.split("\n").filter((line) => line.includes("millrace")));
  const reserved = (await cluster.inNode(node, ["sysctl", "-n", "net.ipv4.ip_local_reserved_ports"])).trim();
  if (reserved !== "") left.push(`reserved ports ${reserved}`);
  return left;
}
