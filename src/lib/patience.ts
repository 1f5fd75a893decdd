// How long the lab, its tests and questions to an agent wait for what always comes: limits that only cut off what hangs. On a
// machine that is slow, an emulated one for instance, MILLRACE_SLOW (a number, default 1) multiplies them. Timers of the datapath
// and of protocols are none of these.
import { Failure } from "./errors.ts";

/** What MILLRACE_SLOW says. Throws Failure "usage" when it is no number of at least 1. */
export function slowness(): number {
  const text = process.env["MILLRACE_SLOW"] ?? "";
  if (text === "") return 1;
  const factor = Number(text);
  if (Number.isFinite(factor) && factor >= 1) return factor;
  throw new Failure("usage", "MILLRACE_SLOW", `could not use MILLRACE_SLOW: '${text}' must be a number of at least 1`);
}

/** `milliseconds`, on this machine. */
export function patience(milliseconds: number): number {
  return milliseconds * slowness();
}
