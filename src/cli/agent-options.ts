// Merges flags, environment, configuration file and defaults (in this order of precedence) into AgentOptions.
// Everything wrong is a Failure of code "usage" that names the flag, the variable or the key, and its value.
import { stat } from "node:fs/promises";
import { availableParallelism, hostname, totalmem } from "node:os";
import { join } from "node:path";
import type { AgentOptions } from "../agent/options.ts";
import { memoryForTables } from "../datapath/flow-sizes.ts";
import { Failure } from "../lib/errors.ts";
import { writeStateFile } from "../lib/state-store.ts";
import { findCgroup2 } from "./cgroup2.ts";
import { takeKubeProxyFlags } from "./kube-proxy-flags.ts";
import { WrongValue } from "./setting-values.ts";
import { environmentName, type MachineDefaults, SETTINGS, type Setting } from "./settings.ts";

/** A value as text, and how to call the place it came from in a message. */
export interface Given {
  readonly text: string;
  readonly from: string;
}

export interface OptionSources {
  /** By setting name: the text of a flag; lists comma-joined. Absent: not given. */
  readonly flags: Readonly<Record<string, string>>;
  /** Likewise flags of kube-proxy that are none of ours. */
  readonly kubeProxyFlags?: Readonly<Record<string, string>>;
  /** How the place of a flag and of a key in the file is called, where it is not by the setting's name. */
  readonly names?: Readonly<Record<string, string>>;
  readonly fields?: Readonly<Record<string, string>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** "" when there is none. */
  readonly configFile: string;
}

/**
 * The agent's options from everything that was given. Asks the machine for its host name and cgroup2 mount. A kubeconfig that is in a
 * ConfigMap alone is written to the state directory. @throws Failure "usage" or "machine"
 */
export async function readAgentOptions(sources: OptionSources): Promise<AgentOptions> {
  // What reads YAML is loaded only where there is some.
  const file =
    sources.configFile === "" ? undefined : await (await import("./config-file.ts")).readConfigFile(sources.configFile);
  const isSaid = (name: string): boolean =>
    sources.environment[environmentName(name)] !== undefined || file?.values[name] !== undefined;
  const { flags, names, ignored } = takeKubeProxyFlags(sources.flags, sources.kubeProxyFlags ?? {}, isSaid);
  const machine = { nodeName: hostname().toLowerCase(), cgroup: await findCgroup2(), ...machineSize() };
  const configFile = file?.path ?? "";
  const all = { ...sources, configFile, flags, names, fields: file?.fields ?? {} };
  const merged = mergeOptions(all, file?.values ?? {}, machine);
  const options = { ...merged, ignored: [...ignored, ...(file?.ignored ?? [])] };
  for (const path of options.manifests) await refuseAbsent(path);
  if (file === undefined || file.kubeconfigText === "" || options.kubeconfig !== file.values["kubeconfig"])
    return options;
  // It is read again and again, so it is to be a file.
  const kubeconfig = join(options.stateDir, "kubeconfig.conf");
  await writeStateFile(kubeconfig, file.kubeconfigText);
  return { ...options, kubeconfig };
}

/** Pinned maps are charged to the agent's own memory cgroup. */
export function machineSize(): Pick<MachineDefaults, "memoryBytes" | "cpus"> {
  return { memoryBytes: memoryForTables(totalmem(), process.constrainedMemory()), cpus: availableParallelism() };
}

/** A directory may go and come back later, but one that is not there at the start is most likely misspelt. */
async function refuseAbsent(path: string): Promise<void> {
  const code = await stat(path).then(
    () => "",
    (error: NodeJS.ErrnoException) => error.code,
  );
  if (code !== "ENOENT" && code !== "ENOTDIR") return;
  throw new Failure("usage", path, `could not read manifests from ${path}: there is no such file or directory`);
}

/** Where an agent with these flags and this environment leaves things. @throws Failure "usage" or "machine" */
export async function readPlaces(
  values: { readonly pinDir?: string; readonly stateDir?: string; readonly cgroup?: string },
  environment: OptionSources["environment"],
): Promise<Pick<AgentOptions, "pinDir" | "stateDir" | "cgroup">> {
  const given = { "pin-dir": values.pinDir, "state-dir": values.stateDir, cgroup: values.cgroup };
  return readSome(given, environment, { nodeName: "", cgroup: await findCgroup2(), ...machineSize() }) as AgentOptions;
}

