// What a pod of the installer sees of its node before anything is changed there: `millrace node-check look` prints it, the installer reads it.
import { readFileSync } from "node:fs";
import { release } from "node:os";

export interface NodeLook {
  readonly kernel: string;
  /** Of those that the agent asks for: what this node's runtime cannot give. */
  readonly missingCapabilities: readonly string[];
  /** nf_conntrack is a module: an agent needs SYS_ADMIN to see what it is made of, and to ask it. */
  readonly isConntrackModule: boolean;
}

/** Numbers of linux/capability.h. */
const CAPABILITIES: Readonly<Record<string, number>> = {
  NET_ADMIN: 12,
  NET_RAW: 13,
  SYS_ADMIN: 21,
  PERFMON: 38,
  BPF: 39,
};

/** `status`: /proc/self/status of a privileged container. */
export function missingCapabilities(status: string): string[] {
  const bounding = BigInt(`0x${/^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  return Object.entries(CAPABILITIES)
    .filter(([, bit]) => ((bounding >> BigInt(bit)) & 1n) === 0n)
    .map(([name]) => name);
}

export function lookAtNode(): NodeLook {
  return {
    kernel: release(),
    missingCapabilities: missingCapabilities(readFileSync("/proc/self/status", "utf8")),
    isConntrackModule: isModule("nf_conntrack", readModules()),
  };
}

/** `modules`: /proc/modules. */
export function isModule(name: string, modules: string): boolean {
  return modules.split("\n").some((line) => line.startsWith(`${name} `));
}

/** "" on a kernel that has none. */
function readModules(): string {
  try {
    return readFileSync("/proc/modules", "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}

/** Undefined for what is none. */
export function parseNodeLook(text: string): NodeLook | undefined {
  try {
    const found = JSON.parse(text) as Partial<NodeLook> | null;
    const { kernel, missingCapabilities: missing, isConntrackModule } = found ?? {};
    if (typeof kernel !== "string" || !Array.isArray(missing)) return undefined;
    return {
      kernel,
      missingCapabilities: missing.filter((one) => typeof one === "string"),
      isConntrackModule: isConntrackModule === true,
    };
  } catch {
    return undefined;
  }
}

/** BPF and PERFMON are not there: the agent needs SYS_ADMIN in their place. */
export function needsSysAdmin({ missingCapabilities: missing }: NodeLook): boolean {
  return missing.includes("BPF") || missing.includes("PERFMON");
}
