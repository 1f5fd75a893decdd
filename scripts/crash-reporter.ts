// A vitest reporter for the one thing that the others leave out: when a process of tests dies, which file it was at, after
// which test, and by which signal or status. Says so on standard error, and writes it to the file that CRASH_REPORT names.
import type { ChildProcess } from "node:child_process";
import { subscribe } from "node:diagnostics_channel";
import type { Reporter, TestCase, TestModule } from "vitest/node";

export default class CrashReporter implements Reporter {
  readonly #running = new Map<TestModule, string>();
  readonly #deaths: string[] = [];

  onInit(): void {
    subscribe("child_process", (message) => {
      const { process: child } = message as { readonly process: ChildProcess };
      child.once("exit", (code, signal) => {
        if (code !== 0 && signal !== "SIGTERM")
          this.#deaths.push(`${child.pid ?? "?"} by ${signal ?? `status ${code}`}`);
      });
    });
  }

  onTestModuleStart(module: TestModule): void {
    this.#running.set(module, "no test yet");
  }

  onTestCaseReady(test: TestCase): void {
    // Told of late, when the module has ended already, it is no sign of life.
    if (this.#running.has(test.module)) this.#running.set(test.module, test.fullName);
  }

  onTestModuleEnd(module: TestModule): void {
    this.#running.delete(module);
  }

  onTestRunEnd(): void {
    for (const [module, last] of this.#running) {
      const deaths = this.#deaths.join(", ");
      process.stderr.write(`died: ${module.relativeModuleId}, last begun: ${last}; processes that ended: ${deaths}\n`);
    }
  }
}
