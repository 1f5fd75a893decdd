// Requests without a pause on the ways to a Service, while something changes: how many were asked, and which failed.
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { RequestReport, RequestTarget } from "../cluster/load/requests.ts";
import { Program } from "../lab/traffic/test-lab.ts";
import type { KindCluster } from "./kind-cluster.ts";

const REQUESTS = join(import.meta.dirname, "../cluster/load/requests.ts");
const WORKERS = 2;

export interface LoadSource {
  /** `host`, a node or container of kind's, or a pod of namespace default. */
  readonly from: string;
  readonly kind: "host" | "container" | "pod";
  /** Addresses with port. */
  readonly to: readonly string[];
}

export class Load implements AsyncDisposable {
  readonly #programs: { readonly from: string; readonly program: Program }[] = [];

  /** Returns when all ask. */
  static async start(cluster: KindCluster, sources: readonly LoadSource[]): Promise<Load> {
    const load = new Load();
    for (const { from, kind, to } of sources) {
      const targets = to.map(targetOf);
      const command = [process.execPath, "--no-warnings", REQUESTS, JSON.stringify({ targets })];
      const [file, ...args] =
        kind === "host"
          ? command
          : kind === "container"
            ? await cluster.enterNode(from, command)
            : await cluster.enterPod("default", from, command);
      const program = new Program(spawn(file!, args, { stdio: "pipe" }));
      load.#programs.push({ from, program });
      await program.answer();
    }
    return load;
  }

  /** Ends it. @throws Error that names every request that failed, or a way on which nothing was asked */
  async stop(): Promise<string> {
    let answered = 0;
    const troubles: string[] = [];
    for (const { from, program } of this.#programs) {
      program.say("stop");
      const flows = await program.report<RequestReport>();
      for (const [to, report] of Object.entries(flows)) {
        answered += report.answered;
        const failed = Object.values(report.failed).reduce((sum, count) => sum + count, 0);
        if (failed > 0) troubles.push(`${from} -> ${to}: ${failed} of ${report.asked} failed: ${report.errors[0]}`);
        if (report.answered === 0) troubles.push(`${from} -> ${to}: nothing was answered`);
      }
    }
    await this[Symbol.asyncDispose]();
    if (troubles.length > 0) throw new Error(`${troubles.join("; ")}; ${answered} answered in all`);
    return `${answered} requests, none failed`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#programs.splice(0).map(({ program }) => program.end()));
  }
}

function targetOf(to: string): RequestTarget {
  const [, bracketed, plain, port] = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(to) ?? [];
  return { name: to, host: bracketed ?? plain ?? "", port: Number(port), workers: WORKERS };
}
