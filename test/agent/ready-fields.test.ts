import { describe, expect, it } from "vitest";
import { readyFields } from "../../src/agent/ready-fields.ts";
import { countNotices } from "../../src/agent/view.ts";
import type { Notice } from "../../src/model/objects.ts";
import { agentStatus } from "../http/view-fixture.ts";

const options = { metricsBindAddress: "127.0.0.1:10249", healthzBindAddress: "0.0.0.0:10256" };
const device = (name: string, role: "uplink" | "pod") => ({ name, ifindex: 1, role, programs: [] });

describe("the line that says the agent is ready", () => {
  it("has version, node, devices, Services and where to ask", () => {
    const devices = [device("eth0", "uplink"), device("veth1", "pod"), device("veth2", "pod")];
    expect(readyFields(agentStatus({ devices }), options, 3, 1866.6)).toEqual({
      version: "1.2.3",
      node: "node1",
      uplinks: ["eth0"],
      podDevices: 2,
      services: 3,
      metrics: "http://127.0.0.1:10249/metrics",
      health: "http://0.0.0.0:10256/healthz",
      ms: 1867,
    });
  });

  it("says so when there is no uplink and nobody listens", () => {
    const none = { metricsBindAddress: "", healthzBindAddress: "" };
    expect(readyFields(agentStatus({ devices: [] }), none, 0, 1)).toMatchObject({
      uplinks: "none",
      metrics: "off",
      health: "off",
    });
  });
});

describe("notices as a metric", () => {
  const notice = (reason: string, severity: Notice["severity"]): Notice => ({
    object: "",
    file: "",
    field: "",
    reason,
    message: "",
    severity,
  });

  it("are counted by reason and severity, on top of what was counted", () => {
    const known = countNotices([notice("no-xdp", "warning"), notice("no-xdp", "error"), notice("no-xdp", "error")]);
    expect(countNotices([...known, notice("no-xdp", "error"), notice("port-taken", "warning")])).toEqual([
      { reason: "no-xdp", severity: "warning", count: 1 },
      { reason: "no-xdp", severity: "error", count: 3 },
      { reason: "port-taken", severity: "warning", count: 1 },
    ]);
  });
});
