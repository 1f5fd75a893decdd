// A vitest reporter for guests: what became of each file, written as soon as it ends, so that a run that is cut short keeps
// what it has. Into the directory that FILE_RESULTS names.
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Reporter, TestModule } from "vitest/node";

export interface TestFileReport {
  /** From the project's folder. */
  readonly file: string;
  readonly passed: number;
  /** Of each test that failed, or of the file that could not be read: its name and what was wrong, in a line. */
  readonly failed: readonly { readonly name: string; readonly reason: string }[];
  /** Names of what was skipped, which say why. */
  readonly skipped: readonly string[];
  readonly seconds: number;
}

const firstLine = (text: string | undefined): string => (text ?? "it gave no reason").split("\n", 1)[0]!;

function reportOf(module: TestModule): TestFileReport {
  const tests = [...module.children.allTests()];
  const failed = tests
    .filter((test) => test.result().state === "failed")
    .map((test) => ({ name: test.fullName, reason: firstLine(test.result().errors?.[0]?.message) }));
  const broken = [...module.children.allSuites()].flatMap((suite) =>
    suite.errors().map((error) => ({ name: suite.fullName, reason: firstLine(error.message) })),
  );
  const ofFile = module.errors().map((error) => ({ name: "the file", reason: firstLine(error.message) }));
  return {
    file: module.relativeModuleId,
    passed: tests.filter((test) => test.result().state === "passed").length,
    failed: [...ofFile, ...broken, ...failed],
    skipped: tests
      .filter((test) => test.result().state === "skipped")
      .map((test) => {
        const result = test.result();
        const note = "note" in result && result.note !== undefined ? `: ${result.note}` : "";
        return `${test.fullName}${note}`;
      }),
    seconds: Math.round(module.diagnostic().duration / 100) / 10,
  };
}

export default class FileReporter implements Reporter {
  readonly #directory = process.env["FILE_RESULTS"] ?? "build";

  onInit(): void {
    mkdirSync(this.#directory, { recursive: true });
  }

  onTestModuleEnd(module: TestModule): void {
    const report = reportOf(module);
    const path = join(this.#directory, `${report.file.replaceAll("/", "_")}.json`);
    writeFileSync(`${path}.new`, JSON.stringify(report));
    renameSync(`${path}.new`, path);
  }
}
