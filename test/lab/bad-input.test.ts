// What happens to a running agent when wrong manifests are dropped into its directory: each is told with its file, object and
// field, on the log, in `status` and in the metrics; what was in force stays so; and the main loop never stops answering.
import { spawn } from "node:child_process";
import { renameSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { AgentStatus, BackendView, ServiceView } from "../../src/agent/view.ts";
import { getJson } from "../../src/lab/lab-node.ts";
import type { Notice } from "../../src/model/objects.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import type { Flow, NewReport } from "./traffic/client.ts";
import { Program, run, show, until } from "./traffic/test-lab.ts";
import { type Agent, TestMachine } from "./traffic/test-machine.ts";

const NODE_ADDRESS = "192.168.122.11";
const SERVER = { name: "server", udp: 9000, stream: 9001, short: 9002 };

const service = (name: string, spec = ""): string => `
apiVersion: v1
kind: Service
metadata: {name: ${JSON.stringify(name)}}
spec: {ports: [{port: 80}]${spec}}
---`;

const endpoints = (name: string, ...addresses: readonly string[]): string => `
apiVersion: v1
kind: Endpoints
metadata: {name: ${name}}
subsets: [{addresses: [${addresses.map((ip) => `{ip: ${ip}}`).join(", ")}], ports: [{port: ${SERVER.short}}]}]
---`;

/** A Service at a node port, with one endpoint, the server. */
const atNodePort = (name: string, nodePort: number): string =>
  `
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec: {type: NodePort, ports: [{port: 80, nodePort: ${nodePort}}]}
---${endpoints(name, NODE_ADDRESS)}`;

const answering = (name: string, spec = ""): string => `${service(name, spec)}${endpoints(name, NODE_ADDRESS)}`;

const HEALTHY_ADDRESS = "10.96.0.80";
const HEALTHY = `
apiVersion: v1
kind: Service
metadata: {name: healthy}
spec: {type: NodePort, clusterIP: ${HEALTHY_ADDRESS}, ports: [{port: 80, nodePort: 30080}]}
---${endpoints("healthy", NODE_ADDRESS)}`;

const BOMB = `a0: &a0 [x, x, x, x, x, x, x, x, x]
${Array.from({ length: 12 }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`).join(", ")}]`).join("\n")}
`;
/** From here on a file is parsed in a thread of its own. */
const LARGE = `# ${"x".repeat(20_000)}\n`;
const TOO_LARGE = 8 * 1024 * 1024 + 1;

interface Case {
  readonly name: string;
  /** Its name in the directory. */
  readonly file: string;
  /** What the file holds before: a Service of the case's name among it. */
  readonly good?: string;
  /** What is then written; a number: only so many bytes are left. */
  readonly bad: string | number;
  /** Of the notice; the whole file when absent. */
  readonly object?: string;
  readonly field?: string;
  readonly reason: string;
  readonly message: RegExp;
  /** The Service in force afterwards, as before: its name. */
  readonly stays?: string;
  /** A Service that must not come. */
  readonly absent?: string;
}

