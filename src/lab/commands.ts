// `millrace lab …`: the commands, their flags and what they print. Each loads what it needs when it is run.
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { Failure } from "../lib/errors.ts";
import { requireRoot } from "../lib/require-root.ts";
import { STRUCTURED, type Structured, structured } from "../lib/structured.ts";
import type { Notice } from "../model/objects.ts";
import type { ChangeResult } from "./applied-objects.ts";
import type { LabWishes } from "./bring-up.ts";
import type { DemoOptions } from "./demo.ts";
import type { LabConfig } from "./lab.ts";
import type { LabStatus } from "./lab-status.ts";
import { manifestPath } from "./manifest-path.ts";
import type { Cni } from "./network.ts";

const NEEDS_ROOT = "it makes network namespaces, which only root may";

interface Named {
  readonly name: string;
}

interface UpFlags extends Named, Omit<LabWishes, "lab" | "nodes" | "txOffload" | "bridgeNetfilter" | "agentFlags"> {
  readonly nodes: string;
  readonly filename: readonly string[];
  readonly bridgeNf?: boolean;
  readonly txOffload: string;
  readonly agentFlag: readonly string[];
  readonly keep?: boolean;
}

/** Adds `lab` with its subcommands to the program. */
export function registerLabCommands(program: Command): void {
  const lab = program
    .command("lab")
    .description("a cluster of network namespaces on this machine: nodes, pods, a LAN, outside clients");
  // The options of `exec` end where its command begins; commander wants to hear that of the parent too.
  lab.enablePositionalOptions();
  registerUp(lab);
  subcommand(lab, "down", "remove the lab, also one that crashed").action(async ({ name }: Named) => {
    requireRoot("remove a lab", NEEDS_ROOT);
    const { tearDown } = await import("./teardown.ts");
    process.stderr.write((await tearDown(name)) ? `${labWords(name)} is removed\n` : `${labWords(name)} is not up\n`);
  });
  registerManifestCommands(lab);
  registerPodCommands(lab);
  registerNodeCommands(lab);
  registerLanCommands(lab);
  subcommand(lab, "status", "nodes, pods and what is wrong")
    .addOption(new Option("-o, --output <FORMAT>", "for programs").choices(STRUCTURED))
    .action(async ({ name, output }: Named & { output?: Structured }) => {
      const status = await give<LabStatus>(name, "status", {});
      if (output !== undefined) process.stdout.write(await structured(status, output));
      else {
        const { labStatusText } = await import("./status-text.ts");
        process.stdout.write(labStatusText(status));
      }
    });
  subcommand(lab, "exec", "run a command in a pod, on a node or on an outside client (client1, client2 …)")
    .usage("[options] TARGET -- CMD...")
    .argument("<TARGET>", "pod (NAME or NAMESPACE/NAME), node, client or host")
    .argument("<CMD...>", "the command; its exit status is that of exec")
    .passThroughOptions()
    .action(async (target: string, command: string[], { name }: Named) => {
      const { lab: chosen, words } = execWords(command, name);
      const { execTarget } = await import("./exec-target.ts");
      await execTarget(chosen, target, words);
    });
  lab
    .command("demo")
    .description("show every example on three nodes, then leave the lab up until Ctrl-C")
    .option("--once", "take the lab down after the examples; exit status 0 when all are ok")
    .option("--name <NAME>", "name of the lab", "demo")
    .addOption(option("--cni <CNI>", "how pods are connected", "bridge", CNIS))
    .option("--ipv6", "IPv4 and IPv6")
    .action(async ({ once = false, name, cni, ipv6 = false }: Named & Partial<DemoOptions> & { cni: Cni }) => {
      requireRoot("run the demo", NEEDS_ROOT);
      const { runDemo } = await import("./demo.ts");
      // What it interrupted may still hold the event loop: the exit is not left to it.
      process.exit(await runDemo({ once, lab: name, cni, ipv6 }));
    });
  registerHidden(lab);
}

function subcommand(lab: Command, name: string, description: string): Command {
  return lab.command(name).description(description).option("--name <NAME>", "name of the lab", "lab");
}

function collect(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}

function withFiles(command: Command): Command {
  return command
    .option(
      "-f, --filename <PATH>",
      "manifest file or directory, - for standard input; may be repeated, or several PATHs follow",
      collect,
      [],
    )
    .argument("[PATH...]", "more of them");
}

