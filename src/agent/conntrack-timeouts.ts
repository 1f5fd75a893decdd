// netfilter's timeouts of this network namespace: nobody's flows here outlive them, and where kube-proxy's flags ask for it they are
// set as it would set them.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  CONNTRACK_TIMEOUTS,
  type ConntrackTimeouts,
  FLOW_TIMEOUTS,
  type FlowTimeouts,
  flowTimeoutsBeside,
} from "../datapath/flow-timeouts.ts";

const DIRECTORY = "/proc/sys/net/netfilter";

type Name = keyof ConntrackTimeouts;

const pathOf = (directory: string, name: Name): string => join(directory, `nf_conntrack_${name}`);

/** undefined: the file is not there, or holds no time that anything could live by. */
function readSeconds(directory: string, name: Name): number | undefined {
  try {
    const seconds = Number(readFileSync(pathOf(directory, name), "utf8"));
    return Number.isInteger(seconds) && seconds > 0 ? seconds : undefined;
  } catch {
    return undefined;
  }
}

/** How long flows may be kept now: read it anew for each sweep, as the module comes and goes and administrators change it. */
export function readFlowTimeouts(own: FlowTimeouts = FLOW_TIMEOUTS, directory: string = DIRECTORY): FlowTimeouts {
  const seconds = CONNTRACK_TIMEOUTS.map((name) => [name, readSeconds(directory, name) ?? Number.POSITIVE_INFINITY]);
  return flowTimeoutsBeside(Object.fromEntries(seconds) as ConntrackTimeouts, own);
}

/**
 * Sets netfilter's own, where the module is loaded and they are others; 0 leaves one as it is. Returns what could not be written:
 * the sysctl and why.
 */
export function setConntrackTimeouts(
  wanted: Readonly<Partial<Record<Name, number>>>,
  directory: string = DIRECTORY,
): readonly { readonly sysctl: string; readonly why: string }[] {
  return Object.entries(wanted).flatMap(([name, seconds]) => {
    const now = readSeconds(directory, name as Name);
    if (seconds === 0 || now === undefined || now === seconds) return [];
    try {
      writeFileSync(pathOf(directory, name as Name), String(seconds));
      return [];
    } catch (error) {
      return [{ sysctl: `net.netfilter.nf_conntrack_${name}`, why: (error as Error).message }];
    }
  });
}
