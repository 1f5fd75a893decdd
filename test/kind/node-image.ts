// The image of kind's nodes, made without a registry: Debian's packages, the files of kind's own module, and Kubernetes built from source,
// with the images of its control plane in containerd's store. kind's own is made by `docker build` and pulls.
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fetchPackages, makeDebianTree } from "../../scripts/image/debian.ts";
import { digestOf } from "../../scripts/image/layer.ts";
import { runChecked } from "../../src/lab/shell.ts";
import { imageArchives } from "../cluster/images.ts";
import { kubernetesVersion, programPath, programsFingerprint } from "../cluster/programs.ts";
import type { Progress } from "../cluster/progress.ts";
import { hostEnvironment, onHost, runOnHost } from "./docker.ts";
import { CACHE, REPOSITORY } from "./paths.ts";
import { corednsPath, crictlPath, KIND_VERSION, kindSource, kubeadmPath } from "./programs.ts";

/** What kind's base image has, containerd as Debian packs it, and what is called in nodes by the tests. */
const PACKAGES = [
  ...["systemd", "systemd-sysv", "dbus", "conntrack", "iptables", "nftables", "iproute2", "ethtool", "util-linux"],
  ...["mount", "kmod", "libseccomp2", "pigz", "bash", "ca-certificates", "curl", "jq", "procps"],
  ...["containerd", "runc", "containernetworking-plugins", "iputils-ping", "iputils-arping"],
];
const UNUSED = ["doc", "man", "info", "locale"].map((directory) => `/usr/share/${directory}/*`);
const CNI_PLUGINS = ["host-local", "loopback", "portmap", "ptp"];
const UNITS = ["kubelet", "containerd", "undo-mount-hacks"];
/** Units of Debian's that kind's base image is without. */
const UNWANTED = [
  "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
  ...["lib/systemd/system/multi-user.target.wants/*", "etc/systemd/system/*.wants/*"],
  ...["lib/systemd/system/local-fs.target.wants/*", "lib/systemd/system/sockets.target.wants/*udev*"],
  ...["lib/systemd/system/sockets.target.wants/*initctl*", "lib/systemd/system/basic.target.wants/*"],
  "lib/systemd/system/containerd.service",
];

/** Changes with everything that the image is made of. */
export function nodeImage(): string {
  const hash = createHash("sha256").update(`${programsFingerprint()} ${KIND_VERSION} ${PACKAGES.join()}`);
  for (const file of ["node-image.ts", "coredns/main.go"]) hash.update(readFileSync(join(import.meta.dirname, file)));
  return `localhost/kindest-node:${kubernetesVersion()}-${hash.digest("hex").slice(0, 12)}`;
}

