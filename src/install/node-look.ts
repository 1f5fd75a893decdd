// What a pod of the installer sees of its node before anything is changed there: `millrace node-check look` prints it, the installer reads it.
import { readFileSync } from "node:fs";
import { release } from "node:os";

export interface NodeLook {
  readonly kernel: string;
  /** Of those that the agent asks for: what this node's runtime cannot give. */
  readonly missingCapabilities: readonly string[];
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
  return { kernel: release(), missingCapabilities: missingCapabilities(readFileSync("/proc/self/status", "utf8")) };
}

/** Undefined for what is none. */
export function parseNodeLook(text: string): NodeLook | undefined {
  try {
    const found = JSON.parse(text) as Partial<NodeLook> | null;
    const { kernel, missingCapabilities: missing } = found ?? {};
    if (typeof kernel !== "string" || !Array.isArray(missing)) return undefined;
    return { kernel, missingCapabilities: missing.filter((one) => typeof one === "string") };
  } catch {
    return undefined;
  }
}

/** BPF and PERFMON are not there: the agent needs SYS_ADMIN in their place. */
export function needsSysAdmin({ missingCapabilities: missing }: NodeLook): boolean {
  return missing.includes("BPF") || missing.includes("PERFMON");
}
