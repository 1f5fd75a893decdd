// docs/troubleshooting.md has a heading for each word that a user may look up: reasons of notices, verdicts, states of flows,
// exit statuses. The words are gathered from the sources.
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { FLOW_STATE_VALUES, VERDICT_VALUES } from "../src/datapath/layout.gen.ts";
import { FAILURES } from "../src/lib/errors.ts";
import { PENDING_REASONS } from "../src/model/objects.ts";

const ROOT = resolve(import.meta.dirname, "..");
const page = readFileSync(join(ROOT, "docs/troubleshooting.md"), "utf8");
const headings = [...page.matchAll(/^### (.+)$/gm)].map(([, heading = ""]) => heading);
const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".ts"))
  .map((path) => ({ path, text: readFileSync(join(ROOT, "src", path), "utf8") }));

/** Ways in which a notice, or a complaint that becomes one, is given its reason. */
const REASONS = [
  /\breason: "([a-z-]+)"/g,
  /\breason: [\w. ?=!]+ \? "([a-z-]+)"/g,
  /\breason: [\w. ?=!]+ \? "[a-z-]+" : "([a-z-]+)"/g,
  /\breason = "([a-z-]+)"/g,
  /\btell\(\s*"([a-z-]+)",/g,
  /\b(?:machineNotice|fileNotice|apiNotice)\(\s*(?:[^"()]*|"[^"]*"|`[^`]*`),\s*"([a-z-]+)"/g,
  /\bapiNotice\(\s*"([a-z-]+)"/g,
  /\brefuse\(\s*state,\s*\w+,\s*"([a-z-]+)"/g,
  /\brefuse\(\s*"([a-z]+-[a-z-]+)"/g,
  /\berror\([^)]*"--devices", "([a-z-]+)"/g,
  /\bchecks\.(?:invalid|add)\([^;]*"([a-z]+-[a-z]+)"\)/g,
  /^ {2}\| "([a-z-]+)"$/gm,
];

/** Of other things than notices: of a call that failed, of a worker's message, of a node that may not announce. */
const NO_NOTICES = new Set([
  "lookup",
  "connect",
  "given-up",
  "over",
  "not-ours",
  "not-advertised",
  "excluded",
  "network-unavailable",
  "no-local-endpoint",
]);

function reasonsOf({ path, text }: { path: string; text: string }): string[] {
  // A union of words is one of reasons only where the API's are named.
  const patterns = path.startsWith("kube/api-problem") ? REASONS : REASONS.slice(0, -1);
  return patterns.flatMap((pattern) => [...text.matchAll(pattern)].map(([, reason = ""]) => reason));
}

describe("docs/troubleshooting.md", () => {
  it("has a heading for each reason of a notice", () => {
    const api = ["unreachable", "tls", "credentials", "timeout"];
    const found = new Set([...sources.flatMap(reasonsOf), ...PENDING_REASONS, ...api]);
    for (const known of [
      "no-uplink",
      "forward-policy",
      "port-taken",
      "unknown-field",
      "wrong-type",
      "forbidden",
      "malformed",
      "too-large",
    ])
      expect(found).toContain(known);
    expect([...found].filter((reason) => !NO_NOTICES.has(reason) && !headings.includes(reason)).sort()).toEqual([]);
  });

  it("has a heading for each verdict, as it is shown, and no other", () => {
    const wanted = Object.keys(VERDICT_VALUES)
      .filter((name) => name !== "VERDICT_MAX")
      .map((name) => name.replace(/^VERDICT_/, "").toLowerCase());
    const section = /^# Verdicts\n([\s\S]*?)^# /m.exec(page)?.[1] ?? "";
    expect([...section.matchAll(/^### (.+)$/gm)].map(([, heading]) => heading).sort()).toEqual(wanted.sort());
  });

  it("has a heading for each state of a flow", () => {
    expect(Object.keys(FLOW_STATE_VALUES).length).toBeGreaterThan(3);
    const table = sources.find(({ path }) => path === "datapath/flow-table.ts")!.text;
    const body = /function stateName[\s\S]*?^}/m.exec(table)?.[0] ?? "";
    const states = [...body.matchAll(/(?:return|\?|:) "([a-z-]+)"/g)].map(([, state = ""]) => state);
    expect(states).toContain("syn-sent");
    expect(states.length).toBeGreaterThan(6);
    expect(states.filter((state) => !headings.includes(state))).toEqual([]);
  });

  it("has a heading for each exit status", () => {
    const wanted = [...new Set([0, ...Object.values(FAILURES).map(({ exit }) => exit), 130])];
    const found = headings.flatMap((heading) => /^Exit status (\d+)$/.exec(heading)?.[1] ?? []);
    expect(found.map(Number).sort((a, b) => a - b)).toEqual(wanted.sort((a, b) => a - b));
  });

  it("has no heading twice, and something to say under each", () => {
    expect(headings.filter((heading, at) => headings.indexOf(heading) !== at)).toEqual([]);
    const empty = [...page.matchAll(/^### (.+)\n(.*)$/gm)].filter(([, , text = ""]) => text.length < 5);
    expect(empty.map(([, heading]) => heading)).toEqual([]);
  });
});
