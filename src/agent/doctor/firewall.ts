// What is said of whoever drops forwarded packets. Pure.
import { error, type Finding, ok, someOf, warning } from "./finding.ts";

export interface FirewallFacts {
  /** Of each iptables command that could be asked: the policy of its FORWARD chain, and whether our rules are in it. */
  readonly iptables: readonly { readonly command: string; readonly policy: string; readonly hasOurs: boolean }[];
  /** Other base chains of the forward hook that drop by default ("inet firewall forward"). */
  readonly dropping: readonly string[];
  /** 0: the firewall is to be left alone. */
  readonly forwardMark: number;
  /** firewalld, ufw. */
  readonly managers: readonly string[];
}

export function judgeFirewall(facts: FirewallFacts): Finding[] {
  return [...forward(facts), manager(facts)];
}

function forward({ iptables, dropping, forwardMark }: FirewallFacts): Finding[] {
  const check = "firewall.forward";
  const drops = iptables.filter(({ policy }) => policy === "DROP");
  const names = someOf(drops.map(({ command }) => command));
  const mark = `0x${forwardMark.toString(16)}`;
  const findings: Finding[] = [];
  if (drops.length > 0 && forwardMark === 0) {
    findings.push(
      error(
        check,
        `the FORWARD policy of ${names} is DROP, and --forward-mark=0 leaves it alone: packets of Services are dropped`,
        "accept them there yourself, or leave --forward-mark out",
      ),
    );
  } else if (drops.length > 0) {
    const done = drops.every(({ hasOurs }) => hasOurs)
      ? "an agent's rules let translated packets through"
      : "an agent lets translated packets through by their mark";
    findings.push(ok(check, `the FORWARD policy of ${names} is DROP: ${done}`));
  }
  for (const chain of dropping) {
    findings.push(
      warning(
        check,
        `the nftables chain ${chain} drops what it does not accept`,
        forwardMark === 0
          ? "let it accept packets to and from pods"
          : `let it accept translated packets (meta mark & ${mark} == ${mark}) and their answers (ct state established,related), if it does not`,
      ),
    );
  }
  return findings.length > 0 ? findings : [ok(check, "nothing drops forwarded packets by default")];
}

function manager({ managers }: FirewallFacts): Finding {
  const check = "firewall.manager";
  return managers.length === 0
    ? ok(check, "no firewalld or ufw is at work")
    : warning(
        check,
        `${someOf(managers)} is at work: it opens and closes ports when it is reloaded, and node ports of Services are not among what it knows`,
        "let it pass pod and Service networks (firewalld: the zone trusted; ufw: ufw route allow), and UDP port 7948 between nodes",
      );
}
