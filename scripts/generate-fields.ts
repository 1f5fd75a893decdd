// Writes src/standalone/known-fields.json: the names of all fields of the kinds that may stand in a manifest, from Kubernetes'
// own OpenAPI description. It is Go's module k8s.io/kubernetes, newest version in the module cache; without it nothing is written.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** Groups as files of the module, and the kinds of each that a manifest's content is checked for. */
const SOURCES: Readonly<Record<string, readonly string[]>> = {
  api__v1: ["Service", "Endpoints", "Pod", "Node", "Namespace", "ReplicationController"],
  "apis__discovery.k8s.io__v1": ["EndpointSlice"],
  apis__apps__v1: ["Deployment", "DaemonSet", "ReplicaSet", "StatefulSet"],
  apis__batch__v1: ["Job", "CronJob"],
};

/** MetalLB's kinds are in no module of Kubernetes: field names of its v1beta1. */
const METALLB: Readonly<Record<string, string>> = {
  IPAddressPool: "apiVersion kind metadata:ObjectMeta spec:IPAddressPoolSpec status:IPAddressPoolStatus",
  IPAddressPoolSpec: "addresses autoAssign avoidBuggyIPs serviceAllocation:ServiceAllocation",
  IPAddressPoolStatus: "assignedIPv4 assignedIPv6 availableIPv4 availableIPv6",
  ServiceAllocation: "namespaceSelectors:[LabelSelector namespaces priority serviceSelectors:[LabelSelector",
  L2Advertisement: "apiVersion kind metadata:ObjectMeta spec:L2AdvertisementSpec status",
  L2AdvertisementSpec:
    "interfaces ipAddressPoolSelectors:[LabelSelector ipAddressPools nodeSelectors:[LabelSelector " +
    "preferredNodeSelectors:[PreferredNodeSelector serviceSelectors:[LabelSelector",
  PreferredNodeSelector: "preference:LabelSelector weight",
};

interface Schema {
  readonly $ref?: string;
  readonly allOf?: readonly Schema[];
  readonly type?: string;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly "x-kubernetes-group-version-kind"?: readonly { group: string; version: string; kind: string }[];
}
type Schemas = Readonly<Record<string, Schema>>;

const referenced = (schema: Schema): string | undefined =>
  (schema.$ref ?? schema.allOf?.find(({ $ref }) => $ref !== undefined)?.$ref)?.replace("#/components/schemas/", "");
const shortName = (name: string): string => name.slice(name.lastIndexOf(".") + 1);

/** "name" of a leaf, "name:T" of an object, "name:[T" of a list of objects, "name:{T" of a map to objects. */
function fieldText(name: string, schema: Schema, schemas: Schemas, pending: Set<string>): string {
  const within = { array: schema.items, object: schema.additionalProperties }[schema.type ?? ""];
  const to = referenced(within ?? schema);
  if (to === undefined || schemas[to]?.properties === undefined) return name;
  pending.add(to);
  const sign = within === undefined ? "" : schema.type === "array" ? "[" : "{";
  return `${name}:${sign}${shortName(to)}`;
}

function describe(
  schemas: Schemas,
  kinds: readonly string[],
  types: Map<string, string>,
  kindTypes: Map<string, string>,
) {
  const pending = new Set<string>();
  for (const [name, schema] of Object.entries(schemas)) {
    const [first] = schema["x-kubernetes-group-version-kind"] ?? [];
    if (first === undefined || !kinds.includes(first.kind) || shortName(name) !== first.kind) continue;
    const version = first.group === "" ? first.version : `${first.group}/${first.version}`;
    kindTypes.set(`${version} ${first.kind}`, first.kind);
    pending.add(name);
  }
  for (const name of pending) {
    const properties = Object.entries(schemas[name]?.properties ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
    const text = properties.map(([field, schema]) => fieldText(field, schema, schemas, pending)).join(" ");
    const before = types.get(shortName(name));
    if (before !== undefined && before !== text) throw new Error(`two types are called ${shortName(name)}`);
    types.set(shortName(name), text);
  }
}

/** Versions as numbers: v1.9.0 is older than v1.34.4. */
function newestModule(): string | undefined {
  const cache = process.env["GOMODCACHE"] ?? join(process.env["GOPATH"] ?? join(homedir(), "go"), "pkg/mod");
  const directory = join(cache, "k8s.io");
  if (!existsSync(directory)) return undefined;
  const order = (name: string): number[] => (name.split("@v")[1] ?? "").split(/[.-]/).map(Number);
  const found = readdirSync(directory)
    .filter((name) => /^kubernetes@v\d+\.\d+\.\d+$/.test(name))
    .sort(
      (a, b) =>
        order(a)
          .map((part, i) => part - order(b)[i]!)
          .find((difference) => difference !== 0) ?? 0,
    );
  const newest = found.at(-1);
  return newest === undefined ? undefined : join(directory, newest);
}

/** Says what it did on standard error. */
export function writeKnownFields(): void {
  const module = newestModule();
  const target = resolve(import.meta.dirname, "../src/standalone/known-fields.json");
  if (module === undefined) {
    process.stderr.write(
      "known-fields.json stays as it is: the module k8s.io/kubernetes is not in Go's module cache\n",
    );
    return;
  }
  const types = new Map(Object.entries(METALLB));
  const kinds = new Map<string, string>();
  for (const kind of ["IPAddressPool", "L2Advertisement"]) kinds.set(`metallb.io/v1beta1 ${kind}`, kind);
  for (const [file, wanted] of Object.entries(SOURCES)) {
    const text = readFileSync(join(module, `api/openapi-spec/v3/${file}_openapi.json`), "utf8");
    describe((JSON.parse(text) as { components: { schemas: Schemas } }).components.schemas, wanted, types, kinds);
  }
  const sorted = (map: ReadonlyMap<string, string>) =>
    Object.fromEntries([...map].sort(([a], [b]) => (a < b ? -1 : 1)));
  const source = module.slice(module.lastIndexOf("/") + 1);
  writeFileSync(target, `${JSON.stringify({ source, kinds: sorted(kinds), types: sorted(types) }, undefined, 2)}\n`);
}

if (import.meta.main) writeKnownFields();
