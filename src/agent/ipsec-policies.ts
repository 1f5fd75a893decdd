// IPsec output policies of this node. Packets that the programs redirect (client outside, backend elsewhere; a process of the
// node past its sockets) never meet them: they would leave unencrypted, or in spite of a policy that blocks. Packets that go
// through the stack are protected as ever.
import { type OutputPolicy, outputPolicies } from "../libbpf/mod.ts";

/** One sentence about the policies that redirected packets bypass, "" when there are none. */
export function ipsecProblem(policies: readonly OutputPolicy[]): string {
  const [first, ...others] = policies.filter(({ action }) => action !== "allow");
  if (first === undefined) return "";
  const more = others.length > 0 ? ` and ${others.length} more` : "";
  return (
    `IPsec output policies (${first.source} > ${first.destination}${more}) do not apply to packets that are forwarded to backends on other nodes: ` +
    "these leave unencrypted; use externalTrafficPolicy Local, or encrypt below IP"
  );
}

/** The output policies of this network namespace; none where the kernel does not tell. */
export async function readIpsecPolicies(): Promise<OutputPolicy[]> {
  try {
    return await outputPolicies();
  } catch {
    return [];
  }
}
