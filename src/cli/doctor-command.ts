// `millrace doctor`: looks at machine, kernel, network, API and objects as an agent would meet them, and says what is in the way. It needs
// no agent and changes nothing.
import { type Command, Option } from "commander";
import type { Level } from "../agent/doctor/finding.ts";
import type { AgentOptions } from "../agent/options.ts";
import type { AgentStatus } from "../agent/view.ts";
import { Failure } from "../lib/errors.ts";
import { isStructured, structured } from "../lib/structured.ts";
import { KUBE_PROXY_FLAGS } from "./kube-proxy-flags.ts";
import { textOption } from "./option-help.ts";
import type { Wiring } from "./program.ts";
import { type FlagValues, flagOf, flagsByName, kubeProxyFlagsGiven, kubeProxyOption } from "./run-command.ts";
import { SETTINGS } from "./settings.ts";
import type { Tone } from "./table.ts";

/** Those that a user of `doctor` gives by hand; the others of `run` are taken too, and are not in its help. */
const SHOWN: ReadonlySet<string> = new Set([
  "manifests",
  "kubeconfig",
  "apiserver",
  "node-name",
  "namespace",
  "load-balancer-class",
  "state-dir",
  "cgroup",
  "pin-dir",
  "devices",
  "service-cluster-ip-range",
  "service-node-port-range",
  "xdp",
  "snat-port-range",
  "api-socket",
]);

/** As a shell has it for SIGINT. */
const INTERRUPTED = 130;

export function registerDoctorCommand(program: Command, wiring: Pick<Wiring, "stopSignal">): void {
  const command = program
    .command("doctor")
    .description("look at this machine as an agent would meet it, and say what is in the way; changes nothing")
    .addOption(textOption())
    .addOption(new Option("--color <WHEN>", "auto, always, never").choices(["auto", "always", "never"]).default("auto"))
    .option("-q, --quiet", "only what is not ok")
    .option("--config <FILE>", "configuration of `millrace run`")
    .addHelpText(
      "after",
      "\nEvery option of `millrace run` is taken, by flags, environment and --config, so that the same words tell what that agent would meet.\n" +
        "Without root it says what it could not look at.\n\n" +
        "Exit status: 0 nothing but warnings, 1 an error was found, 2 wrong usage.",
    );
  for (const setting of SETTINGS) command.addOption(flagOf(setting).hideHelp(!SHOWN.has(setting.name)));
  for (const flag of KUBE_PROXY_FLAGS) command.addOption(kubeProxyOption(flag).hideHelp());
  command.action(async (values: FlagValues) => {
    const { machineSize } = await import("./agent-options.ts");
    const options = await readOptions(values);
    const { configureLog } = await import("../lib/log.ts");
    // What parts of an agent have to say is in the report, or is none of the reader's business.
    configureLog({ ...options, logLevel: "error" });
    const { askAgent } = await import("./api-client.ts");
    const { examine } = await import("../agent/doctor/doctor.ts");
    const signal = wiring.stopSignal();
    const examined = examine({
      agent: options,
      ...machineSize(),
      askAgent: () => askAgent<AgentStatus>(options.apiSocket, "/api/v1/status"),
      signal,
    });
    const findings = await examined.catch((error: unknown) => {
      if (!signal.aborted) throw error;
      return undefined;
    });
    if (findings === undefined) {
      process.exitCode = INTERRUPTED;
      return;
    }
    const { reportOf } = await import("../agent/doctor/report.ts");
    const { VERSION } = await import("../lib/version.ts");
    const report = reportOf(findings, VERSION, options.nodeName);
    const format = String(values["output"]);
    if (isStructured(format)) process.stdout.write(await structured(report, format));
    else await writeText(report, values);
    if (report.level === "error") process.exitCode = 1;
  });
}

async function readOptions(values: FlagValues): Promise<AgentOptions> {
  const { readAgentOptions } = await import("./agent-options.ts");
  const sources = {
    flags: flagsByName(values),
    kubeProxyFlags: kubeProxyFlagsGiven(values),
    environment: process.env,
    configFile: String(values["config"] ?? ""),
  };
  try {
    return await readAgentOptions(sources);
  } catch (error) {
    // An agent ends there; here it is one line of many.
    if (!(error instanceof Failure) || error.subject !== "cgroup2") throw error;
    return readAgentOptions({ ...sources, flags: { ...sources.flags, cgroup: "/sys/fs/cgroup" } });
  }
}

const TONES: Readonly<Record<Level, Tone>> = { ok: "good", warning: "warning", error: "bad" };
/** Of a pipe. */
const WIDTH = 120;

async function writeText(
  report: Parameters<typeof import("../agent/doctor/report.ts").reportText>[0],
  values: FlagValues,
): Promise<void> {
  const { reportText } = await import("../agent/doctor/report.ts");
  const { toned, wrapped } = await import("./table.ts");
  const { showsColour } = await import("./output.ts");
  const colour = showsColour(String(values["color"]));
  const width = process.stdout.columns ?? WIDTH;
  const style = {
    tone: (text: string, level: Level) => toned(text, TONES[level], colour),
    wrap: (text: string, indent: string) => wrapped(text, width, indent),
  };
  process.stdout.write(reportText(report, style, values["quiet"] === true));
}
