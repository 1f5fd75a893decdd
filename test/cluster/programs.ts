// The cluster's programs: built from source when they are first needed, kept by a hash of what they are built from.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { runChecked, runProgram } from "../../src/lab/shell.ts";
import { Failure } from "../../src/lib/errors.ts";
import { CACHE, STATE_ROOT } from "./paths.ts";
import type { Progress } from "./progress.ts";

const MODULE = join(import.meta.dirname, "programs");

/** Go packages by the program's name. The API server comes first: most of what it compiles the others share. */
const PACKAGES = {
  "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
  "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
  kubelet: "k8s.io/kubernetes/cmd/kubelet",
  kubectl: "k8s.io/kubernetes/cmd/kubectl",
  "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
  "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
  agnhost: "k8s.io/kubernetes/test/images/agnhost",
  etcd: "./etcd",
  coredns: "./coredns",
  pause: "./pause",
} as const;

export type ProgramName = keyof typeof PACKAGES;

const LEAST_GO = 24;

function sources(): string[] {
  const own = ["etcd", "coredns", "pause"].map((name) => join(name, "main.go"));
  return ["go.mod", "go.sum", ...own].map((name) => join(MODULE, name));
}

/** Names the directory of programs that were built from just these sources. */
function fingerprint(): string {
  const hash = createHash("sha256").update(process.arch);
  for (const source of sources()) hash.update(readFileSync(source));
  return hash.digest("hex").slice(0, 12);
}

function programsDirectory(): string {
  return join(CACHE, `programs-${fingerprint()}`);
}

/** A program's path. It is there once `buildPrograms` has returned. */
export function programPath(name: ProgramName): string {
  return join(programsDirectory(), name);
}

/** The version of Kubernetes, as `v1.34.4`. */
export function kubernetesVersion(): string {
  return moduleVersion("k8s.io/kubernetes");
}

/** The version that go.mod requires of a module. @throws not_found */
export function moduleVersion(module: string): string {
  const [, version] =
    new RegExp(`^\\s*${module} (v\\S+)`, "m").exec(readFileSync(join(MODULE, "go.mod"), "utf8")) ?? [];
  if (version === undefined) {
    throw new Failure("not_found", module, `could not find ${module} among the requirements of ${MODULE}/go.mod`);
  }
  return version;
}

/** Builds what is missing; the first time takes minutes. Not to be run twice at once. */
export async function buildPrograms(progress: Progress): Promise<void> {
  const directory = programsDirectory();
  const missing = (Object.keys(PACKAGES) as ProgramName[]).filter((name) => !existsSync(join(directory, name)));
  if (missing.length > 0) await checkGo();
  mkdirSync(directory, { recursive: true });
  for (const name of missing) {
    progress(`building ${name}`);
    await buildProgram(name, join(directory, name));
  }
  removeOutdated(directory);
}

/** A cluster that stands runs from the programs that it was started with. */
function removeOutdated(current: string): void {
  if (existsSync(STATE_ROOT)) return;
  for (const name of readdirSync(CACHE)) {
    const directory = join(CACHE, name);
    if (name.startsWith("programs-") && directory !== current) rmSync(directory, { recursive: true });
  }
}

async function buildProgram(name: ProgramName, target: string): Promise<void> {
  const unfinished = `${target}.part`;
  const args = [
    "-C",
    MODULE,
    "build",
    "-buildvcs=false",
    "-trimpath",
    "-ldflags",
    linkerFlags(),
    "-o",
    unfinished,
    PACKAGES[name],
  ];
  await runChecked("nice", ["-n", "5", "go", ...args], { env: { ...process.env, CGO_ENABLED: "0", GOWORK: "off" } });
  renameSync(unfinished, target);
}

/** The version goes where Kubernetes' own build writes it: without it the API server takes itself for v0.0.0. */
function linkerFlags(): string {
  const version = kubernetesVersion();
  const [major, minor] = version.slice(1).split(".");
  const values = { gitVersion: version, gitMajor: major, gitMinor: minor, gitTreeState: "clean" };
  const settings = Object.entries(values).map(([key, value]) => `-X k8s.io/component-base/version.${key}=${value}`);
  return ["-s -w", ...settings].join(" ");
}

async function checkGo(): Promise<void> {
  const result = await runProgram("go", ["env", "GOVERSION"]).catch(() => undefined);
  const [, minor] = /^go1\.(\d+)/.exec(result?.stdout ?? "") ?? [];
  if (minor !== undefined && Number(minor) >= LEAST_GO) return;
  const found = minor === undefined ? "there is no `go`" : `\`go\` is ${result?.stdout.trim()}`;
  throw new Failure("machine", "go", `could not build the cluster's programs: ${found}; they need Go 1.${LEAST_GO}`);
}
