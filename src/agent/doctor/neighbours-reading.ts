// Reads who else is at work on this machine: processes, chains of firewalls, IPVS, pins, listeners, programs on devices. Changes nothing,
// and loads no module of the kernel.
import { readlinkSync } from "node:fs";
import type { Device } from "../../decide/network.ts";
import { entriesOf } from "../../lib/entries.ts";
import { LARGE, run } from "../../lib/exec.ts";
import type { Range } from "../../lib/range.ts";
import { hasFeature, programName, queryTcx } from "../../libbpf/mod.ts";
import { type Ask, droppingChains, forwardChains, hasForwardRules } from "../forward-rules.ts";
import { legacyTables } from "../kube-proxy-rules.ts";
import { parsePorts } from "../reserved-ports.ts";
import type { FirewallFacts } from "./firewall.ts";
import { findProgram, textOf } from "./machine-reading.ts";
import type { ProxyFacts } from "./proxies.ts";

const COMMAND_MS = 5_000;
/** What lists all rules or chains, which may be hundreds of thousands; a part of the examination has 90 s. */
const LISTING = { ...LARGE, timeoutMs: 30_000 };
/** A machine has thousands of processes, and more tell nothing new. */
const MOST_PROCESSES = 16_384;

/**
 * Command lines, their words apart by spaces; threads of the kernel have none. `here`: of this network namespace, or of one that cannot be
 * learnt: a kube-proxy of a cluster in containers on this machine is not this machine's.
 */
export function commandLines(): { readonly here: readonly string[]; readonly elsewhere: readonly string[] } {
  const own = networkOf("self");
  const here: string[] = [];
  const elsewhere: string[] = [];
  for (const pid of entriesOf("/proc")
    .filter((name) => /^\d+$/.test(name))
    .slice(0, MOST_PROCESSES)) {
    const line = textOf(`/proc/${pid}/cmdline`).split("\0").join(" ").trim();
    if (line === "") continue;
    ((networkOf(pid) ?? own) === own ? here : elsewhere).push(line);
  }
  return { here, elsewhere };
}

function networkOf(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return undefined;
  }
}

/** Local ports of /proc/net/{tcp,udp}[6] whose socket is in one of `states` (hexadecimal). */
export function portsIn(text: string, states: readonly string[]): number[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{2}) /.exec(line);
    return match !== null && states.includes(match[2] ?? "") ? Number.parseInt(match[1] ?? "", 16) : [];
  });
}

const LISTEN = ["0A"];
/** UDP: not connected. */
const OPEN = ["07"];

export function readListeners(): { readonly tcp: ReadonlySet<number>; readonly udp: ReadonlySet<number> } {
  const of = (files: readonly string[], states: readonly string[]): ReadonlySet<number> =>
    new Set(files.flatMap((file) => portsIn(textOf(`/proc/self/net/${file}`), states)));
  return { tcp: of(["tcp", "tcp6"], LISTEN), udp: of(["udp", "udp6"], OPEN) };
}

export function readPortSettings(): { readonly local: Range | undefined; readonly reserved: readonly Range[] } {
  const [first, last] = textOf("/proc/sys/net/ipv4/ip_local_port_range").trim().split(/\s+/).map(Number);
  return {
    local: first === undefined || last === undefined || !(first > 0) ? undefined : { first, last },
    reserved: parsePorts(textOf("/proc/sys/net/ipv4/ip_local_reserved_ports")),
  };
}

/** The chains of `nft -j list chains`, "family table name" each; undefined when they cannot be listed. */
async function nftChains(): Promise<{
  readonly names: readonly string[] | undefined;
  readonly dropping: readonly string[];
}> {
  if (findProgram("nft") === undefined) return { names: undefined, dropping: [] };
  const { ok, text } = await run("nft", ["-j", "list", "chains"], LISTING);
  if (!ok) return { names: undefined, dropping: [] };
  try {
    const { nftables } = JSON.parse(text) as {
      nftables: { chain?: { family: string; table: string; name: string } }[];
    };
    const names = nftables.flatMap(({ chain }) =>
      chain === undefined ? [] : `${chain.family} ${chain.table} ${chain.name}`,
    );
    return { names, dropping: droppingChains(text) };
  } catch {
    return { names: undefined, dropping: [] };
  }
}

/** Tables of iptables' own kind that are there already: asking for another one would make it. */
async function legacyChains(): Promise<string[]> {
  const found: string[] = [];
  for (const [family, file, command] of [
    ["ip", "/proc/net/ip_tables_names", "iptables-legacy"],
    ["ip6", "/proc/net/ip6_tables_names", "ip6tables-legacy"],
  ] as const) {
    const tables = textOf(file)
      .split("\n")
      .filter((table) => table !== "");
    if (tables.length === 0 || findProgram(command) === undefined) continue;
    for (const table of tables) {
      const { ok, text } = await run(command, ["--wait", "2", "-t", table, "-S"], LISTING);
      if (!ok) continue;
      for (const [, name] of text.matchAll(/^-(?:N|P) (\S+)/gm)) found.push(`${family} ${table} ${name}`);
    }
  }
  return found;
}

/** undefined when they cannot be listed. Ours are left out: all of them begin with what our objects call them. */
function programsOn(devices: readonly Device[], ours: ReadonlySet<string>): ProxyFacts["programs"] {
  try {
    if (!hasFeature("tcx")) return undefined;
    return devices.flatMap(({ name, ifindex }) =>
      (["ingress", "egress"] as const).flatMap((direction) =>
        queryTcx(ifindex, direction)
          .map((id) => programName(id) ?? "")
          .filter((program) => program !== "" && !ours.has(program))
          .map((program) => ({ device: name, hook: `tcx ${direction}`, program })),
      ),
    );
  } catch {
    return undefined;
  }
}

