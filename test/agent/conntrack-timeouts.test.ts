// netfilter's timeouts as files of a directory.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readFlowTimeouts } from "../../src/agent/conntrack-timeouts.ts";
import { FLOW_TIMEOUTS } from "../../src/datapath/flow-timeouts.ts";

describe("readFlowTimeouts", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "millrace-conntrack-"));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));
  const write = (name: string, text: string): void => writeFileSync(join(directory, `nf_conntrack_${name}`), text);

  it("has our own times where connection tracking is not loaded", () => {
    expect(readFlowTimeouts(FLOW_TIMEOUTS, join(directory, "none"))).toEqual(FLOW_TIMEOUTS);
    expect(readFlowTimeouts(FLOW_TIMEOUTS, directory)).toEqual(FLOW_TIMEOUTS);
  });

  it("follows what is there, one by one", () => {
    write("tcp_timeout_established", "86400\n");
    write("udp_timeout_stream", "90\n");
    expect(readFlowTimeouts(FLOW_TIMEOUTS, directory)).toEqual({
      ...FLOW_TIMEOUTS,
      tcpEstablishedSeconds: 86_400,
      udpSeconds: 90,
    });
    write("tcp_timeout_close_wait", "30\n");
    expect(readFlowTimeouts(FLOW_TIMEOUTS, directory)).toMatchObject({
      tcpBackendClosedSeconds: 30,
      tcpClientClosedSeconds: 30,
    });
  });

  it("of what the operator asks for and netfilter has the shorter one holds", () => {
    write("udp_timeout", "20\n");
    write("udp_timeout_stream", "180\n");
    const own = { ...FLOW_TIMEOUTS, udpUnansweredSeconds: 25, udpSeconds: 170, tcpEndedSeconds: 90 };
    expect(readFlowTimeouts(own, directory)).toEqual({ ...own, udpUnansweredSeconds: 20 });
  });

  it.each(["", "0\n", "-1\n", "soon\n"])("takes %j for none", (text) => {
    write("udp_timeout_stream", text);
    expect(readFlowTimeouts(FLOW_TIMEOUTS, directory)).toEqual(FLOW_TIMEOUTS);
  });
});
