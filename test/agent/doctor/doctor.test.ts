// The whole of a doctor where parts cannot be had: each is a line, none ends the others, and time has an end.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { examine } from "../../../src/agent/doctor/doctor.ts";
import type { AgentOptions } from "../../../src/agent/options.ts";
import { mergeOptions } from "../../../src/cli/agent-options.ts";
import { FakeApiServer } from "../../fakes/api-server/fake-api-server.ts";

const machine = { nodeName: "node1", cgroup: "/nowhere", memoryBytes: 8 * 2 ** 30, cpus: 2 };

function options(flags: Readonly<Record<string, string>>): AgentOptions {
  const directory = mkdtempSync(join(tmpdir(), "millrace-doctor-test-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const all = { "state-dir": join(directory, "state"), "api-socket": join(directory, "api.sock"), ...flags };
  return mergeOptions({ flags: all, environment: {}, configFile: "" }, {}, machine);
}

const run = async (agent: AgentOptions, withinMs: number, signal = new AbortController().signal): Promise<string[]> => {
  const askAgent = () => Promise.reject(new Error("none"));
  const findings = await examine({ agent, memoryBytes: 8 * 2 ** 30, cpus: 2, askAgent, signal, withinMs });
  return findings.map(({ level, check, says }) => `${level} ${check}: ${says}`);
};

it("an API server that says nothing costs its line and its time", async () => {
  const server = await new FakeApiServer().start();
  onTestFinished(() => server[Symbol.asyncDispose]());
  server.faults.set([{ fault: { kind: "hang" } }]);
  const lines = await run(options({ apiserver: server.url }), 1_500);
  expect(lines).toContain("warning api.way: not everything could be looked at: nothing was known within 1.5 s");
  expect(lines).toContainEqual(expect.stringMatching(/^error cgroup\.directory: \/nowhere is no cgroup2 directory/));
  expect(lines.some((line) => line.includes(" ranges.ports: "))).toBe(true);
  expect(lines.some((line) => line.includes(" objects.read: "))).toBe(false);
});

it("findings come in the order of the checks, whoever was first", async () => {
  const server = await new FakeApiServer().start();
  onTestFinished(() => server[Symbol.asyncDispose]());
  const lines = await run(options({ apiserver: server.url }), 20_000);
  const groups = [...new Set(lines.map((line) => line.split(" ")[1]!.split(".")[0]!))];
  expect(
    groups.filter((group) => ["machine", "cgroup", "api", "platform", "ranges", "objects", "agent"].includes(group)),
  ).toEqual(["machine", "cgroup", "api", "platform", "ranges", "objects", "agent"]);
  expect(lines).toContain("error api.node: there is no Node called node1");
});

it("ends at once when it is told to", async () => {
  const reason = new Error("enough");
  await expect(run(options({ apiserver: "http://127.0.0.1:1" }), 20_000, AbortSignal.abort(reason))).rejects.toBe(
    reason,
  );
});
