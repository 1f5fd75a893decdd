// The cluster's programs: built from source when they are first needed, kept by a hash of what they are built from.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { runChecked, runProgram } from "../../src/lab/shell.ts";
import { Failure } from "../../src/lib/errors.ts";
import { CACHE, STATE_ROOT } from "./paths.ts";
import type { Progress } from "./progress.ts";

export const MODULE = join(import.meta.dirname, "programs");

/** Versions of Kubernetes, the newest first, each by the module file that it is built with. */
const MODULE_FILES: Readonly<Record<string, string>> = { "1.37": "go.mod", "1.34": "kubernetes-1.34.mod" };

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
  "e2e.test": "./e2e",
  ginkgo: "github.com/onsi/ginkgo/v2/ginkgo",
  "regression-issue-74839": "k8s.io/kubernetes/test/images/regression-issue-74839",
} as const;

export type ProgramName = keyof typeof PACKAGES;

/** Built for `make conformance` alone, and of the newest version alone. */
const OF_CONFORMANCE: readonly ProgramName[] = ["e2e.test", "ginkgo", "regression-issue-74839"];

/** The module file of the version that KUBERNETES in the environment asks for. @throws usage */
function moduleFile(): string {
  const wanted = process.env["KUBERNETES"] || Object.keys(MODULE_FILES)[0]!;
  const file = MODULE_FILES[wanted];
  if (file !== undefined) return file;
  const known = Object.keys(MODULE_FILES).join(" or ");
  throw new Failure("usage", "KUBERNETES", `could not use KUBERNETES=${wanted}: it is ${known}`);
}

/** Names the programs that are built from just these sources. */
function fingerprint(file: string): string {
  const own = ["etcd", "coredns", "pause"].map((name) => join(name, "main.go"));
  const hash = createHash("sha256").update(process.arch);
  for (const source of [file, sumOf(file), ...own]) hash.update(readFileSync(join(MODULE, source)));
  return hash.digest("hex").slice(0, 12);
}

function sumOf(file: string): string {
  return file.replace(/mod$/, "sum");
}

/** Names the programs of the version in use, and what is made of them. */
export function programsFingerprint(): string {
  return fingerprint(moduleFile());
}

function programsDirectory(): string {
  return join(CACHE, `programs-${programsFingerprint()}`);
}

/** A program's path. It is there once `buildPrograms` has returned. */
export function programPath(name: ProgramName): string {
  return join(programsDirectory(), name);
}

/** The version of Kubernetes, as `v1.37.2`. */
export function kubernetesVersion(): string {
  return moduleVersion("k8s.io/kubernetes");
}

/** The version that the module file requires of a module. @throws not_found */
export function moduleVersion(module: string): string {
  const file = join(MODULE, moduleFile());
  const [, version] = new RegExp(`^\\s*${module} (v\\S+)`, "m").exec(readFileSync(file, "utf8")) ?? [];
  if (version === undefined) {
    throw new Failure("not_found", module, `could not find ${module} among the requirements of ${file}`);
  }
  return version;
}

/** Builds what is missing; the first time takes minutes. Not to be run twice at once. */
export async function buildPrograms(progress: Progress, conformance: boolean): Promise<void> {
  const directory = programsDirectory();
  const names = Object.keys(PACKAGES) as ProgramName[];
  const wanted = names.filter((name) => conformance || !OF_CONFORMANCE.includes(name));
  const missing = wanted.filter((name) => !existsSync(join(directory, name)));
  if (missing.length > 0) await checkGo();
  mkdirSync(directory, { recursive: true });
  for (const name of missing) {
    progress(`building ${name}`);
    await buildProgram(name, join(directory, name));
  }
  removeOutdated("programs");
}

/** Removes from the cache whatever is called `PREFIX-FINGERPRINT…` and is made of no version's programs as they are now. */
export function removeOutdated(prefix: string): void {
  // A cluster that stands runs from what it was started with.
  if (existsSync(STATE_ROOT)) return;
  const current = Object.values(MODULE_FILES).map((file) => `${prefix}-${fingerprint(file)}`);
  for (const name of readdirSync(CACHE)) {
    if (!name.startsWith(`${prefix}-`) || current.some((kept) => name.startsWith(kept))) continue;
    rmSync(join(CACHE, name), { recursive: true });
  }
}

async function buildProgram(name: ProgramName, target: string): Promise<void> {
  const unfinished = `${target}.part`;
  const verb = name === "e2e.test" ? ["test", "-c"] : ["build"];
  const options = [`-modfile=${moduleFile()}`, "-buildvcs=false", "-trimpath", "-ldflags", linkerFlags()];
  const args = ["-C", MODULE, ...verb, ...options, "-o", unfinished, PACKAGES[name]];
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
  const least = Number(/^go 1\.(\d+)/m.exec(readFileSync(join(MODULE, moduleFile()), "utf8"))?.[1]);
  const result = await runProgram("go", ["env", "GOVERSION"]).catch(() => undefined);
  const [, minor] = /^go1\.(\d+)/.exec(result?.stdout ?? "") ?? [];
  if (minor !== undefined && Number(minor) >= least) return;
  const found = minor === undefined ? "there is no `go`" : `\`go\` is ${result?.stdout.trim()}`;
  throw new Failure("machine", "go", `could not build the cluster's programs: ${found}; they need Go 1.${least}`);
}
