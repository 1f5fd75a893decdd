// `millrace node-check`: what the installer's pods run. Hidden: it is no command for people.
import { writeFile } from "node:fs/promises";
import type { Command } from "commander";
import type { AgentHealth } from "../install/node-checks.ts";
import type { Target, TestResult } from "../install/test-traffic.ts";
import { parseBindAddress } from "../lib/bind-address.ts";
import { parseDuration } from "../lib/duration.ts";
import { Failure } from "../lib/errors.ts";
import { DEFAULT_API_SOCKET } from "../lib/paths.ts";
import type { Wiring } from "./program.ts";

/** A pod's termination message holds 4096 bytes. */
const MOST_BAD = 10;
const LONGEST_WHY = 160;
const TERMINATION_LOG = "/dev/termination-log";

export function registerNodeCheck(program: Command, wiring: Wiring): void {
  const group = program.command("node-check", { hidden: true }).description("what the installer's pods run");
  const wait = ["--wait <DURATION>", "how long it may take to become well", "60s"] as const;

  group
    .command("look")
    .description("what this node can give, as JSON")
    .action(async () => {
      const { lookAtNode } = await import("../install/node-look.ts");
      await leave(lookAtNode());
    });

  group
    .command("agent")
    .description("wait until this node's agent is well")
    .option(...wait)
    .option("--socket <PATH>", "its API socket", DEFAULT_API_SOCKET)
    .action(async (flags: { readonly wait: string; readonly socket: string }) => {
      const { agentCheck, awaitCheck } = await import("../install/node-checks.ts");
      const { askAgent } = await import("./api-client.ts");
      const ask = (): Promise<AgentHealth> => askAgent<AgentHealth>(flags.socket, "/api/v1/status");
      await awaitCheck("the agent", agentCheck(ask), milliseconds(flags.wait));
    });

  group
    .command("api")
    .description("wait until the API server answers by its Service")
    .option(...wait)
    .action(async (flags: { readonly wait: string }) => {
      const { apiServiceCheck, awaitCheck } = await import("../install/node-checks.ts");
      await awaitCheck("the API server's Service", apiServiceCheck(process.env), milliseconds(flags.wait));
    });

  group
    .command("kube-proxy")
    .description("wait until this node's kube-proxy says that its rules are in force")
    .option(...wait)
    .option("--address <ADDRESS:PORT>", "its healthz server", "127.0.0.1:10256")
    .action(async (flags: { readonly wait: string; readonly address: string }) => {
      const { awaitCheck, kubeProxyCheck } = await import("../install/node-checks.ts");
      const address = parseBindAddress(flags.address);
      if (address === undefined)
        throw new Failure(
          "usage",
          "--address",
          `--address must be ADDRESS:PORT or [ADDRESS]:PORT: current value is '${flags.address}'`,
        );
      await awaitCheck("kube-proxy", kubeProxyCheck(address), milliseconds(flags.wait));
    });

  group
    .command("serve")
    .description("answer with the name in the environment variable NODE, until it is told to stop")
    .requiredOption("--port <PORT>", "of TCP and UDP")
    .action(async (flags: { readonly port: string }) => {
      const { startTestServer } = await import("../install/test-traffic.ts");
      const signal = wiring.stopSignal();
      const server = await startTestServer(process.env["NODE"] ?? "", Number(flags.port));
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      await server.close();
    });

  group
    .command("ask")
    .description("ask the targets in the environment variable TARGETS, and leave what became of it as JSON")
    .option(...wait)
    .action(async (flags: { readonly wait: string }) => {
      const { askTargets } = await import("../install/test-traffic.ts");
      const targets = JSON.parse(process.env["TARGETS"] ?? "[]") as readonly Target[];
      await leave(shortened(await askTargets(targets, milliseconds(flags.wait))));
    });
}

function milliseconds(text: string): number {
  const seconds = parseDuration(text);
  if (seconds === undefined) throw new Failure("usage", "--wait", `--wait must be a time: current value is '${text}'`);
  return seconds * 1000;
}

/** As the message of the container, which the installer reads in its pod's status; else on standard output. */
async function leave(answer: object): Promise<void> {
  const text = JSON.stringify(answer);
  process.stdout.write(`${text}\n`);
  // With the flag the file must be there: in a pod it is.
  await writeFile(TERMINATION_LOG, text, { flag: "r+" }).catch(() => undefined);
}

function shortened({ good, bad }: TestResult): TestResult {
  const few = bad.slice(0, MOST_BAD).map(({ name, why }) => ({ name, why: why.slice(0, LONGEST_WHY) }));
  const rest = bad.length - few.length;
  return { good, bad: rest === 0 ? few : [...few, { name: `${rest} more`, why: "the same pod's log has them" }] };
}
