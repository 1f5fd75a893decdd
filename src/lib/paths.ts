// Where things are: this program, sockets of agents and labs. Never touches the file system.
import { fileURLToPath } from "node:url";

/** The API socket of the machine's own agent. */
export const DEFAULT_API_SOCKET = "/run/millrace/api.sock";

/** Where a pod has its node's /sys/fs/cgroup mounted. */
export const HOST_CGROUP = "/host/sys/fs/cgroup";

const LABS = "/run/millrace/lab";

/** Directory that holds the run-time files of one lab; its nodes' directories are below. */
export function labRunDirectory(lab: string): string {
  return `${LABS}/${lab}`;
}

/** The API socket of the agent of `node` in `lab`. Both names were checked by the caller: they are single path segments. */
export function labSocketPath(lab: string, node: string): string {
  return `${labRunDirectory(lab)}/${node}/api.sock`;
}

/** Directory under which the agents of a lab pin, each in one named after its node. */
export function labPinDirectory(lab: string): string {
  return `/sys/fs/bpf/millrace-lab-${lab}`;
}

/** Program and arguments that start this same Millrace again: `[...selfCommand(), "run", "--read-only"]`. */
export function selfCommand(): readonly [node: string, main: string] {
  // The build puts the bundle's name of main here.
  return [process.execPath, fileURLToPath(new URL("../main.ts", import.meta.url))];
}
