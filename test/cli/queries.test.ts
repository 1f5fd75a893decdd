import { afterEach, describe, expect, it, vi } from "vitest";
import type { ServiceView } from "../../src/agent/view.ts";
import { createChanges, type Format, listText, showsColour } from "../../src/cli/output.ts";
import { BACKENDS, DROPS, FLOWS, type ListQuery, servicesQuery } from "../../src/cli/queries.ts";
import { backendView, dropView, flowView, servicePort, serviceView } from "../http/view-fixture.ts";

afterEach(() => vi.unstubAllEnvs());

const text = (lines: string) => lines.replace(/^\n/, "");
const show = <T>(query: ListQuery<T>, records: readonly T[], format: Format = "table", colour = false) =>
  listText(query, records, format, colour);

const services: readonly ServiceView[] = [
  serviceView(),
  serviceView({ name: "db", clusterIPs: [], ageMs: 3_700_000, ports: [servicePort({ ready: 1, all: 3 })] }),
  serviceView({ name: "ext", type: "ExternalName", clusterIPs: [], externalIPs: ["db.example.com"], ports: [] }),
  serviceView({
    namespace: "shop",
    name: "lb",
    type: "LoadBalancer",
    pending: "no-pool",
    externalTrafficPolicy: "Local",
    affinitySeconds: 10_800,
    sourceRanges: ["192.0.2.0/24", "2001:db8::/32"],
    announcer: "node2",
    why: "dns: no pods match selector app=lb; no LoadBalancer address: no-pool",
    ports: [
      servicePort({ nodePort: 30_001, targetPort: "web" }),
      servicePort({ name: "dns", protocol: "UDP", port: 53, nodePort: 30_002, backends: 0, ready: 0, all: 0 }),
    ],
  }),
];

