// The cluster's images, made without a registry: a docker-archive that holds pause, CoreDNS, and agnhost on a small Debian;
// and for Kubernetes' end-to-end specs one more, of stand-ins for the images that they pull.
import { createHash } from "node:crypto";
import {
  createReadStream,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { runChecked } from "../../src/lab/shell.ts";
import { CACHE } from "./paths.ts";
import { moduleVersion, type ProgramName, programPath, programsFingerprint, removeOutdated } from "./programs.ts";
import type { Progress } from "./progress.ts";

export const IMAGE_SETS = ["cluster", "conformance"] as const;
/** "conformance" is all of "cluster", and more. */
export type ImageSet = (typeof IMAGE_SETS)[number];

interface Recipe {
  readonly names: readonly string[];
  /** In its root directory. The first is what it runs; none: the pod says. */
  readonly programs: readonly ProgramName[];
  readonly command: readonly string[];
  /** The Debian with the tools that are called in pods; none: the programs are all there is. */
  readonly root?: DebianRoot;
  /** It has the files that agnhost's servers look for: a certificate, and an image for `fake-registry-server`. */
  readonly hasFiles?: boolean;
}

interface DebianRoot {
  readonly name: string;
  readonly packages: readonly string[];
}

export const PAUSE_IMAGE = "localhost/pause:1";
export const COREDNS_IMAGE = `localhost/coredns:${moduleVersion("github.com/coredns/coredns").slice(1)}`;
/** Kubernetes' test image: `agnhost netexec` and others, and curl, ip, ping, nc, sh, getent beside them. */
export const AGNHOST_IMAGE = "localhost/agnhost:1";

const SMALL: DebianRoot = { name: "debian", packages: ["curl", "iproute2", "iputils-ping", "netcat-openbsd"] };
/** With what the specs call in their pods beside that. */
const TOOLS: DebianRoot = {
  name: "debian-tools",
  packages: [...SMALL.packages, "bind9-dnsutils", "conntrack", "iperf", "iptables", "net-tools", "procps", "wget"],
};

/** What the specs of sig-network pull, by the names of test/utils/image/manifest.go of the version that e2e.test is built from. */
const E2E = "registry.k8s.io/e2e-test-images";
const RECIPES: Readonly<Record<ImageSet, readonly Recipe[]>> = {
  cluster: [
    { names: [PAUSE_IMAGE], programs: ["pause"], command: [] },
    { names: [COREDNS_IMAGE], programs: ["coredns"], command: [] },
    { names: [AGNHOST_IMAGE], programs: ["agnhost"], command: ["pause"], root: SMALL },
  ],
  conformance: [
    { names: ["registry.k8s.io/pause:3.10.2"], programs: ["pause"], command: [] },
    {
      names: [`${E2E}/agnhost:2.66.1`, `${E2E}/agnhost:2.55`],
      programs: ["agnhost", "coredns"],
      command: ["pause"],
      root: TOOLS,
      hasFiles: true,
    },
    { names: [`${E2E}/nginx:1.27.0-2`], programs: ["agnhost"], command: ["test-webserver"], root: TOOLS },
    { names: [`${E2E}/regression-issue-74839:1.5`], programs: ["regression-issue-74839"], command: [], root: TOOLS },
    {
      names: [
        `${E2E}/busybox:1.37.0-2`,
        `${E2E}/glibc-dns-testing:2.1.1`,
        "registry.k8s.io/build-image/distroless-iptables:v0.9.9",
      ],
      programs: [],
      command: ["sh"],
      root: TOOLS,
    },
  ],
};

const UNUSED = ["doc", "man", "info", "locale"].map((directory) => `/usr/share/${directory}/*`);

/** Where a set's archives are once `makeImages` has returned, named by what they are made of. */
export function imageArchives(set: ImageSet): string[] {
  return set === "cluster" ? [archiveOf("cluster")] : [archiveOf("cluster"), archiveOf("conformance")];
}

function archiveOf(set: ImageSet): string {
  if (set === "cluster") return join(CACHE, `images-${programsFingerprint()}.tar`);
  const recipes = createHash("sha256").update(JSON.stringify(RECIPES[set])).digest("hex").slice(0, 8);
  return join(CACHE, `images-${programsFingerprint()}-${set}-${recipes}.tar`);
}

/** Makes the archives that are missing, from the programs as they were built. Not to be run twice at once. */
export async function makeImages(progress: Progress, set: ImageSet): Promise<void> {
  for (const one of set === "cluster" ? [set] : IMAGE_SETS) {
    if (!existsSync(archiveOf(one))) await makeArchive(progress, one);
  }
  removeOutdated("images");
}

async function makeArchive(progress: Progress, set: ImageSet): Promise<void> {
  const archive = archiveOf(set);
  const roots = new Set(RECIPES[set].flatMap(({ root }) => root ?? []));
  for (const root of roots) {
    if (existsSync(rootArchive(root))) continue;
    progress(`making ${root.name === SMALL.name ? "a small Debian" : "a Debian with tools"} for pods`);
    await bootstrapDebian(root);
  }
  progress("making the images");
  const work = join(CACHE, "images.part");
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work);
  for (const root of roots) linkSync(rootArchive(root), join(work, `${root.name}.tar`));
  const entries = [];
  for (const [i, recipe] of RECIPES[set].entries()) entries.push(await addImage(work, recipe, `${i}`));
  writeFileSync(join(work, "manifest.json"), JSON.stringify(entries));
  await runChecked("tar", ["-C", work, "-cf", `${archive}.part`, ...readdirSync(work).sort()]);
  rmSync(work, { recursive: true });
  renameSync(`${archive}.part`, archive);
}

