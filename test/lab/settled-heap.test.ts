// An agent's start leaves garbage on two heaps, its own and that of the thread that reads manifests: both are collected once, to the
// last page, when all is in force.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { describeKernel } from "../kernel/require-kernel.ts";
import { until } from "./traffic/test-lab.ts";
import { TestMachine } from "./traffic/test-machine.ts";

const OBJECTS = `apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80 }] }
`;

/**
 * Loaded by every thread of the agent before its own code: writes a line for each collection that was asked for. Those of the engine
 * cannot be told apart by what it reports.
 */
const observer = (log: string): string => `
  import { appendFileSync } from "node:fs";
  import { syncBuiltinESMExports } from "node:module";
  import vm from "node:vm";
  import { isMainThread } from "node:worker_threads";
  const { runInNewContext } = vm;
  vm.runInNewContext = (...args) => {
    const collect = runInNewContext(...args);
    return (how) => {
      collect(how);
      appendFileSync(${JSON.stringify(log)}, (isMainThread ? "loop, " : "manifests, ") + how.flavor + "\\n");
    };
  };
  syncBuiltinESMExports();`;

describeKernel("the heaps of an agent", () => {
  let machine: TestMachine;

  beforeEach(async () => {
    machine = await TestMachine.create(OBJECTS);
  });

  afterEach(() => machine.close());

  it("are collected when all is in force, each once", async () => {
    const log = join(machine.directory, "collections");
    const module = join(machine.directory, "observer.mjs");
    writeFileSync(log, "");
    writeFileSync(module, observer(log));
    const agent = machine.start({ env: { NODE_OPTIONS: `--import=${module}` } });
    await agent.healthy();
    const collected = await until("both heaps to be collected", () => {
      const lines = readFileSync(log, "utf8").trim().split("\n").sort();
      return lines.length < 2 ? undefined : lines;
    });
    expect(collected).toEqual(["loop, last-resort", "manifests, last-resort"]);
    expect((await agent.stop()).status).toBe(0);
    expect(readFileSync(log, "utf8").trim().split("\n")).toHaveLength(2);
  });
});
