// An agent that starts where kube-proxy runs, or ran: it starts all the same, says what it found, and takes the ports when they are free.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { describeKernel } from "../kernel/require-kernel.ts";
import { until } from "./traffic/test-lab.ts";
import { type Agent, TestMachine } from "./traffic/test-machine.ts";

/** It is looked for every ten seconds while its rules are there, on a machine that may be busy. */
const LOOK_MS = 90_000;

/** As kube-proxy has its ports: what it says of itself is on one of them. */
const LISTENER = `
const { createServer } = require("node:http");
const on = (port, host) => new Promise((done) => createServer((_, answer) => answer.end("iptables")).listen(port, host, done));
Promise.all([on(10249, "127.0.0.1"), on(10256, "0.0.0.0")]).then(() => console.log("ready"));
`;
/** Chains and tables by which each of kube-proxy's modes is known. */
const RULES = `
add table ip kube-proxy
add table ip nat
add chain ip nat KUBE-SERVICES
`;

describeKernel("an agent beside kube-proxy", () => {
  let machine: TestMachine;
  let kubeProxy: ChildProcess | undefined;

  beforeEach(async () => {
    machine = await TestMachine.create();
  });

  afterEach(async () => {
    kubeProxy?.kill("SIGKILL");
    await machine.close();
  });

  const inside = (...command: string[]): readonly string[] => [
    `--net=/run/netns/${machine.net.name}`,
    "--",
    ...command,
  ];
  const nft = (text: string): unknown => execFileSync("nsenter", inside("nft", "-f", "-"), { input: text });

  async function startKubeProxy(): Promise<ChildProcess> {
    const program = join(machine.directory, "kube-proxy");
    symlinkSync(process.execPath, program);
    const child = spawn("nsenter", inside(program, "-e", LISTENER), { stdio: ["ignore", "pipe", "inherit"] });
    await once(child.stdout!, "data");
    return child;
  }

  async function notices(agent: Agent): Promise<readonly { reason: string; message: string }[]> {
    if (!agent.isRunning) throw new Error(`the agent ended: ${agent.stderr}`);
    const all = (await machine.status()).notices;
    return all.filter(({ reason }) => /^(kube-proxy-|port-taken|listen-failed)/.test(reason));
  }

  const untilTold = (agent: Agent, what: string, reasons: readonly string[]) => {
    const ask = async () => {
      const told = await notices(agent);
      const found = told.map(({ reason }) => reason).sort();
      // Who has a port may be found a moment later.
      const named = told.every(({ message }) => !message.includes("another process"));
      return named && found.join() === reasons.join() ? told : undefined;
    };
    return until(`the agent to tell of ${what}`, ask, LOOK_MS);
  };

  it("starts, tells of the process, of who has the ports and of the rules, and takes the ports over", async () => {
    kubeProxy = await startKubeProxy();
    nft(RULES);
    const agent = machine.start();
    await agent.healthy();
    const told = await untilTold(agent, "it and the ports", ["kube-proxy-running", "port-taken", "port-taken"]);
    const messages = told.map(({ message }) => message).join("\n");
    expect(messages).toContain(
      `kube-proxy runs on this node (process ${kubeProxy.pid}), and has rules here (nftables, iptables)`,
    );
    expect(messages).toContain(
      `could not serve /metrics and /proxyMode on 127.0.0.1:10249: kube-proxy (process ${kubeProxy.pid}) has this port`,
    );
    expect(messages).toContain(`/livez on 0.0.0.0:10256: kube-proxy (process ${kubeProxy.pid}) has this port`);

    kubeProxy.kill("SIGKILL");
    const [left] = await untilTold(agent, "what it left", ["kube-proxy-rules"]);
    expect(left?.message).toContain("kube-proxy's rules are on this node (nftables, iptables)");
    const answer = execFileSync("nsenter", inside("curl", "-s", "http://192.168.122.11:10256/healthz"), {
      encoding: "utf8",
    });
    expect(JSON.parse(answer)).toMatchObject({ healthy: true });

    nft("delete table ip kube-proxy\ndelete table ip nat\n");
    await untilTold(agent, "nothing any more", []);
    expect((await agent.stop()).status).toBe(0);
    expect((await machine.cleanup()).status).toBe(0);
  });
});