/** Makes it unless Docker, which runs, has it. Not to be run twice at once. */
export async function makeNodeImage(progress: Progress): Promise<string> {
  const name = nodeImage();
  if ((await runOnHost(["docker", "image", "inspect", name])).status === 0) return name;
  const root = join(CACHE, "root.part");
  rmSync(root, { recursive: true, force: true });
  mkdirSync(root, { recursive: true });
  try {
    const base = await bootstrapBase(progress);
    progress("unpacking the nodes' Debian");
    await runChecked("tar", ["-xf", base, "-C", root, "--numeric-owner", "--exclude=./dev/*"]);
    await addKindFiles(root);
    await addKubernetes(root);
    progress("putting the control plane's images into the nodes' containerd");
    await addImages(root);
    progress("giving the node image to Docker");
    await importRoot(root, name);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  return name;
}

async function bootstrapBase(progress: Progress): Promise<string> {
  const key = createHash("sha256").update(PACKAGES.join()).digest("hex").slice(0, 12);
  const target = join(CACHE, `base-${key}.tar`);
  if (existsSync(target)) return target;
  progress("making the nodes' Debian");
  const excluded = UNUSED.map((path) => `--dpkgopt=path-exclude=${path}`);
  const options = ["--mode=root", "--quiet", "--variant=minbase", `--include=${PACKAGES.join(",")}`, ...excluded];
  await runChecked("nice", ["-n", "5", "mmdebstrap", ...options, "bookworm", `${target}.part.tar`]);
  renameSync(`${target}.part.tar`, target);
  return target;
}

/** What the Dockerfile of kind's base image does. */
async function addKindFiles(root: string): Promise<void> {
  const files = join(await kindSource(), "images/base/files");
  await runChecked("cp", ["-r", "--no-preserve=mode,ownership", `${files}/.`, root]);
  for (const directory of ["usr/local/bin", "kind/bin"]) {
    for (const name of readdirSync(join(root, directory))) chmodSync(join(root, directory, name), 0o755);
  }
  await runChecked("sh", ["-c", `cd "$0" && rm -f ${UNWANTED.join(" ")}`, root]);
  const journal = join(root, "etc/systemd/journald.conf");
  writeFileSync(journal, `${readFileSync(journal, "utf8")}ReadKMsg=no\n`);
  link("/usr/lib/systemd/systemd", join(root, "sbin/init"));
  for (const name of ["containerd", "ctr", "containerd-shim-runc-v2"]) {
    link(`/usr/bin/${name}`, join(root, "usr/local/bin", name));
  }
  for (const directory of ["opt/cni/bin", "etc/kubernetes/manifests", "kind/manifests", "LICENSES"]) {
    mkdirSync(join(root, directory), { recursive: true });
  }
  for (const plugin of CNI_PLUGINS) {
    copyFileSync(join(root, "usr/lib/cni", plugin), join(root, "opt/cni/bin", plugin));
    chmodSync(join(root, "opt/cni/bin", plugin), 0o755);
  }
  const wants = join(root, "etc/systemd/system/multi-user.target.wants");
  mkdirSync(wants, { recursive: true });
  for (const unit of UNITS) link(`/etc/systemd/system/${unit}.service`, join(wants, `${unit}.service`));
  link("/dev/null", join(root, "etc/systemd/system/systemd-binfmt.service"));
  await configureContainerd(root);
}

function link(target: string, path: string): void {
  rmSync(path, { force: true });
  symlinkSync(target, path);
}

async function configureContainerd(root: string): Promise<void> {
  const spec = JSON.parse(await runChecked("chroot", [root, "ctr", "oci", "spec"])) as {
    process: { rlimits?: unknown };
    hooks?: { createContainer?: object[] };
  };
  delete spec.process.rlimits;
  const hooks = [...(spec.hooks?.createContainer ?? []), { path: "/kind/bin/mount-product-files.sh" }];
  const base = { ...spec, hooks: { ...spec.hooks, createContainer: hooks } };
  writeFileSync(join(root, "etc/containerd/cri-base.json"), JSON.stringify(base));
  const file = join(root, "etc/containerd/config.toml");
  const settings = readFileSync(file, "utf8");
  // Without CAP_SYS_RESOURCE nobody may lower an oom_score_adj: a machine that is a container itself.
  const restricted = hasCapability(24) ? settings : settings.replace("oom_score_adj = false", "oom_score_adj = true");
  writeFileSync(file, restricted);
}

function hasCapability(number: number): boolean {
  const [, mask = "0"] = /^CapBnd:\s+([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  return ((BigInt(`0x${mask}`) >> BigInt(number)) & 1n) === 1n;
}

/** What `kind build node-image` adds to the base image. */
async function addKubernetes(root: string): Promise<void> {
  const programs = { kubelet: programPath("kubelet"), kubectl: programPath("kubectl"), kubeadm: kubeadmPath() };
  for (const [name, path] of Object.entries(programs)) await install(path, join(root, "usr/bin", name));
  await install(crictlPath(), join(root, "usr/local/bin/crictl"));
  writeFileSync(join(root, "kind/version"), kubernetesVersion());
  // kind's CNI and its storage come as images of its own: clusters are made without them.
  writeFileSync(join(root, "kind/manifests/default-cni.yaml"), "");
  writeFileSync(
    join(root, "kind/manifests/default-storage.yaml"),
    "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: standard}\nprovisioner: kubernetes.io/no-provisioner\n",
  );
}

async function install(from: string, to: string): Promise<void> {
  await runChecked("install", ["-D", "-m", "755", from, to]);
}

interface Made {
  readonly tag: string;
  readonly layers: readonly string[];
  readonly entry: string;
}

/** An archive of the control plane's images by the names that kubeadm asks for, and the test cluster's own beside it. */
async function addImages(root: string): Promise<void> {
  const work = join(CACHE, "images.part");
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work);
  try {
    const tags = await kubeadmImages();
    const tagOf = (name: string): string => tags.find((tag) => tag.includes(`/${name}:`)) ?? `localhost/${name}:1`;
    const made: Made[] = [];
    for (const name of ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"] as const) {
      const layer = await programLayer(work, name, programPath(name), `usr/local/bin/${name}`);
      made.push({ tag: tagOf(name), layers: [layer], entry: name });
    }
    const coredns = await programLayer(work, "coredns", corednsPath(), "coredns");
    made.push({ tag: tagOf("coredns"), layers: [coredns], entry: "/coredns" });
    made.push({
      tag: sandboxImage(root),
      layers: [await programLayer(work, "pause", programPath("pause"), "pause")],
      entry: "/pause",
    });
    const proxy = await programLayer(work, "kube-proxy", programPath("kube-proxy"), "usr/local/bin/kube-proxy");
    made.push({ tag: tagOf("kube-proxy"), layers: [await debianLayer(work), proxy], entry: "kube-proxy" });
    const entries = [];
    for (const image of made) entries.push(await describe(work, image));
    writeFileSync(join(work, "manifest.json"), JSON.stringify(entries));
    const archive = join(CACHE, "images.part.tar");
    await runChecked("tar", ["-C", work, "-cf", archive, ...readdirSync(work).sort()]);
    await importInto(join(root, "var/lib/containerd"), [archive, ...imageArchives("cluster")]);
    rmSync(archive);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function kubeadmImages(): Promise<string[]> {
  const args = ["config", "images", "list", "--kubernetes-version", kubernetesVersion()];
  return (await runChecked(kubeadmPath(), args)).split("\n").filter((line) => line.includes(":"));
}

function sandboxImage(root: string): string {
  const [, image = ""] =
    /sandbox_image = "(.+)"/.exec(readFileSync(join(root, "etc/containerd/config.toml"), "utf8")) ?? [];
  return image;
}

async function programLayer(work: string, name: string, program: string, path: string): Promise<string> {
  const top = join(work, "top");
  await install(program, join(top, path));
  await packTo(join(work, `${name}.tar`), top);
  return `${name}.tar`;
}

/** iptables and nft for kube-proxy: what our own image has of Debian. */
async function debianLayer(work: string): Promise<string> {
  const top = join(work, "top");
  mkdirSync(top);
  const architecture = process.arch === "arm64" ? "arm64" : "amd64";
  await makeDebianTree(await fetchPackages(join(REPOSITORY, ".cache/image"), architecture), top);
  await packTo(join(work, "debian-tables.tar"), top);
  return "debian-tables.tar";
}

async function packTo(tar: string, top: string): Promise<void> {
  await runChecked("tar", ["-C", top, "--owner=0", "--group=0", "--numeric-owner", "-cf", tar, "."]);
  rmSync(top, { recursive: true });
}

async function describe(work: string, { tag, layers, entry }: Made): Promise<object> {
  const config = {
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    os: "linux",
    config: { Entrypoint: [entry], Env: ["PATH=/usr/local/bin:/usr/sbin:/usr/bin"], WorkingDir: "/" },
    rootfs: { type: "layers", diff_ids: await Promise.all(layers.map((layer) => digestOf(join(work, layer)))) },
  };
  const file = `${createHash("sha256").update(tag).digest("hex").slice(0, 16)}.json`;
  writeFileSync(join(work, file), JSON.stringify(config));
  return { Config: file, RepoTags: [tag], Layers: layers };
}

/** Into a containerd's store, by one that runs for nothing else: it is Debian's, as the nodes' is. */
async function importInto(store: string, archives: readonly string[]): Promise<void> {
  const work = join(CACHE, "containerd.part");
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work);
  mkdirSync(store, { recursive: true });
  try {
    await runChecked("sh", ["-c", IMPORT, store, work, ...archives]);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const IMPORT = `set -eu
containerd --config /dev/null --root "$0" --state "$1/state" --address "$1/socket" --log-level error &
daemon=$!
trap 'kill $daemon; wait $daemon || true' EXIT
tries=0
until ctr --address "$1/socket" --connect-timeout 1s version >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 300 ] || { echo 'containerd does not answer' >&2; exit 1; }
  sleep 0.1
done
socket=$1/socket
shift
for archive; do ctr --address "$socket" --namespace k8s.io images import --all-platforms --no-unpack "$archive" >/dev/null; done`;

/** One layer, as kind's own is squashed. */
async function importRoot(root: string, name: string): Promise<void> {
  const changes = ['ENTRYPOINT [ "/usr/local/bin/entrypoint", "/sbin/init" ]', "ENV container=docker"];
  const options = changes.flatMap((change) => ["--change", change]);
  const [file, ...args] = onHost(["docker", "import", ...options, "-", name]);
  const pipe = 'set -o pipefail; root=$0; tar -C "$root" --numeric-owner -cf - . | "$@" >/dev/null';
  await runChecked("bash", ["-c", pipe, root, file, ...args], { env: hostEnvironment() });
}
