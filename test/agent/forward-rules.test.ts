import { expect, it } from "vitest";
import { droppingChains } from "../../src/agent/forward-rules.ts";

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