function registerUp(lab: Command): void {
  withFiles(subcommand(lab, "up", "build a lab and apply manifests; returns when they are in force on every node"))
    .option("--nodes <N>", "how many nodes", "3")
    .addOption(option("--cni <CNI>", "how pods are connected", "bridge", CNIS))
    .option("--ipv6", "IPv4 and IPv6")
    .addOption(hidden("--netfilter", "conntrack, masquerade, INVALID dropped, strict rp_filter on the nodes"))
    .addOption(hidden("--bridge-nf", "bridged packets pass netfilter"))
    .addOption(hidden("--tx-offload <STATE>", "checksum offload behind the programs", "on", ["on", "off"]))
    .addOption(hidden("--sockets <MODE>", "of the agents", "auto", ["all", "host-only", "auto"]))
    .addOption(hidden("--xdp <MODE>", "of the agents", "auto", ["auto", "on", "off"]))
    .addOption(hidden("--without <FEATURES>", "MILLRACE_WITHOUT of the agents", ""))
    .addOption(hidden("--agent-flag <FLAG>", "one more flag for the agents").argParser(collect).default([]))
    .addOption(hidden("--no-agents", "nodes without agents"))
    .addOption(hidden("--devices <MODE>", "uplinks named to the agents, or found by them", "named", ["named", "auto"]))
    .addOption(hidden("--dist <DIR>", "the agents' build", ""))
    .addOption(hidden("--keep", "leave a lab that failed to come up"))
    .action(async (paths: string[], flags: UpFlags) => {
      requireRoot("build a lab", NEEDS_ROOT);
      const { bringUp } = await import("./bring-up.ts");
      const result = await bringUp(await configOf(flags), files(flags.filename, paths), {
        progress: say,
        keep: flags.keep ?? false,
      });
      report(result.notices);
      process.stderr.write(
        `${labWords(flags.name)} is up; \`millrace lab status${flags.name === "lab" ? "" : ` --name ${flags.name}`}\` shows it\n`,
      );
    });
}

async function configOf(flags: UpFlags): Promise<LabConfig> {
  const { labConfig } = await import("./bring-up.ts");
  const nodes = wholeNumber("--nodes", flags.nodes);
  const names = { lab: flags.name, agentFlags: flags.agentFlag, bridgeNetfilter: flags.bridgeNf ?? false };
  return labConfig({ ...flags, ...names, nodes, txOffload: flags.txOffload === "on", dist: buildAt(flags.dist ?? "") });
}

const CNIS = ["bridge", "ptp", "vxlan"];

function option(flags: string, text: string, fallback?: string, choices?: readonly string[]): Option {
  const made = new Option(flags, text);
  if (choices !== undefined) made.choices(choices);
  return fallback === undefined ? made : made.default(fallback);
}

const hidden = (...given: Parameters<typeof option>): Option => option(...given).hideHelp();

const buildAt = (dist: string): string => (dist === "" ? "" : resolve(dist));

function registerManifestCommands(lab: Command): void {
  const change = (verb: "apply" | "delete", done: string, text: string) =>
    withFiles(subcommand(lab, verb, text)).action(
      async (paths: string[], { name, filename }: Named & { filename: readonly string[] }) =>
        finish(await give<ChangeResult>(name, verb, { files: files(filename, paths, verb) }), done),
    );
  change("apply", "applied", "apply manifests; returns when they are in force on every node");
  change("delete", "deleted", "take away what manifests define; returns when it is gone on every node");
  subcommand(lab, "scale", "set the number of pods of a workload; returns when they serve")
    .argument("<KIND/NAME>", "such as deployment/web, or KIND/NAMESPACE/NAME")
    .argument("<N>", "how many")
    .action(async (target: string, count: string, { name }: Named) => {
      finish(await give<ChangeResult>(name, "scale", { target, replicas: wholeNumber("N", count) }), "scaled");
    });
}

function registerPodCommands(lab: Command): void {
  subcommand(lab, "ready", "make a pod ready or unready")
    .argument("<POD>", "NAME or NAMESPACE/NAME")
    .argument("<STATE>", "true or false")
    .action((target: string, state: string, { name }: Named) =>
      give(name, "ready", { target, ready: oneOf(state, "true", "false") === "true" }),
    );
  subcommand(lab, "kill", "SIGKILL a pod's server (it comes back), a whole node, or with `agent NODE` a node's agent")
    .usage("[options] POD | NODE | agent NODE")
    .argument("<TARGET>", "pod, node, or the word agent")
    .argument("[NODE]", "whose agent")
    .action(async (target: string, node: string | undefined, { name }: Named) => {
      if (node === undefined) await give(name, "kill", { target });
      else await give(name, "kill-agent", { target: agentOf("kill", target, node) });
      say(node === undefined ? `${target} was killed` : `the agent of ${node} was killed`);
    });
}

