// What is said of ranges that overlap, and of ports that somebody else has or may get. Pure.
import { addressToBigInt, familyOf, parseRange } from "../../lib/address.ts";
import type { Range } from "../../lib/range.ts";
import { error, type Finding, ok, someOf, warning } from "./finding.ts";

export interface RangeFacts {
  /** Ranges in CIDR notation or "first-last", with whose they are. */
  readonly services: readonly string[];
  readonly pods: readonly string[];
  readonly pools: readonly { readonly name: string; readonly range: string }[];
  /** Addresses of nodes. */
  readonly nodes: readonly { readonly name: string; readonly address: string }[];
  /** Networks of uplinks on a wire. */
  readonly networks: readonly { readonly device: string; readonly range: string }[];
}

export interface PortFacts {
  readonly nodePorts: Range;
  readonly snatPorts: Range;
  /** net.ipv4.ip_local_port_range; undefined where it cannot be read. */
  readonly local: Range | undefined;
  /** net.ipv4.ip_local_reserved_ports. */
  readonly reserved: readonly Range[];
  readonly canReserve: boolean;
  /** What an agent listens on: "metrics", with port and protocol. */
  readonly own: readonly { readonly what: string; readonly port: number; readonly protocol: "TCP" | "UDP" }[];
  readonly tcp: ReadonlySet<number>;
  readonly udp: ReadonlySet<number>;
  /** An agent of ours answers: its ports are its. */
  readonly agentAnswers: boolean;
}

interface Span {
  readonly family: string;
  readonly first: bigint;
  readonly last: bigint;
}

function spanOf(text: string): Span | undefined {
  const range = parseRange(text);
  if (range !== undefined) return { family: range.family, first: range.first, last: range.last };
  try {
    const value = addressToBigInt(text);
    return { family: familyOf(text), first: value, last: value };
  } catch {
    return undefined;
  }
}

function meet(one: string, other: string): boolean {
  const [a, b] = [spanOf(one), spanOf(other)];
  return a !== undefined && b !== undefined && a.family === b.family && a.first <= b.last && b.first <= a.last;
}

export function judgeRanges(facts: RangeFacts): Finding[] {
  const check = "ranges.overlap";
  const { services, pods, pools, nodes, networks } = facts;
  const findings: Finding[] = [];
  const pairs = <A, B>(
    list: readonly A[],
    others: readonly B[],
    of: (a: A) => string,
    ofOther: (b: B) => string,
  ): [A, B][] => list.flatMap((a) => others.filter((b) => meet(of(a), ofOther(b))).map((b): [A, B] => [a, b]));
  const itself = (text: string): string => text;
  for (const [service, pod] of pairs(services, pods, itself, itself))
    findings.push(
      error(
        check,
        `Service range ${service} and pod range ${pod} overlap: a pod's address may be a Service's`,
        "give the cluster other ranges",
      ),
    );
  for (const [service, { device, range }] of pairs(services, networks, itself, (one) => one.range))
    findings.push(
      warning(
        check,
        `Service range ${service} covers the network ${range} of ${device}: free Service addresses there are left to the network`,
        "give the cluster another Service range",
      ),
    );
  for (const [service, { name, address }] of pairs(services, nodes, itself, (one) => one.address))
    findings.push(
      error(
        check,
        `Service range ${service} covers ${address} of the Node ${name}`,
        "give the cluster another Service range",
      ),
    );
  for (const [pod, { device, range }] of pairs(pods, networks, itself, (one) => one.range))
    findings.push(
      error(
        check,
        `pod range ${pod} and the network ${range} of ${device} overlap: nodes and pods may have one address`,
        "give the cluster another pod range",
      ),
    );
  const taken = [
    ...services.map((range) => ({ what: `Service range ${range}`, range })),
    ...pods.map((range) => ({ what: `pod range ${range}`, range })),
  ];
  for (const [pool, { what }] of pairs(
    pools,
    taken,
    (one) => one.range,
    (one) => one.range,
  ))
    findings.push(
      error(check, `${pool.range} of the pool ${pool.name} overlaps ${what}`, "give the pool other addresses"),
    );
  for (const [pool, { name, address }] of pairs(
    pools,
    nodes,
    (one) => one.range,
    (one) => one.address,
  ))
    findings.push(
      warning(
        check,
        `${pool.range} of the pool ${pool.name} holds ${address} of the Node ${name}, which is never given`,
        "leave nodes' addresses out of the pool",
      ),
    );
  if (findings.length > 0) return findings;
  const known = [
    ...(services.length > 0 ? [`Services ${services.join(", ")}`] : []),
    ...(pods.length > 0 ? [`pods ${someOf(pods)}`] : []),
    ...(pools.length > 0 ? [`pools ${someOf(pools.map(({ range }) => range))}`] : []),
  ];
  return [ok(check, known.length === 0 ? "no range is known" : `no two overlap: ${known.join("; ")}`)];
}

