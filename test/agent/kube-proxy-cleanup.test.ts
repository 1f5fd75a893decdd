// kube-proxy's rules of a large cluster are read and changed in one piece each: what that may take.
import { expect, it } from "vitest";
import { removeChains } from "../../src/agent/kube-proxy-cleanup.ts";
import type { Ran, RunOptions } from "../../src/lib/exec.ts";

const SAVED = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n";

function machine(restore: readonly Partial<Ran>[] = []) {
  const asked: { command: string; options: RunOptions }[] = [];
  const left = [...restore];
  const runProgram = async (command: string, _args: readonly string[], options: RunOptions): Promise<Ran> => {
    asked.push({ command, options });
    const said = command.endsWith("-save") ? { text: SAVED } : left.shift();
    return { ok: true, text: "", timedOut: false, ...said };
  };
  return { asked, runProgram };
}

it("reading and changing a table have a minute each, and room for hundreds of thousands of rules", async () => {
  const { asked, runProgram } = machine();
  const { removed } = await removeChains("iptables-nft", "nat", runProgram);
  expect(removed).toEqual(["1 chains and 1 rules that led to them, iptables-nft table nat"]);
  expect(asked.map(({ command }) => command)).toEqual(["iptables-nft-save", "iptables-nft-restore"]);
  for (const { options } of asked) {
    expect(options.timeoutMs).toBe(60_000);
    // 400,000 rules of 300 bytes.
    expect(options.maxBytes).toBeGreaterThan(400_000 * 300);
  }
  expect(asked[1]?.options.input).toContain("-X KUBE-SERVICES");
});

it("a table that others change meanwhile is read anew, three times at most", async () => {
  const fails = { ok: false, text: "line 4 failed" };
  const once = machine([fails]);
  expect((await removeChains("iptables-nft", "nat", once.runProgram)).removed).toHaveLength(1);
  expect(once.asked).toHaveLength(4);
  const always = machine([fails, fails, fails]);
  await expect(removeChains("iptables-nft", "nat", always.runProgram)).rejects.toThrow("line 4 failed");
});
