// Which specs are asked, and what is read of ginkgo's report.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { focusOf, isInScope, namesIn, outcomesIn, reasonFor, type Scope } from "./specs.ts";

const SCOPE: Scope = {
  groups: ["Services", "DNS (HostNetwork )?should"],
  leftOut: [
    { specs: "\\[Feature:SCTP\\]", reason: "no SCTP" },
    { specs: "restart", reason: "no pods", but: ["daemonset"] },
  ],
  sixNodes: [],
};

describe("the scope", () => {
  it("is what begins as one of its groups does", () => {
    expect(isInScope("[sig-network] Services should be", SCOPE)).toBe(true);
    expect(isInScope("[sig-network] DNS should answer", SCOPE)).toBe(true);
    expect(isInScope("[sig-network] DNS configMap should change", SCOPE)).toBe(false);
    expect(isInScope("[sig-apps] Services should be", SCOPE)).toBe(false);
  });

  it("says why a spec of its groups is left out", () => {
    expect(reasonFor("[sig-network] Services over [Feature:SCTP]", SCOPE, "millrace")).toBe("no SCTP");
    expect(reasonFor("[sig-network] Services over TCP", SCOPE, "millrace")).toBeUndefined();
    expect(reasonFor("[sig-network] Services restart", SCOPE, "nftables")).toBe("no pods");
    expect(reasonFor("[sig-network] Services restart", SCOPE, "daemonset")).toBeUndefined();
  });
});

describe("the focus", () => {
  const names = ["[sig-network] Services should (be)", "[sig-network] Services should be * too"];
  // Go and JavaScript agree on all that is in it.
  const focus = new RegExp(focusOf(names));

  it("takes just the specs that it was made of", () => {
    for (const name of names) expect(focus.test(`Kubernetes e2e suite ${name}`)).toBe(true);
  });

  it("takes none whose name only begins or ends like one of them", () => {
    expect(focus.test(`Kubernetes e2e suite ${names[0]} slowly`)).toBe(false);
    expect(focus.test(`Kubernetes e2e suite and ${names[0]}`)).toBe(false);
  });
});

describe("a report", () => {
  let directory: string;
  let report: string;
  const spec = (text: string, state: string, attempts: number, message?: string) => ({
    LeafNodeType: "It",
    LeafNodeText: text,
    ContainerHierarchyTexts: ["[sig-network] Services"],
    State: state,
    NumAttempts: attempts,
    ...(message === undefined ? {} : { Failure: { Message: message } }),
    CapturedGinkgoWriterOutput: "what it did",
  });

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "millrace-conformance-"));
    report = join(directory, "report.json");
    const reports = [
      spec("pass", "passed", 1),
      spec("fail", "failed", 1, "no\nanswer"),
      spec("time out", "timedout", 1),
      spec("skip itself", "skipped", 1, "too few nodes"),
      spec("be left out", "skipped", 0),
      { ...spec("set up", "passed", 1), LeafNodeType: "BeforeSuite" },
    ];
    writeFileSync(report, JSON.stringify([{ SpecReports: reports }]));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  const name = (text: string) => `[sig-network] Services ${text}`;

  it("names every spec", () => {
    expect(namesIn(report)).toEqual(["be left out", "fail", "pass", "skip itself", "time out"].map(name));
  });

  it("tells what came of the specs that were asked, one that did not run among them", () => {
    const wanted = ["pass", "fail", "time out", "skip itself", "be left out", "be forgotten"].map(name);
    expect(outcomesIn(report, wanted, join(directory, "logs"))).toEqual([
      { name: name("pass"), outcome: "passed" },
      { name: name("fail"), outcome: "failed", why: "no answer" },
      { name: name("time out"), outcome: "failed", why: "timedout" },
      { name: name("skip itself"), outcome: "skipped", why: "too few nodes" },
      { name: name("be left out"), outcome: "failed", why: "it did not run" },
      { name: name("be forgotten"), outcome: "failed", why: "it did not run" },
    ]);
  });

  it("leaves the log of each spec that failed", () => {
    outcomesIn(report, ["fail", "pass"].map(name), join(directory, "logs"));
    expect(readdirSync(join(directory, "logs"))).toEqual(["-sig-network-Services-fail.log"]);
    expect(readFileSync(join(directory, "logs/-sig-network-Services-fail.log"), "utf8")).toContain("what it did");
  });
});
