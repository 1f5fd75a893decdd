// A kernel of Debian's as QEMU takes it: its packages, unpacked as far as a guest needs them, and an initramfs that mounts the
// host's root. What is complete is kept; `rm -r .cache/kernels/NAME` takes a newer one.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gzipSync, zstdDecompressSync } from "node:zlib";
import { Failure } from "../../src/lib/errors.ts";
import { type Apt, aptFor } from "./apt.ts";
import { cpio } from "./cpio.ts";
import type { KernelSource } from "./kernels.ts";
import { CACHE, GUEST_SCRIPTS, kernelPaths } from "./paths.ts";

export interface KernelFiles {
  readonly name: string;
  /** What uname says: "6.1.0-56-amd64". */
  readonly release: string;
  /** Of the package: "6.1.192-2". */
  readonly version: string;
  readonly image: string;
  readonly modules: string;
  readonly initramfs: string;
}

/** A package of the kernel itself, as some releases come in several. */
const PART = /^linux-(base|binary|modules|image)-\d/;
/** What the initramfs loads, with all they depend on. Those that are built in are nowhere. */
const EARLY_MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];
/** Drivers that no guest has; they are most of a package. Of drivers/, net and virtio stay. */
const LEFT_OUT = ["*/kernel/drivers/[a-mo-uw-z]*", "*/kernel/drivers/net/ethernet", "*/kernel/drivers/net/wireless"];
const ALSO_LEFT_OUT = ["*/kernel/drivers/video", "*/kernel/drivers/nvme", "*/kernel/sound", "*/usr/share"];

/** The kernel's files, made when they are missing. @throws Failure "machine" when Debian does not have it, or apt cannot reach it */
export function kernelFiles(source: KernelSource, progress: (step: string) => void): KernelFiles {
  const paths = kernelPaths(source.name);
  if (!existsSync(paths.release)) {
    for (const path of [paths.debs, paths.root]) rmSync(path, { recursive: true, force: true });
    progress(`${source.name}: looking for it in ${source.suite}`);
    const apt = aptFor(source.suite);
    try {
      fetchPackages(apt, source, paths.debs);
    } catch {
      // The lists are older than the mirror: a point release took the place of what they name.
      apt.update();
      fetchPackages(apt, source, paths.debs);
    }
    rmSync(join(CACHE, "apt"), { recursive: true, force: true });
    progress(`${source.name}: unpacking`);
    unpack(paths.debs, paths.root);
    const release = readdirSync(modulesRoot(paths.root))[0]!;
    execFileSync("depmod", ["-b", moduleBase(paths.root), release], { stdio: ["ignore", "ignore", "inherit"] });
    const version = packageVersion(paths.debs);
    rmSync(paths.debs, { recursive: true });
    writeFileSync(paths.release, `${release} ${version}\n`);
  }
  const [release = "", version = ""] = readFileSync(paths.release, "utf8").trim().split(" ");
  const modules = join(modulesRoot(paths.root), release);
  writeInitramfs(paths.root, release, paths.initramfs);
  const inBoot = join(paths.root, "boot", `vmlinuz-${release}`);
  const image = existsSync(inBoot) ? inBoot : join(modules, "vmlinuz");
  return { name: source.name, release, version, image, modules, initramfs: paths.initramfs };
}

function fetchPackages(apt: Apt, source: KernelSource, directory: string): void {
  const [image] = apt.find(source.image);
  if (image === undefined) {
    throw new Failure("machine", source.name, `could not find Linux ${source.name} in Debian's ${source.suite}`);
  }
  const names = new Set([image]);
  for (const name of names) for (const part of apt.dependencies(name, PART)) names.add(part);
  rmSync(directory, { recursive: true, force: true });
  apt.download([...names], directory);
}

function unpack(debs: string, root: string): void {
  mkdirSync(root, { recursive: true });
  const excludes = [...LEFT_OUT, ...ALSO_LEFT_OUT].map((pattern) => `--exclude='${pattern}'`).join(" ");
  for (const deb of readdirSync(debs)) {
    const script = `set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --no-same-owner ${excludes}`;
    const { status, stderr } = spawnSync("bash", ["-c", script, "unpack", join(debs, deb), root], { encoding: "utf8" });
    if (status !== 0) throw new Failure("machine", deb, `could not unpack ${deb}: ${stderr.trim()}`);
  }
}

/** Debian's merged /usr: some packages say lib, some usr/lib. */
function moduleBase(root: string): string {
  return existsSync(join(root, "lib/modules")) ? root : join(root, "usr");
}

function modulesRoot(root: string): string {
  return join(moduleBase(root), "lib/modules");
}

function packageVersion(debs: string): string {
  return execFileSync("dpkg-deb", ["-f", join(debs, readdirSync(debs)[0]!), "Version"], { encoding: "utf8" }).trim();
}

/** The early modules in the order in which they have to be loaded. */
function earlyModules(root: string, release: string): string[] {
  const files = new Set<string>();
  for (const name of EARLY_MODULES) {
    const args = ["-d", moduleBase(root), "-S", release, "--show-depends", name];
    const { stdout } = spawnSync("modprobe", args, { encoding: "utf8" });
    for (const match of stdout.matchAll(/^insmod (\S+)/gm)) files.add(match[1]!);
  }
  return [...files];
}

function moduleBytes(file: string): Uint8Array {
  if (file.endsWith(".xz")) return execFileSync("xz", ["-dc", file], { maxBuffer: 1 << 28 });
  const bytes = readFileSync(file);
  return file.endsWith(".zst") ? zstdDecompressSync(bytes) : bytes;
}

function writeInitramfs(root: string, release: string, file: string): void {
  const modules = earlyModules(root, release).map((path) => ({
    name: basename(path).replace(/\.(xz|zst)$/, ""),
    content: moduleBytes(path),
  }));
  const archive = cpio([
    { path: "bin" },
    { path: "bin/busybox", content: readFileSync("/bin/busybox") },
    { path: "bin/sh", link: "busybox" },
    { path: "init", content: readFileSync(join(GUEST_SCRIPTS, "initramfs-init.sh")) },
    { path: "modules" },
    ...modules.map(({ name, content }) => ({ path: `modules/${name}`, content })),
    { path: "modules.order", content: Buffer.from(modules.map(({ name }) => `${name}\n`).join("")) },
  ]);
  writeFileSync(file, gzipSync(archive, { level: 1 }));
}
