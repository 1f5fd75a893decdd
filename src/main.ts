// The program `millrace`: joins the commands with the servers and the lab, and turns the first SIGTERM or SIGINT into one
// AbortSignal. A second one ends the process at once.
import { statSync } from "node:fs";
import { enableCompileCache } from "node:module";

/** Installed by the command that can stop in good order: others keep the default of ending at once. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => controller.abort());
  return controller.signal;
}

/**
 * A command's modules are compiled once, and kept beside the bundle: half of its time else. Only for whom the bundle belongs to, who
 * can also remove it. The agent and the controller, which run for months, go without.
 */
function keepCompiled(): void {
  const here = import.meta.dirname;
  if (!import.meta.filename.endsWith(".mjs") || ["run", "controller"].includes(process.argv[2] ?? "")) return;
  if (statSync(here).uid === process.geteuid?.()) enableCompileCache(`${here}/.cache`);
}

keepCompiled();
const { runProgram } = await import("./cli/program.ts");
await runProgram(process.argv.slice(2), {
  stopSignal,
  registerLabCommands: async (program) => (await import("./lab/commands.ts")).registerLabCommands(program),
  createControllerServers: async (options, view) =>
    (await import("./http/controller-servers.ts")).createControllerServers(options, view),
  createServers: async (options, view) => (await import("./http/servers.ts")).createServers(options, view),
});