function registerNodeCommands(lab: Command): void {
  subcommand(lab, "start", "start a node that was killed, or with `agent NODE` its agent")
    .usage("[options] NODE | agent NODE")
    .argument("<TARGET>", "node, or the word agent")
    .argument("[NODE]", "whose agent")
    .addOption(hidden("--dist <DIR>", "the agent's build", ""))
    .action((target: string, node: string | undefined, { name, dist }: Named & { dist: string }) =>
      node === undefined
        ? give(name, "start", { target })
        : give(name, "start-agent", { target: agentOf("start", target, node), dist: buildAt(dist) }),
    );
  subcommand(lab, "join", "add a node")
    .argument("<NODE>", "such as node4")
    .action((target: string, { name }: Named) => give(name, "join", { target }));
  subcommand(lab, "link", "take a node's link to the LAN down, or up again")
    .argument("<NODE>")
    .argument("<STATE>", "down or up")
    .action((target: string, state: string, { name }: Named) =>
      give(name, "link", { target, state: oneOf(state, "down", "up") }),
    );
}

function registerLanCommands(lab: Command): void {
  subcommand(lab, "split", "part the LAN: nothing passes between the two sides; whoever is named on neither sees both")
    .argument("<A,B>", "nodes, clients or hosts of one side")
    .argument("<C>", "of the other")
    .action((left: string, right: string, { name }: Named) =>
      give(name, "split", { left: left.split(",").filter(Boolean), right: right.split(",").filter(Boolean) }),
    );
  subcommand(lab, "heal", "undo split").action(({ name }: Named) => give(name, "heal", {}));
  subcommand(lab, "host", "add a host outside the cluster that answers on port 80 as pods do")
    .argument("<NAME>")
    .requiredOption("--address <A>", "its address, anywhere")
    .action((target: string, { name, address }: Named & { address: string }) =>
      give(name, "host", { target, address }),
    );
}

function registerHidden(lab: Command): void {
  lab
    .command("control", { hidden: true })
    .argument("<CONFIG>")
    .action(async (config: string) => {
      const { runControl } = await import("./control.ts");
      await runControl(JSON.parse(config) as LabConfig);
    });
  lab
    .command("dns", { hidden: true })
    .requiredOption("--manifests <DIR>")
    .requiredOption("--state-dir <DIR>")
    .action(async ({ manifests, stateDir }: { manifests: string; stateDir: string }) => {
      const { runLabDns } = await import("./dns.ts");
      await runLabDns(manifests, stateDir);
    });
}

/** `--name` may also stand between TARGET and CMD, where commander leaves everything alone. */
function execWords(rest: readonly string[], name: string): { lab: string; words: readonly string[] } {
  const [first = "", second] = rest;
  if (first === "--name" && second !== undefined) return execWords(rest.slice(2), second);
  if (first.startsWith("--name=")) return execWords(rest.slice(1), first.slice("--name=".length));
  const words = first === "--" ? rest.slice(1) : rest;
  if (words.length === 0)
    throw new Failure("usage", "CMD", "could not run a command: say which, as in `millrace lab exec TARGET -- CMD`");
  return { lab: name, words };
}

function agentOf(verb: string, word: string, node: string): string {
  if (word === "agent") return node;
  throw new Failure("usage", word, `could not ${verb} ${word} ${node}: it is one target, or \`agent NODE\``);
}

function wholeNumber(what: string, text: string): number {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new Failure("usage", what, `${what} must be a whole number: current value is '${text}'`);
}

function files(flags: readonly string[], operands: readonly string[], needed = ""): string[] {
  const all = [...flags, ...operands].map(manifestPath);
  if (all.length === 0 && needed !== "")
    throw new Failure("usage", "-f", `could not ${needed}: name manifests with -f PATH`);
  return all;
}

/** @throws usage */
function oneOf<Word extends string>(state: string, ...words: readonly [Word, Word]): Word {
  const found = words.find((word) => word === state);
  if (found === undefined)
    throw new Failure("usage", state, `STATE must be ${words.join(" or ")}: current value is '${state}'`);
  return found;
}

async function give<Result>(name: string, command: string, body: Readonly<Record<string, unknown>>): Promise<Result> {
  const { order } = await import("./control-client.ts");
  return order<Result>(name, command, body, say);
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

function finish(result: ChangeResult, done: string): void {
  for (const object of result.objects) process.stdout.write(`${object} ${done}\n`);
  report(result.notices);
  if (result.notices.some((notice) => notice.severity === "error")) process.exitCode = 1;
}

function report(notices: readonly Notice[]): void {
  for (const notice of notices) {
    if (notice.severity === "info") continue;
    const about = notice.message.includes(notice.object) || notice.object === "" ? "" : `${notice.object}: `;
    const file = notice.file === "" || notice.message.includes(notice.file) ? "" : ` (${notice.file})`;
    process.stderr.write(`${notice.severity} ${notice.reason}: ${about}${notice.message}${file}\n`);
  }
}

/** The lab that has no name of its own is called "lab". */
function labWords(name: string): string {
  return name === "lab" ? "the lab" : `lab ${name}`;
}
