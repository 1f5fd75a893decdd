// The first start of an agent in a cluster: the API's own Service is served by nobody, and no name is resolved. It says which ways there are, and
// serves what it knows: nothing. Meanwhile it answers those who ask for its health.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { describeKernel } from "../kernel/require-kernel.ts";
import { ROOT, until } from "./traffic/test-lab.ts";
import { TestMachine } from "./traffic/test-machine.ts";

/** As the kubelet tells a pod. */
const POD = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" };

describeKernel("the first start in a cluster", () => {
  let machine: TestMachine;
  let agent: ChildProcess | undefined;

  beforeEach(async () => {
    machine = await TestMachine.create();
    // Nothing may leave, and what is asked there fails at once.
    machine.net.ip("route replace unreachable default");
  });

  afterEach(async () => {
    if (agent !== undefined && agent.exitCode === null) {
      agent.kill("SIGTERM");
      await once(agent, "close");
    }
    await machine.close();
  });

  function start(flags: readonly string[]): void {
    const resolver = join(machine.directory, "resolv.conf");
    writeFileSync(resolver, "nameserver 192.0.2.53\noptions timeout:1 attempts:1\n");
    const within = ["unshare", "--mount", "sh", "-c", `mount --bind ${resolver} /etc/resolv.conf && exec "$@"`, "sh"];
    const args = ["run", "--node-name", "node1", "--api-socket", machine.socket, ...machine.places, ...flags];
    const [file = "", ...rest] = machine.command(args, within);
    agent = spawn(file, rest, { stdio: "ignore", env: { ...process.env, ...POD }, cwd: ROOT });
  }

  const told = (words: string): Promise<string> =>
    until(
      `a notice with "${words}"`,
      async () => {
        if (agent?.exitCode !== null) throw new Error("the agent ended");
        const { notices } = await machine.status().catch(() => ({ notices: [] }));
        return notices.find(({ message }) => message.includes(words))?.message;
      },
      90_000,
    );

  it("at the cluster's own address alone: the notice names the other ways", async () => {
    start([]);
    const message = await told("nobody serves before the agent has read what to serve");
    expect(message).toContain("10.96.0.1 (KUBERNETES_SERVICE_HOST)");
    expect(message).toContain("--apiserver https://HOST:6443");
    expect((await machine.status()).unhealthy).toEqual(["the source of objects has not synced yet"]);
  });

  it("with a name that nobody resolves: the next way is tried, and both are named", async () => {
    start(["--apiserver", "https://api.cluster.example:6443"]);
    const message = await told("could not reach any API server");
    expect(message).toMatch(/api\.cluster\.example:6443 \(--apiserver\): (?:no DNS server|the DNS does not answer)/);
    expect(message).toContain("10.96.0.1 (KUBERNETES_SERVICE_HOST)");
    expect(message).toContain("give an address, or a name that resolves without the cluster");
  });
});
