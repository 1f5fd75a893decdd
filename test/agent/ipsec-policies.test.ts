import { describe, expect, it } from "vitest";
import { ipsecProblem } from "../../src/agent/ipsec-policies.ts";

const ALLOW = { source: "10.9.0.0/16", destination: "10.7.0.0/16", action: "allow" } as const;
const ENCRYPT = { source: "10.0.0.0/8", destination: "10.0.0.0/8", action: "encrypt" } as const;
const BLOCK = { source: "fd00::/8", destination: "fd00::/8", action: "block" } as const;

describe("IPsec output policies", () => {
  it.each([
    ["none at all", [], /^$/],
    ["one that lets through", [ALLOW], /^$/],
    ["one that encrypts", [ALLOW, ENCRYPT], /\(10\.0\.0\.0\/8 > 10\.0\.0\.0\/8\) do not apply/],
    ["one that blocks besides", [ENCRYPT, ALLOW, BLOCK], /\(10\.0\.0\.0\/8 > 10\.0\.0\.0\/8 and 1 more\)/],
  ] as const)("that are bypassed: %s", (_name, policies, problem) => {
    expect(ipsecProblem(policies)).toMatch(problem);
  });
});
