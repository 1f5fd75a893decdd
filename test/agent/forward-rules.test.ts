import { expect, it } from "vitest";
import { checkFirewall } from "../../src/agent/firewall.ts";
import { droppingChains, ensureForwardRules, forwardChains } from "../../src/agent/forward-rules.ts";
import type { Ran } from "../../src/lib/exec.ts";

const chain = (family: string, table: string, name: string, more: object = {}) => ({
  chain: { family, table, name, handle: 1, ...more },
});
const base = { type: "filter", hook: "forward", prio: 0, policy: "drop" };

it("base chains of the forward hook that drop by default are found, and no others", () => {
  const text = JSON.stringify({
    nftables: [
      { metainfo: { version: "1.0.6" } },
      chain("inet", "firewall", "forward", base),
      chain("ip", "filter", "FORWARD", base),
      chain("ip6", "fw", "fwd", { ...base, prio: -10 }),
      chain("inet", "firewall", "input", { ...base, hook: "input" }),
      chain("inet", "open", "forward", { ...base, policy: "accept" }),
      chain("inet", "firewall", "helper"),
      chain("bridge", "filter", "FORWARD", base),
      chain("arp", "filter", "forward", base),
    ],
  });
  expect(droppingChains(text)).toEqual(["inet firewall forward", "ip filter FORWARD", "ip6 fw fwd"]);
  for (const other of ['{"nftables": []}', "", "table inet fw", "[]", "null"])
    expect(droppingChains(other)).toEqual([]);
});

/** A machine whose programs answer so; those that are not named are not there. */
function machine(answers: Readonly<Record<string, string | "hangs">>) {
  const asked: string[] = [];
  const ask = async (command: string, args: readonly string[]): Promise<Ran> => {
    const line = [command, ...args].join(" ");
    asked.push(line);
    const text = Object.entries(answers).find(([start]) => line.startsWith(start))?.[1];
    if (text === "hangs") return { ok: false, text: `${command} did not end within 10 s`, timedOut: true };
    return text === undefined ? { ok: false, text: "ENOENT", timedOut: false } : { ok: true, text, timedOut: false };
  };
  return { ask, asked };
}

const DROPS = "-P FORWARD DROP\n";

it("rules are added once where the policy is DROP, and the mark is needed", async () => {
  const { ask, asked } = machine({ "iptables --wait 5 -S": DROPS, "iptables --wait 5 -I": "" });
  expect(await ensureForwardRules(0x1000, ask)).toEqual({ needed: true, problem: "", complete: true });
  expect(asked.filter((line) => line.includes(" -I FORWARD "))).toHaveLength(2);
  const there = machine({ "iptables --wait 5 -S": DROPS, "iptables --wait 5 -C": "" });
  await ensureForwardRules(0x1000, there.ask);
  expect(there.asked.some((line) => line.includes(" -I FORWARD "))).toBe(false);
});

it("a legacy table is asked by its own command, and only where the kernel has one", async () => {
  const none = forwardChains(() => []);
  expect(none.map(([command]) => command)).toEqual(["iptables", "ip6tables"]);
  const one = forwardChains(({ names }) => (names.endsWith("/ip_tables_names") ? ["nat", "filter"] : ["nat"]));
  expect(one.map(([command]) => command)).toEqual(["iptables", "ip6tables", "iptables-legacy"]);
  const { ask, asked } = machine({ "iptables-legacy --wait 5 -S": DROPS, "iptables-legacy --wait 5 -I": "" });
  expect(await ensureForwardRules(0x1000, ask, one)).toEqual({ needed: true, problem: "", complete: true });
  expect(asked.filter((line) => line.includes("-legacy --wait 5 -I FORWARD "))).toHaveLength(2);
});

it("nothing is asked where the operator wants no mark", async () => {
  const { ask, asked } = machine({});
  expect(await ensureForwardRules(0, ask)).toEqual({ needed: false, problem: "", complete: true });
  expect(asked).toEqual([]);
});

it("who does not answer is told, and what the others said counts", async () => {
  const { ask } = machine({
    "iptables --wait 5 -S": DROPS,
    "iptables --wait 5 -C": "",
    nft: "hangs",
    "ip -o xfrm": "",
  });
  expect(await checkFirewall(0x1000, ask)).toEqual({
    facts: { marks: true, problem: "could not learn what is forwarded: nft did not end within 10 s", ipsec: "" },
    missing: "could not learn what is forwarded: nft did not end within 10 s",
  });
});

it("policies that could not be read are not taken for none", async () => {
  const { ask } = machine({});
  const refused = async () => {
    throw new Error("could not read the IPsec policies: EPERM");
  };
  expect((await checkFirewall(0x1000, ask, refused)).missing).toMatch(/IPsec policies/);
  expect((await checkFirewall(0x1000, ask, async () => [])).missing).toBe("");
});
