// Another build of Millrace for the agents of a cluster that stands: as a person upgrades, and back.
import { symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { must, ROOT } from "../../lab/traffic/test-lab.ts";
import { buildVariant, type Edit, type Variant } from "../../lab/traffic/variants.ts";
import { Cluster } from "../cluster.ts";
import { AGENT_IMAGE } from "../installed.ts";
import { inForce } from "./ask-cluster.ts";

export interface OtherAgents extends Variant {
  /** Its image, for clusters whose agents are pods. */
  readonly image?: { readonly name: string; readonly archive: string };
}

/** Builds this tree with changes, and for a cluster whose agents are pods an image of it. */
export async function otherAgents(edits: readonly Edit[], through: Cluster["config"]["through"]): Promise<OtherAgents> {
  if (through === "process") return buildVariant(edits);
  const version = JSON.parse(await must("cat", [join(ROOT, "package.json")])) as { version: string };
  const other = `${version.version}-other`;
  const rename = { file: "package.json", find: `"version": "${version.version}"`, put: `"version": "${other}"` };
  const variant = await buildVariant([...edits, rename]);
  try {
    const tree = dirname(variant.dist);
    // Packages of Debian and layers that are made already, and what the image has of this tree beside the program.
    for (const name of [".cache", "LICENSE", "package-lock.json"]) symlinkSync(join(ROOT, name), join(tree, name));
    const archive = join(tree, "image.tar");
    const make = [join(tree, "scripts/image.ts"), "archive", "--output", archive];
    await must(process.execPath, make, { cwd: tree, timeoutMs: 300_000 });
    return { ...variant, image: { name: AGENT_IMAGE.replace(/:.*$/, `:${other}`), archive } };
  } catch (error) {
    variant.remove();
    throw error;
  }
}

/** Lets a node's containers be made of an image, without a registry. */
async function importImage(cluster: Cluster, node: string, archive: string): Promise<void> {
  const { status, stderr } = await cluster.exec(node, ["ctr", "--namespace", "k8s.io", "images", "import", archive]);
  if (status !== 0) throw new Error(`${node} could not import ${archive}: ${stderr}`);
}

async function kubectl(cluster: Cluster, ...args: readonly string[]): Promise<void> {
  const { status, stderr } = await cluster.kubectl(["--namespace=kube-system", ...args], { timeoutMs: 300_000 });
  if (status !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
}

/**
 * Goes over to another build on every node, or back to this one: programs are killed and started from it, of pods the DaemonSet gets
 * its image and is rolled out. Everything is in force when this returns.
 */
export async function upgradeAgents(cluster: Cluster, other: OtherAgents | undefined): Promise<void> {
  const began = Date.now();
  const nodes = cluster.nodes.map(({ name }) => name);
  if (cluster.config.through === "daemonset") {
    const { name, archive } = other?.image ?? { name: AGENT_IMAGE, archive: "" };
    if (archive !== "") for (const node of nodes) await importImage(cluster, node, archive);
    await kubectl(cluster, "set", "image", "daemonset/millrace", `*=${name}`);
    await kubectl(cluster, "rollout", "status", "daemonset/millrace", "--timeout=280s");
  } else {
    await Promise.all(nodes.map((node) => cluster.agent(node).kill()));
    await startAgents(cluster, other);
  }
  await Promise.all(nodes.map((node) => inForce(cluster, node, began)));
}

/** Starts the agents, of another build when there is one; their maps and programs are theirs when this returns. */
export async function startAgents(cluster: Cluster, other?: OtherAgents): Promise<void> {
  const began = Date.now();
  // A cluster is found by its name: this one differs by what its agents are started from.
  const same = new Cluster({ ...cluster.config, dist: other?.dist ?? "" });
  await Promise.all(
    cluster.nodes.map(async ({ name }) => {
      await same.agent(name).start();
      await inForce(cluster, name, began);
    }),
  );
}
