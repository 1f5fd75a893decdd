// The cluster's images, made without a registry: one docker-archive that holds pause, CoreDNS, and agnhost on a small Debian.
import { createHash } from "node:crypto";
import {
  createReadStream,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { runChecked } from "../../src/lab/shell.ts";
import { CACHE } from "./paths.ts";
import { moduleVersion, type ProgramName, programPath } from "./programs.ts";
import type { Progress } from "./progress.ts";

interface Recipe {
  readonly name: string;
  readonly program: ProgramName;
  readonly command: readonly string[];
  /** Whether its program runs on a Debian with the tools that tests call in pods, or alone. */
  readonly debian: boolean;
}

export const PAUSE_IMAGE = "localhost/pause:1";
export const COREDNS_IMAGE = `localhost/coredns:${moduleVersion("github.com/coredns/coredns").slice(1)}`;
/** Kubernetes' test image: `agnhost netexec` and others, and curl, ip, ping, nc, sh, getent beside them. */
export const AGNHOST_IMAGE = "localhost/agnhost:1";

const RECIPES: readonly Recipe[] = [
  { name: PAUSE_IMAGE, program: "pause", command: [], debian: false },
  { name: COREDNS_IMAGE, program: "coredns", command: [], debian: false },
  { name: AGNHOST_IMAGE, program: "agnhost", command: ["pause"], debian: true },
];

const DEBIAN_PACKAGES = "curl,iproute2,iputils-ping,netcat-openbsd";
const UNUSED = ["doc", "man", "info", "locale"].map((directory) => `/usr/share/${directory}/*`);

/** Where the archive is once `makeImages` has returned: named by the programs it was made of. */
export function imageArchive(): string {
  const programs = basename(dirname(programPath("pause"))).replace("programs-", "");
  return join(CACHE, `images-${programs}.tar`);
}

/** Makes the archive unless it is there, from the programs as they were built. Not to be run twice at once. */
export async function makeImages(progress: Progress): Promise<void> {
  const archive = imageArchive();
  if (existsSync(archive)) return;
  const root = join(CACHE, "debian.tar");
  if (!existsSync(root)) {
    progress("making a small Debian for pods");
    await bootstrapDebian(root);
  }
  progress("making the images");
  const work = join(CACHE, "images.part");
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work);
  const entries = [];
  for (const recipe of RECIPES) entries.push(await addImage(work, recipe, root));
  writeFileSync(join(work, "manifest.json"), JSON.stringify(entries));
  await runChecked("tar", ["-C", work, "-cf", `${archive}.part`, ...readdirSync(work).sort()]);
  rmSync(work, { recursive: true });
  for (const old of readdirSync(CACHE)) if (/^images-.*\.tar$/.test(old)) rmSync(join(CACHE, old));
  renameSync(`${archive}.part`, archive);
}

async function bootstrapDebian(target: string): Promise<void> {
  const excluded = UNUSED.map((path) => `--dpkgopt=path-exclude=${path}`);
  const options = ["--mode=root", "--quiet", "--variant=essential", `--include=${DEBIAN_PACKAGES}`, ...excluded];
  await runChecked("nice", ["-n", "5", "mmdebstrap", ...options, "bookworm", `${target}.part.tar`]);
  renameSync(`${target}.part.tar`, target);
}

/** Puts an image's layers and its configuration into the archive's directory. Returns its entry of manifest.json. */
async function addImage(work: string, recipe: Recipe, debian: string): Promise<object> {
  const { program, name, command } = recipe;
  const layers: string[] = [];
  if (recipe.debian) {
    layers.push("debian.tar");
    linkSync(debian, join(work, "debian.tar"));
  }
  layers.push(`${program}.tar`);
  const owner = ["--owner=0", "--group=0", "--numeric-owner"];
  const path = programPath(program);
  await runChecked("tar", ["-C", dirname(path), ...owner, "-cf", join(work, `${program}.tar`), program]);
  const digests = await Promise.all(layers.map((layer) => digestOf(join(work, layer))));
  const config = {
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    os: "linux",
    config: {
      Entrypoint: [`/${program}`],
      Cmd: command,
      Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"],
      WorkingDir: "/",
    },
    rootfs: { type: "layers", diff_ids: digests },
  };
  writeFileSync(join(work, `${program}.json`), JSON.stringify(config));
  return { Config: `${program}.json`, RepoTags: [name], Layers: layers };
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const part of createReadStream(path)) hash.update(part as Buffer);
  return `sha256:${hash.digest("hex")}`;
}
