// Whether packet programs may share what they keep per CPU: on a kernel with PREEMPT_RT one softirq can preempt another, unless the
// kernel keeps the lock that local_bh_disable() used to take (CONFIG_PREEMPT_RT_NEEDS_BH_LOCK, an option since Linux 6.18).
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { gunzipSync } from "node:zlib";

/** The content of a file, undefined when it cannot be read. */
export type ReadFile = (path: string) => Buffer | undefined;

const OPTION = "CONFIG_PREEMPT_RT_NEEDS_BH_LOCK";
/** The first version that can be built without the lock. */
const SINCE = [6, 18] as const;

function read(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

function configOf(readFile: ReadFile, version: string): string | undefined {
  const packed = readFile("/proc/config.gz");
  try {
    if (packed !== undefined) return gunzipSync(packed).toString("latin1");
  } catch {
    // Whatever it is, it is no configuration.
  }
  return readFile(`/boot/config-${version}`)?.toString("latin1");
}

/** Before it, every kernel with PREEMPT_RT has the lock. */
function mayLackLock(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  return !(major < SINCE[0] || (major === SINCE[0] && minor < SINCE[1]));
}

/** One sentence about what may go wrong with this kernel, "" when nothing can. */
export function realtimeProblem(readFile: ReadFile = read, version = release()): string {
  if (readFile("/sys/kernel/realtime")?.toString("latin1").trim() !== "1") return "";
  const config = configOf(readFile, version);
  if (config === undefined ? !mayLackLock(version) : !config.includes(OPTION)) return "";
  if (config?.includes(`${OPTION}=y`)) return "";
  const known =
    config === undefined
      ? `cannot be asked for ${OPTION} (no /proc/config.gz, no /boot/config-${version})`
      : `was built without ${OPTION}`;
  return `this kernel is PREEMPT_RT and ${known}: packets that are handled at once on one CPU may be translated wrongly; use a kernel with ${OPTION}=y`;
}
