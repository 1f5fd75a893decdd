// Images as containerd keeps them: imported and unpacked once, then given to each node by hard links. Importing them on every
// node took most of a cluster's start.
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { runChecked, runProgram } from "../../src/lab/shell.ts";
import { type ImageSet, imageArchives } from "./images.ts";
import { CACHE } from "./paths.ts";
import { removeOutdated } from "./programs.ts";
import type { Progress } from "./progress.ts";

/** containerd writes to these in place; everything else it only adds or removes. */
const DATABASES = ["io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db"];

const AGENT_STORE = "-agent-";

/** The root directory of a containerd that has the images, once `makeImageStore` has returned. */
export function imageStore(set: ImageSet): string {
  return join(CACHE, basename(imageArchives(set).at(-1)!, ".tar").replace("images-", "containerd-"));
}

/** Makes the store unless it is there; the archives are. Not to be run twice at once. */
export async function makeImageStore(progress: Progress, set: ImageSet): Promise<void> {
  const store = imageStore(set);
  removeOutdated("containerd");
  if (existsSync(store)) return;
  progress("unpacking the images");
  rmSync(`${store}.part`, { recursive: true, force: true });
  await importInto(`${store}.part`, imageArchives(set));
  renameSync(`${store}.part`, store);
}

/** Imports the archives by a containerd that runs for nothing else. */
async function importInto(root: string, archives: readonly string[]): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), "millrace-images-"));
  const settings = { root, state: join(work, "state"), socket: join(work, "containerd.sock") };
  const config = join(work, "containerd.toml");
  writeFileSync(
    config,
    `version = 2
root = "${settings.root}"
state = "${settings.state}"
oom_score = 0
disabled_plugins = ["io.containerd.grpc.v1.cri"]

[grpc]
  address = "${settings.socket}"
`,
  );
  try {
    // Unpacking mounts: in a mount namespace that ends with the script.
    await runChecked("unshare", ["--mount", "--", "sh", "-c", IMPORT, config, settings.socket, ...archives]);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const IMPORT = `set -eu
containerd --config "$0" --log-level error &
daemon=$!
trap 'kill $daemon; wait $daemon || true' EXIT
tries=0
until ctr --address "$1" --connect-timeout 1s version >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || { echo 'containerd does not answer' >&2; exit 1; }
  sleep 0.1
done
socket=$1
shift
for archive; do ctr --address "$socket" --namespace k8s.io images import "$archive" >/dev/null; done`;

/** The same with the agent's image, which is made far more often than the others. */
export function storeWithAgent(set: ImageSet, archive: string): string {
  const hash = createHash("sha256").update(readFileSync(archive)).digest("hex").slice(0, 12);
  return `${imageStore(set)}${AGENT_STORE}${hash}`;
}

/** Makes it unless it is there, and removes those of older images; returns it. `imageStore` is there. Not to be run twice at once. */
export async function makeStoreWithAgent(progress: Progress, set: ImageSet, archive: string): Promise<string> {
  const store = storeWithAgent(set, archive);
  if (existsSync(store)) return store;
  progress("unpacking the agent's image");
  // A cluster that stands has hard links of its own.
  for (const name of readdirSync(CACHE)) {
    if (name.startsWith(`${basename(imageStore(set))}${AGENT_STORE}`)) rmSync(join(CACHE, name), { recursive: true });
  }
  await copyImageStore(`${store}.part`, imageStore(set));
  await importInto(`${store}.part`, [archive]);
  renameSync(`${store}.part`, store);
  return store;
}

/** Fills a node's containerd root. Files are shared with the store where both are on one file system. */
export async function copyImageStore(target: string, store: string): Promise<void> {
  mkdirSync(target, { recursive: true });
  const linked = await runProgram("cp", ["-al", `${store}/.`, target]);
  if (linked.status !== 0) await runChecked("cp", ["-a", "--reflink=auto", `${store}/.`, target]);
  for (const database of DATABASES) {
    const path = join(target, database);
    rmSync(path);
    await runChecked("cp", ["-a", join(store, database), path]);
  }
}
