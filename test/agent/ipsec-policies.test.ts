import { describe, expect, it } from "vitest";
import { ipsecProblem, parseIpsecPolicies } from "../../src/agent/ipsec-policies.ts";

const TEMPLATE = "\\\ttmpl src 192.168.122.11 dst 192.168.122.12\\\t\tproto esp reqid 0 mode tunnel\\";

describe("IPsec output policies", () => {
  it.each([
    ["none", "", []],
    [
      "one that encrypts",
      `src 10.244.1.0/24 dst 10.244.2.0/24 \\\tdir out priority 0 ptype main ${TEMPLATE}`,
      [{ selector: "10.244.1.0/24 > 10.244.2.0/24", action: "encrypt" }],
    ],
    [
      "one that blocks",
      "src fd00::/16 dst fd01::/16 \\\tdir out action block priority 0 ptype main \\",
      [{ selector: "fd00::/16 > fd01::/16", action: "block" }],
    ],
    ["one that lets through", "src 10.9.0.0/16 dst 10.7.0.0/16 \\\tdir out priority 7 ptype main \\", []],
    ["one of input", `src 10.9.0.0/16 dst 10.7.0.0/16 \\\tdir in priority 7 ptype main ${TEMPLATE}`, []],
    ["one of a socket", "src 0.0.0.0/0 dst 0.0.0.0/0 \\\tsocket out priority 0 ptype main \\", []],
  ] as const)("reads %s", (_name, line, policies) => {
    expect(parseIpsecPolicies(`${line}\n`)).toEqual(policies);
  });

  it("says which are bypassed, and nothing where there are none", () => {
    expect(ipsecProblem([])).toBe("");
    const policies = [
      { selector: "10.0.0.0/8 > 10.0.0.0/8", action: "encrypt" },
      { selector: "fd00::/8 > fd00::/8", action: "block" },
    ] as const;
    expect(ipsecProblem(policies)).toMatch(/\(10\.0\.0\.0\/8 > 10\.0\.0\.0\/8 and 1 more\)/);
  });
});
