// Runs other programs: each has a time limit and ends with whoever asked for it.
import { execFile } from "node:child_process";

export interface Ran {
  readonly ok: boolean;
  /** What it wrote: to standard output when it succeeded, else to standard error, or why it could not be run. */
  readonly text: string;
  /** It was ended for taking too long. */
  readonly timedOut: boolean;
}

export interface RunOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
  /** It fails when it writes more. @default 64 MiB */
  readonly maxBytes?: number;
  /** What it reads from its standard input. @default nothing */
  readonly input?: string | undefined;
}

/** Above what iptables waits for its lock. */
const TIMEOUT_MS = 10_000;
const MOST_BYTES = 64 << 20;

/**
 * For programs that read or write whole sets of rules: with 10,000 Services of ten endpoints kube-proxy has hundreds of thousands of
 * rules, of a few hundred bytes each.
 */
export const LARGE = { timeoutMs: 60_000, maxBytes: 256 << 20 } as const satisfies RunOptions;

/** Never rejects. A program that hangs is killed; its own children are not. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { signal, timeoutMs = TIMEOUT_MS, maxBytes = MOST_BYTES, input } = options;
  const limits = { timeout: timeoutMs, killSignal: "SIGKILL", maxBuffer: maxBytes, ...(signal && { signal }) } as const;
  return new Promise((resolve) => {
    const child = execFile(command, args, limits, (error, stdout, stderr) => {
      if (error === null) return resolve({ ok: true, text: stdout, timedOut: false });
      const timedOut = error.killed === true && signal?.aborted !== true;
      const reason = timedOut ? `${command} did not end within ${timeoutMs / 1000} s` : error.message;
      resolve({ ok: false, text: timedOut ? reason : stderr.trim() || reason, timedOut });
    });
    if (input === undefined) return;
    // One that ends without reading is told of by its own words.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}
