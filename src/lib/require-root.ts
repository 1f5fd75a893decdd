// Says early, and in one sentence, that a command needs root.
import { Failure } from "./errors.ts";

/** @throws Failure "machine" */
export function requireRoot(what: string, why = "it works on programs and maps in the kernel and needs root"): void {
  if (process.geteuid?.() === 0) return;
  throw new Failure("machine", "root", `could not ${what}: ${why}; try sudo`);
}
