// What each verdict means, in words: docs/packet-paths.md has the same ones, and a test compares them.
import { HOOK_VALUES, VERDICT_VALUES } from "./layout.gen.ts";

export type VerdictName = Exclude<keyof typeof VERDICT_VALUES, "VERDICT_MAX">;

export const VERDICT_MEANINGS: Readonly<Record<VerdictName, string>> = {
  VERDICT_NEXT: "not ours: unchanged to whoever is next",
  VERDICT_PASS: "translated, on to the stack or the bridge",
  VERDICT_FORWARD: "translated and redirected to a device",
  VERDICT_CONNECT: "a socket was pointed at a backend",
  VERDICT_REFUSE:
    "refused: TCP reset, ICMP port unreachable, ECONNREFUSED. No endpoint at all, or an undefined port of an address that refuses",
  VERDICT_ECHO: "an echo request to an address that refuses was answered",
  VERDICT_NEIGHBOUR:
    "an ARP request or neighbour solicitation for an announced address, or a pod's for a retired backend's, was answered",
  VERDICT_TOO_BIG: 'too big for the next hop: answered with "fragmentation needed" or "packet too big"',
  VERDICT_ICMP: "an ICMP error about a translated flow was translated",
  DROP_NO_LOCAL_BACKEND: "traffic policy Local, and endpoints on other nodes only",
  DROP_STALE_ROW: "a frontend led to a row of another key, twice: seen in the moment of a change",
  DROP_STALE_BACKEND: "every slot tried held a retired backend: the same",
  DROP_FREE_SERVICE_ADDRESS:
    "an address of a Service range that no Service has, or none for clients outside; it would go to the default gateway",
  DROP_FRAGMENT_BEFORE_FIRST:
    "a later fragment to an address that refuses, whose first one, which has the ports, was not seen",
  DROP_TABLE_FULL: "no entry could be made, or the flow table is above 95 % although its idlest flows were given up",
  DROP_NO_SOURCE_PORT: "32 source ports were tried and all taken",
  DROP_NO_SOURCE_ADDRESS: "the output device has no SNAT source in this family",
  DROP_NO_ROUTE: "the kernel has no route to the backend or client, or forwarding is off on the device",
  DROP_ICMP_REDIRECT:
    "an ICMP redirect about a translated flow: it would teach the client a route to a pod under the Service's address",
  DROP_TTL: "no hop left where we forward, of what is not answered: later fragments and ICMP errors",
  DROP_REWRITE: "a helper failed on a packet half rewritten",
  DROP_HOST_TO_HOST: "a host's packet past the sockets, for a backend on the node's own address",
  DROP_PORT_UNKNOWN: "could be refused only by name: it is itself a reset, or has more headers than can be quoted",
  DROP_REPLY_LIMIT:
    "would have been refused, echoed or told its size, but this CPU made its replies of this second (`--reply-limit`)",
  DROP_SOURCE_ROUTE:
    "a packet to a frontend that names its own way: IPv4 options LSRR and SSRR, an IPv6 routing header with segments left",
  DROP_CLIENT_SHARE: "the flow table is above 80 %, and this client's address has its share of it",
  DROP_SOURCE_RANGE: "a client outside of the `loadBalancerSourceRanges` of the Service",
  VERDICT_TIME_EXCEEDED: 'no hop left where we forward: answered with "time exceeded"',
  DROP_SCTP_FRAGMENT:
    "a first fragment of SCTP whose port would change: the checksum to be corrected covers the pieces that are not here",
  VERDICT_LIVENESS: "another node's question whether this one lives was answered (`--liveness-port`)",
  VERDICT_OTHER_PROXY: "of a connection that conntrack translates for another proxy: on to the stack as it came",
};

/** A value of an enum of the programs under the name that people see: "drop_no_route", "uplink_ingress". */
export interface NamedValue {
  readonly name: string;
  readonly value: number;
}

const isMeant = ([name]: readonly [string, number]): boolean => !/_(?:NONE|MAX)$/.test(name);

export const VERDICTS: readonly (NamedValue & { readonly meaning: string })[] = Object.entries(VERDICT_VALUES)
  .filter(isMeant)
  .map(([name, value]) => ({
    name: name.replace(/^VERDICT_/, "").toLowerCase(),
    value,
    meaning: VERDICT_MEANINGS[name as VerdictName],
  }));

export const HOOKS: readonly NamedValue[] = Object.entries(HOOK_VALUES)
  .filter(isMeant)
  .map(([name, value]) => ({ name: name.replace(/^HOOK_/, "").toLowerCase(), value }));

const SOCKET_HOOKS: ReadonlySet<string> = new Set(["connect", "sendmsg"]);

/** Refused or dropped: it did not get where it was meant to. */
export function isRefusal(verdict: string): boolean {
  return verdict === "refuse" || verdict.startsWith("drop_");
}

/** Can this hook refuse or drop so? Its count is told even while it is 0, so that the first one is a rise. */
export function canRefuse(hook: string, verdict: string): boolean {
  if (SOCKET_HOOKS.has(hook)) return verdict === "refuse";
  if (hook === "recvmsg") return false;
  return hook === "xdp" ? verdict === "drop_rewrite" : isRefusal(verdict);
}
