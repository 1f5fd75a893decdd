// `make bench-api`: the agent over the Kubernetes API, a fake one in a process of its own: time and memory from process start until
// S Services of E endpoints are in force, its longest task, and how it follows changes. --json FILE writes the same as data, --runs N
// starts the agent N times over the first size, --only SIZE takes one size, --seconds N is how long changes are followed.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { type AgentPlace, type AgentProcess, createAgentPlace, pause } from "./agent-process.ts";
import { median } from "./measure.ts";
import { residentMemory } from "./memory.ts";

interface Size {
  readonly services: number;
  readonly endpoints: number;
  /** Goals for the median run: seconds from process start, and resident MB less the mapped arrays. */
  readonly seconds: number;
  readonly megabytes: number;
}

const SIZES: readonly Size[] = [
  { services: 10_000, endpoints: 10, seconds: 2.2, megabytes: 150 },
  { services: 1_000, endpoints: 250, seconds: 4, megabytes: 300 },
  { services: 1_000, endpoints: 1_000, seconds: 15, megabytes: 600 },
];
const FOLLOW = { perSecond: 100, goalMs: 50, taskMs: 20 };
const START_LIMIT_MS = 120_000;
/** What only the start needed is given back just after all is in force. */
const RESIDENT_AFTER_MS = 1_000;
const PROJECT = path.resolve(import.meta.dirname, "..");

interface LoopDelay {
  readonly maxMs: number;
  readonly p99Ms: number;
}

interface StartResult extends Size {
  readonly startMs: number;
  readonly ownBytes: number;
  readonly peakBytes: number;
  readonly mappedArrayBytes: number;
  readonly settledBytes: number;
  readonly loop: LoopDelay;
}

interface FollowResult {
  readonly changes: number;
  readonly within: Readonly<Record<string, number>>;
  readonly meanMs: number;
  readonly loop: LoopDelay;
}

const { values: flags } = parseArgs({
  options: {
    json: { type: "string" },
    seconds: { type: "string", default: "60" },
    only: { type: "string", default: "" },
    runs: { type: "string", default: "10" },
  },
});

/** Starts the fake API server in the agent's namespace. Resolves to its URL. */
async function startServer(place: AgentPlace, { services, endpoints }: Size): Promise<string> {
  const child = place.spawn([
    path.join(PROJECT, "node_modules/.bin/node"),
    path.join(PROJECT, "test/fakes/api-server/main.ts"),
    `--services=${services}`,
    `--endpoints=${endpoints}`,
    "--node-name=node1",
    "--node-address=192.168.122.11",
  ]);
  let text = "";
  for await (const chunk of child.stdout!) {
    text += String(chunk);
    if (text.includes("\n")) break;
  }
  return (JSON.parse(text) as { url: string }).url;
}

function writeKubeconfig(place: AgentPlace, server: string): string {
  const file = path.join(place.directory, "kubeconfig");
  const text = {
    apiVersion: "v1",
    kind: "Config",
    "current-context": "bench",
    clusters: [{ name: "bench", cluster: { server } }],
    users: [{ name: "bench", user: {} }],
    contexts: [{ name: "bench", context: { cluster: "bench", user: "bench" } }],
  };
  fs.writeFileSync(file, JSON.stringify(text));
  return file;
}

async function loopDelay(place: AgentPlace, agent: AgentProcess): Promise<LoopDelay> {
  const file = path.join(place.directory, "loop.json");
  fs.rmSync(file, { force: true });
  agent.signal("SIGUSR2");
  for (let tries = 0; tries < 200; tries++) {
    await pause(25);
    if (fs.existsSync(file)) return JSON.parse(fs.readFileSync(file, "utf8")) as LoopDelay;
  }
  throw new Error("the agent did not write its loop's delay");
}

/** A number of /proc/PID/status in bytes. */
function statusBytes(pid: number, field: string): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(found?.[1] ?? Number.NaN) * 1024;
}

/** Runs a command in the namespace and gives its output. */
function fetchText(place: AgentPlace, url: string, post?: unknown): string {
  const args = post === undefined ? [] : ["-X", "POST", "-d", JSON.stringify(post)];
  const inside = `--net=/run/netns/${place.namespace.name}`;
  const command = ["curl", "-sS", "--fail", "--max-time", "600", ...args, url];
  return execFileSync("nsenter", [inside, ...command], { encoding: "utf8", maxBuffer: 256 << 20 });
}

/** The samples of a metric by their labels' text. */
function samples(text: string, name: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const line of text.split("\n")) {
    const match = new RegExp(`^${name}(\\{[^}]*\\})? (\\S+)`).exec(line);
    if (match !== null) found.set(match[1] ?? "", Number(match[2]));
  }
  return found;
}

async function benchFollow(
  place: AgentPlace,
  agent: AgentProcess,
  url: string,
  seconds: number,
): Promise<FollowResult> {
  const name = "millrace_network_programming_duration_seconds";
  const metrics = (): string => fetchText(place, "http://127.0.0.1:10249/metrics");
  const before = metrics();
  await loopDelay(place, agent);
  const changes = FOLLOW.perSecond * seconds;
  // Beside this process's own loop: the answer comes when all changes are made.
  fetchText(place, `${url}/control/churn`, { changes, perSecond: FOLLOW.perSecond });
  await pause(1_000);
  const loop = await loopDelay(place, agent);
  const after = metrics();
  const difference = (suffix: string): Map<string, number> => {
    const old = samples(before, name + suffix);
    return new Map([...samples(after, name + suffix)].map(([key, value]) => [key, value - (old.get(key) ?? 0)]));
  };
  const buckets = difference("_bucket");
  const within = Object.fromEntries(
    ["0.025", "0.05", "0.1", "+Inf"].map((bound) => [bound, buckets.get(`{le="${bound}"}`) ?? 0]),
  );
  const count = difference("_count").get("") ?? 0;
  return { changes, within, meanMs: ((difference("_sum").get("") ?? 0) / count) * 1000, loop };
}

