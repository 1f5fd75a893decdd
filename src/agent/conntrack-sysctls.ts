// netfilter's limits and timeouts of the node as a whole, which kube-proxy sets and other traffic of a cluster's nodes has come to
// rely on. Each is set once: what an administrator makes of it after that stays. Nothing sets them back.
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { machineNotice } from "../decide/machine-notice.ts";
import type { Notice } from "../model/objects.ts";

export interface ConntrackWishes {
  /** Entries for each CPU; 0 leaves the limit, and `min`, alone. */
  readonly maxPerCore: number;
  readonly min: number;
  /** 0 leaves it as it is. */
  readonly establishedSeconds: number;
  readonly closeWaitSeconds: number;
  /** Of UDP without an answer. */
  readonly udpSeconds: number;
  /** Of UDP with answers. */
  readonly udpStreamSeconds: number;
  /** TCP segments out of their window are no invalid ones; false leaves that as it is. */
  readonly tcpBeLiberal: boolean;
}

export const NO_CONNTRACK: ConntrackWishes = {
  ...{ maxPerCore: 0, min: 0 },
  ...{ establishedSeconds: 0, closeWaitSeconds: 0, udpSeconds: 0, udpStreamSeconds: 0, tcpBeLiberal: false },
};
/** kube-proxy's defaults. */
export const CLUSTER_CONNTRACK: ConntrackWishes = {
  ...NO_CONNTRACK,
  maxPerCore: 32_768,
  min: 131_072,
  establishedSeconds: 24 * 3600,
  closeWaitSeconds: 3600,
};

/** Of what the CPUs make, as kube-proxy bounds it: full, that many entries take a third of a GiB of kernel memory. */
const MOST_BY_CORES = 1_048_576;
/** As the kernel's documentation advises: buckets of the table for so many entries each. */
const ENTRIES_PER_BUCKET = 4;

/** Entries that the wishes ask for with so many CPUs; 0: none in particular. */
export function conntrackMax({ maxPerCore, min }: ConntrackWishes, cores: number): number {
  if (maxPerCore <= 0) return 0;
  return Math.max(min, Math.min(maxPerCore * cores, MOST_BY_CORES));
}

interface Wanted {
  readonly path: string;
  readonly name: string;
  readonly value: number;
  /** What is higher already stays. */
  readonly least: boolean;
}

/** `root`: of /proc/sys and /sys. `apply` sets what is not set yet, and says what cannot be. A file that is not there yet is waited for. */
export function createConntrackSysctls(
  wishes: ConntrackWishes,
  root = "/",
  cores = cpus().length,
): { apply(): readonly Notice[] } {
  const max = conntrackMax(wishes, cores);
  const sysctl = (name: string, value: number, least = false): Wanted => ({
    path: `${root}proc/sys/net/netfilter/nf_conntrack_${name}`,
    name: `net.netfilter.nf_conntrack_${name}`,
    value,
    least,
  });
  const buckets = {
    path: `${root}sys/module/nf_conntrack/parameters/hashsize`,
    name: "nf_conntrack.hashsize",
    value: Math.floor(max / ENTRIES_PER_BUCKET),
    least: true,
  };
  let left = [
    sysctl("max", max, true),
    buckets,
    sysctl("tcp_timeout_established", wishes.establishedSeconds),
    sysctl("tcp_timeout_close_wait", wishes.closeWaitSeconds),
    sysctl("udp_timeout", wishes.udpSeconds),
    sysctl("udp_timeout_stream", wishes.udpStreamSeconds),
    sysctl("tcp_be_liberal", wishes.tcpBeLiberal ? 1 : 0),
  ].filter(({ value }) => value > 0);
  return {
    apply() {
      const notices: Notice[] = [];
      left = left.filter(({ path, name, value, least }) => {
        const now = readNumber(path);
        if (now === undefined) return true;
        if (least ? now >= value : now === value) return false;
        try {
          writeFileSync(path, `${value}`);
          return false;
        } catch (error) {
          const message = `could not set ${name} from ${now} to ${value}: ${(error as NodeJS.ErrnoException).code ?? error}`;
          notices.push({ ...machineNotice(`Sysctl ${name}`, "conntrack-not-set", message, "info"), field: name });
          return true;
        }
      });
      return notices;
    },
  };
}

/** undefined: the file is not there, or holds something else. */
export function readNumber(path: string): number | undefined {
  try {
    const number = Number(readFileSync(path, "utf8"));
    return Number.isInteger(number) ? number : undefined;
  } catch {
    return undefined;
  }
}
