// The configuration file of `millrace run`: YAML whose keys are the settings' names, or kube-proxy's own configuration, to the text that
// flags would have. Everything wrong is a Failure of code "usage" that names the file and the key.
import { access, open, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
// An import statement: of a bundled CommonJS package, import() would give the default export alone.
import { parseDocument } from "yaml";
import { Failure } from "../lib/errors.ts";
import { didYouMean } from "../lib/suggest.ts";
import {
  CONFIG_KEY,
  configMapData,
  isKubernetesObject,
  isMapping,
  type KubeProxyConfig,
  readKubeProxyConfig,
} from "./kube-proxy-config.ts";
import { SETTINGS, type Setting } from "./settings.ts";

const MAX_CONFIG_BYTES = 1 << 20;

export interface ConfigFile extends KubeProxyConfig {
  /** Where it was, for messages. */
  readonly path: string;
  /** The text of the kubeconfig that it names, which is in the same ConfigMap and nowhere on this machine; "": there is none. */
  readonly kubeconfigText: string;
}

/** A configuration file, or a directory with one as kubeadm mounts it. @throws Failure "usage" */
export async function readConfigFile(given: string): Promise<ConfigFile> {
  let path = given;
  let text: string;
  try {
    if ((await stat(given)).isDirectory()) path = join(given, CONFIG_KEY);
    text = await readLimited(path);
  } catch (cause) {
    const reason = cause instanceof Failure ? cause.message : (cause as NodeJS.ErrnoException).code;
    throw new Failure("usage", path, `could not read the configuration ${path}: ${reason}`, { cause });
  }
  const found = parseConfig(text, path);
  const { kubeconfig = "" } = found.values;
  if (found.fields["kubeconfig"] === undefined || kubeconfig === "" || (await exists(kubeconfig))) return found;
  const beside = join(dirname(path), basename(kubeconfig));
  if (found.kubeconfigText !== "" || !(await exists(beside))) return found;
  return { ...found, values: { ...found.values, kubeconfig: beside }, kubeconfigText: "" };
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function readLimited(path: string): Promise<string> {
  await using file = await open(path, "r");
  const { size } = await file.stat();
  if (size > MAX_CONFIG_BYTES) throw new Failure("usage", path, `it is larger than ${MAX_CONFIG_BYTES} bytes`);
  return file.readFile("utf8");
}

/** A configuration's text; `path` is for messages. @throws Failure "usage" */
export function parseConfig(text: string, path: string): ConfigFile {
  const content = parseMapping(text, path);
  if (!isKubernetesObject(content)) {
    return { path, values: ownValues(content, path), fields: {}, ignored: [], kubeconfigText: "" };
  }
  if (content["kind"] !== "ConfigMap") return { path, ...readKubeProxyConfig(content, path), kubeconfigText: "" };
  const data = configMapData(content, path);
  const inner = `${CONFIG_KEY} in ${path}`;
  const config = readKubeProxyConfig(parseMapping(data[CONFIG_KEY] ?? "", inner), inner);
  const kubeconfig = basename(config.values["kubeconfig"] ?? "");
  return { path: inner, ...config, kubeconfigText: data[kubeconfig] ?? "" };
}

function parseMapping(text: string, path: string): Readonly<Record<string, unknown>> {
  const document = parseDocument(text, { prettyErrors: true });
  const [problem] = document.errors;
  if (problem !== undefined) {
    const reason = problem.message.split("\n", 1)[0]?.replace(/:$/, "");
    throw new Failure("usage", path, `could not read the configuration ${path}: ${reason}`, { cause: problem });
  }
  let content: unknown;
  try {
    // No setting is worth an alias: refusing them all refuses alias bombs.
    content = document.toJS({ maxAliasCount: 0 }) ?? {};
  } catch (cause) {
    throw new Failure("usage", path, `could not read the configuration ${path}: it uses aliases`, { cause });
  }
  if (!isMapping(content)) {
    throw new Failure("usage", path, `could not read the configuration ${path}: it must be a mapping of settings`);
  }
  return content;
}

function ownValues(content: Readonly<Record<string, unknown>>, path: string): Record<string, string> {
  const values: Record<string, string> = {};
  for (const [key, value] of Object.entries(content)) {
    const setting = SETTINGS.find((known) => known.name === key);
    if (setting === undefined) {
      const hint = didYouMean(
        key,
        SETTINGS.map(({ name }) => name),
      );
      throw new Failure(
        "usage",
        `${path}: ${key}`,
        `could not use the configuration ${path}: unknown key '${key}'${hint}`,
      );
    }
    values[key] = textOf(setting, value, path);
  }
  return values;
}

function textOf(setting: Setting, value: unknown, path: string): string {
  if (setting.list && Array.isArray(value) && value.every((item) => typeof item === "string")) return value.join(",");
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return String(value);
  const wanted = setting.list ? "a text or a list of texts" : "a single value";
  const from = `${setting.name} in ${path}`;
  throw new Failure("usage", from, `${from} must be ${wanted}: current value is '${JSON.stringify(value)}'`);
}