const CASES: readonly Case[] = [
  {
    name: "malformed YAML",
    file: "malformed.yaml",
    good: answering("malformed"),
    bad: "apiVersion: v1\nkind: [Service\n",
    reason: "malformed",
    message: /malformed YAML: .*; its last good content stays in force$/,
    stays: "malformed",
  },
  {
    name: "an alias bomb",
    file: "bomb.yaml",
    good: answering("bomb"),
    bad: BOMB,
    reason: "malformed",
    message: /malformed YAML: .*alias.*; its last good content stays in force$/,
    stays: "bomb",
  },
  {
    name: "an alias bomb in a large file",
    file: "large-bomb.yaml",
    good: answering("large-bomb"),
    bad: `${LARGE}${BOMB}`,
    reason: "malformed",
    message: /malformed YAML: .*alias.*; its last good content stays in force$/,
    stays: "large-bomb",
  },
  {
    name: "a file cut in half",
    file: "half.yaml",
    good: `${answering("half")}${answering("other-half")}`,
    bad: answering("half").length + 60,
    reason: "malformed",
    message: /cut off in the middle; its last good content stays in force$/,
    stays: "other-half",
  },
  {
    name: "a file over 8 MiB",
    file: "too-large.yaml",
    good: answering("too-large"),
    bad: answering("grown").padEnd(TOO_LARGE, "#"),
    reason: "too-large",
    message: /it has 8388609 bytes, more than the 8388608 .*; its last good content stays in force$/,
    stays: "too-large",
    absent: "grown",
  },
  {
    name: "a Service with a taken node port",
    file: "taken-port.yaml",
    bad: atNodePort("taken-port", 30080),
    object: "Service default/taken-port",
    field: "spec.ports[0].nodePort",
    reason: "port-allocated",
    message: /provided port is already allocated$/,
    absent: "taken-port",
  },
  {
    name: "a Service that asks for a taken node port instead of its own",
    file: "moved-port.yaml",
    good: atNodePort("moved-port", 30081),
    bad: atNodePort("moved-port", 30080),
    object: "Service default/moved-port",
    field: "spec.ports[0].nodePort",
    reason: "port-allocated",
    message: /provided port is already allocated; its last good version stays in force$/,
    stays: "moved-port",
  },
  {
    name: "a Service with the cluster address of another",
    file: "same-address.yaml",
    bad: answering("same-address", `, clusterIP: ${HEALTHY_ADDRESS}`),
    object: "Service default/same-address",
    field: "spec.clusterIPs",
    reason: "address-allocated",
    message: /failed to allocate IP 10\.96\.0\.80: provided IP is already allocated$/,
    absent: "same-address",
  },
  {
    name: "a name that climbs directories, where a good one was",
    file: "climbs.yaml",
    good: answering("climbs"),
    bad: `${service("../../x")}${endpoints("climbs", NODE_ADDRESS)}`,
    object: "Service default/../../x",
    field: "metadata.name",
    reason: "invalid-name",
    message: /^metadata\.name: .*; its last good version stays in force$/,
    stays: "climbs",
    absent: "../../x",
  },
  {
    name: "a name that is a shell command",
    file: "command.yaml",
    bad: service("$(id)"),
    object: "Service default/$(id)",
    field: "metadata.name",
    reason: "invalid-name",
    message: /^metadata\.name: Invalid value: "\$\(id\)"/,
    absent: "$(id)",
  },
  {
    name: "a name of 300 characters",
    file: "long-name.yaml",
    bad: service("a".repeat(300)),
    object: `${`Service default/${"a".repeat(300)}`.slice(0, 100)}…`,
    field: "metadata.name",
    reason: "invalid-name",
    message: /must be no more than 63 characters$/,
    absent: "a".repeat(300),
  },
  {
    name: "an endpoint on loopback, which comes to a good one",
    file: "loopback.yaml",
    good: answering("loopback"),
    bad: `${service("loopback")}${endpoints("loopback", "127.0.0.1", NODE_ADDRESS)}`,
    object: "Endpoints default/loopback",
    field: "subsets[0].addresses[0].ip",
    reason: "endpoint-refused",
    message: /"127\.0\.0\.1": may not be a loopback address; this address is left out$/,
    stays: "loopback",
  },
  {
    name: "an unknown kind",
    file: "kind.yaml",
    bad: "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: x}\n",
    object: "Gadget default/x",
    field: "kind",
    reason: "unknown-kind",
    message: /unknown kind "Gadget"/,
  },
];

/** Asks /livez 20 times a second, in a process of its own: what holds the test up must not count. Any order: report all. */
const ASK_LIVEZ = `
const ask = async () => {
  const began = performance.now();
  const status = await fetch("http://127.0.0.1:10256/livez", { signal: AbortSignal.timeout(20_000) }).then(
    async (answer) => (await answer.text(), answer.status),
    (error) => String(error.cause ?? error),
  );
  return { status, ms: performance.now() - began };
};
(async () => {
  while ((await ask()).status !== 200) await new Promise((resolve) => setTimeout(resolve, 50));
  const asked = [];
  const timer = setInterval(() => asked.push(ask()), 50);
  process.stdin.on("end", () => process.exit(0));
  process.stdin.once("data", async () => {
    clearInterval(timer);
    console.log(JSON.stringify(await Promise.all(asked)));
  });
  console.log(JSON.stringify({ ready: true }));
})();
`;

