// What the flows of a case have to come to, where the case leaves something open.
import type { FlowCase, Served, Verdict } from "./flow-case.ts";

/** The expectation, of backends of which all flows reach the same one that which was `found`. */
export function expected({ expect }: FlowCase, found: Served | { readonly verdict: Verdict }): FlowCase["expect"] {
  if ("verdict" in expect || expect.sticks === undefined || "verdict" in found) return expect;
  for (const source of ["kept", "translated"] as const) {
    const one = expect[source]?.find((backend) => found[source]?.includes(backend));
    if (one !== undefined) return { [source]: [one] };
  }
  return expect;
}
