// Reads what there is to know of the machine and of this process on it. Changes nothing.
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { bpffsRefusal, isInPod, readMountFacts } from "../../datapath/bpffs-mount.ts";
import { flowTableBytes } from "../../datapath/flow-sizes.ts";
import { type Mount, parseMounts } from "../../lib/mountinfo.ts";
import { isBpffs, libbpfVersion } from "../../libbpf/mod.ts";
import type { AgentOptions } from "../options.ts";
import { type MachineFacts, PROGRAMS } from "./machine.ts";

/** The text of a file, "" when it cannot be read. */
export function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** "5.10.0-28-amd64" is 5.10. */
export function kernelVersion(text: string = release()): readonly [number, number] {
  const match = /^(\d+)\.(\d+)/.exec(text);
  return [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)];
}

/** Where a program of this name is on the path; undefined: nowhere. */
export function findProgram(name: string, env: NodeJS.ProcessEnv = process.env): string | undefined {
  // Programs of administrators are no part of every user's path.
  const directories = [...(env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return directories.map((one) => join(one, name)).find((path) => canRun(path));
}

function canRun(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function whyUnwritable(directory: string): string {
  let there = directory;
  while (!existsSync(there) && dirname(there) !== there) there = dirname(there);
  try {
    accessSync(there, constants.W_OK);
    return "";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

function canWrite(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function readLibbpf(): Pick<MachineFacts, "libbpf" | "libbpfProblem"> {
  try {
    return { libbpf: libbpfVersion(), libbpfProblem: "" };
  } catch (error) {
    return { libbpf: "", libbpfProblem: (error as Error).message };
  }
}

/** In a pod the first process is one of the pod, or cannot be told from it. */
function ofMachine(): readonly Mount[] | undefined {
  const text = isInPod() ? "" : textOf("/proc/1/mountinfo");
  return text === "" ? undefined : parseMounts(text);
}

/** The programs that a kubelet is, or is part of: K3s, RKE2, k0s and MicroK8s. */
const KUBELET = /^(?:\S*\/)?(?:kubelet|kubelite|k3s|rke2|k0s)(?: |$)/;

/** Whether one is among the command lines, whatever network namespace it is of: what is counted per user is the machine's. */
export const runsKubelet = (commandLines: readonly string[]): boolean =>
  commandLines.some((line) => KUBELET.test(line));

/** A number in a file of /proc/sys; undefined when there is none. */
export function sysctlNumber(path: string): number | undefined {
  const text = textOf(path).trim();
  return /^\d+$/.test(text) ? Number(text) : undefined;
}

/** `processes`: command lines on this machine. */
export function readMachine(
  options: AgentOptions,
  size: { memoryBytes: number; cpus: number },
  processes: readonly string[],
): MachineFacts {
  const status = textOf("/proc/self/status");
  const field = (name: string): string => new RegExp(`^${name}:\\s*(\\S+)`, "m").exec(status)?.[1] ?? "";
  const memlock = /^Max locked memory\s+(\S+)/m.exec(textOf("/proc/self/limits"))?.[1] ?? "unlimited";
  const offset = /^(?:boottime|7)\s+(-?\d+)/m.exec(textOf("/proc/self/timens_offsets"))?.[1];
  let parent = options.pinDir;
  while (!existsSync(parent) && dirname(parent) !== parent) parent = dirname(parent);
  const facts = readMountFacts();
  return {
    isRoot: process.geteuid?.() === 0,
    capabilities: BigInt(`0x${field("CapEff") || "0"}`),
    architecture: process.arch,
    ...size,
    flowBytes: flowTableBytes(options.mapSizes),
    ...readLibbpf(),
    node: process.versions.node,
    programs: Object.keys(PROGRAMS).filter((name) => findProgram(name) !== undefined),
    kernel: kernelVersion(),
    pinDir: options.pinDir,
    isPinDirBpffs: isBpffs(parent),
    mounts: facts.mounts,
    machineMounts: ofMachine(),
    inPod: facts.inPod,
    bpffsRefusal: bpffsRefusal(facts),
    stateDir: options.stateDir,
    stateDirProblem: whyUnwritable(options.stateDir),
    canWriteSysctls: canWrite("/proc/sys/net/ipv4/ip_local_reserved_ports"),
    memlockBytes: memlock === "unlimited" ? Number.POSITIVE_INFINITY : Number(memlock),
    inotifyInstances: sysctlNumber("/proc/sys/fs/inotify/max_user_instances"),
    hasKubelet: facts.inPod || runsKubelet(processes),
    bootOffsetSeconds: Number(offset ?? 0),
    lockdown: /\[(\w+)\]/.exec(textOf("/sys/kernel/security/lockdown"))?.[1] ?? "",
    selinux: textOf("/sys/fs/selinux/enforce").trim() === "1",
    seccomp: field("Seccomp") === "2",
  };
}
