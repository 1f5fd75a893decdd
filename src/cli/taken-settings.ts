// What `millrace install` takes over of the cluster's kube-proxy: its configuration, or the flags that it runs by, as settings of the agents.
import type { IgnoredSetting } from "../agent/options.ts";
import type { TakenSettings } from "../install/install-plan.ts";
import type { KubeProxyFacts } from "../install/kube-proxy.ts";
import { Failure } from "../lib/errors.ts";
import { readSetting } from "./agent-options.ts";
import { parseConfig } from "./config-file.ts";
import { KUBE_PROXY_FLAGS, takeKubeProxyFlags } from "./kube-proxy-flags.ts";
import { KUBE_PROXY_SETTINGS } from "./kube-proxy-settings.ts";
import { SETTINGS } from "./settings.ts";

export interface Taking {
  /** What the user says himself, now or before: it counts before kube-proxy's, which is not judged there. */
  readonly set: Readonly<Record<string, string>>;
  /** Settings that are nobody's to take over: what one node has, and what the installer decides. */
  readonly fixed: readonly string[];
  /** The user wants none of kube-proxy's. */
  readonly isIgnored: boolean;
}

const GO_ON = "Correct it, or go on with Millrace's defaults by --ignore-kube-proxy-config (and --set).";

/** kube-proxy's own settings as those of the agents, those too for which `set` says another value. */
export function settingsTaken(kubeProxy: KubeProxyFacts | undefined, taking: Taking): TakenSettings {
  const { set, fixed, isIgnored } = taking;
  const nothing = { config: undefined, remarks: [], refusals: [] };
  if (isIgnored)
    return { ...nothing, config: {}, remarks: ["kube-proxy's settings are not taken over, as asked for."] };
  if (kubeProxy === undefined) return nothing;
  try {
    const read = readSettings(kubeProxy);
    if (read === undefined) return { ...nothing, remarks: [notFound(kubeProxy)] };
    const own = Object.entries(read.values).filter(
      ([name, value]) => !fixed.includes(name) && value !== defaultOf(name),
    );
    // What no agent would start with is refused.
    for (const [name, text] of own) {
      const setting = SETTINGS.find((one) => one.name === name);
      if (setting !== undefined && !Object.hasOwn(set, name)) readSetting(setting, { text, from: read.from(name) });
    }
    const missed = read.ignored.filter((one) => one.missed);
    return {
      config: Object.fromEntries(own),
      remarks: missed.map(({ from, why }) => `${from} is left out: ${why}.`),
      refusals: [],
    };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { ...nothing, refusals: [`kube-proxy's settings cannot be taken over: ${error.message}. ${GO_ON}`] };
  }
}

function notFound({ configurationFrom, namespace, name }: KubeProxyFacts): string {
  const where =
    configurationFrom === "" ? `DaemonSet ${namespace}/${name} has no flags` : `there is none at ${configurationFrom}`;
  return `kube-proxy's settings were not found (${where}): what was taken over of them before holds, else Millrace's defaults.`;
}

interface ReadSettings {
  readonly values: Readonly<Record<string, string>>;
  readonly ignored: readonly IgnoredSetting[];
  /** How the place of a setting is called. */
  readonly from: (name: string) => string;
}

/** undefined: there is nothing to read. @throws Failure "usage" */
function readSettings(kubeProxy: KubeProxyFacts): ReadSettings | undefined {
  const { flags, configuration, configurationFrom, namespace, name } = kubeProxy;
  const daemonSet = `DaemonSet ${namespace}/${name}`;
  if (flags["config"] !== undefined) {
    if (configuration === "") return undefined;
    const file = parseConfig(configuration, configurationFrom);
    if (Object.keys(file.fields).length === 0)
      throw new Failure("usage", configurationFrom, `${configurationFrom} has no KubeProxyConfiguration`);
    const beside = takeFlags(
      pick(flags, (flag) => COUNT_BESIDE_CONFIG.test(flag)),
      daemonSet,
    );
    const ofFlags = (setting: string): boolean => beside.values[setting] !== undefined;
    return {
      values: { ...file.values, ...beside.values },
      ignored: [...file.ignored, ...beside.ignored],
      from: (setting) =>
        ofFlags(setting) ? beside.from(setting) : `${file.fields[setting] ?? setting} in ${file.path}`,
    };
  }
  if (Object.keys(flags).length === 0) return undefined;
  // It has a mode, said or not, which says where its node ports answer.
  return takeFlags({ "proxy-mode": "", ...flags }, daemonSet);
}

/** kube-proxy takes them for more than its configuration: those of the log, and of what is done in place of serving. */
const COUNT_BESIDE_CONFIG = /^(v|vmodule|log(ging)?-.*|cleanup|init-only|write-config-to)$/;

function pick(
  flags: Readonly<Record<string, string>>,
  isWanted: (flag: string) => boolean,
): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(flags).filter(([flag]) => isWanted(flag)));
}

const THEIRS: ReadonlySet<string> = new Set(KUBE_PROXY_FLAGS.map(({ flag }) => flag));
const KNOWN: ReadonlySet<string> = new Set(KUBE_PROXY_SETTINGS.flatMap(({ flag }) => flag ?? []));

/** @throws Failure "usage" */
function takeFlags(given: Readonly<Record<string, string>>, daemonSet: string): ReadSettings {
  const theirs = pick(given, (flag) => THEIRS.has(flag));
  const ours = pick(given, (flag) => KNOWN.has(flag) && !THEIRS.has(flag));
  const unknown = Object.keys(given).filter((flag) => !KNOWN.has(flag));
  try {
    const { flags, names, ignored } = takeKubeProxyFlags(ours, theirs);
    return {
      values: flags,
      ignored: [
        ...ignored.map((one) => ({ ...one, from: `${one.from} of ${daemonSet}` })),
        ...unknown.map((flag) => ({
          from: `--${flag} of ${daemonSet}`,
          why: "it is no flag of kube-proxy that Millrace knows",
          missed: true,
        })),
      ],
      from: (setting) => `${names[setting] ?? `--${setting}`} of ${daemonSet}`,
    };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    throw new Failure("usage", daemonSet, `${daemonSet}: ${error.message}`, { cause: error });
  }
}

function defaultOf(name: string): string {
  return SETTINGS.find((one) => one.name === name)?.defaultText ?? "";
}
