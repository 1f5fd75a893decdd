// IPsec output policies of this node. Packets that the programs redirect (client outside, backend elsewhere; a process of the
// node past its sockets) never meet them: they would leave unencrypted, or in spite of a policy that blocks. Packets that go
// through the stack are protected as ever.
import { type Ran, run } from "../lib/exec.ts";

export interface IpsecPolicy {
  /** "10.244.1.0/24 > 10.244.2.0/24" */
  readonly selector: string;
  readonly action: "encrypt" | "block";
}

/** What `ip -o xfrm policy list dir out` says, one policy a line; those that neither encrypt nor block are left out. */
export function parseIpsecPolicies(text: string): IpsecPolicy[] {
  const found: IpsecPolicy[] = [];
  for (const line of text.split("\n")) {
    const ends = /^src (\S+) dst (\S+) /.exec(line);
    if (ends === null || !/\sdir out\s/.test(line)) continue;
    const action = /\saction block\s/.test(line) ? "block" : /\stmpl\s/.test(line) ? "encrypt" : undefined;
    if (action !== undefined) found.push({ selector: `${ends[1]} > ${ends[2]}`, action });
  }
  return found;
}

/** One sentence about the policies that redirected packets bypass, "" when there are none. */
export function ipsecProblem(policies: readonly IpsecPolicy[]): string {
  const first = policies[0];
  if (first === undefined) return "";
  const more = policies.length > 1 ? ` and ${policies.length - 1} more` : "";
  return (
    `IPsec output policies (${first.selector}${more}) do not apply to packets that are forwarded to backends on other nodes: ` +
    "these leave unencrypted; use externalTrafficPolicy Local, or encrypt below IP"
  );
}

/** The policies of this network namespace; none where the kernel or `ip` knows nothing of IPsec. Undefined: no answer came. */
export async function readIpsecPolicies(
  ask: (command: string, args: readonly string[]) => Promise<Ran> = run,
): Promise<IpsecPolicy[] | undefined> {
  const { ok, text, timedOut } = await ask("ip", ["-o", "xfrm", "policy", "list", "dir", "out"]);
  return timedOut ? undefined : ok ? parseIpsecPolicies(text) : [];
}
