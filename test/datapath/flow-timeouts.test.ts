// How long flows are kept beside netfilter: never longer than it keeps its own entries.
import { describe, expect, it } from "vitest";
import {
  CONNTRACK_TIMEOUTS,
  type ConntrackTimeouts,
  FLOW_TIMEOUTS,
  flowTimeoutsBeside,
} from "../../src/datapath/flow-timeouts.ts";

const KERNEL = {
  tcp_timeout_established: 432_000,
  tcp_timeout_fin_wait: 120,
  tcp_timeout_close_wait: 60,
  tcp_timeout_syn_sent: 120,
  tcp_timeout_syn_recv: 60,
  udp_timeout: 30,
  udp_timeout_stream: 120,
  sctp_timeout_established: 210,
};

describe("the lifetimes of flows", () => {
  it("are ours where netfilter tracks no connections", () => {
    const none = Object.fromEntries(CONNTRACK_TIMEOUTS.map((name) => [name, Number.POSITIVE_INFINITY]));
    expect(flowTimeoutsBeside(none as ConntrackTimeouts)).toEqual(FLOW_TIMEOUTS);
  });

  it("outlast the keepalive of TCP where a backend is retired", () => {
    expect(FLOW_TIMEOUTS.tcpRetiredSeconds).toBeGreaterThan(7200);
  });

  it.each([
    ["the kernel's own", KERNEL, { tcpClientClosedSeconds: 60, tcpBackendClosedSeconds: 60 }],
    [
      "kube-proxy's",
      { ...KERNEL, tcp_timeout_close_wait: 3600, tcp_timeout_established: 86_400 },
      { tcpEstablishedSeconds: 86_400 },
    ],
    ["longer ones", { ...KERNEL, tcp_timeout_close_wait: 7200, udp_timeout_stream: 600 }, {}],
    [
      "short ones",
      {
        ...{ tcp_timeout_established: 600, tcp_timeout_fin_wait: 10, tcp_timeout_close_wait: 20 },
        ...{ tcp_timeout_syn_sent: 5, tcp_timeout_syn_recv: 6, udp_timeout: 7, udp_timeout_stream: 30 },
        sctp_timeout_established: 50,
      },
      {
        tcpEstablishedSeconds: 600,
        tcpRetiredSeconds: 600,
        tcpClientClosedSeconds: 10,
        tcpBackendClosedSeconds: 20,
        tcpSynSentSeconds: 5,
        tcpSynReceivedSeconds: 6,
        udpUnansweredSeconds: 7,
        udpSeconds: 30,
        sctpSeconds: 50,
      },
    ],
  ])("give way to %s", (_, conntrack, differs) => {
    expect(flowTimeoutsBeside(conntrack)).toEqual({ ...FLOW_TIMEOUTS, ...differs });
  });
});
