// The command line: which commands there are, and what becomes of an error (one sentence on standard error and the exit
// status of lib/errors.ts). Each command loads what it needs when it is run.
import { Command, CommanderError } from "commander";
import type { Servers } from "../agent/agent.ts";
import type { AgentOptions } from "../agent/options.ts";
import type { AgentView } from "../agent/view.ts";
import type { ControllerView } from "../controller/controller.ts";
import type { ControllerOptions } from "../controller/options.ts";
import { FAILURES, Failure } from "../lib/errors.ts";
import { didYouMean } from "../lib/suggest.ts";
import { VERSION } from "../lib/version.ts";
import { registerBypassCommand } from "./bypass-command.ts";
import { COMPLETE, registerCompletion } from "./completion.ts";
import { registerControllerCommand } from "./controller-command.ts";
import { registerDoctorCommand } from "./doctor-command.ts";
import { examplesText } from "./examples.ts";
import { registerInstallCommands } from "./install-command.ts";
import { registerMaintenanceCommands } from "./maintenance-commands.ts";
import { registerNodeCheck } from "./node-check-command.ts";
import { optionDescription } from "./option-help.ts";
import { endOnBrokenOutput } from "./output.ts";
import { registerPrepareCommand } from "./prepare-command.ts";
import { registerQueryCommands } from "./query-commands.ts";
import { registerRunCommand } from "./run-command.ts";

/** What the commands need from layers beside this one; main puts them together. */
export interface Wiring {
  /** Turns SIGTERM and SIGINT into an abort from now on. */
  stopSignal(): AbortSignal;
  registerLabCommands(program: Command): void | Promise<void>;
  createServers(options: AgentOptions, view: AgentView): Promise<Servers>;
  createControllerServers(options: ControllerOptions, view: () => ControllerView): Promise<{ close(): Promise<void> }>;
}

const DESCRIPTION = "Service dataplane for Kubernetes: replaces kube-proxy, and MetalLB in layer 2 mode, with eBPF.";
const EPILOGUE = `
Exit status: 0 done; 1 not found, refused or full; 2 wrong usage; 3 the machine lacks something; 4 in conflict with
another agent; 5 a kernel call failed; 6 no agent answers; 7 timeout; 70 a defect.
MILLRACE_LOG_LEVEL=debug shows more on standard error.`;

/** All commands; those of the lab only when `withLab`. */
export async function createProgram(wiring: Wiring, withLab: boolean): Promise<Command> {
  const program = new Command("millrace")
    .description(DESCRIPTION)
    .version(`millrace ${VERSION}`, "-V, --version", "print the version")
    .addHelpText("after", EPILOGUE)
    .helpCommand(false)
    .configureHelp({ helpWidth: 100, optionDescription })
    // Before subcommands are made: they inherit both.
    .exitOverride();
  registerRunCommand(program, wiring);
  registerControllerCommand(program, wiring);
  registerInstallCommands(program, wiring);
  registerQueryCommands(program);
  registerBypassCommand(program);
  registerDoctorCommand(program, wiring);
  registerPrepareCommand(program);
  registerMaintenanceCommands(program, wiring);
  registerNodeCheck(program, wiring);
  registerCompletion(program);
  if (withLab) await wiring.registerLabCommands(program);
  registerHelp(program);
  finishCommand(program, program.name());
  return program;
}

/** Each command's own help is what its errors point to, and ends with examples. */
function finishCommand(command: Command, path: string): void {
  command.showHelpAfterError(`See ${path} --help.`);
  const examples = examplesText(path);
  if (examples !== "") command.addHelpText("after", examples);
  for (const sub of command.commands) finishCommand(sub, `${path} ${sub.name()}`);
}

function registerHelp(program: Command): void {
  program
    .command("help")
    .description("show the help of a command")
    .argument("[COMMAND...]", "such as lab up")
    .action((words: string[]) => {
      let command = program;
      for (const word of words) {
        const known = command.commands.filter((one) => one.name() !== COMPLETE);
        const found = known.find((one) => one.name() === word);
        if (found === undefined) {
          const hint = didYouMean(
            word,
            known.map((one) => one.name()),
          );
          return command.error(`error: unknown command '${word}'${hint}`, { code: "commander.unknownCommand" });
        }
        command = found;
      }
      command.outputHelp();
    });
}

/** Runs one command line and sets the process's exit status. Never throws. */
export async function runProgram(args: readonly string[], wiring: Wiring): Promise<void> {
  process.stdout.off("error", endOnBrokenOutput).on("error", endOnBrokenOutput);
  try {
    checkLogLevel();
    const program = await createProgram(wiring, wantsLab(args));
    await program.parseAsync(asKubeProxyArgs(args), { from: "user" });
  } catch (error) {
    process.exitCode = reportError(error);
  }
}

/**
 * The arguments of `run` in the spelling of our own flags: kube-proxy takes an underscore in a flag's name for a hyphen, and a value for
 * --version. Those of other commands are as they are.
 */
export function asKubeProxyArgs(args: readonly string[]): string[] {
  if (args.find((one) => !one.startsWith("-")) !== "run") return [...args];
  const end = args.indexOf("--");
  return args.map((one, at) => {
    if (end >= 0 && at > end) return one;
    if (/^--version=(raw|true)$/.test(one)) return "--version";
    return one.replace(/^--[^=]+/, (name) => name.replaceAll("_", "-"));
  });
}

const LEVELS = ["debug", "info", "warn", "error"];

/** @throws Failure "usage" */
function checkLogLevel(): void {
  const level = process.env["MILLRACE_LOG_LEVEL"];
  if (level === "") delete process.env["MILLRACE_LOG_LEVEL"];
  if (level === undefined || level === "" || LEVELS.includes(level)) return;
  const message = `MILLRACE_LOG_LEVEL must be ${LEVELS.slice(0, -1).join(", ")} or ${LEVELS.at(-1)}: current value is '${level}'`;
  throw new Failure("usage", "MILLRACE_LOG_LEVEL", message);
}

/** Commands that need not know the lab's; those are loaded for all else: for themselves, and where all commands are listed. */
const WITHOUT_LAB = [
  "run",
  "controller",
  "install",
  "uninstall",
  "node-check",
  "status",
  "services",
  "backends",
  "flows",
  "drops",
  "bypass",
  "doctor",
  "prepare",
  "cleanup",
  "version",
];

function wantsLab(args: readonly string[]): boolean {
  const first = args.find((arg) => !arg.startsWith("-"));
  return first === undefined ? !args.some((arg) => /^(?:-V|--version)$/.test(arg)) : !WITHOUT_LAB.includes(first);
}

/** Writes one sentence and returns the exit status. */
export function reportError(error: unknown): number {
  // Commander has said what it had to say: help or version (0), or a wrong command line.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : FAILURES.usage.exit;
  const failure = error instanceof Failure ? error : undefined;
  const message = failure?.message ?? `internal error: ${error instanceof Error ? error.message : String(error)}`;
  process.stderr.write(`millrace: ${message}\n`);
  if (process.env["MILLRACE_LOG_LEVEL"] === "debug" && error instanceof Error)
    process.stderr.write(`${describeStack(error)}\n`);
  return FAILURES[failure?.code ?? "internal"].exit;
}

function describeStack(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${describeStack(error.cause)}` : "";
  return `${error.stack ?? error.message}${cause}`;
}
