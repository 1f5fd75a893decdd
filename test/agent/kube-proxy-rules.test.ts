// What kube-proxy has here, of tables that the test makes up.
import { expect, it, vi } from "vitest";
import type { Ran } from "../../src/lib/exec.ts";

vi.mock("../../src/libbpf/mod.ts", () => ({ hasNftTable: () => false, hasNftChain: () => false }));

const { readKubeProxyRules } = await import("../../src/agent/kube-proxy-rules.ts");

const tables = ({ names }: { names: string }): string[] => (names.endsWith("/ip_tables_names") ? ["nat"] : ["filter"]);
const answering = (ran: Partial<Ran>) => async (): Promise<Ran> => ({ ok: false, text: "", timedOut: false, ...ran });

it("legacy rules are there when its canary is", async () => {
  expect(await readKubeProxyRules(answering({ ok: true }), tables)).toEqual(["iptables-legacy"]);
  expect(await readKubeProxyRules(answering({ text: "no chain by that name" }), tables)).toEqual([]);
});

it("a table that is not read in time is not taken for an empty one", async () => {
  const hangs = answering({ timedOut: true, text: "iptables-legacy did not end within 10 s" });
  await expect(readKubeProxyRules(hangs, tables)).rejects.toThrow("iptables-legacy did not end within 10 s");
});
