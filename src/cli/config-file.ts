// The configuration file of `millrace run`: YAML whose keys are the settings' names, to the text that flags would have.
// Everything wrong is a Failure of code "usage" that names the file and the key.
import { open } from "node:fs/promises";
// An import statement: of a bundled CommonJS package, import() would give the default export alone.
import { parseDocument } from "yaml";
import { Failure } from "../lib/errors.ts";
import { didYouMean } from "../lib/suggest.ts";
import { SETTINGS, type Setting } from "./settings.ts";

const MAX_CONFIG_BYTES = 1 << 20;

/** The keys and values of a configuration file, as flags would have them. @throws Failure "usage" */
export async function readConfigFile(path: string): Promise<Record<string, string>> {
  let text: string;
  try {
    text = await readLimited(path);
  } catch (cause) {
    const reason = cause instanceof Failure ? cause.message : (cause as NodeJS.ErrnoException).code;
    throw new Failure("usage", path, `could not read the configuration ${path}: ${reason}`, { cause });
  }
  return parseConfig(text, path);
}

async function readLimited(path: string): Promise<string> {
  await using file = await open(path, "r");
  const { size } = await file.stat();
  if (size > MAX_CONFIG_BYTES) throw new Failure("usage", path, `it is larger than ${MAX_CONFIG_BYTES} bytes`);
  return file.readFile("utf8");
}

/** `readConfigFile` on text; `path` is for messages. @throws Failure "usage" */
export function parseConfig(text: string, path: string): Record<string, string> {
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
  if (typeof content !== "object" || Array.isArray(content)) {
    throw new Failure("usage", path, `could not read the configuration ${path}: it must be a mapping of settings`);
  }
  const values: Record<string, string> = {};
  for (const [key, value] of Object.entries(content as Record<string, unknown>)) {
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
