import { describe, expect, it } from "vitest";
import { bypassNotices } from "../../src/agent/bypass-notice.ts";
import { renderBackends, renderFlows, renderServices, renderStatus } from "../../src/cli/render.ts";
import { age, bytes, portList, printable } from "../../src/lib/text.ts";
import type { ApiStats } from "../../src/model/source.ts";
import { agentStatus, apiStats, backendView, flowView, serviceView } from "../http/view-fixture.ts";

const text = (lines: string) => lines.replace(/^\n/, "");

describe("services", () => {
  const services = [
    serviceView(),
    serviceView({ name: "db", clusterIPs: [], ageMs: 3_700_000 }),
    serviceView({ name: "ext", type: "ExternalName", clusterIPs: [], externalIPs: ["db.example.com"], ports: [] }),
    serviceView({
      namespace: "shop",
      name: "lb",
      type: "LoadBalancer",
      pending: "no-pool",
      ports: [
        { name: "http", protocol: "TCP", port: 80, nodePort: 30001, serviceId: 2, backends: 3 },
        { name: "dns", protocol: "UDP", port: 53, nodePort: 30002, serviceId: 3, backends: 0 },
      ],
    }),
  ];

  it("look as kubectl's", () => {
    expect(renderServices(services, { output: "table" })).toBe(
      text(`
NAMESPACE   NAME   TYPE           CLUSTER-IP   EXTERNAL-IP      PORT(S)                     AGE
default     web    ClusterIP      10.96.0.7    <none>           80/TCP                      90s
default     db     ClusterIP      None         <none>           80/TCP                      61m
default     ext    ExternalName   <none>       db.example.com   <none>                      90s
shop        lb     LoadBalancer   10.96.0.7    <pending>        80:30001/TCP,53:30002/UDP   90s
`),
    );
  });

  it("say why an address is pending, and by whom one is announced, when asked wide", () => {
    const announced = serviceView({ type: "LoadBalancer", externalIPs: ["192.168.122.111"], announcer: "node2" });
    expect(renderServices([services[3]!, announced], { output: "wide", namespace: "shop" })).toContain(
      "AGE   ANNOUNCER   BACKENDS       PENDING\n",
    );
    expect(renderServices([services[3]!], { output: "wide" })).toMatch(/90s +<none> +http:3,dns:0 +no-pool\n$/);
    expect(renderServices([announced], { output: "wide" })).toMatch(/192\.168\.122\.111 .* node2 +2 +<none>\n$/);
  });

  it("are JSON as the agent gave them, of one namespace when asked", () => {
    expect(JSON.parse(renderServices(services, { output: "json", namespace: "shop" }))).toEqual([services[3]]);
  });
});

describe("backends and flows", () => {
  it("are one line each, IPv6 in brackets", () => {
    const backends = [
      backendView(),
      backendView({ address: "fd00::5", port: "", node: "", local: false, state: "terminating" }),
    ];
    expect(renderBackends(backends, { output: "table" })).toBe(
      text(`
SERVICE       PORT       BACKEND           NODE     LOCAL   STATE         INDEX
default/web   http/TCP   10.244.1.5:8080   node1    yes     ready         4.2
default/web   TCP        [fd00::5]:8080    <none>   no      terminating   4.2
`),
    );
    expect(
      renderFlows([flowView(), flowView({ sourceTranslation: "192.168.122.11:50000" })], { output: "table" }),
    ).toBe(
      text(`
PROTOCOL   CLIENT                 FRONTEND       BACKEND           SEEN-AS                SERVICE       STATE         IDLE
TCP        192.168.122.51:40000   10.96.0.7:80   10.244.1.5:8080   <same>                 default/web   established   1s
TCP        192.168.122.51:40000   10.96.0.7:80   10.244.1.5:8080   192.168.122.11:50000   default/web   established   1s
`),
    );
  });

  it("are JSON as the agent gave them", () => {
    expect(JSON.parse(renderBackends([backendView()], { output: "json" }))).toEqual([backendView()]);
    expect(JSON.parse(renderFlows([flowView()], { output: "json" }))).toEqual([flowView()]);
  });
});

