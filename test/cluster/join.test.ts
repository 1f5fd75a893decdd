// A node that joins a cluster that stands: how soon after its agent starts its processes reach Services, by their addresses in both
// families and by a node port. What is aimed at is two seconds; the bound is ten times that, as the machine may be busy elsewhere.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { familyOf } from "../../src/lib/address.ts";
import { patience } from "../../src/lib/patience.ts";
import { show } from "../lab/traffic/test-lab.ts";
import type { Cluster } from "./cluster.ts";
import type { ClusterNode } from "./cluster-node.ts";
import { isPodReady } from "./cluster-pod.ts";
import { joinNode } from "./examples/join-node.ts";
import { clusterIP } from "./load/ask-cluster.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";
import { manifest, serverOnEachNode, serviceOf } from "./workloads.ts";

const GOAL_MS = 2000;
const BOUND_MS = 10 * GOAL_MS;
const NODE_PORT = 30080;
const NUMBER = 4;

/** Connects again and again, each time for at most 200 ms; prints when it was answered first, in milliseconds since the epoch. */
const FIRST_ANSWER = `
const { connect } = require("node:net");
const [host, port] = process.argv.slice(1);
const ask = () => {
  const socket = connect({ host, port: Number(port) });
  const again = () => { socket.destroy(); clearTimeout(timer); setTimeout(ask, 10); };
  const timer = setTimeout(again, 200);
  socket.once("error", again);
  socket.once("connect", () => socket.write("GET /hostname HTTP/1.0\\r\\n\\r\\n"));
  socket.once("data", () => { process.stdout.write(String(Date.now())); process.exit(0); });
};
ask();`;

/** When a process began, in milliseconds since the epoch, as proc_pid_stat(5) has it: in hundredths of a second since the machine did. */
function startOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  const upMs = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1000;
  return Date.now() - upMs + Number(fields[19]) * 10;
}

describe("a node that joins", () => {
  let cluster: Cluster;
  let node: ClusterNode | undefined;
  const answered: Record<string, number> = {};
  let startedMs = 0;

  beforeAll(async () => {
    cluster = await startCluster({ name: "join", nodes: 2, replace: true });
    const ports = [{ port: 80, targetPort: 80, nodePort: NODE_PORT }];
    await cluster.apply(
      manifest(serverOnEachNode({ name: "web" }), serviceOf({ name: "web" }, { type: "NodePort", ports })),
    );
    await waitUntil("a server on each node", async () => {
      const pods = await cluster.pods("default", "app=web");
      return pods.length === 2 && pods.every(isPodReady) ? true : undefined;
    });
    const addresses = [await clusterIP(cluster, "web"), await clusterIP(cluster, "web", "IPv6")];
    node = await joinNode(cluster, NUMBER, [1, 2], (joining) => {
      const targets = [
        ...addresses.map((host) => ({ name: `cluster address, ${familyOf(host)}`, host, port: 80 })),
        ...joining.addresses.map((host) => ({ name: `its own node port, ${familyOf(host)}`, host, port: NODE_PORT })),
      ];
      return Promise.all(
        targets.map(async ({ name, host, port }) => {
          const command = [process.execPath, "-e", FIRST_ANSWER, host, `${port}`];
          const { stdout, stderr } = await joining.exec(command, { timeoutMs: 180_000 });
          if (stdout === "") throw new Error(`no answer from ${host}: ${stderr}`);
          answered[name] = Number(stdout);
        }),
      );
    });
    startedMs = startOf(cluster.proxyOf(node)!.pid!);
    const rows = Object.entries(answered).map(([name, at]) => [name, { "after ms": Math.round(at - startedMs) }]);
    show(
      `\nfirst answers on a node that joins, after its agent's process began (through the ${cluster.config.through})`,
      Object.fromEntries(rows),
    );
  }, patience(300_000));

  afterAll(() => cluster?.down());

  it("is served soon after its agent started, and not before", () => {
    expect(Object.keys(answered)).toHaveLength(4);
    for (const [name, at] of Object.entries(answered)) {
      expect.soft(at - startedMs, name).toBeGreaterThan(0);
      expect.soft(at - startedMs, name).toBeLessThan(BOUND_MS);
    }
  });

  it("serves clients outside, by its node port", async () => {
    for (const host of node!.addresses) {
      const url = `http://${host.includes(":") ? `[${host}]` : host}:${NODE_PORT}/hostname`;
      const { stdout } = await cluster.exec("client1", ["curl", "-s", "-m", "5", url]);
      expect(stdout, url).toMatch(/^web-/);
    }
  });
});
