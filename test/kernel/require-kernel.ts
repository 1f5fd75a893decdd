// Decides whether tests that need the real kernel can run: skipped with a reason where they can't, failed instead under
// REQUIRE_KERNEL=1, so that a machine that is meant to run them can't pass by skipping.
import { describe, it } from "vitest";
import { errnoName, errnoOf, feature } from "../../src/libbpf/mod.ts";
import { lackOf, type Need } from "./kernel-lacks.ts";

let reason: string | undefined;
let asked = false;

/** Why the kernel cannot be tested here, undefined when it can. */
export function kernelMissing(): string | undefined {
  if (asked) return reason;
  asked = true;
  if (process.platform !== "linux") reason = "this is not Linux";
  else if (process.getuid?.() !== 0) reason = "this needs root";
  else {
    try {
      feature("batch");
    } catch (error) {
      const errno = errnoOf(error);
      reason = errno === undefined ? (error as Error).message : `bpf(2) is refused: ${errnoName(errno)}`;
    }
  }
  return reason;
}

/** describe() for tests of the real kernel. */
export function describeKernel(name: string, body: () => void): void {
  const missing = kernelMissing();
  if (missing === undefined) {
    describe(name, body);
  } else if (process.env["REQUIRE_KERNEL"] === "1") {
    describe(name, () => {
      it("has a kernel to run on", () => {
        throw new Error(`REQUIRE_KERNEL=1, but ${missing}`);
      });
    });
  } else {
    describe.skip(`${name} (skipped: ${missing})`, body);
  }
}

/** describeKernel() for tests that all need something of the kernel: skipped, under a name that says so, where it is lacking. */
export function describeKernelWith(needs: readonly Need[], name: string, body: () => void): void {
  const lack = kernelMissing() === undefined ? lackOf(needs) : undefined;
  if (lack === undefined) describeKernel(name, body);
  else describe.skip(`${name} (${lack})`, body);
}
