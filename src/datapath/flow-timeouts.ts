// How long flows are kept, in one place. Never longer than netfilter keeps its own entries below us (trap B9): an entry that
// outlives those makes netfilter meet the middle of a conversation that it takes for a new one.

/** Seconds since a flow's last packet. */
export interface FlowTimeouts {
  readonly tcpEstablishedSeconds: number;
  /** The client sent its FIN, the backend did not. */
  readonly tcpClientClosedSeconds: number;
  readonly tcpBackendClosedSeconds: number;
  /** Ended flows; those with a translated source rest so long before their port is used again. */
  readonly tcpEndedSeconds: number;
  /** The backend was retired: longer than TCP's own keepalive (RFC 9293 section 3.8.4), which shows that somebody is still there. */
  readonly tcpRetiredSeconds: number;
  readonly udpSeconds: number;
  /** Seven of SCTP's heartbeats (RFC 9260 section 16), which a live association has in each direction. */
  readonly sctpSeconds: number;
  readonly openingSeconds: number;
}

const HOUR = 3600;

export const FLOW_TIMEOUTS: FlowTimeouts = {
  tcpEstablishedSeconds: 120 * HOUR,
  tcpClientClosedSeconds: 120,
  // What kube-proxy gives netfilter (--conntrack-tcp-timeout-close-wait): servers that are slow to close are common.
  tcpBackendClosedSeconds: HOUR,
  tcpEndedSeconds: 60,
  tcpRetiredSeconds: 2 * HOUR + 300,
  udpSeconds: 120,
  sctpSeconds: 210,
  openingSeconds: 60,
};

/** netfilter's own, in seconds: the sysctls net.netfilter.nf_conntrack_<name>. Infinity for one that is not there. */
export interface ConntrackTimeouts {
  readonly tcp_timeout_established: number;
  readonly tcp_timeout_fin_wait: number;
  readonly tcp_timeout_close_wait: number;
  readonly udp_timeout_stream: number;
  readonly sctp_timeout_established: number;
}

/** What holds beside netfilter. */
export function flowTimeoutsBeside(conntrack: ConntrackTimeouts): FlowTimeouts {
  const established = Math.min(FLOW_TIMEOUTS.tcpEstablishedSeconds, conntrack.tcp_timeout_established);
  // One FIN that was acknowledged is CLOSE_WAIT there, whoever sent it.
  const closed = Math.min(FLOW_TIMEOUTS.tcpBackendClosedSeconds, conntrack.tcp_timeout_close_wait);
  return {
    ...FLOW_TIMEOUTS,
    tcpEstablishedSeconds: established,
    tcpClientClosedSeconds: Math.min(FLOW_TIMEOUTS.tcpClientClosedSeconds, conntrack.tcp_timeout_fin_wait, closed),
    tcpBackendClosedSeconds: closed,
    tcpRetiredSeconds: Math.min(FLOW_TIMEOUTS.tcpRetiredSeconds, established),
    udpSeconds: Math.min(FLOW_TIMEOUTS.udpSeconds, conntrack.udp_timeout_stream),
    sctpSeconds: Math.min(FLOW_TIMEOUTS.sctpSeconds, conntrack.sctp_timeout_established),
  };
}
