// Finds kube-proxy at work in this network namespace: among the processes that can be seen, else by what answers where it tells its mode.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";

export interface KubeProxyProcess {
  /** 0: it is in a process namespace that is not seen from here. */
  readonly pid: number;
}

const NAME = "kube-proxy";
/** Where kube-proxy tells what it is, unless told otherwise (--metrics-bind-address). */
const MODE_URL = "http://127.0.0.1:10249/proxyMode";
const MODES: ReadonlySet<string> = new Set(["iptables", "nftables", "ipvs", "userspace"]);
const ANSWER_MS = 2_000;

/** undefined: the process has gone, or is not ours to look at. */
function quiet<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function isKubeProxy(pid: string): boolean {
  const [program = ""] = quiet(() => readFileSync(`/proc/${pid}/cmdline`, "utf8"))?.split("\0") ?? [];
  return basename(program) === NAME;
}

/** Processes called kube-proxy in this network namespace. */
export function kubeProxyProcesses(): number[] {
  const own = quiet(() => readlinkSync("/proc/thread-self/ns/net"));
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && isKubeProxy(name))
    .filter((pid) => quiet(() => readlinkSync(`/proc/${pid}/ns/net`)) === own)
    .map(Number);
}

async function answersAsKubeProxy(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) });
    return answer.ok && MODES.has((await answer.text()).trim());
  } catch {
    return false;
  }
}

/** Never rejects. undefined: none was found. */
export async function findKubeProxy(url = MODE_URL): Promise<KubeProxyProcess | undefined> {
  const [pid] = kubeProxyProcesses();
  if (pid !== undefined) return { pid };
  return (await answersAsKubeProxy(url)) ? { pid: 0 } : undefined;
}
