// The programs of kind clusters: Kubernetes' own and etcd are the test cluster's; kind, kubeadm, crictl and a CoreDNS with kubeadm's plugins
// are built from their Go modules when they are first needed.
import { copyFileSync, cpSync, existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { runChecked } from "../../src/lab/shell.ts";
import { kubernetesVersion, MODULE, programPath } from "../cluster/programs.ts";
import type { Progress } from "../cluster/progress.ts";
import { CACHE, PROGRAMS } from "./paths.ts";

export const KIND_VERSION = "v0.33.0";
const CRICTL_VERSION = "v1.36.0";

const goEnvironment = { ...process.env, CGO_ENABLED: "0", GOWORK: "off" };

/** Paths of what is of one Kubernetes. They are there once `buildKindPrograms` has returned. */
export function kubeadmPath(): string {
  return join(PROGRAMS, `kubeadm-${kubernetesVersion()}`);
}

export function corednsPath(): string {
  return join(PROGRAMS, `coredns-${kubernetesVersion()}`);
}

export function crictlPath(): string {
  return join(PROGRAMS, "crictl");
}

/** kind's own module: the files of its node images are in it. */
export async function kindSource(): Promise<string> {
  const cache = (await runChecked("go", ["env", "GOMODCACHE"])).trim();
  return join(cache, `sigs.k8s.io/kind@${KIND_VERSION}`);
}

/** Builds what is missing; the first time takes minutes. Not to be run twice at once. */
export async function buildKindPrograms(progress: Progress): Promise<void> {
  mkdirSync(PROGRAMS, { recursive: true });
  await install(progress, "kind", `sigs.k8s.io/kind@${KIND_VERSION}`);
  await install(progress, "crictl", `sigs.k8s.io/cri-tools/cmd/crictl@${CRICTL_VERSION}`);
  if (!existsSync(kubeadmPath()) || !existsSync(corednsPath())) await buildOfKubernetes(progress);
  rmSync(join(PROGRAMS, "kubectl"), { force: true });
  symlinkSync(programPath("kubectl"), join(PROGRAMS, "kubectl"));
}

async function install(progress: Progress, name: string, module: string): Promise<void> {
  if (existsSync(join(PROGRAMS, name))) return;
  progress(`building ${name}`);
  const env = { ...goEnvironment, GOBIN: PROGRAMS };
  await runChecked("nice", ["-n", "5", "go", "install", "-ldflags", "-s -w", module], { env });
}

/** In a copy of the test cluster's module: most of it is in the build cache, and what more it needs is not written into ours. */
async function buildOfKubernetes(progress: Progress): Promise<void> {
  const module = join(CACHE, "module");
  const [main = ""] = [kubernetesVersion()].map((version) => version.split(".")[1]);
  rmSync(module, { recursive: true, force: true });
  cpSync(MODULE, module, { recursive: true });
  cpSync(join(import.meta.dirname, "coredns"), join(module, "coredns-kind"), { recursive: true });
  const older = join(module, `kubernetes-1.${main}.mod`);
  if (existsSync(older)) {
    copyFileSync(older, join(module, "go.mod"));
    copyFileSync(older.replace(/mod$/, "sum"), join(module, "go.sum"));
  }
  const version = kubernetesVersion();
  const [major, minor] = version.slice(1).split(".");
  const values = { gitVersion: version, gitMajor: major, gitMinor: minor, gitTreeState: "clean" };
  const flags = Object.entries(values).map(([key, value]) => `-X k8s.io/component-base/version.${key}=${value}`);
  const build = async (target: string, packageName: string) => {
    const options = ["-mod=mod", "-buildvcs=false", "-trimpath", "-ldflags", ["-s -w", ...flags].join(" ")];
    const args = ["-n", "5", "go", "build", "-C", module, ...options, "-o", target, packageName];
    await runChecked("nice", args, { env: goEnvironment });
  };
  progress("building kubeadm");
  await build(kubeadmPath(), "k8s.io/kubernetes/cmd/kubeadm");
  progress("building CoreDNS");
  await build(corednsPath(), "./coredns-kind");
  rmSync(module, { recursive: true });
}
