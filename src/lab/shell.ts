// The lab's only way to the machine's programs: one call runs one program, or one script of ip batches over several
// namespaces. Never a shell line made of somebody's words.
import { type ChildProcess, execFile, type SpawnOptions, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { Failure } from "../lib/errors.ts";
import { patience } from "../lib/patience.ts";
import { namespacePath } from "./lab-paths.ts";
import { cannot } from "./refusals.ts";

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string;
  /** It is killed when it takes longer. @default half an hour: builds of tests are the longest that come to an end */
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
}

const LONGEST_MS = 30 * 60_000;
/** A lab of hundreds of pods takes a few seconds. */
const NETWORK_MS = 120_000;

/** Program and arguments that run `command` in a network namespace, with `ownResolver` with the namespace's own resolv.conf too. */
export function inNamespace(namespace: string, command: readonly string[], ownResolver = false): string[] {
  return ownResolver
    ? ["ip", "netns", "exec", namespace, ...command]
    : ["nsenter", `--net=${namespacePath(namespace)}`, "--", ...command];
}

/** Starts a program that says what it says at the end of a log file; with `stdout: "pipe"` only its errors. */
export function spawnLogged(
  [file, ...args]: readonly [string, ...string[]],
  log: string,
  { stdout, ...options }: Pick<SpawnOptions, "env" | "detached"> & { stdout?: "pipe" } = {},
): ChildProcess {
  const end = openSync(log, "a", 0o600);
  const child = spawn(file, args, { stdio: ["ignore", stdout ?? end, end], cwd: "/", ...options });
  closeSync(end);
  return child;
}

/** Runs a program and collects what it says. Never throws for its status; 128 + signal when a signal ended it. @throws machine when it cannot be started. */
export function runProgram(file: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { input = "", timeoutMs = patience(LONGEST_MS), env = process.env } = options;
  const limits = { timeout: timeoutMs, killSignal: "SIGKILL", maxBuffer: Number.POSITIVE_INFINITY, env } as const;
  return new Promise((resolve, reject) => {
    const child = execFile(file, args, limits, (cause, stdout, stderr) => {
      if (cause !== null && child.pid === undefined) {
        const reason = cause.code === "ENOENT" ? "it is not installed: run `make setup`" : cause.message;
        reject(new Failure("machine", file, `could not run ${file}: ${reason}`, { cause }));
        return;
      }
      const late = cause?.killed === true ? `\n${file} did not end within ${timeoutMs / 1000} s` : "";
      const status = child.exitCode ?? 128 + (child.signalCode === "SIGKILL" ? 9 : 15);
      resolve({ status, stdout, stderr: stderr + late });
    });
    // A program that ends without reading its input is no failure of ours.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}

/** As runProgram, and a status other than 0 is a failure that carries what the program said. */
export async function runChecked(file: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await runProgram(file, args, options);
  if (result.status !== 0) {
    const said = result.stderr.trim().split("\n").slice(-4).join("; ");
    throw cannot("machine", "run", `${file} ${args.join(" ").slice(0, 120)}`, said || `status ${result.status}`);
  }
  return result.stdout;
}

/** Makes a script and runs it. @throws machine */
export function changeNetwork(subject: string, build: (script: NetworkScript) => void): Promise<void> {
  const script = new NetworkScript();
  build(script);
  return script.run(subject);
}

/** Steps of one network change: each is one program with its input; they run in order, in one shell, and stop at the first that fails. */
export class NetworkScript {
  #steps: { readonly command: string; readonly lines: readonly string[]; readonly mayFail?: boolean }[] = [];

  /** Lines for `ip -batch`, in a namespace or ("") in the machine's own. With `force` a line that fails is passed over. */
  ip(namespace: string, lines: readonly string[], options: { force?: boolean } = {}): this {
    if (lines.length === 0) return this;
    this.#steps.push({
      command: `ip ${options.force ? "-force " : ""}${namespace === "" ? "" : `-n ${namespace} `}-batch -`,
      lines,
      mayFail: options.force === true,
    });
    return this;
  }

  sysctl(namespace: string, settings: Readonly<Record<string, string | number>>): this {
    const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}`);
    this.#steps.push({ command: `nsenter --net=/run/netns/${namespace} sysctl -q -e -p -`, lines });
    return this;
  }

  nft(namespace: string, lines: readonly string[]): this {
    this.#steps.push({ command: `nsenter --net=/run/netns/${namespace} nft -f -`, lines });
    return this;
  }

  bridge(namespace: string, lines: readonly string[]): this {
    if (lines.length > 0) this.#steps.push({ command: `bridge -n ${namespace} -batch -`, lines });
    return this;
  }

  /** One ethtool call per line of arguments. */
  ethtool(namespace: string, lines: readonly string[]): this {
    for (const line of lines)
      this.#steps.push({ command: `nsenter --net=/run/netns/${namespace} ethtool ${line} >/dev/null`, lines: [] });
    return this;
  }

  get text(): string {
    const steps = this.#steps.map(({ command, lines, mayFail }) => {
      const passedOver = mayFail ? " 2>/dev/null || true" : "";
      if (lines.length === 0) return `${command} </dev/null${passedOver}\n`;
      return `${command} <<'END'${passedOver}\n${lines.join("\n")}\nEND\n`;
    });
    return `set -e\n${steps.join("")}`;
  }

  async run(subject: string): Promise<void> {
    if (this.#steps.length === 0) return;
    const result = await runProgram("sh", ["-s"], { input: this.text, timeoutMs: patience(NETWORK_MS) });
    if (result.status === 0) return;
    const said = result.stderr.trim().split("\n").slice(0, 4).join("; ");
    throw cannot("machine", "set up the network of", subject, said || `status ${result.status}`);
  }
}
