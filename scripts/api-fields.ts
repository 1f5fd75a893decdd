// Writes test/wire/api-fields.gen.json: every field of a Service and an EndpointSlice that the newest Kubernetes knows, from the
// schema in its Go module. Without that module in Go's cache the list stays as it is.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

export const API_FIELDS = "test/wire/api-fields.gen.json";

interface Schema {
  readonly $ref?: string;
  readonly allOf?: readonly Schema[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
}

type Schemas = Readonly<Record<string, Schema>>;

/** The directory of the newest k8s.io/kubernetes in Go's module cache. */
function newestModule(): string | undefined {
  const { stdout } = spawnSync("go", ["env", "GOMODCACHE"], { encoding: "utf8" });
  const parent = join((stdout ?? "").trim(), "k8s.io");
  if (!stdout || !existsSync(parent)) return undefined;
  const versions = readdirSync(parent).filter((name) => /^kubernetes@v\d+\.\d+\.\d+$/.test(name));
  const newest = versions.toSorted(new Intl.Collator("en", { numeric: true }).compare).at(-1);
  return newest === undefined ? undefined : join(parent, newest);
}

/** Paths of the leaves below `schema`; a map is a leaf, a list "[]". */
function* leaves(schema: Schema, path: string, schemas: Schemas): Generator<string> {
  const ref = schema.$ref ?? schema.allOf?.find((one) => one.$ref !== undefined)?.$ref;
  const found = ref === undefined ? schema : (schemas[ref.slice(ref.lastIndexOf("/") + 1)] ?? {});
  if (found.items !== undefined) yield* leaves(found.items, `${path}[]`, schemas);
  else if (found.properties === undefined) yield path;
  else {
    for (const [name, property] of Object.entries(found.properties)) {
      yield* leaves(property, path === "" ? name : `${path}.${name}`, schemas);
    }
  }
}

function fieldsOf(module: string, file: string, kind: string): string[] {
  const path = join(module, "api/openapi-spec/v3", file);
  const { components } = JSON.parse(readFileSync(path, "utf8")) as { components: { schemas: Schemas } };
  const { metadata: _, apiVersion: __, kind: ___, ...properties } = components.schemas[kind]?.properties ?? {};
  return [...leaves({ properties }, "", components.schemas)].sort();
}

export function writeApiFields(): void {
  const module = newestModule();
  if (module === undefined) {
    process.stderr.write(`${API_FIELDS}: kept as it is, k8s.io/kubernetes is not in Go's module cache\n`);
    return;
  }
  const fields = {
    kubernetes: module.slice(module.lastIndexOf("@") + 1),
    Service: fieldsOf(module, "api__v1_openapi.json", "io.k8s.api.core.v1.Service"),
    EndpointSlice: fieldsOf(module, "apis__discovery.k8s.io__v1_openapi.json", "io.k8s.api.discovery.v1.EndpointSlice"),
  };
  writeFileSync(resolve(import.meta.dirname, "..", API_FIELDS), `${JSON.stringify(fields, undefined, 2)}\n`);
}
