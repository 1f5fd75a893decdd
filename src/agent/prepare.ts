// What a node needs before its agent runs, of rights that the agent then does without: a bpffs that the whole node sees, and the
// kernel's settings. `millrace prepare` does it in an init container, and says what it did.
import { existsSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { BPFFS } from "../datapath/bpffs-mount.ts";
import { preparePinDir } from "../datapath/load.ts";
import { isBpffs } from "../libbpf/mod.ts";
import { createConntrackSysctls } from "./conntrack-sysctls.ts";
import { type AgentOptions, conntrackOf } from "./options.ts";
import { formatPorts, reservePorts } from "./reserved-ports.ts";

/** Those of the agent's options that tell how its node is to be. */
export type PrepareOptions = Pick<
  AgentOptions,
  "manifests" | "pinDir" | "stateDir" | "snatPortRange" | Extract<keyof AgentOptions, `conntrack${string}`>
>;

/** Sentences, without a capital and a full stop. */
export interface Prepared {
  readonly done: readonly string[];
  /** What could not be done: an agent runs all the same, and says it too. */
  readonly left: readonly string[];
}

export interface PrepareMachine {
  /** Directory that holds proc/sys, and sys, with a slash. @default "/" */
  readonly root?: string;
  /** @default the kernel's */
  readonly mounts?: Pick<typeof KERNEL_MOUNTS, "isBpffs" | "preparePinDir">;
}

const KERNEL_MOUNTS = { isBpffs, preparePinDir };

/** @throws Failure "machine" when there would be no bpffs that the node sees; KernelError when it cannot be mounted */
export function prepareNode(options: PrepareOptions, { root = "/", mounts }: PrepareMachine = {}): Prepared {
  const done = prepareBpffs(options.pinDir, mounts ?? KERNEL_MOUNTS);
  const left: string[] = [];
  setConntrack(options, root, done, left);
  setPorts(options, `${root}proc/sys/net/ipv4/ip_local_reserved_ports`, done, left);
  return { done, left };
}

function prepareBpffs(pinDir: string, mounts: NonNullable<PrepareMachine["mounts"]>): string[] {
  let parent = pinDir;
  while (!existsSync(parent)) parent = dirname(parent);
  const isThere = mounts.isBpffs(parent);
  mounts.preparePinDir(pinDir);
  return isThere ? [] : [`mounted a bpffs at ${BPFFS}`];
}

function setPorts({ snatPortRange, stateDir }: PrepareOptions, path: string, done: string[], left: string[]): void {
  try {
    const before = readFileSync(path, "utf8");
    reservePorts(snatPortRange, stateDir, path);
    if (readFileSync(path, "utf8") === before) return;
    done.push(`reserved ports ${formatPorts([snatPortRange])} in net.ipv4.ip_local_reserved_ports`);
  } catch (error) {
    left.push((error as Error).message);
  }
}

/** Below proc/sys/net/netfilter and in the module's parameters. */
const CONNTRACK_FILES = [
  ...[
    "max",
    "tcp_timeout_established",
    "tcp_timeout_close_wait",
    "udp_timeout",
    "udp_timeout_stream",
    "tcp_be_liberal",
  ].map((name) => ({
    name: `net.netfilter.nf_conntrack_${name}`,
    path: `proc/sys/net/netfilter/nf_conntrack_${name}`,
  })),
  { name: "nf_conntrack.hashsize", path: "sys/module/nf_conntrack/parameters/hashsize" },
];

function setConntrack(options: PrepareOptions, root: string, done: string[], left: string[]): void {
  const read = (): string[] => CONNTRACK_FILES.map(({ path }) => textOf(`${root}${path}`));
  const before = read();
  const notices = createConntrackSysctls(conntrackOf(options), root).apply();
  const after = read();
  for (const [i, { name }] of CONNTRACK_FILES.entries()) {
    if (after[i] !== before[i]) done.push(`set ${name} from ${before[i]} to ${after[i]}`);
  }
  left.push(...notices.map(({ message }) => message));
  if (before.every((text) => text === "")) left.push("netfilter tracks no connections yet: its limits are not set");
}

/** "" when it cannot be read. */
function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}
