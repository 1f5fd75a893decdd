// One program of the cluster: started so that it outlives whoever starts it, found again by its pid file, ended by pid.
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { inCgroup, makeCgroup } from "../../src/lab/cgroups.ts";
import { Failure } from "../../src/lib/errors.ts";

export interface ComponentPlan {
  /** For messages: `kubelet of node1`. */
  readonly name: string;
  /** cgroup2 directory that it enters before its first instruction. */
  readonly cgroup: string;
  /** Program and arguments; each program on the way to the last one replaces itself by the next, so that the pid stays. */
  readonly command: () => readonly string[];
  readonly log: string;
  readonly pidFile: string;
  readonly environment?: Readonly<Record<string, string>>;
}

interface Running {
  readonly pid: number;
  /** When it started, in clock ticks since the machine did: with the pid it names one process for ever. */
  readonly started: string;
}

const LAST_LINES = 6;

export class Component {
  readonly #plan: ComponentPlan;

  constructor(plan: ComponentPlan) {
    this.#plan = plan;
  }

  get name(): string {
    return this.#plan.name;
  }

  get logFile(): string {
    return this.#plan.log;
  }

  /** Its pid; undefined when it does not run. */
  get pid(): number | undefined {
    const running = readPidFile(this.#plan.pidFile);
    return running !== undefined && startOf(running.pid) === running.started ? running.pid : undefined;
  }

  /** All that it has said, over all its runs. */
  get log(): string {
    try {
      return readFileSync(this.#plan.log, "utf8");
    } catch {
      return "";
    }
  }

  /** Starts it; that it is of use yet is another matter. @throws conflict when it runs already, machine when it cannot be started */
  async start(): Promise<void> {
    const { name, cgroup, command, log, pidFile, environment } = this.#plan;
    if (this.pid !== undefined) throw new Failure("conflict", name, `could not start ${name}: it runs already`);
    makeCgroup(cgroup);
    mkdirSync(dirname(log), { recursive: true });
    mkdirSync(dirname(pidFile), { recursive: true });
    const output = openSync(log, "a");
    const [file, ...args] = inCgroup(cgroup, command());
    const env = { ...process.env, ...environment };
    const child = spawn(file, args, { stdio: ["ignore", output, output], cwd: "/", detached: true, env });
    closeSync(output);
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", (cause) =>
        reject(new Failure("machine", name, `could not start ${name}: ${cause.message}`, { cause })),
      );
    });
    child.unref();
    const pid = child.pid!;
    writeFileSync(pidFile, `${pid} ${startOf(pid) ?? ""}\n`);
  }

  /** SIGTERM, then SIGKILL when that was not enough. It does not run any more when this returns. */
  async stop(timeoutMs = 10_000): Promise<void> {
    this.signal("SIGTERM");
    if (!(await this.#ended(timeoutMs))) await this.kill();
    rmSync(this.#plan.pidFile, { force: true });
  }

  /** SIGKILL, as a crash would; what it has started lives on. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    if (!(await this.#ended(10_000))) {
      throw new Failure("timeout", this.name, `could not kill ${this.name}: process ${this.pid} does not end`);
    }
    rmSync(this.#plan.pidFile, { force: true });
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** Sends a signal; does nothing when it does not run. */
  signal(signal: NodeJS.Signals): void {
    const { pid } = this;
    if (pid !== undefined) process.kill(pid, signal);
  }

  /** The end of its log, for a message about it. */
  lastWords(): string {
    return this.log.trim().split("\n").slice(-LAST_LINES).join("\n") || "it said nothing";
  }

  async #ended(timeoutMs: number): Promise<boolean> {
    const deadline = Date.now() + timeoutMs;
    while (this.pid !== undefined) {
      if (Date.now() > deadline) return false;
      await delay(10);
    }
    return true;
  }
}

function readPidFile(path: string): Running | undefined {
  try {
    const [pid = "", started = ""] = readFileSync(path, "utf8").trim().split(" ");
    return { pid: Number(pid), started };
  } catch {
    return undefined;
  }
}

/** When a process started; undefined when there is none, or only what its parent has not yet asked after. */
function startOf(pid: number): string | undefined {
  try {
    // proc_pid_stat(5): the name is in parentheses and may hold anything; state is field 3, starttime field 22.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
