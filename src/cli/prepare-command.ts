// `millrace prepare`: makes a node ready for an agent with fewer rights, as the DaemonSet's init container does.
import type { Command } from "commander";
import type { PrepareOptions } from "../agent/prepare.ts";
import { isStructured, structured } from "../lib/structured.ts";
import { findGiven, machineSize, readSetting } from "./agent-options.ts";
import { textOption } from "./option-help.ts";
import { type FlagValues, flagOf, flagsByName } from "./run-command.ts";
import { SETTINGS } from "./settings.ts";

/** The agent's settings that say how its node is to be. Where manifests are its source, that is in the file. */
const PREPARED = [
  ...["pin-dir", "state-dir", "snat-port-range", "conntrack-max-per-core", "conntrack-min"],
  ...["conntrack-tcp-timeout-established", "conntrack-tcp-timeout-close-wait"],
  ...["conntrack-udp-timeout", "conntrack-udp-timeout-stream", "conntrack-tcp-be-liberal"],
];

export function registerPrepareCommand(program: Command): void {
  const settings = SETTINGS.filter(({ name }) => PREPARED.includes(name));
  const command = program
    .command("prepare")
    .description("mount a bpffs for the node and set its sysctls, for an agent that may not: in an init container")
    .option("--config <FILE>", "the agent's configuration file; of its keys those below are used")
    .addOption(textOption());
  for (const setting of settings) command.addOption(flagOf(setting));
  command.action(async (values: FlagValues) => {
    const { requireRoot } = await import("../lib/require-root.ts");
    const options = await readOptions(flagsByName(values, settings), String(values["config"] ?? ""));
    requireRoot("prepare the node", "it mounts a bpffs and sets sysctls, and needs root");
    const { prepareNode } = await import("../agent/prepare.ts");
    const { done, left } = prepareNode(options);
    const format = String(values["output"]);
    if (isStructured(format)) return void process.stdout.write(await structured({ done, left }, format));
    process.stdout.write(done.length === 0 ? "nothing to do\n" : done.map((what) => `${what}\n`).join(""));
    process.stderr.write(left.map((what) => `left: ${what}\n`).join(""));
  });
}

/** @throws Failure "usage" */
async function readOptions(flags: Readonly<Record<string, string>>, configFile: string): Promise<PrepareOptions> {
  const file = configFile === "" ? undefined : await (await import("./config-file.ts")).readConfigFile(configFile);
  const sources = { flags, environment: process.env, configFile: file?.path ?? "", fields: file?.fields ?? {} };
  const machine = { nodeName: "", cgroup: "", ...machineSize() };
  const parts = SETTINGS.filter(({ name }) => name === "manifests" || PREPARED.includes(name)).map((setting) =>
    readSetting(setting, findGiven(setting, sources, file?.values ?? {}, machine)),
  );
  return Object.assign({}, ...parts) as PrepareOptions;
}
