// Which agent a command talks to: this machine's own, one named by its socket, or one of a lab.
import { existsSync } from "node:fs";
import type { Command } from "commander";
import { entriesOf } from "../lib/entries.ts";
import { Failure } from "../lib/errors.ts";
import { DEFAULT_API_SOCKET, labPinDirectory, labRunDirectory, labSocketPath } from "../lib/paths.ts";

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

/** Names become single segments of paths. */
const SEGMENT = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

/** The socket to ask. @throws Failure "usage", or "not_found" when there is no such lab or node */
export function chooseSocket({ socket, name, node }: AgentChoice): string {
  if (name === undefined) {
    if (node !== undefined) throw new Failure("usage", "--node", "could not use --node: it belongs to --name LAB");
    return socket ?? DEFAULT_API_SOCKET;
  }
  if (socket !== undefined) throw new Failure("usage", "--socket", "could not use --socket: it excludes --name LAB");
  const chosen = chooseNode(name, node, () =>
    entriesOf(labRunDirectory(name)).filter((one) => existsSync(labSocketPath(name, one))),
  );
  return labSocketPath(name, chosen);
}

/** What to do when no agent answers at the chosen socket; undefined: as anywhere. */
export function nobodyThere({ name, node }: AgentChoice): string | undefined {
  if (name === undefined) return undefined;
  const of = name === "lab" ? "" : ` --name ${name}`;
  const start = (what: string): string => `millrace lab start ${what}${node ?? "NODE"}${of}`;
  return `a node that was killed comes back by ${start("")}, its agent alone by ${start("agent ")}`;
}

/** Where the chosen agent pins, whether it runs or not. @throws as chooseSocket */
export function chooseLabPinDir(name: string, node: string | undefined): string {
  const directory = labPinDirectory(name);
  return `${directory}/${chooseNode(name, node, () => entriesOf(directory))}`;
}

/** `node`, or the lab's first; `nodes` is asked once both names are known to be such. */
function chooseNode(name: string, node: string | undefined, nodes: () => readonly string[]): string {
  for (const [flag, text] of [["--name", name] as const, ...(node === undefined ? [] : [["--node", node] as const])]) {
    if (!SEGMENT.test(text))
      throw new Failure("usage", flag, `${flag} must be a name (a-z, 0-9, "-"): current value is '${text}'`);
  }
  const known = [...nodes()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  if (known.length === 0) {
    throw new Failure("not_found", name, `could not find lab ${name}: no such lab is up; millrace lab up starts one`);
  }
  const chosen = node ?? known[0]!;
  if (known.includes(chosen)) return chosen;
  throw new Failure("not_found", chosen, `could not find node ${chosen} in lab ${name}: it has ${known.join(", ")}`);
}
