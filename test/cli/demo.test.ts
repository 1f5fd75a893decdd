import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { createProgram } from "../../src/cli/program.ts";
import { registerLabCommands } from "../../src/lab/commands.ts";
import { whatToTry } from "../../src/lab/demo.ts";
import { verdictLine } from "../../src/lab/seed-checks.ts";

describe("the demo", () => {
  it.each([
    ["", false, "example 06-clusterip: ok"],
    ["", true, "\u001b[32m✓\u001b[0m example 06-clusterip: ok"],
    ["no answer", false, "example 06-clusterip: FAILED: no answer"],
    ["no answer", true, "\u001b[31m✗\u001b[0m example 06-clusterip: FAILED: no answer"],
  ])("says of an example with the failure '%s', on a terminal: %s", (failure, onTerminal, line) => {
    expect(verdictLine({ seed: "06-clusterip", failure }, onTerminal)).toBe(line);
  });

  it("offers commands that there are, which can be typed as they stand", async () => {
    const wiring = {
      stopSignal: () => new AbortController().signal,
      registerLabCommands,
      createControllerServers: () => Promise.reject(new Error("no servers here")),
      createServers: () => Promise.reject(new Error("no servers here")),
    };
    const program = await createProgram(wiring, true);
    const lines = whatToTry("demo", "dist/millrace").trim().split("\n").slice(1);
    expect(lines.length).toBeGreaterThan(5);
    for (const line of lines) {
      const [launcher, first, second] = line.trim().split(" ");
      expect(launcher).toBe("dist/millrace");
      const command = program.commands.find((one) => one.name() === first);
      expect(command, line).toBeDefined();
      if (first === "lab") expect(command?.commands.map((one) => one.name())).toContain(second);
      for (const [, path = ""] of line.matchAll(/-f (\S+)/g))
        expect(readFileSync(resolve(import.meta.dirname, "../..", path), "utf8")).not.toBe("");
    }
  });
});
