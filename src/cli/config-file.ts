// The configuration file of `millrace run`: YAML whose keys are the settings' names, or kube-proxy's own configuration, to the text that
// flags would have. Everything wrong is a Failure of code "usage" that names the file and the key.
import { access, open, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
// An import statement: of a bundled CommonJS package, import() would give the default export alone.
import { isMap, isScalar, LineCounter, parseDocument, type YAMLError } from "yaml";
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
  const read = parseMapping(text, path);
  const { content } = read;
  if (!isKubernetesObject(content)) {
    refuseRepeated(read);
    return { path, values: ownValues(content, path), fields: {}, ignored: [], kubeconfigText: "" };
  }
  if (content["kind"] !== "ConfigMap") return { path, ...readKubeProxyConfig(content, read), kubeconfigText: "" };
  refuseRepeated(read);
  const data = configMapData(content, path);
  const inner = parseMapping(data[CONFIG_KEY] ?? "", `${CONFIG_KEY} in ${path}`);
  const config = readKubeProxyConfig(inner.content, inner);
  const kubeconfig = basename(config.values["kubeconfig"] ?? "");
  return { path: inner.path, ...config, kubeconfigText: data[kubeconfig] ?? "" };
}

interface ReadMapping {
  readonly path: string;
  readonly content: Readonly<Record<string, unknown>>;
  /** Of each key, by its way from the top: the last line that has it. */
  readonly lines: ReadonlyMap<string, number>;
  /** Keys that a later one of the same name makes void. */
  readonly repeated: readonly { readonly field: string; readonly line: number }[];
  /** What is said of the first of those. */
  readonly repetition: YAMLError | undefined;
}

function notRead(path: string, problem: YAMLError): Failure {
  const reason = problem.message.split("\n", 1)[0]?.replace(/:$/, "");
  return new Failure("usage", path, `could not read the configuration ${path}: ${reason}`, { cause: problem });
}

/** @throws Failure "usage" */
function refuseRepeated({ path, repetition }: ReadMapping): void {
  if (repetition !== undefined) throw notRead(path, repetition);
}

/** @throws Failure "usage" when the text is no mapping */
function parseMapping(text: string, path: string): ReadMapping {
  const counter = new LineCounter();
  const document = parseDocument(text, { prettyErrors: true, lineCounter: counter });
  const isOfRepeated = ({ code }: YAMLError): boolean => code === "DUPLICATE_KEY";
  const problem = document.errors.find((one) => !isOfRepeated(one));
  if (problem !== undefined) throw notRead(path, problem);
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
  return { path, content, ...linesOf(document.contents, counter), repetition: document.errors.find(isOfRepeated) };
}

/** Where the keys of a mapping and of those in it are. */
function linesOf(contents: unknown, counter: LineCounter): Pick<ReadMapping, "lines" | "repeated"> {
  const lines = new Map<string, number>();
  const repeated: { field: string; line: number }[] = [];
  const walk = (node: unknown, before: string): void => {
    if (!isMap(node)) return;
    const here = new Map<string, number>();
    for (const { key, value } of node.items) {
      if (!isScalar(key)) continue;
      const field = `${before}${String(key.value)}`;
      const { line } = counter.linePos(key.range?.[0] ?? 0);
      const earlier = here.get(field);
      if (earlier !== undefined) repeated.push({ field, line: earlier });
      here.set(field, line);
      lines.set(field, line);
      walk(value, `${field}.`);
    }
  };
  walk(contents, "");
  return { lines, repeated };
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
