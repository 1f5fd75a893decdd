// `make bench-cluster`: on the real cluster (test/cluster), the time from the API server's answer to the write of an EndpointSlice
// until the first new connection goes to the new endpoint, with Millrace and with kube-proxy, at few and at many Services.
// --proxies LIST, --services LIST, --changes N, --limit SECONDS for each measurement, --json FILE.
import { type ChildProcess, spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { createInterface, type Interface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { inCgroup, makeCgroup } from "../src/lab/cgroups.ts";
import type { Cluster } from "../test/cluster/cluster.ts";
import {
  type BareService,
  createBareService,
  createOthers,
  ENDPOINTS,
  servicePath,
  sliceOf,
  slicePath,
} from "../test/cluster/load/bare-services.ts";
import type { Member } from "../test/cluster/member.ts";
import { PROXIES, type ServiceProxy } from "../test/cluster/proxy.ts";
import { startCluster } from "../test/cluster/start-cluster.ts";

interface Result {
  readonly proxy: ServiceProxy;
  readonly services: number;
  /** Endpoints of every other Service. */
  readonly endpoints: number;
  readonly changes: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** From the last of the other Services' being written until the first change was in force. */
  readonly settleMs: number;
  /** VmRSS of the proxy on the client's node. */
  readonly residentBytes: number;
}

const { values: flags } = parseArgs({
  options: {
    proxies: { type: "string", default: "millrace,nftables" },
    services: { type: "string", default: "1,10000" },
    changes: { type: "string", default: "1000" },
    /** Seconds for one measurement: a proxy that needs seconds for one change makes fewer changes. */
    limit: { type: "string", default: "180" },
    json: { type: "string" },
  },
});

const PORT = 9_000;
const SETTLE_LIMIT_MS = 600_000;
const NODE = path.resolve(import.meta.dirname, "../node_modules/.bin/node");
const progress = (text: string): void => void process.stderr.write(`  BENCH  ${text}\n`);

/** A script that runs on a member of the cluster, in its namespaces and cgroup. */
class Script implements Disposable {
  readonly child: ChildProcess;
  readonly #lines: Interface;

  constructor(member: Member, script: string, args: readonly string[]) {
    const cgroup = path.join(member.cgroup, "exec");
    makeCgroup(cgroup);
    const command = [NODE, path.join(import.meta.dirname, script), ...args];
    const [file, ...rest] = inCgroup(cgroup, member.enter(command));
    this.child = spawn(file, rest, { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.child.stdout! });
  }

  line(): Promise<string> {
    return new Promise((resolve, reject) => {
      const ended = (): void => reject(new Error("a script of the benchmark ended"));
      this.child.once("exit", ended);
      this.#lines.once("line", (line) => {
        this.child.off("exit", ended);
        resolve(line);
      });
    });
  }

  write(line: string): void {
    this.child.stdin!.write(`${line}\n`);
  }

  [Symbol.dispose](): void {
    this.child.kill("SIGKILL");
  }
}

const probeAt = (address: string): BareService => ({ name: "probe", addresses: [address], targetPort: PORT });

/** Flips the endpoint once. Resolves to the milliseconds from the API server's answer to the first new connection there. */
async function flip(cluster: Cluster, probe: Script, letter: string, address: string): Promise<number> {
  probe.write(`wait ${letter}`);
  const seen = probe.line();
  await cluster.api.ask({
    method: "PUT",
    path: slicePath("probe"),
    body: sliceOf(probeAt(address)),
  });
  const answered = process.hrtime.bigint();
  const [, time = "0"] = (await seen).split(" ");
  return Math.max(0, Number(BigInt(time) - answered) / 1e6);
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

function residentOf(pid: number | undefined): number {
  const text = pid === undefined ? "" : fs.readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+)/m.exec(text)?.[1] ?? Number.NaN) * 1024;
}

async function measure(proxy: ServiceProxy, services: number): Promise<Result> {
  progress(`a cluster with ${proxy}, ${services} Services`);
  await using cluster = await startCluster({ name: `bench-${process.pid}`, proxy, replace: true });
  const [node1, node2, node3] = cluster.nodes;
  const backends = [
    { letter: "A", member: node2!, address: node2!.addresses[0]! },
    { letter: "B", member: node3!, address: node3!.addresses[0]! },
  ];
  const scripts: Script[] = [];
  try {
    for (const { letter, member, address } of backends) {
      const server = new Script(member, "latency-server.ts", [letter, address, String(PORT)]);
      scripts.push(server);
      await server.line();
    }
    await createBareService(cluster, probeAt(backends[0]!.address));
    const { spec } = await cluster.api.ask<{ spec: { clusterIP: string } }>(servicePath("probe"));
    await createOthers(cluster, {
      ...{ count: services - 1, nodes: 3 },
      onWritten: (i) => {
        if (i % 2_000 === 0 && i > 0) progress(`${i} Services written`);
      },
    });
    const probe = new Script(node1!, "latency-probe.ts", [spec.clusterIP, "80"]);
    scripts.push(probe);
    const start = performance.now();
    const wait = async <T>(what: Promise<T>): Promise<T> =>
      Promise.race([
        what,
        pause(SETTLE_LIMIT_MS, undefined, { ref: false }).then(() => {
          throw new Error(`${proxy} did not serve the probe within ${SETTLE_LIMIT_MS / 1000} s`);
        }),
      ]);
    await wait(flip(cluster, probe, "B", backends[1]!.address));
    const settleMs = performance.now() - start;
    const times: number[] = [];
    const end = performance.now() + Number(flags.limit) * 1000;
    for (let i = 0; i < Number(flags.changes) && performance.now() < end; i++) {
      // Not in step with anybody's timer.
      await pause(10 + Math.random() * 40);
      const { letter, address } = backends[i % 2]!;
      times.push(await wait(flip(cluster, probe, letter, address)));
    }
    times.sort((a, b) => a - b);
    return {
      proxy,
      services,
      endpoints: ENDPOINTS,
      changes: times.length,
      p50Ms: percentile(times, 0.5),
      p99Ms: percentile(times, 0.99),
      maxMs: times.at(-1) ?? Number.NaN,
      settleMs,
      residentBytes: residentOf(cluster.agent("node1").pid),
    };
  } finally {
    for (const script of scripts) script[Symbol.dispose]();
  }
}

const results: Result[] = [];
for (const services of flags.services.split(",").map(Number)) {
  for (const name of flags.proxies.split(",")) {
    const proxy = PROXIES.find((one) => one === name);
    if (proxy === undefined) throw new Error(`there is no proxy ${name}: ${PROXIES.join(", ")}`);
    const result = await measure(proxy, services);
    results.push(result);
    const { p50Ms, p99Ms, maxMs, settleMs, changes, residentBytes } = result;
    const ms = (value: number): string => `${value.toFixed(1)} ms`.padStart(11);
    process.stdout.write(
      `${String(services).padStart(6)} Services  ${proxy.padEnd(9)} p50${ms(p50Ms)}  p99${ms(p99Ms)}  max${ms(maxMs)}  of ${changes} changes; settled after ${(settleMs / 1000).toFixed(1)} s, ${(residentBytes / 1e6).toFixed(0)} MB resident\n`,
    );
  }
}
if (flags.json !== undefined) fs.writeFileSync(flags.json, `${JSON.stringify(results, undefined, 2)}\n`);