interface LinkOfIp {
  readonly ifname: string;
  readonly xdp?: { readonly prog?: { readonly name?: string; readonly id?: number } };
}
interface FilterOfTc {
  readonly kind?: string;
  readonly options?: { readonly bpf_name?: string };
}

/** What iproute2 knows beside: XDP, and filters of a clsact qdisc. Nothing where it is not there. */
async function otherPrograms(
  devices: readonly Device[],
  ours: ReadonlySet<string>,
): Promise<NonNullable<ProxyFacts["programs"]>> {
  const names = new Set(devices.map(({ name }) => name));
  const found: { device: string; hook: string; program: string }[] = [];
  const json = async <T>(command: string, ...args: string[]): Promise<readonly T[]> => {
    if (findProgram(command) === undefined) return [];
    const { ok, text } = await run(command, args, { timeoutMs: COMMAND_MS });
    try {
      return ok && text.trim() !== "" ? (JSON.parse(text) as T[]) : [];
    } catch {
      return [];
    }
  };
  for (const { ifname, xdp } of await json<LinkOfIp>("ip", "-j", "-d", "link", "show")) {
    const id = xdp?.prog?.id;
    if (id === undefined || !names.has(ifname)) continue;
    const program = nameOf(id) ?? xdp?.prog?.name ?? `number ${id}`;
    if (!ours.has(program)) found.push({ device: ifname, hook: "xdp", program });
  }
  for (const device of devices) {
    for (const direction of ["ingress", "egress"]) {
      for (const { kind, options } of await json<FilterOfTc>(
        "tc",
        "-j",
        "filter",
        "show",
        "dev",
        device.name,
        direction,
      )) {
        // "cil_from_netdev", or "file.o:[section]".
        const program = options?.bpf_name;
        if (kind !== "bpf" || program === undefined || ours.has(program)) continue;
        found.push({ device: device.name, hook: `filter at ${direction}`, program });
      }
    }
  }
  return found;
}

function nameOf(id: number): string | undefined {
  try {
    return programName(id);
  } catch {
    return undefined;
  }
}

/** With thousands of pods a few devices tell as much. */
const MOST_DEVICES = 32;

export interface Neighbours {
  readonly proxies: Omit<ProxyFacts, "agentAnswers">;
  readonly firewall: Omit<FirewallFacts, "forwardMark">;
}

/** `devices`: those that have a role. `ours`: the first 15 bytes of our programs' names. */
export async function readNeighbours(
  all: readonly Device[],
  devices: readonly Device[],
  ours: ReadonlySet<string>,
  where: { readonly inPod: boolean; readonly isRoot: boolean },
): Promise<Neighbours> {
  const some = devices.slice(0, MOST_DEVICES);
  const [nft, legacy, others, policies] = await Promise.all([
    where.isRoot ? nftChains() : { names: undefined, dropping: [] },
    where.isRoot ? legacyChains() : [],
    where.isRoot ? otherPrograms(some, ours) : [],
    where.isRoot ? forwardPolicies() : [],
  ]);
  const { here: processes, elsewhere } = commandLines();
  const tcx = where.isRoot ? programsOn(some, ours) : undefined;
  const handled = new Set(policies.filter(({ policy }) => policy === "DROP").map(({ chain }) => chain));
  return {
    proxies: {
      processes,
      processesElsewhere: elsewhere,
      seesProcesses: !where.inPod,
      devices: all.map(({ name }) => name),
      nftChains: nft.names,
      legacyChains: legacy,
      ipvsServers: [...textOf("/proc/net/ip_vs").matchAll(/^(TCP|UDP|SCTP) /gm)].length,
      pins: [...entriesOf("/sys/fs/bpf"), ...entriesOf("/sys/fs/bpf/tc/globals")],
      tcpPorts: readListeners().tcp,
      programs: tcx === undefined && others.length === 0 ? undefined : [...(tcx ?? []), ...others],
    },
    firewall: {
      iptables: policies,
      dropping: nft.dropping.filter((chain) => !handled.has(chain)),
      managers: managers(processes),
    },
  };
}

type ForwardPolicy = FirewallFacts["iptables"][number] & {
  /** As nft names the chain; "": it is a legacy one, which nft does not see. */
  readonly chain: string;
};

/** Policies of the FORWARD chains, legacy ones too. */
export async function forwardPolicies(
  ask: Ask = (command, args) => run(command, args, { timeoutMs: COMMAND_MS }),
  tables: Parameters<typeof forwardChains>[0] = legacyTables,
): Promise<ForwardPolicy[]> {
  const found: ForwardPolicy[] = [];
  for (const [command, chain] of forwardChains(tables)) {
    const { ok, text } = await ask(command, ["--wait", "2", "-S", "FORWARD"]);
    const policy = ok ? /^-P FORWARD (\S+)/.exec(text)?.[1] : undefined;
    if (policy !== undefined) found.push({ command, chain, policy, hasOurs: hasForwardRules(text) });
  }
  return found;
}

function managers(processes: readonly string[]): string[] {
  const isUfwOn = /^ENABLED=yes/m.test(textOf("/etc/ufw/ufw.conf"));
  const isFirewalldOn = processes.some((line) => /\/firewalld( |$)/.test(line));
  return [...(isFirewalldOn ? ["firewalld"] : []), ...(isUfwOn ? ["ufw"] : [])];
}