/** Where an agent with this flag and this environment pins. @throws Failure "usage" */
export function readPinDir(value: string | undefined, environment: OptionSources["environment"]): string {
  const { pinDir } = readSome({ "pin-dir": value }, environment, { nodeName: "", cgroup: "", ...machineSize() });
  return pinDir as string;
}

/** The settings named by the keys of `given`. */
function readSome(
  given: Readonly<Record<string, string | undefined>>,
  environment: OptionSources["environment"],
  machine: MachineDefaults,
): Partial<AgentOptions> {
  const flags = Object.fromEntries(
    Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  const places: Partial<AgentOptions> = {};
  for (const setting of SETTINGS.filter(({ name }) => Object.hasOwn(given, name))) {
    Object.assign(
      places,
      readSetting(setting, findGiven(setting, { flags, environment, configFile: "" }, {}, machine)),
    );
  }
  return places;
}

/** The pure part of `readAgentOptions`. @throws Failure */
export function mergeOptions(
  sources: OptionSources,
  file: Readonly<Record<string, string>>,
  machine: MachineDefaults,
): AgentOptions {
  let options: Partial<AgentOptions> = {};
  const origins: Record<string, string> = {};
  for (const setting of SETTINGS) {
    const given = findGiven(setting, sources, file, machine);
    if (given.text !== "") origins[setting.name] = given.from;
    const part = readSetting(setting, given);
    options = { ...options, ...part, ...mergedRecords(options, part) };
  }
  // Each setting of the table has contributed its part: a test compares the keys.
  refuseTwoSources(origins, options);
  refuseClass(origins);
  return { ...options, ignored: [] } as unknown as AgentOptions;
}

/** Those to which several settings contribute. */
const RECORDS = ["mapSizes", "balancing"] as const;

function mergedRecords(options: Partial<AgentOptions>, part: Partial<AgentOptions>): Partial<AgentOptions> {
  return Object.fromEntries(RECORDS.map((name) => [name, { ...options[name], ...part[name] }]));
}

/** `origins`: where each setting that is not empty came from. */
function refuseTwoSources(origins: Readonly<Record<string, string>>, options: Partial<AgentOptions>): void {
  const manifests = origins["manifests"];
  const controller = origins["with-controller"];
  if (manifests !== undefined && options.withController) {
    const reason = "with manifests the agent itself gives the addresses";
    throw new Failure("usage", controller!, `could not use ${controller} together with ${manifests}: ${reason}`);
  }
  const api = origins["kubeconfig"] ?? origins["apiserver"];
  if (manifests === undefined || api === undefined) return;
  const reason = "objects come either from manifests or from the Kubernetes API";
  throw new Failure("usage", manifests, `could not use ${manifests} together with ${api}: ${reason}`);
}

/** The allocator of manifests knows no class of its own. */
function refuseClass({ manifests, "load-balancer-class": byClass }: Readonly<Record<string, string>>): void {
  if (manifests === undefined || byClass === undefined) return;
  const reason = "with manifests Services without a class are given addresses, and no others";
  throw new Failure("usage", byClass, `could not use ${byClass} together with ${manifests}: ${reason}`);
}

export function findGiven(
  { name, defaultValue }: Pick<Setting, "name" | "defaultValue">,
  { flags, environment, configFile, names, fields }: OptionSources,
  file: Readonly<Record<string, string>>,
  machine: MachineDefaults,
): Given {
  const flag = flags[name];
  if (flag !== undefined) return { text: flag, from: names?.[name] ?? `--${name}` };
  const variable = environment[environmentName(name)];
  if (variable !== undefined) return { text: variable, from: environmentName(name) };
  const value = file[name];
  if (value !== undefined) return { text: value, from: `${fields?.[name] ?? name} in ${configFile}` };
  return { text: defaultValue(machine), from: `--${name}` };
}

export function readSetting<Options>(
  setting: Pick<Setting<Options>, "name" | "read">,
  { text, from }: Given,
): Partial<Options> {
  if (setting.name === "cgroup" && text === "") {
    const hint =
      "mount it (mount -t cgroup2 none /sys/fs/cgroup), or name a directory of it with --cgroup; `ip netns exec` hides it, and the bpffs: enter a namespace with nsenter --net=/run/netns/NAME";
    throw new Failure("machine", "cgroup2", `could not find a cgroup2 mount: ${hint}`);
  }
  try {
    return setting.read(text);
  } catch (cause) {
    if (!(cause instanceof WrongValue)) throw cause;
    throw new Failure("usage", from, `${from} must be ${cause.message}: current value is '${text}'`, { cause });
  }
}