function rootArchive({ name }: DebianRoot): string {
  return join(CACHE, `${name}.tar`);
}

async function bootstrapDebian(root: DebianRoot): Promise<void> {
  const target = rootArchive(root);
  const excluded = UNUSED.map((path) => `--dpkgopt=path-exclude=${path}`);
  const included = `--include=${root.packages.join(",")}`;
  const options = ["--mode=root", "--quiet", "--variant=essential", included, ...excluded];
  await runChecked("nice", ["-n", "5", "mmdebstrap", ...options, "bookworm", `${target}.part.tar`]);
  renameSync(`${target}.part.tar`, target);
}

/** Puts an image's own layers and its configuration into the archive's directory. Returns its entry of manifest.json. */
async function addImage(work: string, recipe: Recipe, id: string): Promise<object> {
  const { names, programs, command, root, hasFiles = false } = recipe;
  const layers = root === undefined ? [] : [`${root.name}.tar`];
  for (const program of programs) layers.push(await packLayer(work, program, dirname(programPath(program)), program));
  if (hasFiles) layers.push(await packFiles(work));
  const digests = await Promise.all(layers.map((layer) => digestOf(join(work, layer))));
  const [entry] = programs;
  const config = imageConfig({ ...(entry && { Entrypoint: [`/${entry}`] }), Cmd: command }, digests);
  writeFileSync(join(work, `${id}.json`), config);
  return { Config: `${id}.json`, RepoTags: names, Layers: layers };
}

function imageConfig(run: object, digests: readonly string[]): string {
  const environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"];
  return JSON.stringify({
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    os: "linux",
    config: { ...run, Env: environment, WorkingDir: "/" },
    rootfs: { type: "layers", diff_ids: digests },
  });
}

/** Packs one entry of a directory, unless another image has had it packed. Returns the layer's file. */
async function packLayer(work: string, name: string, directory: string, entry: string): Promise<string> {
  const layer = `${name}.tar`;
  const owner = ["--owner=0", "--group=0", "--numeric-owner"];
  const args = ["-C", directory, ...owner, "-cf", join(work, layer), entry];
  if (!existsSync(join(work, layer))) await runChecked("tar", args);
  return layer;
}

const OCI = "application/vnd.oci.image";

/** A layer with what agnhost's servers look for. */
async function packFiles(work: string): Promise<string> {
  const top = join(CACHE, "files.part");
  rmSync(top, { recursive: true, force: true });
  await writeRegistry(work, join(top, "var/registry"));
  const pair = [
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-keyout",
    join(top, "localhost.key"),
    "-out",
    join(top, "localhost.crt"),
  ];
  await runChecked("openssl", ["req", "-x509", "-days", "3650", "-subj", "/CN=localhost", ...pair]);
  const packed = await packLayer(work, "files", top, ".");
  rmSync(top, { recursive: true });
  return packed;
}

/** The image `pause:testing` as a registry keeps it: every digest has a file of its own. */
async function writeRegistry(work: string, directory: string): Promise<void> {
  const image = join(directory, "pause");
  const keep = (kind: "blobs" | "manifests", bytes: Buffer) => {
    const hash = createHash("sha256").update(bytes).digest("hex");
    const place = join(image, kind, "sha256", hash.slice(0, 2), hash);
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, "data"), bytes);
    return { digest: `sha256:${hash}`, size: bytes.length };
  };
  const layer = readFileSync(join(work, await packLayer(work, "pause", dirname(programPath("pause")), "pause")));
  const layers = [{ mediaType: `${OCI}.layer.v1.tar`, ...keep("blobs", layer) }];
  const config = Buffer.from(imageConfig({ Entrypoint: ["/pause"] }, [layers[0]!.digest]));
  const manifest = {
    schemaVersion: 2,
    mediaType: `${OCI}.manifest.v1+json`,
    config: { mediaType: `${OCI}.config.v1+json`, ...keep("blobs", config) },
    layers,
  };
  const { digest } = keep("manifests", Buffer.from(JSON.stringify(manifest)));
  writeFileSync(join(image, "manifests/testing"), `${digest}\n`);
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const part of createReadStream(path)) hash.update(part as Buffer);
  return `sha256:${hash.digest("hex")}`;
}
