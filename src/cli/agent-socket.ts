// Which agent a command talks to: this machine's own, one named by its socket, or one of a lab.
import { existsSync, readdirSync } from "node:fs";
import type { Command } from "commander";
import { Failure } from "../lib/errors.ts";
import { DEFAULT_API_SOCKET, labRunDirectory, labSocketPath } from "../lib/paths.ts";

export interface AgentChoice {
  readonly socket?: string;
  readonly name?: string;
  readonly node?: string;
}

/** Adds the three flags that choose an agent. */
export function addAgentOptions(command: Command): Command {
  return command
    .option("--socket <PATH>", `API socket of the agent (default: ${DEFAULT_API_SOCKET})`)
    .option("--name <LAB>", "ask an agent of this lab")
    .option("--node <NODE>", "which node of the lab (default: its first)");
}

const SEGMENT = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

/** The socket to ask. @throws Failure "usage", or "not_found" when there is no such lab or node */
export function chooseSocket({ socket, name, node }: AgentChoice): string {
  if (name === undefined) {
    if (node !== undefined) throw new Failure("usage", "--node", "could not use --node: it belongs to --name LAB");
    return socket ?? DEFAULT_API_SOCKET;
  }
  if (socket !== undefined) throw new Failure("usage", "--socket", "could not use --socket: it excludes --name LAB");
  for (const [flag, text] of [["--name", name] as const, ...(node === undefined ? [] : [["--node", node] as const])]) {
    if (!SEGMENT.test(text))
      throw new Failure("usage", flag, `${flag} must be a name (a-z, 0-9, "-"): current value is '${text}'`);
  }
  const nodes = labNodes(name);
  if (nodes.length === 0) {
    throw new Failure("not_found", name, `could not find lab ${name}: no such lab is up; millrace lab up starts one`);
  }
  if (node === undefined) return labSocketPath(name, nodes[0] ?? "");
  if (nodes.includes(node)) return labSocketPath(name, node);
  throw new Failure("not_found", node, `could not find node ${node} in lab ${name}: it has ${nodes.join(", ")}`);
}

/** Nodes of a lab that have an agent's socket, in the order of their numbers. */
function labNodes(lab: string): string[] {
  let entries: string[];
  try {
    entries = readdirSync(labRunDirectory(lab));
  } catch {
    return [];
  }
  return entries
    .filter((node) => existsSync(labSocketPath(lab, node)))
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}
