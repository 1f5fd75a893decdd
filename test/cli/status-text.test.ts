import { describe, expect, it } from "vitest";
import { bypassNotices } from "../../src/agent/bypass-notice.ts";
import { isInTrouble, statusText } from "../../src/cli/status-text.ts";
import type { Notice } from "../../src/model/objects.ts";
import type { ApiStats } from "../../src/model/source.ts";
import { agentStatus, apiStats } from "../http/view-fixture.ts";

const PLAIN = { colour: false, width: 80 };
const text = (lines: string) => lines.replace(/^\n/, "");

describe("status", () => {
  it("leaves out what is empty, and tells trouble in words", () => {
    const status = agentStatus({
      healthy: false,
      unhealthy: ["the last apply failed"],
      announcer: { addresses: [], peers: [] },
      appliedDigest: "d0",
      lastApply: { atMs: 1_700_000_060_000, durationMs: 1.25, operations: 7, error: "map rows is full" },
      notices: [
        {
          object: "Service default/web",
          file: "web.yaml",
          field: "spec.ports[0].nodePort",
          reason: "port-in-use",
          message: "another has it",
          severity: "error",
        },
      ],
    });
    expect(statusText(status, PLAIN, 1_700_000_090_000)).toBe(
      text(`
Node:     node1, Millrace 1.2.3, up 90s
Notices:  1 error
Health:   not healthy: the last apply failed
Source:   manifests, synced, last change 40s ago
Applied:  7 operations in 1.3 ms, 30s ago; a newer state is not in force yet; failed: map rows is full
Datapath: sockets all, XDP off, attached by tcx
Layout:   abc123

error    port-in-use  Service default/web  web.yaml
         spec.ports[0].nodePort: another has it

Devices:
  NAME   INDEX   ROLE     PROGRAMS
  eth0   2       uplink   tc_ingress,tc_egress

Maps:
  MAP         USED   ENTRIES   MEMORY
  frontends   3      100       20 KiB
`),
    );
  });
});

describe("status while bypass is on", () => {
  it("says so before anything else", () => {
    const status = agentStatus({ bypass: true, notices: bypassNotices(true) });
    expect(statusText(status, PLAIN).split("\n")[0]).toBe(
      "BYPASS:   ON: nothing is translated: no Service is served by this node; end it with 'millrace bypass off'",
    );
    expect(statusText(status, PLAIN)).toMatch(/^error {4}bypass {2}Datapath$/m);
    expect(statusText(agentStatus({ notices: bypassNotices(false) }), PLAIN)).not.toContain("BYPASS");
  });
});

describe("status with the Kubernetes API as source", () => {
  const nowMs = 1_700_000_090_000;
  const [services] = apiStats().resources;
  const withApi = (over: Partial<ApiStats> = {}) =>
    agentStatus({
      source: { kind: "kubernetes", synced: true, lastEventMs: 1_700_000_050_000, digest: "d1", api: apiStats(over) },
    });

  it("shows server, certificate, and how it goes with each resource", () => {
    const shown = statusText(withApi(), PLAIN, nowMs);
    expect(shown).toContain(
      text(`
Source:   kubernetes, synced, last change 40s ago
API:      server 192.168.122.11:6443, client certificate ends in 23h
Applied:  7 operations`),
    );
    expect(shown).toContain(
      text(`
Kubernetes API:
  RESOURCE         STATE      LAST-EVENT   RELISTS   HELD-LISTS   ERRORS
  services         watching   40s ago      <none>    0            <none>
  endpointslices   watching   40s ago      gone:2    1            throttled:3

Devices:`),
    );
  });

  it.each([
    [true, true, "watching"],
    [true, false, "listing"],
    [false, true, "disconnected"],
    [false, false, "connecting"],
  ])("calls a resource that is connected: %s, and synced: %s, %s", (connected, synced, word) => {
    const status = withApi({ resources: [{ ...services!, connected, synced, lastEventMs: 0 }] });
    expect(statusText(status, PLAIN, nowMs)).toMatch(new RegExp(`services +${word} +never`));
  });

  it.each([
    [{ server: "", certificateExpiresAt: undefined }, "no server has answered yet"],
    [{ certificateExpiresAt: undefined }, "server 192.168.122.11:6443"],
    [{ certificateExpiresAt: 1_700_000_030 }, "server 192.168.122.11:6443, client certificate ended 60s ago"],
  ])("says of %j: %s", (over, words) => {
    expect(statusText(withApi(over), PLAIN, nowMs)).toContain(`\nAPI:      ${words}\n`);
  });
});

describe("notices in status", () => {
  const notice = (over: Partial<Notice> = {}): Notice => ({
    object: "Service default/web",
    file: "",
    field: "",
    reason: "no-pool",
    message: "there is no pool",
    severity: "warning",
    ...over,
  });
  const shown = (...notices: Notice[]) => statusText(agentStatus({ notices }), PLAIN);

  it("are counted in the second line, and come before devices and maps, errors first", () => {
    const lines = shown(
      notice({ severity: "info" }),
      notice(),
      notice({ severity: "error", reason: "forwarding-off" }),
      notice({ severity: "error" }),
    ).split("\n");
    expect(lines[1]).toBe("Notices:  2 errors, 1 warning, 1 info");
    const order = lines.filter((line) => /^(?:error|warning|info) |^Devices/.test(line));
    expect(order.map((line) => line.slice(0, 8).trim())).toEqual(["error", "error", "warning", "info", "Devices:"]);
    expect(shown().split("\n")[1]).toBe("Notices:  none");
  });

  it("say each thing once, in lines of 80 characters at most", () => {
    const file = "m/a1.yaml";
    const message = `${file}: spec.ports[0].port: Invalid value: "80": must be an integer, and it has to be one of those that nobody else of this node has`;
    const lines = shown(notice({ object: file, file, field: "spec.ports[0].port", reason: "malformed", message }));
    expect(lines).toContain(
      text(`
warning  malformed  m/a1.yaml
         spec.ports[0].port: Invalid value: "80": must be an integer, and it has
         to be one of those that nobody else of this node has
`),
    );
  });

  it("have each message in one line where there is no terminal", () => {
    const message = Array.from({ length: 60 }, (_, i) => `word${i}`).join(" ");
    const wide = { colour: false, width: Number.POSITIVE_INFINITY };
    expect(statusText(agentStatus({ notices: [notice({ message })] }), wide)).toContain(`         ${message}\n`);
  });

  it("end with where reasons are explained, when the agent says it", () => {
    const see = { ...notice(), see: "docs/troubleshooting.md#no-pool" };
    expect(statusText(agentStatus({ notices: [see] }), PLAIN)).toContain(
      "         there is no pool\nEach reason is explained in docs/troubleshooting.md.\n\nDevices:",
    );
  });

  it("cannot move the cursor, and are red only with colour", () => {
    expect(shown(notice({ message: "a\u001b[31mb" }))).toContain("a?[31mb");
    const status = agentStatus({ notices: [notice({ severity: "error" })] });
    expect(statusText(status, PLAIN)).not.toContain("\u001b");
    expect(statusText(status, { ...PLAIN, colour: true })).toContain("\u001b[31merror");
  });

  it.each([
    ["an error", { notices: [notice({ severity: "error" })] }, true],
    ["bad health", { healthy: false }, true],
    ["a warning", { notices: [notice()] }, false],
    ["nothing", {}, false],
  ])("%s is trouble for --check: %s", (_, over, expected) => {
    expect(isInTrouble(agentStatus(over))).toBe(expected);
  });
});
