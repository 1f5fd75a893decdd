// Which of Kubernetes' end-to-end specs are asked, by scope.json; what came of each; and how e2e.test is told which to run.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const HERE = import.meta.dirname;
/** Logs of failed specs, and ginkgo's own reports. */
export const BUILD = resolve(HERE, "../../build/conformance");

/** Who serves Services: Millrace's agents as programs beside the kubelet, the pods of its DaemonSet, or kube-proxy. */
export const JUDGED = ["millrace", "daemonset", "nftables"] as const;
export type Judged = (typeof JUDGED)[number];

interface LeftOut {
  /** A regular expression over the spec's name. */
  readonly specs: string;
  readonly reason: string;
  /** Who is asked all the same. */
  readonly but?: readonly Judged[];
}

export interface Scope {
  /** How specs begin that concern a Service proxy, behind `[sig-network]`: regular expressions. */
  readonly groups: readonly string[];
  /** Specs of these groups that this machine or this cluster cannot run. */
  readonly leftOut: readonly LeftOut[];
  /** Specs that skip themselves on fewer than six nodes. */
  readonly sixNodes: readonly string[];
}

export function readScope(): Scope {
  return JSON.parse(readFileSync(join(HERE, "scope.json"), "utf8")) as Scope;
}

/** Why a spec is left out; undefined when it is to pass. */
export function reasonFor(name: string, { leftOut }: Scope, judged: Judged): string | undefined {
  return leftOut.find(({ specs, but = [] }) => !but.includes(judged) && new RegExp(specs).test(name))?.reason;
}

export function needsSixNodes(name: string, { sixNodes }: Scope): boolean {
  return sixNodes.some((specs) => new RegExp(specs).test(name));
}

export function isInScope(name: string, { groups }: Scope): boolean {
  return new RegExp(`^\\[sig-network\\] (?:${groups.join("|")})`).test(name);
}

export type Outcome = "passed" | "failed" | "skipped";

export interface SpecResult {
  readonly name: string;
  readonly outcome: Outcome;
  /** The day on which it was asked last, 2026-11-30; runs from before these were kept have none. */
  readonly on?: string;
  /** Why it failed, or skipped itself; one line. */
  readonly why?: string;
}

export interface Results {
  readonly kubernetes: string;
  readonly specs: readonly SpecResult[];
}

function resultsFile(judged: Judged): string {
  return join(HERE, "results", `${judged}.json`);
}

export function readResults(proxy: Judged): Results | undefined {
  const path = resultsFile(proxy);
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Results) : undefined;
}

/** Results of specs that were asked take the place of older ones; those of specs that are no more go. */
export function mergeResults(proxy: Judged, asked: Results, known: readonly string[]): Results {
  const before = readResults(proxy);
  const kept = before?.kubernetes === asked.kubernetes ? before.specs : [];
  const on = new Date().toISOString().slice(0, 10);
  const all = new Map([...kept, ...asked.specs.map((spec) => ({ ...spec, on }))].map((spec) => [spec.name, spec]));
  const specs = known.flatMap((name) => all.get(name) ?? []);
  const merged = { kubernetes: asked.kubernetes, specs };
  mkdirSync(join(HERE, "results"), { recursive: true });
  writeFileSync(resultsFile(proxy), `${JSON.stringify(merged, undefined, 1)}\n`);
  return merged;
}

/** As much of ginkgo's JSON report as is read here (types.SpecReport). */
interface SpecReport {
  readonly LeafNodeType: string;
  readonly LeafNodeText: string;
  readonly ContainerHierarchyTexts: readonly string[] | null;
  readonly State: string;
  readonly NumAttempts: number;
  readonly RunTime: number;
  readonly Failure?: {
    readonly Message: string;
    readonly Location?: { readonly FileName: string; LineNumber: number };
  };
  readonly CapturedGinkgoWriterOutput?: string;
  readonly CapturedStdOutErr?: string;
}

function specsOf(report: string): SpecReport[] {
  const suites = JSON.parse(readFileSync(report, "utf8")) as { SpecReports: SpecReport[] | null }[];
  return suites.flatMap(({ SpecReports }) => SpecReports ?? []).filter(({ LeafNodeType }) => LeafNodeType === "It");
}

function nameOf({ ContainerHierarchyTexts, LeafNodeText }: SpecReport): string {
  return [...(ContainerHierarchyTexts ?? []), LeafNodeText].join(" ").trim();
}

/** Names of every spec of a report, sorted. */
export function namesIn(report: string): string[] {
  return [...new Set(specsOf(report).map(nameOf))].sort();
}

/** What came of the specs that a run was told to run; a failed one's log goes to `logs`. */
export function outcomesIn(report: string, wanted: readonly string[], logs: string): SpecResult[] {
  rmSync(logs, { recursive: true, force: true });
  const found = new Map(specsOf(report).map((spec) => [nameOf(spec), spec]));
  return wanted.map((name) => {
    const spec = found.get(name);
    if (spec === undefined || (spec.State === "skipped" && spec.NumAttempts === 0))
      return { name, outcome: "failed", why: "it did not run" };
    if (spec.State === "passed") return { name, outcome: "passed" };
    const why = oneLine(spec.Failure?.Message ?? spec.State);
    if (spec.State === "skipped") return { name, outcome: "skipped", why };
    writeLog(logs, name, spec);
    return { name, outcome: "failed", why };
  });
}

const LONGEST_REASON = 200;

function oneLine(message: string): string {
  const text = message.replaceAll(/\s+/g, " ").trim();
  return text.length > LONGEST_REASON ? `${text.slice(0, LONGEST_REASON)}…` : text;
}

function writeLog(directory: string, name: string, spec: SpecReport): void {
  mkdirSync(directory, { recursive: true });
  const file = name.replaceAll(/[^A-Za-z0-9]+/g, "-").slice(0, 160);
  const { FileName = "", LineNumber = 0 } = spec.Failure?.Location ?? {};
  const text = [name, `${FileName}:${LineNumber}`, spec.Failure?.Message, spec.CapturedGinkgoWriterOutput];
  writeFileSync(join(directory, `${file}.log`), `${[...text, spec.CapturedStdOutErr].join("\n\n")}\n`);
}

/** A regular expression of Go's for just these specs: ginkgo puts the suite's name before a spec's. */
export function focusOf(names: readonly string[]): string {
  return `suite (?:${names.map((name) => name.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|")})$`;
}
