// How an agent finds kube-proxy among the processes that it sees, and by what answers.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createKubeProxyFinder } from "../../src/agent/kube-proxy-process.ts";

const NOBODY = "http://127.0.0.1:1/proxyMode";
let proc = "";
const servers: Server[] = [];
beforeEach(() => {
  proc = mkdtempSync(join(tmpdir(), "millrace-proc-"));
  mkdirSync(join(proc, "thread-self/ns"), { recursive: true });
  symlinkSync("net:[1]", join(proc, "thread-self/ns/net"));
});
afterEach(() => {
  rmSync(proc, { recursive: true });
  for (const server of servers.splice(0)) server.close();
});

function process(pid: number, command: string, network = 1): void {
  mkdirSync(join(proc, `${pid}/ns`), { recursive: true });
  writeFileSync(join(proc, `${pid}/cmdline`), command.replaceAll(" ", "\0"));
  rmSync(join(proc, `${pid}/ns/net`), { force: true });
  symlinkSync(`net:[${network}]`, join(proc, `${pid}/ns/net`));
}

it("by its program's name, in this network alone", async () => {
  process(1, "/sbin/init");
  process(20, "/usr/local/bin/kube-proxy --config=/c", 2);
  process(30, "/usr/bin/tail -f kube-proxy");
  const find = createKubeProxyFinder(NOBODY, proc);
  expect(await find()).toBeUndefined();
  process(40, "/usr/local/bin/kube-proxy --config=/c");
  expect(await find()).toEqual({ pid: 40 });
  rmSync(join(proc, "40"), { recursive: true });
  expect(await find()).toBeUndefined();
});

it("also one that got its name after it was seen first, and then none that was looked at twice", async () => {
  process(50, "runc init");
  const find = createKubeProxyFinder(NOBODY, proc);
  expect(await find()).toBeUndefined();
  process(50, "kube-proxy");
  expect(await find()).toEqual({ pid: 50 });
  process(60, "/bin/sh");
  process(50, "/bin/sh");
  expect([await find(), await find()]).toEqual([undefined, undefined]);
  process(60, "kube-proxy");
  expect(await find()).toBeUndefined();
  // Its number went to another process.
  rmSync(join(proc, "60"), { recursive: true });
  await find();
  process(60, "kube-proxy");
  expect(await find()).toEqual({ pid: 60 });
});

it.each([
  ["iptables", { pid: 0 }],
  ["millrace", undefined],
  ["x".repeat(5000), undefined],
] as const)("by what answers where it tells its mode: %.10s", async (mode, found) => {
  const server = createServer((_, response) => response.end(mode)).listen(0, "127.0.0.1");
  servers.push(server);
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  expect(await createKubeProxyFinder(`http://127.0.0.1:${port}/proxyMode`, proc)()).toEqual(found);
});
