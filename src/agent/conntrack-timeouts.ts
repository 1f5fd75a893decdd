// netfilter's timeouts of this network namespace, which nobody's flows here outlive.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type ConntrackTimeouts, type FlowTimeouts, flowTimeoutsBeside } from "../datapath/flow-timeouts.ts";

const DIRECTORY = "/proc/sys/net/netfilter";

/** undefined: the file is not there, or holds no time that anything could live by. */
function readSeconds(directory: string, name: keyof ConntrackTimeouts): number | undefined {
  try {
    const seconds = Number(readFileSync(join(directory, `nf_conntrack_${name}`), "utf8"));
    return Number.isInteger(seconds) && seconds > 0 ? seconds : undefined;
  } catch {
    return undefined;
  }
}

/** How long flows may be kept now: read it anew for each sweep, as the module comes and goes and administrators change it. */
export function readFlowTimeouts(directory: string = DIRECTORY): FlowTimeouts {
  const read = (name: keyof ConntrackTimeouts): number => readSeconds(directory, name) ?? Number.POSITIVE_INFINITY;
  return flowTimeoutsBeside({
    tcp_timeout_established: read("tcp_timeout_established"),
    tcp_timeout_fin_wait: read("tcp_timeout_fin_wait"),
    tcp_timeout_close_wait: read("tcp_timeout_close_wait"),
    udp_timeout_stream: read("udp_timeout_stream"),
    sctp_timeout_established: read("sctp_timeout_established"),
  });
}