describe("status", () => {
  it("leaves out what is empty, and tells trouble in words", () => {
    const status = agentStatus({
      healthy: false,
      unhealthy: ["the last apply failed"],
      announced: [],
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
    expect(renderStatus(status, { output: "table" }, 1_700_000_090_000)).toBe(
      text(`
Node:     node1, Millrace 1.2.3, up 90s
Health:   not healthy: the last apply failed
Source:   manifests, synced, last change 40s ago
Applied:  7 operations in 1.3 ms, 30s ago; a newer state is not in force yet; failed: map rows is full
Datapath: sockets all, XDP off, attached by tcx
Layout:   abc123

Devices:
  NAME   INDEX   ROLE     PROGRAMS
  eth0   2       uplink   tc_ingress,tc_egress

Maps:
  MAP         USED   ENTRIES   MEMORY
  frontends   3      100       20 KiB

Notices:
  SEVERITY   REASON        OBJECT                FIELD                    FILE       MESSAGE
  error      port-in-use   Service default/web   spec.ports[0].nodePort   web.yaml   another has it
`),
    );
  });
});

describe("status while something cannot be brought about", () => {
  it("says what, since when, when it is tried again and why", () => {
    const failing = {
      name: "announcer",
      ok: false,
      error: "E2BIG",
      sinceMs: 1_700_000_080_000,
      nextTryMs: 1_700_000_094_000,
    };
    const status = agentStatus({ effects: [...agentStatus().effects, failing] });
    expect(renderStatus(status, { output: "table" }, 1_700_000_090_000)).toContain(
      "Not in force:\n  WHAT        SINCE     NEXT-TRY   ERROR\n  announcer   10s ago   in 4s      E2BIG\n",
    );
  });
});

describe("status while bypass is on", () => {
  it("says so before anything else, and in JSON", () => {
    const status = agentStatus({ bypass: true, notices: bypassNotices(true) });
    expect(renderStatus(status, { output: "table" }).split("\n")[0]).toBe(
      "BYPASS:   ON: nothing is translated: no Service is served by this node; end it with 'millrace bypass off'",
    );
    expect(renderStatus(status, { output: "table" })).toMatch(/^ {2}error +bypass +Datapath/m);
    expect(JSON.parse(renderStatus(status, { output: "json" }))).toMatchObject({ bypass: true });
    expect(renderStatus(agentStatus({ notices: bypassNotices(false) }), { output: "table" })).not.toContain("BYPASS");
  });
});

describe("status with the Kubernetes API as source", () => {
  const nowMs = 1_700_000_090_000;
  const [services, slices] = apiStats().resources;
  const withApi = (over: Partial<ApiStats> = {}) =>
    agentStatus({
      source: { kind: "kubernetes", synced: true, lastEventMs: 1_700_000_050_000, digest: "d1", api: apiStats(over) },
    });

  it("shows server, certificate, and how it goes with each resource", () => {
    const shown = renderStatus(withApi(), { output: "table" }, nowMs);
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
    expect(renderStatus(status, { output: "table" }, nowMs)).toMatch(new RegExp(`services +${word} +never`));
  });

  it.each([
    [{ server: "", certificateExpiresAt: undefined }, "no server has answered yet"],
    [{ certificateExpiresAt: undefined }, "server 192.168.122.11:6443"],
    [{ certificateExpiresAt: 1_700_000_030 }, "server 192.168.122.11:6443, client certificate ended 60s ago"],
  ])("says of %j: %s", (over, words) => {
    expect(renderStatus(withApi(over), { output: "table" }, nowMs)).toContain(`\nAPI:      ${words}\n`);
  });

  it("is JSON with all of the source", () => {
    const status = withApi({ resources: [slices!] });
    expect(JSON.parse(renderStatus(status, { output: "json" }, nowMs)).source).toEqual(status.source);
  });
});

describe("the small words", () => {
  it.each([
    [0, "0s"],
    [119_000, "119s"],
    [120_000, "2m"],
    [200_000, "3m20s"],
    [3_600_000 * 2, "120m"],
    [3_600_000 * 5 + 600_000, "5h10m"],
    [3_600_000 * 30, "30h"],
    [86_400_000 * 3 + 3_600_000, "3d1h"],
    [86_400_000 * 100, "100d"],
    [86_400_000 * 800, "2y70d"],
    [86_400_000 * 4000, "10y"],
    [-5, "0s"],
  ])("age of %i ms is %s", (ms, expected) => {
    expect(age(ms)).toBe(expected);
  });

  it("ports, sizes and control characters", () => {
    expect(portList([])).toBe("<none>");
    expect([bytes(512), bytes(1536), bytes(20 * 1024 * 1024)]).toEqual(["512 B", "1.5 KiB", "20 MiB"]);
    expect(printable("a\u001b[31mb\nc")).toBe("a?[31mb?c");
  });
});
