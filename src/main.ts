// The program `millrace`: joins the commands with the servers and the lab, and turns the first SIGTERM or SIGINT into one
// AbortSignal. A second one ends the process at once.
import { runProgram } from "./cli/program.ts";

/** Installed by the command that can stop in good order: others keep the default of ending at once. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => controller.abort());
  return controller.signal;
}

await runProgram(process.argv.slice(2), {
  stopSignal,
  registerLabCommands: async (program) => (await import("./lab/commands.ts")).registerLabCommands(program),
  createServers: async (options, view) => (await import("./http/servers.ts")).createServers(options, view),
});