const text = ({ first, last }: Range): string => (first === last ? `${first}` : `${first}-${last}`);
const within = ({ first, last }: Range, port: number): boolean => port >= first && port <= last;
const overlap = (a: Range, b: Range): Range | undefined => {
  const [first, last] = [Math.max(a.first, b.first), Math.min(a.last, b.last)];
  return first <= last ? { first, last } : undefined;
};
const isReserved = (range: Range, reserved: readonly Range[]): boolean =>
  reserved.some(({ first, last }) => first <= range.first && last >= range.last);

export function judgePorts(facts: PortFacts): Finding[] {
  return [ownPorts(facts), ...nodePorts(facts), ...snatPorts(facts)];
}

function ownPorts({ own, tcp, udp, agentAnswers }: PortFacts): Finding {
  const check = "ranges.ports";
  const said = someOf(
    own.map(({ what, port, protocol }) => `${what} ${port}/${protocol}`),
    9,
  );
  if (agentAnswers) return ok(check, `an agent has its ports: ${said}`);
  const taken = own.filter(({ port, protocol }) => (protocol === "TCP" ? tcp : udp).has(port));
  if (taken.length === 0) return ok(check, `free: ${said}`);
  const which = someOf(taken.map(({ what, port, protocol }) => `${port}/${protocol} (${what})`));
  return warning(
    check,
    `somebody else has ${which}`,
    "see who with `ss -lntup` (a kube-proxy, often), or give the agent another port",
  );
}

function nodePorts({ nodePorts: range, local, reserved, tcp, udp }: PortFacts): Finding[] {
  const check = "ranges.node-ports";
  const findings: Finding[] = [];
  const shared = local && overlap(local, range);
  if (shared !== undefined && !isReserved(shared, reserved)) {
    findings.push(
      warning(
        check,
        `the kernel may give node ports (${text(shared)}) to connections of this node`,
        `reserve them: net.ipv4.ip_local_reserved_ports=${text(range)} beside what is there`,
      ),
    );
  }
  const listening = [
    ...[...tcp].map((port) => [port, "TCP"] as const),
    ...[...udp].map((port) => [port, "UDP"] as const),
  ].filter(([port]) => within(range, port));
  if (listening.length > 0) {
    const which = someOf(listening.map(([port, protocol]) => `${port}/${protocol}`));
    findings.push(
      warning(
        check,
        `processes listen on ports of the node port range: ${which}; a Service that gets one takes it`,
        "move them out of --service-node-port-range",
      ),
    );
  }
  return findings.length > 0 ? findings : [ok(check, `node ports ${text(range)} are nobody else's`)];
}

function snatPorts({
  snatPorts: range,
  nodePorts: services,
  reserved,
  canReserve,
  tcp,
  agentAnswers,
}: PortFacts): Finding[] {
  const check = "ranges.snat-ports";
  const shared = overlap(range, services);
  if (shared !== undefined) {
    return [
      error(
        check,
        `--snat-port-range and --service-node-port-range overlap (${text(shared)})`,
        "give them ranges apart",
      ),
    ];
  }
  // An agent may listen on some of them itself, for DNS.
  const listening = agentAnswers ? [] : [...tcp].filter((port) => within(range, port)).sort((a, b) => a - b);
  const findings: Finding[] = [];
  if (listening.length > 0)
    findings.push(
      warning(
        check,
        `processes listen on ports of --snat-port-range: ${someOf(listening.map(String))}; answers to translated packets with these ports are theirs`,
        "move them, or the range (--snat-port-range)",
      ),
    );
  if (isReserved(range, reserved)) findings.push(ok(check, `source ports ${text(range)} are reserved`));
  else if (canReserve) findings.push(ok(check, `an agent reserves the source ports ${text(range)}`));
  else
    findings.push(
      warning(
        check,
        `source ports ${text(range)} are not reserved, and cannot be from here`,
        "have 'millrace prepare' reserve them, or set net.ipv4.ip_local_reserved_ports on the machine",
      ),
    );
  return findings;
}
