// Merges flags, environment and defaults (in this order of precedence) into ControllerOptions.
import type { ControllerOptions } from "../controller/options.ts";
import { Failure } from "../lib/errors.ts";
import { findGiven, type OptionSources, readSetting } from "./agent-options.ts";
import { CONTROLLER_SETTINGS } from "./controller-settings.ts";

const NO_MACHINE = { nodeName: "", cgroup: "", memoryBytes: 0, cpus: 1 };
/** Where an agent of this machine keeps the addresses of API servers. */
const STATE_DIR = "/var/lib/millrace";

/** @throws Failure "usage" that names the flag or variable, and its value */
export function readControllerOptions(sources: OptionSources): ControllerOptions {
  const options = { stateDir: STATE_DIR };
  for (const setting of CONTROLLER_SETTINGS) {
    Object.assign(options, readSetting(setting, findGiven(setting, sources, {}, NO_MACHINE)));
  }
  const complete = options as ControllerOptions;
  const { leaseDurationMs, leaseRenewDeadlineMs, leaseRetryMs } = complete;
  if (leaseDurationMs > leaseRenewDeadlineMs && leaseRenewDeadlineMs > leaseRetryMs) return complete;
  const seconds = [leaseDurationMs, leaseRenewDeadlineMs, leaseRetryMs].map((ms) => `${ms / 1000}s`).join(", ");
  const message =
    "--lease-duration must be longer than --lease-renew-deadline, and that longer than --lease-retry-period: " +
    `current values are ${seconds}`;
  throw new Failure("usage", "--lease-duration", message);
}
