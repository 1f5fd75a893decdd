// Whether a process runs, for tests of who ends which.
import { readFileSync } from "node:fs";

/** A zombie nobody reaped is not running. */
export function isRunning(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}
