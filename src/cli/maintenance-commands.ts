// `cleanup` (takes everything out of the kernel) and `version`.
import { type Command, Option } from "commander";
import { Failure } from "../lib/errors.ts";
import { VERSION } from "../lib/version.ts";
import { SETTINGS } from "./settings.ts";

/** The settings that say where an agent left things; `cleanup` takes the same flags. */
const PLACES = ["pin-dir", "state-dir", "cgroup"];

export function registerMaintenanceCommands(program: Command): void {
  const output = () => new Option("-o, --output <FORMAT>", "text, json").choices(["text", "json"]).default("text");

  const cleanup = program
    .command("cleanup")
    .description("remove everything that the agent left in this machine: links, programs, maps, sysctls, rules")
    .addOption(output());
  for (const { name, placeholder, help, defaultText } of SETTINGS.filter((setting) => PLACES.includes(setting.name))) {
    cleanup.option(`--${name} <${placeholder}>`, `${help} (default: ${defaultText})`);
  }
  cleanup.action(async (values: { output: string; pinDir?: string; stateDir?: string; cgroup?: string }) => {
    const { requireRoot } = await import("../lib/require-root.ts");
    const { readPlaces } = await import("./agent-options.ts");
    const places = await readPlaces(values, process.env);
    requireRoot("clean up");
    const { cleanup: removeAll } = await import("../agent/cleanup.ts");
    const { removed, left } = await removeAll(places);
    if (values.output === "json") return void process.stdout.write(`${JSON.stringify({ removed, left }, null, 2)}\n`);
    process.stdout.write(
      removed.length === 0 ? "nothing to remove\n" : removed.map((what) => `removed ${what}\n`).join(""),
    );
    process.stderr.write(left.map((what) => `left ${what}\n`).join(""));
  });

  program
    .command("version")
    .description("version of Millrace, and the fingerprint of its struct layouts")
    .addOption(output())
    .action(async (values: { output: string }) => {
      const layout = await layoutFingerprint();
      const answer = { version: VERSION, layout, node: process.versions.node };
      if (values.output === "json") process.stdout.write(`${JSON.stringify(answer, null, 2)}\n`);
      else
        process.stdout.write(
          `millrace ${VERSION}${layout === "" ? "" : `, layout ${layout}`}, Node.js ${answer.node}\n`,
        );
    });
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
