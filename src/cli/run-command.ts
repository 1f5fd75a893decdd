// `millrace run`: the agent, until it is told to stop.
import { type Command, Option } from "commander";
import type { AgentOptions } from "../agent/options.ts";
import { KUBE_PROXY_FLAGS, type KubeProxyFlag } from "./kube-proxy-flags.ts";
import type { Wiring } from "./program.ts";
import { environmentName, SETTINGS, type Setting } from "./settings.ts";

export type FlagValues = Readonly<Record<string, string | true | undefined>>;

export function registerRunCommand(program: Command, wiring: Wiring): void {
  const command = program
    .command("run")
    .description("run the agent of this node: keep the kernel's maps equal to what the objects ask for")
    .option(
      "--config <FILE>",
      "YAML file whose keys are the flags below, without dashes in front; or a KubeProxyConfiguration, or kubeadm's ConfigMap with one",
    )
    .addHelpText(
      "after",
      `\nPrecedence: flags, environment (${environmentName("state-dir")} for --state-dir), --config, defaults.\nkube-proxy's flags are accepted too: docs/kube-proxy.md says as what each is taken.`,
    );
  for (const setting of SETTINGS) command.addOption(flagOf(setting));
  for (const flag of KUBE_PROXY_FLAGS) command.addOption(kubeProxyOption(flag));
  command.action(async (values: FlagValues) => {
    const { requireRoot } = await import("../lib/require-root.ts");
    const { readAgentOptions } = await import("./agent-options.ts");
    const options = await readAgentOptions({
      flags: flagsByName(values),
      kubeProxyFlags: kubeProxyFlagsGiven(values),
      environment: process.env,
      configFile: String(values["config"] ?? ""),
    });
    requireRoot("run the agent");
    const { configureLog } = await import("../lib/log.ts");
    configureLog(options);
    const { runAgent } = await import("../agent/agent.ts");
    const signal = wiring.stopSignal();
    const agentEnded = new AbortController();
    const controller = options.withController ? await controllerBeside(options) : undefined;
    const beside = controller?.(AbortSignal.any([signal, agentEnded.signal]));
    // It is awaited when the agent has ended, and ends with it.
    beside?.catch(() => {});
    try {
      await runAgent(options, { signal, serve: (view) => wiring.createServers(options, view) });
    } finally {
      agentEnded.abort();
      await beside;
    }
  });
}

type BesideOptions = Pick<AgentOptions, "kubeconfig" | "apiServer" | "stateDir" | "namespace" | "loadBalancerClass">;

/**
 * The controller beside an agent, by the agent's options and otherwise its own defaults; to be run until the signal is aborted. That it
 * ended otherwise is on the log, and its rejection. @throws Failure when it cannot be run so
 */
export async function controllerBeside(options: BesideOptions): Promise<(signal: AbortSignal) => Promise<void>> {
  const { readControllerOptions } = await import("./controller-options.ts");
  const { controllerParts, createController } = await import("../controller/controller.ts");
  const { createLog } = await import("../lib/log.ts");
  const own = readControllerOptions({ flags: {}, environment: process.env, configFile: "" });
  const { kubeconfig, apiServer, stateDir, namespace, loadBalancerClass } = options;
  const merged = { ...own, kubeconfig, apiServer, stateDir, namespace, loadBalancerClass };
  const parts = controllerParts(merged);
  return async (signal) => {
    try {
      // What it says of itself is on the log, in events and in its ConfigurationState.
      await createController(merged, parts, signal).run();
    } catch (error) {
      createLog("controller").error(
        { err: error },
        "the controller beside the agent has ended: no address is given here",
      );
      throw error;
    }
  };
}

/** A setting as a flag of its command. */
export function flagOf({ name, placeholder, list, defaultText, help }: Omit<Setting, "read">): Option {
  const value = placeholder === "" ? "[true|false]" : `<${placeholder}>`;
  const description = ["", "false"].includes(defaultText) ? help : `${help} (default: ${defaultText})`;
  const option = new Option(`--${name} ${value}`, description);
  if (list)
    option.argParser((text: string, before: string | undefined) => (before === undefined ? text : `${before},${text}`));
  return option;
}

/** A flag that only kube-proxy has. It is in no help: what it is taken as, is. */
export function kubeProxyOption({ flag, form }: KubeProxyFlag): Option {
  const short = flag.length === 1 ? `-${flag}, ` : "";
  const option = new Option(`${short}--${flag} ${form === "switch" ? "[true|false]" : "<VALUE>"}`).hideHelp();
  // pflag takes -v=4, and a list as a flag that is repeated.
  option.argParser((text: string, before: string | undefined) => {
    const value = short === "" ? text : text.replace(/^=/, "");
    return form === "texts" && before !== undefined ? `${before},${value}` : value;
  });
  return option;
}

export function kubeProxyFlagsGiven(values: FlagValues): Record<string, string> {
  return Object.fromEntries(
    KUBE_PROXY_FLAGS.flatMap((flag) => {
      const value = values[kubeProxyOption(flag).attributeName()];
      return value === undefined ? [] : [[flag.flag, String(value)]];
    }),
  );
}

/** Commander's camel-case values by the names of the settings. A switch that stands alone means true. */
export function flagsByName(
  values: FlagValues,
  settings: readonly Omit<Setting, "read">[] = SETTINGS,
): Record<string, string> {
  const flags: Record<string, string> = {};
  for (const setting of settings) {
    const value = values[flagOf(setting).attributeName()];
    if (value !== undefined) flags[setting.name] = String(value);
  }
  return flags;
}
