// How long flows are kept, in one place. Never longer than netfilter keeps its own entries below us (trap B9): an entry that
// outlives those makes netfilter meet the middle of a conversation that it takes for a new one.

/** Seconds since a flow's last packet. */
export interface FlowTimeouts {
  readonly tcpSynSentSeconds: number;
  /** The backend's SYN-ACK was seen, the client's ACK was not. */
  readonly tcpSynReceivedSeconds: number;
  readonly tcpEstablishedSeconds: number;
  /** The client sent its FIN, the backend did not. */
  readonly tcpClientClosedSeconds: number;
  readonly tcpBackendClosedSeconds: number;
  /** Ended flows; those with a translated source rest so long before their port is used again. */
  readonly tcpEndedSeconds: number;
  /** The backend was retired: longer than TCP's own keepalive (RFC 9293 section 3.8.4), which shows that somebody is still there. */
  readonly tcpRetiredSeconds: number;
  /** Until there was an answer and another request. */
  readonly udpUnansweredSeconds: number;
  readonly udpSeconds: number;
  /** Until there was an answer and another request. */
  readonly sctpOpeningSeconds: number;
  /** Seven of SCTP's heartbeats (RFC 9260 section 16), which a live association has in each direction. */
  readonly sctpSeconds: number;
}

/** As the operator names them. */
export const FLOW_TIMEOUT_NAMES: Readonly<Record<string, keyof FlowTimeouts>> = {
  "tcp-syn-sent": "tcpSynSentSeconds",
  "tcp-syn-received": "tcpSynReceivedSeconds",
  "tcp-established": "tcpEstablishedSeconds",
  "tcp-fin-wait": "tcpClientClosedSeconds",
  "tcp-close-wait": "tcpBackendClosedSeconds",
  "tcp-ended": "tcpEndedSeconds",
  "tcp-retired": "tcpRetiredSeconds",
  udp: "udpUnansweredSeconds",
  "udp-stream": "udpSeconds",
  "sctp-opening": "sctpOpeningSeconds",
  sctp: "sctpSeconds",
};

const HOUR = 3600;

/** conntrack's, but for three. */
export const FLOW_TIMEOUTS: FlowTimeouts = {
  tcpSynSentSeconds: 120,
  tcpSynReceivedSeconds: 60,
  tcpEstablishedSeconds: 120 * HOUR,
  tcpClientClosedSeconds: 120,
  // What kube-proxy gives netfilter (--conntrack-tcp-timeout-close-wait): servers that are slow to close are common.
  tcpBackendClosedSeconds: HOUR,
  // Linux's own TIME_WAIT, as a source port is out of use for so long. conntrack: 120, after a reset 10.
  tcpEndedSeconds: 60,
  // conntrack knows no backends.
  tcpRetiredSeconds: 2 * HOUR + 300,
  udpUnansweredSeconds: 30,
  udpSeconds: 120,
  sctpOpeningSeconds: 60,
  sctpSeconds: 210,
};

/** Of net.netfilter.nf_conntrack_<name>. */
export const CONNTRACK_TIMEOUTS = [
  "tcp_timeout_syn_sent",
  "tcp_timeout_syn_recv",
  "tcp_timeout_established",
  "tcp_timeout_fin_wait",
  "tcp_timeout_close_wait",
  "udp_timeout",
  "udp_timeout_stream",
  "sctp_timeout_established",
] as const;

/** netfilter's own, in seconds. Infinity for one that is not there. */
export type ConntrackTimeouts = Readonly<Record<(typeof CONNTRACK_TIMEOUTS)[number], number>>;

/** What holds beside netfilter, of what was asked for. */
export function flowTimeoutsBeside(conntrack: ConntrackTimeouts, own: FlowTimeouts = FLOW_TIMEOUTS): FlowTimeouts {
  const established = Math.min(own.tcpEstablishedSeconds, conntrack.tcp_timeout_established);
  // One FIN that was acknowledged is CLOSE_WAIT there, whoever sent it.
  const closed = Math.min(own.tcpBackendClosedSeconds, conntrack.tcp_timeout_close_wait);
  return {
    ...own,
    tcpSynSentSeconds: Math.min(own.tcpSynSentSeconds, conntrack.tcp_timeout_syn_sent),
    tcpSynReceivedSeconds: Math.min(own.tcpSynReceivedSeconds, conntrack.tcp_timeout_syn_recv),
    tcpEstablishedSeconds: established,
    tcpClientClosedSeconds: Math.min(own.tcpClientClosedSeconds, conntrack.tcp_timeout_fin_wait, closed),
    tcpBackendClosedSeconds: closed,
    tcpRetiredSeconds: Math.min(own.tcpRetiredSeconds, established),
    udpUnansweredSeconds: Math.min(own.udpUnansweredSeconds, conntrack.udp_timeout),
    udpSeconds: Math.min(own.udpSeconds, conntrack.udp_timeout_stream),
    sctpSeconds: Math.min(own.sctpSeconds, conntrack.sctp_timeout_established),
  };
}
