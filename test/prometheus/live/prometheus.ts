// A Prometheus of its own, in a network namespace of a lab or a cluster: started with targets and rules, asked over HTTP from within,
// ended by its process id. Its data goes with it.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { patience } from "../../../src/lib/patience.ts";
import { must, run, until } from "../../lab/traffic/test-lab.ts";

/** Program and arguments that run a command where Prometheus is; each program on the way replaces itself by the next. */
export type Enter = (command: readonly string[]) => readonly string[];

export interface Target {
  readonly job: string;
  readonly instance: string;
  /** host:port, as seen from where Prometheus is. */
  readonly address: string;
}

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  /** Of a range query all, else one: seconds and value. */
  readonly values: readonly (readonly [number, string])[];
}

export interface Alert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly state: "pending" | "firing";
}

const LISTEN = "127.0.0.1:9090";

export class Prometheus implements AsyncDisposable {
  readonly #enter: Enter;
  readonly #directory = mkdtempSync(join(tmpdir(), "millrace-prometheus-"));
  #process: ChildProcess | undefined;

  readonly #targets: readonly Target[];

  /** `rules`: the text of a rules file. */
  constructor(enter: Enter, targets: readonly Target[], rules: string) {
    this.#enter = enter;
    this.#targets = targets;
    this.#write(rules, 2);
  }

  #write(rules: string, seconds: number): void {
    const jobs = [...new Set(this.#targets.map(({ job }) => job))];
    const config = {
      global: { scrape_interval: `${seconds}s`, scrape_timeout: `${seconds}s`, evaluation_interval: "1s" },
      rule_files: [join(this.#directory, "rules.yaml")],
      scrape_configs: jobs.map((job) => ({
        job_name: job,
        static_configs: this.#targets
          .filter((target) => target.job === job)
          .map(({ instance, address }) => ({ targets: [address], labels: { instance } })),
      })),
    };
    writeFileSync(join(this.#directory, "rules.yaml"), rules);
    writeFileSync(join(this.#directory, "prometheus.yml"), stringify(config));
  }

  /** Returns when it answers. */
  async start(): Promise<void> {
    await must("promtool", ["check", "config", join(this.#directory, "prometheus.yml")]);
    const [file = "", ...args] = this.#enter([
      "prometheus",
      `--config.file=${join(this.#directory, "prometheus.yml")}`,
      `--storage.tsdb.path=${join(this.#directory, "data")}`,
      `--web.listen-address=${LISTEN}`,
      "--web.enable-lifecycle",
      "--log.level=warn",
    ]);
    const log = openSync(join(this.#directory, "log"), "a");
    this.#process = spawn(file, args, { stdio: ["ignore", log, log], cwd: this.#directory });
    await until(
      "Prometheus to be ready",
      async () => {
        if (this.#process?.exitCode !== null) throw new Error(`Prometheus ended: ${this.log}`);
        const { status } = await run(...this.#curl("/-/ready"));
        return status === 0 ? true : undefined;
      },
      patience(60_000),
    );
  }

  /** Other rules and another time between scrapes from now on; what was scraped stays. */
  async change(rules: string, seconds: number): Promise<void> {
    this.#write(rules, seconds);
    const [file = "", ...args] = this.#enter(["curl", "-sf", "-m", "20", "-X", "POST", `http://${LISTEN}/-/reload`]);
    await must(file, args);
  }

  get log(): string {
    return readFileSync(join(this.#directory, "log"), "utf8").slice(-2000);
  }

  #curl(path: string, parameters: Readonly<Record<string, string>> = {}): [string, readonly string[]] {
    const data = Object.entries(parameters).flatMap(([name, value]) => ["--data-urlencode", `${name}=${value}`]);
    const [file = "", ...args] = this.#enter(["curl", "-sf", "-m", "20", "-G", `http://${LISTEN}${path}`, ...data]);
    return [file, args];
  }

  async #ask<T>(path: string, parameters: Readonly<Record<string, string>> = {}): Promise<T> {
    const [file, args] = this.#curl(path, parameters);
    const { status, stdout } = await run(
      file,
      args.map((arg) => (arg === "-sf" ? "-s" : arg)),
    );
    if (status !== 0) throw new Error(`Prometheus does not answer (curl ${status}): ${this.log}`);
    const answer = JSON.parse(stdout) as { status: string; error?: string; data: T };
    if (answer.status !== "success") throw new Error(`${answer.error}: ${JSON.stringify(parameters)}`);
    return answer.data;
  }

  /** As of now. */
  async query(expr: string): Promise<readonly Sample[]> {
    const { resultType, result } = await this.#ask<{
      resultType: string;
      result: readonly { metric: Record<string, string>; value: readonly [number, string] }[];
    }>("/api/v1/query", { query: expr });
    if (resultType !== "vector") throw new Error(`${expr} gives a ${resultType}`);
    return result.map(({ metric, value }) => ({ metric, values: [value] }));
  }

  /** Over the last `seconds`, at each fifth. */
  async queryRange(expr: string, seconds: number): Promise<readonly Sample[]> {
    const end = Date.now() / 1000;
    const parameters = { query: expr, start: String(end - seconds), end: String(end), step: "5" };
    return (await this.#ask<{ result: readonly Sample[] }>("/api/v1/query_range", parameters)).result;
  }

  async alerts(): Promise<readonly Alert[]> {
    return (await this.#ask<{ alerts: readonly Alert[] }>("/api/v1/alerts")).alerts;
  }

  /** Names of alerts that fire. */
  async firing(): Promise<ReadonlySet<string>> {
    const alerts = await this.alerts();
    return new Set(alerts.flatMap(({ state, labels }) => (state === "firing" ? [labels["alertname"] ?? ""] : [])));
  }

  /** Errors of scrapes by address, "" for one that goes well. */
  async targets(): Promise<Readonly<Record<string, string>>> {
    const { activeTargets } = await this.#ask<{
      activeTargets: readonly { scrapeUrl: string; health: string; lastError: string }[];
    }>("/api/v1/targets");
    return Object.fromEntries(
      activeTargets.map(({ scrapeUrl, health, lastError }) => [scrapeUrl, health === "up" ? "" : lastError || health]),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#process;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await once(child, "exit");
      clearTimeout(timer);
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
