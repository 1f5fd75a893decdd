// The command line: which commands there are, and what becomes of an error (one sentence on standard error and the exit
// status of lib/errors.ts). Each command loads what it needs when it is run.
import { Command, CommanderError } from "commander";
import type { AgentOptions } from "../agent/options.ts";
import type { AgentView } from "../agent/view.ts";
import { FAILURES, Failure } from "../lib/errors.ts";
import type { ObjectKey } from "../model/objects.ts";
import { registerBypassCommand } from "./bypass-command.ts";
import { registerMaintenanceCommands } from "./maintenance-commands.ts";
import { registerQueryCommands } from "./query-commands.ts";
import { registerRunCommand } from "./run-command.ts";

/** What the commands need from layers beside this one; main puts them together. */
export interface Wiring {
  /** Turns SIGTERM and SIGINT into an abort from now on. */
  stopSignal(): AbortSignal;
  registerLabCommands(program: Command): void | Promise<void>;
  createServers(
    options: AgentOptions,
    view: AgentView,
  ): Promise<{
    close(): Promise<void>;
    health(list: readonly { service: ObjectKey; port: number; localEndpoints: number }[]): void;
  }>;
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
    .addHelpText("after", EPILOGUE)
    .helpCommand("help [COMMAND]", "show the help of a command")
    .configureHelp({ helpWidth: 100 })
    // Before subcommands are made: they inherit both.
    .exitOverride()
    .showHelpAfterError("See millrace --help.");
  registerRunCommand(program, wiring);
  registerQueryCommands(program);
  registerBypassCommand(program);
  registerMaintenanceCommands(program);
  if (withLab) await wiring.registerLabCommands(program);
  return program;
}

/** Runs one command line and sets the process's exit status. Never throws. */
export async function runProgram(args: readonly string[], wiring: Wiring): Promise<void> {
  process.stdout.on("error", endQuietlyOnClosedPipe);
  try {
    const program = await createProgram(wiring, wantsLab(args));
    await program.parseAsync([...args], { from: "user" });
  } catch (error) {
    process.exitCode = reportError(error);
  }
}

/** The lab's commands are loaded for themselves, and where all commands are listed. */
function wantsLab(args: readonly string[]): boolean {
  const first = args.find((arg) => !arg.startsWith("-"));
  return first === undefined || first === "lab" || first === "help";
}

/** `millrace flows | head`: the reader has seen enough. */
function endQuietlyOnClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
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