async function benchSize(
  size: Size,
  seconds: number,
): Promise<{ start: StartResult; follow: FollowResult | undefined }> {
  await using place = createAgentPlace();
  const url = await startServer(place, size);
  const backends = size.services * size.endpoints;
  const room = Math.max(131_072, Math.ceil(backends * 1.1));
  const loopFile = path.join(place.directory, "loop.json");
  const agent = place.start(
    [
      `--kubeconfig=${writeKubeconfig(place, url)}`,
      `--max-backends=${room}`,
      `--max-slots=${Math.max(524_288, room * 2)}`,
    ],
    {
      NODE_OPTIONS: `--import=${path.join(PROJECT, "bench/loop-delay.mjs")}`,
      MILLRACE_LOOP_DELAY: loopFile,
    },
  );
  const used = (status: { capacity: readonly { map: string; used: number }[] }): number =>
    status.capacity.find(({ map }) => map === "backends")?.used ?? -1;
  const status = await agent.until((now) => now.healthy && used(now) >= backends, START_LIMIT_MS);
  const startMs = status.lastApply.atMs - (performance.timeOrigin + agent.startedMs);
  const loop = await loopDelay(place, agent);
  await pause(RESIDENT_AFTER_MS);
  const memory = residentMemory(agent.pid);
  const peakBytes = statusBytes(agent.pid, "VmHWM") - memory.mappedArrayBytes;
  const follow = seconds > 0 ? await benchFollow(place, agent, url, seconds) : undefined;
  if (follow === undefined) await pause(10_000);
  const later = residentMemory(agent.pid);
  await agent.stop();
  return {
    start: {
      ...size,
      startMs,
      ownBytes: memory.residentBytes - memory.mappedArrayBytes,
      mappedArrayBytes: memory.mappedArrayBytes,
      peakBytes,
      settledBytes: later.residentBytes - later.mappedArrayBytes,
      loop,
    },
    follow,
  };
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
/** "2.31 (2.12 to 2.60)": the median, and between what all lie. */
function spread(values: readonly number[], text: (value: number) => string): string {
  const all = values.length < 2 ? "" : ` (${text(Math.min(...values))} to ${text(Math.max(...values))})`;
  return `${text(median(values))}${all}`;
}

const results: { starts: readonly StartResult[]; follow: FollowResult | undefined }[] = [];
for (const size of SIZES) {
  if (flags.only !== "" && flags.only !== `${size.services}x${size.endpoints}`) continue;
  const starts: StartResult[] = [];
  let follow: FollowResult | undefined;
  const isFirst = size === SIZES[0];
  const runs = isFirst ? Number(flags.runs) : 1;
  for (let run = 1; run <= runs; run++) {
    const result = await benchSize(size, isFirst && run === runs ? Number(flags.seconds) : 0);
    starts.push(result.start);
    follow = result.follow;
  }
  results.push({ starts, follow });
  const of = (value: (start: StartResult) => number): number[] => starts.map(value);
  const ms = (value: number): string => value.toFixed(1);
  const lines = [
    `${size.services} Services x ${size.endpoints} endpoints${runs > 1 ? `, median of ${runs} runs (least to most)` : ""}`,
    `  in force after      ${spread(
      of(({ startMs }) => startMs),
      (value) => (value / 1000).toFixed(2),
    )} s   (goal ${size.seconds} s)`,
    `  resident 1 s later  ${spread(
      of(({ ownBytes }) => ownBytes),
      megabytes,
    )} MB   (goal ${size.megabytes} MB; peak ${megabytes(Math.max(...of(({ peakBytes }) => peakBytes)))}, ` +
      `later ${megabytes(median(of(({ settledBytes }) => settledBytes)))}; ` +
      `mapped arrays ${megabytes(median(of(({ mappedArrayBytes }) => mappedArrayBytes)))} besides)`,
    `  longest task        ${spread(
      of(({ loop }) => loop.maxMs),
      ms,
    )} ms from start to in force, p99 ${ms(median(of(({ loop }) => loop.p99Ms)))} ms`,
  ];
  if (follow !== undefined) {
    const share = Object.entries(follow.within).map(([bound, count]) => `${count} within ${bound} s`);
    lines.push(
      `  ${FOLLOW.perSecond} changes a second   ${follow.changes}: ${share.join(", ")}; mean ${follow.meanMs.toFixed(1)} ms   (goal ${FOLLOW.goalMs} ms)`,
      `  longest task then   ${follow.loop.maxMs.toFixed(1)} ms, p99 ${follow.loop.p99Ms.toFixed(1)} ms   (goal ${FOLLOW.taskMs} ms)`,
    );
  }
  process.stdout.write(`${lines.join("\n")}\n\n`);
}
if (flags.json !== undefined) fs.writeFileSync(flags.json, `${JSON.stringify(results, undefined, 2)}\n`);
