// How a report reads: groups in their order, advice below its line, the sum at the end.
import { expect, it } from "vitest";
import { error, ok, warning } from "../../../src/agent/doctor/finding.ts";
import { reportOf, reportText } from "../../../src/agent/doctor/report.ts";

const FINDINGS = [
  ok("machine.node", "Node.js 24.1.0"),
  warning("machine.state", "/state\u001b[2J is on tmpfs", "use a directory of the host"),
  error("devices.uplinks", "no device is an uplink", "give one an address"),
];
const plain = { tone: (text: string) => text, wrap: (text: string) => text };

it("is read from top to bottom", () => {
  expect(reportText(reportOf(FINDINGS, "0.1.0", "node1"), plain)).toBe(`Machine
  ok      node: Node.js 24.1.0
  warning state: /state?[2J is on tmpfs
          -> use a directory of the host

Devices
  error   uplinks: no device is an uplink
          -> give one an address

1 error, 1 warning, 1 ok
`);
});

it("leaves out what is ok when it is asked to", () => {
  expect(reportText(reportOf(FINDINGS.slice(0, 1), "", ""), plain, true)).toBe("0 errors, 0 warnings, 1 ok\n");
  expect(reportText(reportOf(FINDINGS, "", ""), plain, true)).not.toContain("Node.js");
});

it.each([
  [FINDINGS, "error"],
  [FINDINGS.slice(0, 2), "warning"],
  [FINDINGS.slice(0, 1), "ok"],
  [[], "ok"],
] as const)("bears the worst level of all (%#)", (findings, level) => {
  const report = reportOf(findings, "0.1.0", "node1");
  expect(report).toMatchObject({ level, version: "0.1.0", node: "node1" });
  expect(report.counts.error + report.counts.warning + report.counts.ok).toBe(findings.length);
  expect(report.findings.every(({ group, check }) => check.startsWith(`${group}.`))).toBe(true);
});
