// Finds kube-proxy at work in this network namespace: among the processes that can be seen, else by what answers where it tells its mode.
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { get } from "node:http";
import { basename } from "node:path";
import { createPortions } from "../lib/portions.ts";

export interface KubeProxyProcess {
  /** 0: it is in a process namespace that is not seen from here. */
  readonly pid: number;
}

const NAME = "kube-proxy";
/** Where kube-proxy tells what it is, unless told otherwise (--metrics-bind-address). */
const MODE_URL = "http://127.0.0.1:10249/proxyMode";
const MODES: ReadonlySet<string> = new Set(["iptables", "nftables", "ipvs", "userspace"]);
const ANSWER_MS = 2_000;
const MOST_ANSWER = 1_000;
const LOOKS = 2;

/** undefined: the process has gone, or is not ours to look at. */
function quiet<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function isKubeProxy(pid: string, proc = "/proc"): boolean {
  const [program = ""] = quiet(() => readFileSync(`${proc}/${pid}/cmdline`, "utf8"))?.split("\0") ?? [];
  return basename(program) === NAME;
}

const networkOf = (pid: string, proc = "/proc"): string | undefined =>
  quiet(() => readlinkSync(`${proc}/${pid}/ns/net`));
const ownNetwork = (proc = "/proc"): string | undefined => quiet(() => readlinkSync(`${proc}/thread-self/ns/net`));

/** Processes called kube-proxy in this network namespace. */
export function kubeProxyProcesses(): number[] {
  const own = ownNetwork();
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && isKubeProxy(name))
    .filter((pid) => networkOf(pid) === own)
    .map(Number);
}

/** Not by fetch(): that takes megabytes. */
function answersAsKubeProxy(url: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const request = get(url, { signal: AbortSignal.timeout(ANSWER_MS), agent: false }, (answer) => {
    let text = "";
    answer.setEncoding("utf8");
    answer.on("data", (piece: string) => {
      text += piece;
      if (text.length > MOST_ANSWER) request.destroy();
    });
    answer.on("close", () => resolve(answer.statusCode === 200 && MODES.has(text.trim())));
  });
  request.on("error", () => resolve(false));
  return promise;
}

/** Never rejects. undefined: none was found. */
export async function findKubeProxy(url = MODE_URL): Promise<KubeProxyProcess | undefined> {
  const [pid] = kubeProxyProcesses();
  if (pid !== undefined) return { pid };
  return (await answersAsKubeProxy(url)) ? { pid: 0 } : undefined;
}

/**
 * `findKubeProxy` for who asks again and again: a process is looked at twice, as one that was just forked has its program's name later, and
 * then no more. `url`, `proc`: for tests.
 */
export function createKubeProxyFinder(url = MODE_URL, proc = "/proc"): () => Promise<KubeProxyProcess | undefined> {
  let seen: ReadonlyMap<string, number> = new Map();
  let found = "";
  return async () => {
    const own = ownNetwork(proc);
    const isIt = (pid: string): boolean => isKubeProxy(pid, proc) && networkOf(pid, proc) === own;
    if (found !== "" && isIt(found)) return { pid: Number(found) };
    found = "";
    const portions = createPortions();
    const looks = new Map<string, number>();
    for (const pid of (await readdir(proc)).filter((name) => /^\d+$/.test(name))) {
      const before = seen.get(pid) ?? 0;
      looks.set(pid, Math.min(LOOKS, before + 1));
      if (before < LOOKS && isIt(pid)) found = pid;
      if (portions.isOver()) await portions.next();
    }
    seen = looks;
    if (found !== "") return { pid: Number(found) };
    return (await answersAsKubeProxy(url)) ? { pid: 0 } : undefined;
  };
}
