// Every verdict is expected by name of a packet or a socket in some test that meets the kernel.
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { VERDICT_VALUES } from "../../src/datapath/layout.gen.ts";

const TESTS = join(import.meta.dirname, "..");
/** A helper would have to fail on a packet that was parsed and made writable: nothing here makes one do so. */
const UNREACHABLE = ["DROP_REWRITE"];

/** Names that stand where something is compared with them: `verdict: "X"`, `toBe("X")`, a drop's table, or a case's key. */
function expectedIn(source: string): string[] {
  const name = "((?:VERDICT|DROP)_[A-Z_]+)";
  const forms = [
    `verdict: "${name}"`,
    `toBe\\("${name}"\\)`,
    `toEqual\\(\\[?"${name}"`,
    `async ${name}\\(node\\)`,
    `^  ${name}(?:: ask)?\\(`,
  ];
  return forms.flatMap((form) => [...source.matchAll(new RegExp(form, "gm"))].map((match) => match[1]!));
}

describe("verdicts", () => {
  it("are each expected of something in a test", () => {
    const files = globSync("{kernel,lab,flows}/**/*.ts", { cwd: TESTS });
    const seen = new Set(files.flatMap((file) => expectedIn(readFileSync(join(TESTS, file), "utf8"))));
    const all = Object.keys(VERDICT_VALUES).filter((name) => name !== "VERDICT_MAX");
    expect(all.filter((name) => !seen.has(name) && !UNREACHABLE.includes(name))).toEqual([]);
  });
});
