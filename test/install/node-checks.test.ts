import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import {
  type AgentHealth,
  agentCheck,
  apiServiceCheck,
  awaitCheck,
  kubeProxyCheck,
} from "../../src/install/node-checks.ts";
import {
  isModule,
  lookAtNode,
  missingCapabilities,
  needsSysAdmin,
  parseNodeLook,
} from "../../src/install/node-look.ts";
import { askTargets, startTestServer, type TestServer } from "../../src/install/test-traffic.ts";

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

async function listening(server: Server): Promise<number> {
  open.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

async function testServer(): Promise<TestServer> {
  const server = await startTestServer("node-a", 0);
  open.push(server);
  return server;
}

describe("a node", () => {
  // All but BPF (39) and PERFMON (38), as in a node of Docker 20.10; and all up to CHECKPOINT_RESTORE (40).
  it.each([
    ["0000003fffffffff", ["PERFMON", "BPF"], true],
    ["000001ffffffffff", [], false],
    ["0000000000003000", ["SYS_ADMIN", "PERFMON", "BPF"], true],
    ["0000000000000000", ["NET_ADMIN", "NET_RAW", "SYS_ADMIN", "PERFMON", "BPF"], true],
  ])("with the capabilities %s lacks %j", (bounding, missing, needsAdmin) => {
    const found = missingCapabilities(`CapEff:\t0000000000000000\nCapBnd:\t${bounding}\nCapAmb:\t0\n`);
    expect(found.sort()).toEqual([...missing].sort());
    expect(needsSysAdmin({ kernel: "6.1", missingCapabilities: found, isConntrackModule: false })).toBe(needsAdmin);
  });

  it.each([
    ["nf_conntrack 204800 4 nf_nat,xt_conntrack, Live 0x0\n", true],
    ["nf_conntrack_netlink 57344 0 - Live 0x0\n", false],
    ["", false],
  ])("with the modules %j", (modules, expected) => {
    expect(isModule("nf_conntrack", modules)).toBe(expected);
  });

  it("tells what it is, and the installer understands it", () => {
    expect(parseNodeLook(JSON.stringify(lookAtNode()))).toEqual(lookAtNode());
  });

  it.each(["", "null", "{}", "millrace: unknown command", '{"kernel": 1, "missingCapabilities": []}'])(
    "that answers %j is not understood",
    (text) => {
      expect(parseNodeLook(text)).toBeUndefined();
    },
  );
});

describe("a check", () => {
  const well: AgentHealth = { healthy: true, unhealthy: [], bypass: false, source: { synced: true } };

  it("is waited for", async () => {
    let asked = 0;
    await awaitCheck("it", async () => (++asked < 3 ? "not yet" : ""), 30_000);
    expect(asked).toBe(3);
  });

  it("says what it said last when it is not well in time, errors too", async () => {
    await expect(awaitCheck("the agent", async () => "not synced", 0)).rejects.toThrow(
      "the agent is not well after 0 s: not synced",
    );
    await expect(
      awaitCheck("the agent", () => Promise.reject(new Error("no agent is running there")), 0),
    ).rejects.toThrow(/no agent is running there/);
  });

  it.each([
    [well, ""],
    [{ ...well, source: { synced: false } }, "it has not read all objects of the API yet"],
    [{ ...well, bypass: true }, "it is bypassed (millrace bypass on)"],
    [{ ...well, healthy: false, unhealthy: ["the maps are not kept"] }, "the maps are not kept"],
  ])("of an agent: %j", async (health, expected) => {
    expect(await agentCheck(async () => health)()).toBe(expected);
  });

  it("of kube-proxy asks its health", async () => {
    const statuses = { "/livez": 503, "/healthz": 503 };
    const port = await listening(
      createServer((request, response) => void response.writeHead(statuses[request.url as "/livez"]).end()),
    );
    const check = kubeProxyCheck({ host: "127.0.0.1", port });
    expect(await check()).toBe("its /livez answers 503");
    // A node that an autoscaler is about to take away.
    statuses["/livez"] = 200;
    expect(await check()).toBe("");
    // Before Kubernetes 1.28.
    statuses["/livez"] = 404;
    expect(await check()).toBe("its /healthz answers 503");
    statuses["/healthz"] = 200;
    expect(await check()).toBe("");
    statuses["/healthz"] = 404;
    expect(await check()).toBe("its /healthz answers 404");
  });

  it("of the API server's Service needs a pod's environment, and an answer", async () => {
    expect(await apiServiceCheck({})()).toMatch(/KUBERNETES_SERVICE_HOST is not set/);
    const env = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: "1" };
    await expect(apiServiceCheck(env)()).rejects.toThrow(/ECONNREFUSED/);
  });
});

describe("traffic of the self-test", () => {
  it("goes to the server by both protocols and both families, and by name", async () => {
    const { port } = await testServer();
    const targets = (["tcp", "udp"] as const).flatMap((protocol) =>
      ["127.0.0.1", "::1", "localhost"].map((host) => ({ name: `${host} ${protocol}`, protocol, host, port })),
    );
    expect(await askTargets(targets, 10_000)).toEqual({ good: 6, bad: [] });
  });

  it("tells what does not answer, and why", async () => {
    const { port } = await testServer();
    await open.pop()?.close();
    const targets = [
      { name: "gone", protocol: "tcp" as const, host: "127.0.0.1", port },
      { name: "no name", protocol: "tcp" as const, host: "nowhere.invalid", port },
    ];
    const { good, bad } = await askTargets(targets, 0);
    expect(good).toBe(0);
    expect(bad).toEqual([
      { name: "gone", why: expect.stringMatching(/ECONNREFUSED/) },
      { name: "no name", why: expect.stringMatching(/ENOTFOUND|EAI_AGAIN/) },
    ]);
  });

  it("asks again until its time is over", async () => {
    let isWell = false;
    const port = await listening(
      createServer((_, response) => void response.writeHead(isWell ? 200 : 503).end("node-a")),
    );
    setTimeout(() => {
      isWell = true;
    }, 500);
    const targets = [{ name: "late", protocol: "tcp" as const, host: "127.0.0.1", port }];
    expect(await askTargets(targets, 20_000)).toEqual({ good: 1, bad: [] });
  });
});
