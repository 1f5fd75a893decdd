// The chart and what is generated from it. `node scripts/chart.ts inputs` writes what the chart itself takes from elsewhere: the keys of
// configuration files in its schema, dashboards and rules. `node scripts/chart.ts render HELM` writes the plain manifests and the kustomize
// base. Those carry a hash of the chart and one of themselves, so that `make check` needs no helm to see that they are out of date.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { parse } from "yaml";
import { CONTROLLER_SETTINGS } from "../src/cli/controller-settings.ts";
import { SETTINGS, type Setting } from "../src/cli/settings.ts";

const root = resolve(import.meta.dirname, "..");
export const CHART = join(root, "deploy/helm/millrace");
const SCHEMA = join(CHART, "values.schema.json");

/** Keys of the agent's configuration that the DaemonSet, another value or the API as the source decides. */
const FIXED_OF_AGENT = [
  ...["manifests", "kubeconfig", "apiserver", "namespace", "load-balancer-class", "with-controller", "read-only"],
  ...["cluster-domain", "node-name", "state-dir", "pin-dir", "api-socket"],
];
/** Flags of the controller that are values of their own, or that its rights name. */
const FIXED_OF_CONTROLLER = [
  ...["kubeconfig", "apiserver", "namespace", "load-balancer-class", "lease-name", "announcer-secret-name"],
];

type Described = Omit<Setting, "read">;

/** A setting as a JSON schema. Numbers may be written as texts; `on` and `off` have to be quoted, as YAML 1.1 takes them for booleans. */
function schemaOf({ placeholder, list, help }: Described): object {
  if (list) return { type: ["array", "string"], items: { type: "string" }, description: help };
  if (placeholder === "") return { type: "boolean", description: help };
  const isNumber = ["N", "PORT", "SECONDS", "MARK"].includes(placeholder);
  return { type: isNumber ? ["integer", "string"] : "string", description: help };
}

function schemaOfSettings(settings: readonly Described[], fixed: readonly string[], description: string): object {
  const unknown = fixed.filter((name) => !settings.some((setting) => setting.name === name));
  if (unknown.length > 0) throw new Error(`scripts/chart.ts leaves out settings that there are not: ${unknown}`);
  const properties = settings
    .filter(({ name }) => !fixed.includes(name))
    .map((setting) => [setting.name, schemaOf(setting)] as const);
  return { type: "object", description, additionalProperties: false, properties: Object.fromEntries(properties) };
}

/** The chart's schema with the keys of both configurations as they are now. */
function schemaText(): string {
  const schema = JSON.parse(readFileSync(SCHEMA, "utf8")) as { $defs: Record<string, object> };
  const agent = "Keys of the agent's configuration file, as deploy/config-reference.yaml has them.";
  schema.$defs["agentConfig"] = schemaOfSettings(SETTINGS, FIXED_OF_AGENT, agent);
  const controller = "Flags of `millrace controller`, without their dashes.";
  schema.$defs["controllerConfig"] = schemaOfSettings(CONTROLLER_SETTINGS, FIXED_OF_CONTROLLER, controller);
  return `${JSON.stringify(schema, undefined, 2)}\n`;
}

/** Directories that the chart has copies of, with the endings of what is copied. */
const COPIED = [
  { from: "deploy/prometheus", to: "files/prometheus", ending: ".yaml" },
  { from: "deploy/grafana", to: "files/grafana", ending: ".json" },
] as const;

/** Writes the parts of the chart that come from elsewhere; a file that is what it ought to be is left alone. */
export function writeChartInputs(): void {
  writeChanged(SCHEMA, schemaText());
  for (const { from, to, ending } of COPIED) {
    const source = join(root, from);
    const names = existsSync(source) ? readdirSync(source).filter((name) => name.endsWith(ending)) : [];
    const target = join(CHART, to);
    mkdirSync(target, { recursive: true });
    for (const name of readdirSync(target)) if (!names.includes(name)) rmSync(join(target, name));
    for (const name of names) writeChanged(join(target, name), readFileSync(join(source, name), "utf8"));
  }
}

function writeChanged(path: string, text: string): void {
  if (!existsSync(path) || readFileSync(path, "utf8") !== text) writeFileSync(path, text);
}

function hashOf(...texts: readonly string[]): string {
  const hash = createHash("sha256");
  for (const text of texts) hash.update(text).update("\0");
  return hash.digest("hex").slice(0, 16);
}

/** Of all that the manifests are rendered from: the schema and the copied files change nothing of them. */
function chartHash(): string {
  const paths = ["Chart.yaml", "values.yaml", ...filesBelow("crds"), ...filesBelow("templates")].sort();
  return hashOf(...paths.flatMap((path) => [path, readFileSync(join(CHART, path), "utf8")]));
}

