// What stands in the way of translated packets on this machine, or lets them past its protection: asked now and then, with what is
// ours to add added.
import type { FirewallFacts } from "../decide/decide.ts";
import { Failure } from "../lib/errors.ts";
import { run } from "../lib/exec.ts";
import { type OutputPolicy, outputPolicies } from "../libbpf/mod.ts";
import { type Ask, ensureForwardRules } from "./forward-rules.ts";
import { ipsecProblem } from "./ipsec-policies.ts";

export interface FirewallAnswer {
  readonly facts: FirewallFacts;
  /** Who did not answer, "": everybody did, and what the facts do not name is not there. */
  readonly missing: string;
}

/** Never rejects. */
export async function checkFirewall(
  mark: number,
  ask: Ask,
  readPolicies: () => Promise<readonly OutputPolicy[]> = outputPolicies,
): Promise<FirewallAnswer> {
  const { needed, problem, complete } = await ensureForwardRules(mark, ask);
  let ipsec = "";
  let missing = complete ? "" : problem;
  try {
    ipsec = ipsecProblem(await readPolicies());
  } catch (error) {
    missing ||= error instanceof Error ? error.message : String(error);
  }
  return { facts: { marks: needed, problem, ipsec }, missing };
}

/** Asks for the first time at once, beside what the start does; the first call waits for that answer. */
export function createFirewallEffect(
  mark: number,
  signal: AbortSignal,
): (tell: (facts: FirewallFacts, complete: boolean) => void) => Promise<void> {
  const check = (): Promise<FirewallAnswer> => checkFirewall(mark, (command, args) => run(command, args, { signal }));
  let asked: Promise<FirewallAnswer> | undefined = check();
  return async (tell) => {
    const { facts, missing } = await (asked ?? check());
    asked = undefined;
    tell(facts, missing === "");
    if (missing !== "") throw new Failure("timeout", "firewall", missing);
  };
}
