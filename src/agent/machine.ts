// Whether this machine can run an agent at all, and what is wrong with it.
import type { EffectState } from "../decide/health.ts";
import { machineNotice } from "../decide/machine-notice.ts";
import { Failure } from "../lib/errors.ts";
import { stateTroubles } from "../lib/state-store.ts";
import { features, isCgroup2, releaseFreeMemory, releaseProgramPages } from "../libbpf/mod.ts";
import type { Notice } from "../model/objects.ts";
import { cgroupProblem } from "./cgroup-root.ts";
import type { AgentOptions } from "./options.ts";
import { realtimeProblem } from "./realtime.ts";

/** Without these there is no fallback. */
export const REQUIRED_FEATURES = ["mmap_array", "ktime_boot", "cgroup_link"] as const;

/** @throws Failure "machine" */
export function checkMachine(options: AgentOptions): void {
  if (!isCgroup2(options.cgroup)) {
    throw new Failure(
      "machine",
      options.cgroup,
      `could not use ${options.cgroup} for socket programs: it is no cgroup2 directory; mount one (mount -t cgroup2 none /sys/fs/cgroup/unified) or name it with --cgroup`,
    );
  }
  for (const name of REQUIRED_FEATURES) {
    const feature = features()[name];
    if (!feature.available) {
      throw new Failure(
        "machine",
        name,
        `could not start: this kernel lacks ${name}; Millrace needs Linux 5.10 or later (this feature came with ${feature.since})`,
      );
    }
  }
}

/** What was found once. `keptSizes`: pinned maps that are not of the size asked for; `leftBehind`: layouts of other builds. */
export function noticesAtStart(
  cgroup: string,
  keptSizes: readonly { readonly map: string; readonly entries: number }[],
  leftBehind: readonly string[],
): Notice[] {
  const notices = keptSizes.map(({ map, entries }) =>
    machineNotice(
      `Map ${map}`,
      "size-kept",
      `the pinned map ${map} keeps its size of ${entries} entries; 'millrace cleanup' and a start give it the new one`,
    ),
  );
  for (const fingerprint of leftBehind) {
    const why = `--state-dir does not describe the layout ${fingerprint} of the build before`;
    notices.push(
      machineNotice(
        "Maps",
        "flows-lost",
        `connections that were translated have ended: ${why}; keep it over an upgrade`,
      ),
    );
  }
  const notRoot = cgroupProblem(cgroup);
  if (notRoot !== "") notices.push(machineNotice(`Cgroup ${cgroup}`, "cgroup-not-root", notRoot, "error"));
  const realtime = realtimeProblem();
  if (realtime !== "") notices.push(machineNotice("Kernel", "realtime-kernel", realtime, "error"));
  return notices;
}

/** What was given in kube-proxy's words and is not done. */
export function ignoredNotices(ignored: AgentOptions["ignored"]): Notice[] {
  return ignored.map(({ from, why, missed }) =>
    machineNotice(`Setting ${from}`, "setting-ignored", `${from} is ignored: ${why}`, missed ? "warning" : "info"),
  );
}

/** These say themselves what is wrong. */
const SPEAK_FOR_THEMSELVES: ReadonlySet<string> = new Set(["sysctls", "firewall"]);

/** What could not be brought about, and files that could not be written. */
export function effectNotices(effects: readonly EffectState[]): Notice[] {
  const failing = effects.filter(({ name, ok }) => !ok && !SPEAK_FOR_THEMSELVES.has(name));
  return [
    ...failing.map(({ name, error }) => {
      const severity = name === "memory" ? "warning" : "error";
      return machineNotice(`Agent ${name}`, "not-in-force", `${error}; it is tried again`, severity);
    }),
    ...[...stateTroubles()].map(([path, reason]) => machineNotice(`File ${path}`, "not-kept", reason)),
  ];
}

/** `problem`: why changes of the network are not seen at once, "" when they are. */
export function watchNotices(problem: string): Notice[] {
  return problem === "" ? [] : [machineNotice("Network", "watch-lost", problem)];
}

/** What only the start needed. */
export function releaseMemory(): void {
  releaseFreeMemory();
  releaseProgramPages();
}
