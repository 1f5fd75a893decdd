// netfilter's timeouts of this network namespace: nobody's flows here outlive them.
import { join } from "node:path";
import {
  CONNTRACK_TIMEOUTS,
  type ConntrackTimeouts,
  FLOW_TIMEOUTS,
  type FlowTimeouts,
  flowTimeoutsBeside,
} from "../datapath/flow-timeouts.ts";
import { readNumber } from "./conntrack-sysctls.ts";

const DIRECTORY = "/proc/sys/net/netfilter";

type Name = keyof ConntrackTimeouts;

const pathOf = (directory: string, name: Name): string => join(directory, `nf_conntrack_${name}`);

/** undefined: the file is not there, or holds no time that anything could live by. */
function readSeconds(directory: string, name: Name): number | undefined {
  const seconds = readNumber(pathOf(directory, name));
  return seconds !== undefined && seconds > 0 ? seconds : undefined;
}

/** How long flows may be kept now: read it anew for each sweep, as the module comes and goes and administrators change it. */
export function readFlowTimeouts(own: FlowTimeouts = FLOW_TIMEOUTS, directory: string = DIRECTORY): FlowTimeouts {
  const seconds = CONNTRACK_TIMEOUTS.map((name) => [name, readSeconds(directory, name) ?? Number.POSITIVE_INFINITY]);
  return flowTimeoutsBeside(Object.fromEntries(seconds) as ConntrackTimeouts, own);
}