interface Answer {
  readonly status: number | string;
  readonly ms: number;
}

describeKernel("a running agent that gets wrong manifests", () => {
  const programs: Program[] = [];
  /** How often each reason must be counted by now. */
  const reasons = new Map<string, number>();
  /** Services that were added after something wrong, at these addresses. */
  const added: string[] = [];
  let machine: TestMachine;
  let agent: Agent;
  let livez: Program;
  let client: Program;
  let polledSince = 0;

  /** A program in the machine's network, and in the cgroup whose sockets are translated; resolves when it is ready. */
  const start = async (...args: readonly string[]): Promise<Program> => {
    const enter = ["-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', machine.cgroup];
    const command = ["nsenter", `--net=/run/netns/${machine.net.name}`, "--", process.execPath, ...args];
    const program = new Program(spawn("sh", [...enter, ...command], { stdio: "pipe" }));
    programs.push(program);
    await program.answer();
    return program;
  };
  const startScript = (script: "server.ts" | "client.ts", argument: unknown): Promise<Program> =>
    start("--no-warnings", join(import.meta.dirname, "traffic", script), JSON.stringify(argument));

  beforeAll(async () => {
    machine = await TestMachine.create(HEALTHY);
    await startScript("server.ts", SERVER);
    agent = machine.start();
    await agent.healthy();
    livez = await start("-e", ASK_LIVEZ);
    polledSince = Date.now();
    client = await startScript("client.ts", { flows: [flowTo("healthy", HEALTHY_ADDRESS)] });
  });

  afterAll(async () => {
    await Promise.all(programs.map((program) => program.end()));
    await machine?.close();
  });

  const flowTo = (name: string, host: string): Flow => ({ name, kind: "new-tcp", host, port: 80, rate: 20 });

  const pathOf = (file: string): string => join(machine.manifests, file);

  /** Nobody sees half of it. */
  const put = (file: string, content: string): void => {
    writeFileSync(pathOf(`.${file}`), content);
    renameSync(pathOf(`.${file}`), pathOf(file));
  };

  const ask = async <T>(path: string): Promise<T> => (await getJson(machine.socket, `/api/v1/${path}`, 5000)) as T;

  /** A Service and its backends as they are in the kernel's maps; counters aside. */
  const inForce = async (name: string) => {
    const one = (await ask<readonly ServiceView[]>("services")).find((each) => each.name === name);
    const backends = (await ask<readonly BackendView[]>("backends")).filter(
      (each) => each.service === `default/${name}`,
    );
    return { exists: one !== undefined, clusterIPs: one?.clusterIPs, ports: one?.ports, backends };
  };

  /** The Service of this name has one backend, and nothing waits to be brought in force. */
  const comes = (name: string): Promise<void> =>
    until(`Service ${name}`, async () => {
      const { backends } = await inForce(name);
      return backends.length === 1 && (await settled()) ? true : undefined;
    }).then(() => undefined);

  const settled = async (): Promise<boolean> => {
    const { appliedDigest, source, healthy } = await machine.status();
    return healthy && appliedDigest === source.digest;
  };

  const counted = async (): Promise<Map<string, number>> => {
    const curl = ["curl", "-s", "-m", "5", "http://127.0.0.1:10249/metrics"];
    const { stdout } = await run("nsenter", [`--net=/run/netns/${machine.net.name}`, "--", ...curl]);
    const lines = stdout.matchAll(/^millrace_notices\{reason="([^"]+)",severity="error"\} (\d+)$/gm);
    return new Map([...lines].map(([, reason = "", count]) => [reason, Number(count)]));
  };

  const logged = (): readonly Record<string, unknown>[] =>
    agent.stderr
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  for (const [i, { name, file, good, bad, field = "", reason, message, stays, absent, ...rest }] of CASES.entries()) {
    it(`tells of ${name}, and everything else goes on`, async () => {
      if (good !== undefined && stays !== undefined) {
        put(file, good);
        await comes(stays);
      }
      const before = { healthy: await inForce("healthy"), stays: await inForce(stays ?? "healthy") };
      expect(before.healthy.backends).toHaveLength(1);
      if (typeof bad === "number") truncateSync(pathOf(file), bad);
      else put(file, bad);
      reasons.set(reason, (reasons.get(reason) ?? 0) + 1);

      const place = { file: pathOf(file), object: rest.object ?? pathOf(file), field, reason };
      // Line and column stand behind the file where they are known.
      const withoutPlace = (value: unknown): string => String(value).replace(/:\d+:\d+$/, "");
      const isIt = (one: Record<string, unknown> | Notice): boolean =>
        Object.entries(place).every(([key, value]) => withoutPlace((one as Record<string, unknown>)[key]) === value);
      await until(`a notice ${JSON.stringify(place)}`, async () =>
        (await machine.status()).notices.some(isIt) && (await settled()) ? true : undefined,
      );
      const { stdout } = await machine.millrace(["status", "--socket", machine.socket, "-o", "json"]);
      const { notices } = JSON.parse(stdout) as AgentStatus;
      expect(notices.filter(isIt)).toMatchObject([
        { field, reason, severity: "error", message: expect.stringMatching(message) },
      ]);
      const line = await until("a line of the log", () => logged().find(isIt));
      expect(line["msg"]).toMatch(message);
      expect(Object.fromEntries(await counted())).toMatchObject(Object.fromEntries(reasons));

      expect(await inForce("healthy")).toEqual(before.healthy);
      if (stays !== undefined) expect(await inForce(stays)).toEqual(before.stays);
      if (absent !== undefined) expect((await inForce(absent)).exists).toBe(false);
      const address = `10.96.1.${i + 1}`;
      put(`after-${i}.yaml`, answering(`after-${i}`, `, clusterIP: ${address}`));
      await comes(`after-${i}`);
      added.push(address);
    });
  }

  it("had every connection to the Service answered, and those that came later answer too", async () => {
    const later = await startScript("client.ts", { flows: added.map((address) => flowTo(address, address)) });
    for (const [program, names] of [
      [client, ["healthy"]],
      [later, added],
    ] as const) {
      await until("some connections", async () =>
        Object.values(await program.report<NewReport>()).every(({ tried }) => tried > 5) ? true : undefined,
      );
      program.say("stop");
      const reports = await until("all connections to be answered", async () => {
        const now = await program.report<NewReport>();
        return Object.values(now).every(({ tried, answered, errors }) => answered + errors.length >= tried)
          ? now
          : undefined;
      });
      expect(Object.keys(reports)).toEqual(names);
      for (const report of Object.values(reports)) {
        expect(report).toMatchObject({ errors: [], answered: report.tried, byServer: { server: report.tried } });
      }
    }
  });

  it("had /livez answered all the while", async () => {
    const polledMs = Date.now() - polledSince;
    livez.say("report");
    const answers = await livez.answer<readonly Answer[]>();
    const times = answers.map(({ ms }) => ms).sort((a, b) => a - b);
    const at = (share: number): number => Math.round(times[Math.ceil(times.length * share) - 1] ?? 0);
    show("/livez while wrong manifests come, ms", {
      "": { answers: times.length, median: at(0.5), "99 %": at(0.99), slowest: at(1) },
    });
    expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
    // A machine that is busy elsewhere may keep the asking process waiting, but not most of the time.
    expect(times.length).toBeGreaterThan(polledMs / 50 / 4);
    // Ten times what is aimed at: absolute times are noisy where others use the machine too.
    expect(at(1)).toBeLessThan(2000);
    expect(agent.isRunning).toBe(true);
  });
});