function filesBelow(directory: string): string[] {
  return readdirSync(join(CHART, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(CHART, join(entry.parentPath, entry.name)));
}

const CRDS = ["crds/metallb.yaml"];
const AGENT = ["templates/agent-rbac.yaml", "templates/agent-config.yaml", "templates/agent-daemonset.yaml"];
const CONTROLLER = ["templates/controller-rbac.yaml", "templates/controller-deployment.yaml"];

/** What is rendered, and from which of the chart's files. */
const RENDERED: Readonly<Record<string, readonly string[]>> = {
  "deploy/crds.yaml": CRDS,
  "deploy/rbac.yaml": ["templates/agent-rbac.yaml"],
  "deploy/controller.yaml": CONTROLLER,
  "deploy/millrace.yaml": [...CRDS, ...AGENT, ...CONTROLLER],
  "deploy/kustomize/crds.yaml": CRDS,
  "deploy/kustomize/agent.yaml": AGENT,
  "deploy/kustomize/controller.yaml": CONTROLLER,
};
const KUSTOMIZATION = "deploy/kustomize/kustomization.yaml";

function kustomization(): string {
  const names = Object.keys(RENDERED).filter((path) => dirname(path) === dirname(KUSTOMIZATION));
  const resources = names.map((path) => `  - ${basename(path)}\n`).join("");
  return `apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n${resources}`;
}

const HEAD = /^# Rendered from deploy\/helm\/millrace by `make chart`: chart ([0-9a-f]{16}), below ([0-9a-f]{16})\.\n/;

function withHead(body: string): string {
  return `# Rendered from deploy/helm/millrace by \`make chart\`: chart ${chartHash()}, below ${hashOf(body)}.\n${body}`;
}

/** The documents of `helm template` by the file of the chart that they are from, in their order. A file of CRDs is named once. */
export function documentsBySource(output: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  let source = "";
  for (const piece of output.split(/^---\n/m)) {
    const [head = "", named] = /^# Source: millrace\/(\S+)\n/.exec(piece) ?? [];
    source = named ?? source;
    const text = piece.slice(head.length).trim();
    if (text !== "") found.set(source, [...(found.get(source) ?? []), `${text}\n`]);
  }
  return found;
}

/** What the objects are rendered for: Helm's own builds know a newest version, those of its module do not. */
export const KUBE_VERSION = "--kube-version=1.37.0";
/** Flags by which the plain manifests are rendered. */
export const TEMPLATE = [
  ...["template", "millrace", CHART, "--namespace=kube-system", "--include-crds", "--skip-tests", KUBE_VERSION],
];

/** Renders the chart by this helm and writes all that is generated from it. */
function render(helm: string): void {
  const { status, stdout, stderr, error } = spawnSync(helm, TEMPLATE, { encoding: "utf8", maxBuffer: 64 << 20 });
  if (status !== 0) throw new Error(`could not render the chart by ${helm}: ${error?.message ?? stderr}`);
  const documents = documentsBySource(stdout);
  for (const [path, sources] of Object.entries(RENDERED)) {
    const texts = sources.flatMap((source) => {
      const of = documents.get(source) ?? [];
      if (of.length === 0) throw new Error(`could not render ${path}: helm printed nothing of ${source}`);
      return of;
    });
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeChanged(join(root, path), withHead(texts.join("---\n")));
  }
  writeChanged(join(root, KUSTOMIZATION), withHead(kustomization()));
}

/** What is out of date, in sentences; none when all is as the chart says. */
export function chartProblems(): string[] {
  const problems: string[] = [];
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  const chart = parse(readFileSync(join(CHART, "Chart.yaml"), "utf8")) as Record<string, unknown>;
  for (const key of ["version", "appVersion"]) {
    if (chart[key] !== version) problems.push(`Chart.yaml has ${key} ${chart[key]}, package.json ${version}`);
  }
  if (readFileSync(SCHEMA, "utf8") !== schemaText()) problems.push("values.schema.json: run `make docs`");
  const wanted = chartHash();
  for (const path of [...Object.keys(RENDERED), KUSTOMIZATION]) {
    const text = existsSync(join(root, path)) ? readFileSync(join(root, path), "utf8") : "";
    const [head, ofChart, ofBody] = HEAD.exec(text) ?? [];
    if (head === undefined) problems.push(`${path} is not rendered from the chart: run \`make chart\``);
    else if (ofChart !== wanted) problems.push(`${path} is of another chart: run \`make chart\``);
    else if (ofBody !== hashOf(text.slice(head.length))) {
      problems.push(`${path} was edited by hand: edit the chart, and run \`make chart\``);
    }
  }
  return problems;
}

if (import.meta.main) {
  const [what, helm] = process.argv.slice(2);
  writeChartInputs();
  if (what === "render" && helm !== undefined) render(helm);
  else if (what !== "inputs") throw new Error("usage: node scripts/chart.ts inputs | render HELM");
}