describe("services", () => {
  it("look as kubectl's, with ready and all endpoints, and why where something is wrong", async () => {
    expect(await show(servicesQuery(false), services)).toBe(
      text(`
NAMESPACE   NAME   TYPE           CLUSTER-IP   EXTERNAL-IP      PORT(S)                     BACKENDS           AGE   WHY
default     web    ClusterIP      10.96.0.7    <none>           80/TCP                      2/2                90s
default     db     ClusterIP      None         <none>           80/TCP                      1/3                61m
default     ext    ExternalName   <none>       db.example.com   <none>                      <none>             90s
shop        lb     LoadBalancer   10.96.0.7    <pending>        80:30001/TCP,53:30002/UDP   http:2/2,dns:0/0   90s   dns: no pods match selector app=lb; no LoadBalancer address: no-pool
`),
    );
  });

  it("of one namespace, and with nothing wrong, have fewer columns", async () => {
    expect((await show(servicesQuery(true), [serviceView()])).split("\n")[0]).toBe(
      "NAME   TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)   BACKENDS   AGE",
    );
  });

  it("show policies, target port, selector, pool and announcer when asked wide", async () => {
    const [header, row] = (await show(servicesQuery(true), [services[3]!], "wide")).split("\n");
    expect(header).toMatch(
      /EXTERNAL-POLICY +INTERNAL-POLICY +AFFINITY +SOURCE-RANGES +TARGET +SELECTOR +POOL +ANNOUNCER +CONNECTIONS +WHY$/,
    );
    expect(row).toMatch(
      / Local +Cluster +10800s +192\.0\.2\.0\/24,2001:db8::\/32 +http:web,dns:8080 +app=web +<none> +node2 +5 +dns: no pods/,
    );
  });

  it("are JSON and YAML as the agent gave them, and names that the commands take", async () => {
    const query = servicesQuery(false);
    expect(JSON.parse(await show(query, services, "json"))).toEqual(services);
    expect(await show(query, [serviceView()], "yaml")).toMatch(/^- namespace: default\n {2}name: web\n/);
    expect(await show(query, services, "name")).toBe(
      "service/default/web\nservice/default/db\nservice/default/ext\nservice/shop/lb\n",
    );
  });

  it("are green, yellow or red by their endpoints, and of the same width as without colour", async () => {
    const shown = await show(servicesQuery(false), services, "table", true);
    expect(shown).toContain("\u001b[32m2/2\u001b[39m");
    expect(shown).toContain("\u001b[33m1/3\u001b[39m");
    expect(shown).toContain("\u001b[31mhttp:2/2,dns:0/0\u001b[39m");
    expect(shown.replaceAll(/\u001b\[\d+m/g, "")).toBe(await show(servicesQuery(false), services));
  });
});

describe("backends, flows and drops", () => {
  it("show endpoints that are no backends, and why", async () => {
    const backends = [
      backendView(),
      backendView({ address: "fd00::5", port: "", node: "", local: false, state: "terminating" }),
      backendView({ address: "10.244.1.6", index: -1, state: "not-ready", why: "its pod is not ready" }),
      backendView({ service: "default/x", address: "", node: "", state: "none", why: "no pods match selector app=x" }),
    ];
    expect(await show(BACKENDS, backends)).toBe(
      text(`
SERVICE       PORT       BACKEND           NODE     LOCAL   STATE         WHY
default/web   http/TCP   10.244.1.5:8080   node1    yes     ready
default/web   TCP        [fd00::5]:8080    <none>   no      terminating
default/web   http/TCP   10.244.1.6:8080   node1    yes     not-ready     its pod is not ready
default/x     http/TCP   <none>            <none>   -       none          no pods match selector app=x
`),
    );
    expect(await show(BACKENDS, backends.slice(0, 1), "wide")).toMatch(/STATE +INDEX\n.* ready +4\.2\n$/);
  });

  it("show what sockets were pointed at beside flows of packets", async () => {
    const { idleMs: _, ...socket } = flowView({ path: "socket", client: "socket 4711", state: "pointed" });
    const flows = [flowView({ sourceTranslation: "192.168.122.11:50000" }), socket];
    expect(await show(FLOWS, flows)).toBe(
      text(`
PATH     PROTOCOL   CLIENT                 FRONTEND       BACKEND           SEEN-AS                SERVICE       STATE         IDLE
packet   TCP        192.168.122.51:40000   10.96.0.7:80   10.244.1.5:8080   192.168.122.11:50000   default/web   established   1s
socket   TCP        socket 4711            10.96.0.7:80   10.244.1.5:8080   <same>                 default/web   pointed       -
`),
    );
  });

  it("say what a verdict means, and of whom it is", async () => {
    const drops = [dropView({ service: "", port: "", verdict: "refuse" }), dropView()];
    expect(await show(DROPS, drops)).toBe(
      text(`
SERVICE            HOOK             VERDICT                 COUNT   MEANING
<none>             uplink_ingress   refuse                  3       policy Local
default/web:http   uplink_ingress   drop_no_local_backend   3       policy Local
`),
    );
  });
});

describe("--watch", () => {
  const told = (changes: ReturnType<ReturnType<typeof createChanges<ServiceView>>>) =>
    changes.map(({ change, record }) => `${change} ${record.name}`);

  it("tells all at first, then what is new, another or gone, and no age", () => {
    const changes = createChanges(servicesQuery(false));
    const [web, db] = [serviceView(), serviceView({ name: "db" })];
    expect(told(changes([web, db], 1))).toEqual(["ADDED web", "ADDED db"]);
    expect(told(changes([{ ...web, ageMs: 99_000_000, connections: 9 }, db], 1))).toEqual([]);
    expect(
      told(changes([serviceView({ ports: [servicePort({ ready: 1 })] }), serviceView({ name: "new" })], 1)),
    ).toEqual(["MODIFIED web", "ADDED new", "DELETED db"]);
  });

  it("tells how many drops come in a second", () => {
    const changes = createChanges(DROPS);
    expect(changes([dropView({ packets: 3 })], 1).map(({ perSecond }) => perSecond)).toEqual([undefined]);
    expect(changes([dropView({ packets: 13 })], 2).map(({ perSecond }) => perSecond)).toEqual([5]);
    expect(changes([dropView({ packets: 13 })], 2)).toEqual([]);
  });
});

describe("colour", () => {
  it.each([
    ["auto", true, {}, true],
    ["auto", false, {}, false],
    ["auto", true, { NO_COLOR: "1" }, false],
    ["auto", true, { NO_COLOR: "" }, true],
    ["auto", true, { TERM: "dumb" }, false],
    ["always", false, { NO_COLOR: "1" }, true],
    ["never", true, {}, false],
  ])("--color %s on a terminal (%s) with %j is %s", (choice, isTTY, environment, expected) => {
    for (const [name, value] of Object.entries({ NO_COLOR: "", TERM: "xterm", ...environment }))
      vi.stubEnv(name, value);
    expect(showsColour(choice, { isTTY })).toBe(expected);
  });
});
