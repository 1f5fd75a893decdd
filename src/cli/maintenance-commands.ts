// `cleanup` (takes out of the kernel what an agent left there, at once or when its flows have ended, or what kube-proxy left) and `version`.
import type { Command } from "commander";
import type { CleanupResult } from "../agent/cleanup.ts";
import type { DrainResult } from "../agent/drain.ts";
import type { LiveFlows } from "../datapath/live-flows.ts";
import { parseDuration } from "../lib/duration.ts";
import { Failure } from "../lib/errors.ts";
import { isStructured, structured } from "../lib/structured.ts";
import { VERSION } from "../lib/version.ts";
import { type TextOr, textOption } from "./option-help.ts";
import { SETTINGS } from "./settings.ts";

/** The settings that say where an agent left things; `cleanup` takes the same flags. */
const PLACES = ["pin-dir", "state-dir", "cgroup"];
const DRAIN_TIMEOUT = "1h";

interface CleanupChoice {
  readonly output: TextOr;
  readonly pinDir?: string;
  readonly stateDir?: string;
  readonly cgroup?: string;
  readonly kubeProxy?: boolean;
  readonly force?: boolean;
  readonly drain?: boolean;
  readonly drainTimeout?: string;
}

/** What `createProgram` gives. */
interface Wiring {
  stopSignal(): AbortSignal;
}

export function registerMaintenanceCommands(program: Command, wiring: Wiring): void {
  const cleanup = program
    .command("cleanup")
    .description(
      "remove everything that the agent left in this machine: links, programs, maps, sysctls, rules; or what kube-proxy left",
    )
    .option(
      "--drain",
      "open no flow any more, leave what would to others, and remove everything when the known flows have ended",
    )
    .option(
      "--drain-timeout <TIME>",
      `with --drain: cut what has not ended after so long, such as 90s (default: ${DRAIN_TIMEOUT})`,
    )
    .option(
      "--kube-proxy",
      "remove kube-proxy's rules of any mode, and nothing of the agent's, which may run; connections go on",
    )
    .option("--force", "with --kube-proxy: also while kube-proxy runs here")
    .addOption(textOption());
  for (const { name, placeholder, help, defaultText } of SETTINGS.filter((setting) => PLACES.includes(setting.name))) {
    cleanup.option(`--${name} <${placeholder}>`, `${help} (default: ${defaultText})`);
  }
  cleanup.action(async (choice: CleanupChoice) => {
    checkTogether(choice);
    const timeoutMs = drainTimeoutMs(choice.drainTimeout ?? DRAIN_TIMEOUT);
    const { requireRoot } = await import("../lib/require-root.ts");
    const { readPlaces } = await import("./agent-options.ts");
    const places = await readPlaces(choice, process.env);
    requireRoot("clean up");
    if (choice.kubeProxy === true) {
      const { cleanupKubeProxy } = await import("../agent/kube-proxy-cleanup.ts");
      return tell(await cleanupKubeProxy({ pinDir: places.pinDir, force: choice.force === true }), choice.output);
    }
    if (choice.drain === true) {
      const { drain } = await import("../agent/drain.ts");
      return tellDrained(
        await drain(places, { timeoutMs, signal: wiring.stopSignal(), progress, alone }),
        choice.output,
      );
    }
    const { cleanup: removeAll } = await import("../agent/cleanup.ts");
    await tell(await removeAll(places), choice.output);
  });

  program
    .command("version")
    .description("version of Millrace, and the fingerprint of its struct layouts")
    .addOption(textOption())
    .action(async ({ output }: { output: TextOr }) => {
      const layout = await layoutFingerprint();
      const answer = { version: VERSION, layout, node: process.versions.node };
      if (isStructured(output)) process.stdout.write(await structured(answer, output));
      else
        process.stdout.write(
          `millrace ${VERSION}${layout === "" ? "" : `, layout ${layout}`}, Node.js ${answer.node}\n`,
        );
    });
}

/** @throws Failure "usage" */
function checkTogether({ kubeProxy = false, force = false, drain = false, drainTimeout }: CleanupChoice): void {
  const wrong = (flag: string, why: string): never => {
    throw new Failure("usage", flag, `could not use ${flag}: ${why}`);
  };
  if (kubeProxy && drain) wrong("--drain", "it excludes --kube-proxy");
  if (force && !kubeProxy) wrong("--force", "it belongs to --kube-proxy");
  if (drainTimeout !== undefined && !drain) wrong("--drain-timeout", "it belongs to --drain");
}

/** @throws Failure "usage" */
function drainTimeoutMs(text: string): number {
  const seconds = parseDuration(text);
  if (seconds !== undefined) return seconds * 1000;
  const message = `--drain-timeout must be a time such as 90s, 10m, 1h30m, or 0: current value is '${text}'`;
  throw new Failure("usage", "--drain-timeout", message);
}

const flowsText = (flows: LiveFlows): string =>
  Object.entries(flows)
    .map(([protocol, count]) => `${count} ${protocol}`)
    .join(", ");

function progress(flows: LiveFlows, waitedMs: number): void {
  process.stderr.write(`${Math.round(waitedMs / 1000)}s: flows that go on: ${flowsText(flows)}\n`);
}

function alone(): void {
  process.stderr.write("no kube-proxy has rules here: until one does, what is new is served by nobody\n");
}

async function tell({ removed, left }: CleanupResult, output: TextOr): Promise<void> {
  if (isStructured(output)) return void process.stdout.write(await structured({ removed, left }, output));
  process.stdout.write(
    removed.length === 0 ? "nothing to remove\n" : removed.map((what) => `removed ${what}\n`).join(""),
  );
  process.stderr.write(left.map((what) => `left ${what}\n`).join(""));
}

async function tellDrained(result: DrainResult, output: TextOr): Promise<void> {
  const { removed, left, cut, waitedMs } = result;
  if (isStructured(output)) {
    const answer = { removed, left, cut, waitedSeconds: Math.round(waitedMs / 1000) };
    return void process.stdout.write(await structured(answer, output));
  }
  await tell(result, output);
  if (Object.values(cut).some((count) => count > 0)) process.stderr.write(`cut flows: ${flowsText(cut)}\n`);
}

/** "" when the compiled objects are not beside the program: then it can run nothing, and has no layout. */
async function layoutFingerprint(): Promise<string> {
  const { OBJECTS, objectPath } = await import("../datapath/objects.ts");
  try {
    OBJECTS.forEach(objectPath);
  } catch (error) {
    if (error instanceof Failure) return "";
    throw error;
  }
  return (await import("../datapath/layout.gen.ts")).FINGERPRINT;
}
