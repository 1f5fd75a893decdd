// What the tests on kind say: a line for each step and check, with its time, and a summary.
import { performance } from "node:perf_hooks";

export class Report {
  readonly #write: (line: string) => void;
  readonly #failed: string[] = [];
  readonly #steps: { readonly title: string; readonly seconds: number }[] = [];
  #passed = 0;

  constructor(write: (line: string) => void = (line) => void process.stdout.write(`${line}\n`)) {
    this.#write = write;
  }

  get passed(): number {
    return this.#passed;
  }

  get failed(): readonly string[] {
    return this.#failed;
  }

  /** Something that the rest builds on: when it fails, so does everything. */
  async step<T>(title: string, act: () => Promise<T>): Promise<T> {
    const start = performance.now();
    this.#write(`== ${title}`);
    const result = await act();
    const seconds = (performance.now() - start) / 1000;
    this.#steps.push({ title, seconds });
    this.#write(`   ${title}: ${seconds.toFixed(1)} s`);
    return result;
  }

  /** One thing that has to hold. What `act` returns is printed beside it. */
  async check(title: string, act: () => Promise<string | undefined>): Promise<void> {
    const start = performance.now();
    try {
      const detail = await act();
      this.pass(title, detail, performance.now() - start);
    } catch (error) {
      this.fail(title, error instanceof Error ? error.message : String(error), performance.now() - start);
    }
  }

  pass(title: string, detail = "", ms = 0): void {
    this.#passed++;
    this.#write(`ok     ${title.padEnd(64)} ${(ms / 1000).toFixed(1).padStart(6)} s  ${detail}`.trimEnd());
  }

  fail(title: string, reason: string, ms = 0): void {
    this.#failed.push(title);
    this.#write(`FAILED ${title.padEnd(64)} ${(ms / 1000).toFixed(1).padStart(6)} s  ${reason}`);
  }

  /** Commands, and what they said. */
  quote(commands: string, said: string): void {
    for (const line of commands.trimEnd().split("\n")) this.#write(`  $ ${line}`);
    for (const line of said.trimEnd().split("\n")) this.#write(`    ${line}`);
  }

  summary(): void {
    this.#write("");
    for (const { title, seconds } of this.#steps) this.#write(`${seconds.toFixed(1).padStart(8)} s  ${title}`);
    for (const title of this.#failed) this.#write(`FAILED ${title}`);
    this.#write(`kind: ${this.#passed} passed, ${this.#failed.length} failed`);
  }
}
