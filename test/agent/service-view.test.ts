import { describe, expect, it } from "vitest";
import { createServiceViews, type ServiceViewParts } from "../../src/agent/service-view.ts";
import { createModel } from "../../src/model/model.ts";
import type { Notice } from "../../src/model/objects.ts";
import { ending, endpoint, eventsOf, node, notReady, service, slice } from "../flows/builders.ts";

const CAPACITY = {
  frontends: 64,
  rows: 64,
  slots: 64,
  backends: 64,
  services: 64,
  serviceRanges: 16,
  sourceRanges: 8,
  addresses: 64,
  devices: 64,
  announced: 64,
};
const gone = endpoint("10.244.1.9", "node1", { ready: false, serving: false, terminating: true });

function views(given: Parameters<typeof eventsOf>[0], over: Partial<ServiceViewParts> = {}) {
  const model = createModel({ nodeName: "node1", capacity: CAPACITY, serviceRanges: [] });
  model.update(eventsOf({ nodes: [node(1)], ...given }));
  model.plan();
  return createServiceViews({
    nodeName: "node1",
    model,
    source: { notices: () => [] },
    totalsOf: () => ({ connections: 1, packets: 10, bytes: 100 }),
    announcerOf: () => ({ node: "", reason: "" }),
    loadBalancerClass: "",
    ownAddresses: () => [],
    ...over,
  });
}

const selector = { app: "web" };
const asks = { affinitySeconds: 60, sourceRanges: ["192.0.2.0/24"] };
const web = service({ selector, labels: { tier: "front" }, ...asks });

describe("Services as they are shown", () => {
  it("have policies, selector, target port, and ready and all endpoints beside what the kernel was given", () => {
    const slices = [slice({ endpoints: [endpoint("10.244.1.5"), notReady("10.244.1.6"), gone] })];
    const [view] = views({ services: [web], slices }).services();
    expect(view).toMatchObject({
      namespace: "default",
      name: "web",
      labels: { tier: "front" },
      selector,
      externalTrafficPolicy: "Cluster",
      internalTrafficPolicy: "Cluster",
      ...asks,
      why: "",
      connections: 1,
      ports: [{ port: 80, targetPort: 8080, backends: 1, ready: 1, all: 3, why: "" }],
    });
  });

  it.each([
    {
      name: "a pool and its announcer",
      fromPool: true,
      elected: { node: "node2", reason: "" },
      unannounced: "",
      why: "",
    },
    {
      ...{
        name: "a pool, and why nobody announces it",
        fromPool: true,
        elected: { node: "", reason: "not-advertised" },
      },
      ...{ unannounced: "not-advertised", why: "no node announces its address: not-advertised" },
    },
    {
      ...{
        name: "that it is from no pool, which is nothing wrong",
        fromPool: false,
        elected: { node: "", reason: "" },
      },
      ...{ unannounced: "not-from-pool", why: "" },
    },
    {
      ...{
        name: "that it is of another class",
        fromPool: false,
        elected: { node: "", reason: "" },
        its: "example.com/lb",
      },
      ...{ unannounced: "another-class", why: "" },
    },
  ])("tell of a LoadBalancer address $name", ({ fromPool, elected, unannounced, why, ...rest }) => {
    const its = "its" in rest ? rest.its : "";
    const pool = fromPool ? { pool: "metallb-system/lan" } : {};
    const loadBalancerAddresses = [{ address: "192.0.2.1", ipMode: "VIP" as const, fromPool, ...pool }];
    const balanced = service({ type: "LoadBalancer", loadBalancerClass: its, loadBalancerAddresses });
    const slices = [slice({ endpoints: [endpoint("10.244.1.5")] })];
    const [view] = views({ services: [balanced], slices }, { announcerOf: () => elected }).services();
    expect(view).toMatchObject({
      ...{ announcer: elected.node, unannounced, why, pools: fromPool ? ["metallb-system/lan"] : [] },
    });
  });

  it("say for each port why it has none, once where all say the same", () => {
    const ports = [{ name: "a" }, { name: "b", port: 81 }];
    const of = service({ selector, ports });
    const why = (slices: Parameters<typeof slice>[0][]) =>
      [...views({ services: [of], slices: slices.map((one) => slice(one)) }).services()][0]?.why;
    expect(why([])).toBe("no pods match selector app=web");
    expect(why([{ ports: [{ name: "a" }], endpoints: [endpoint("10.244.1.5")] }])).toBe(
      "b: no endpoint serves the port b",
    );
  });

  it("say why an address is pending, or not announced", () => {
    const notice: Notice = {
      object: "Service default/web",
      file: "",
      field: "",
      reason: "no-pool",
      message: "there is none",
      severity: "warning",
    };
    const slices = [slice({ endpoints: [endpoint("10.244.1.5")] })];
    const pending = { services: [service({ type: "LoadBalancer" })], slices };
    const shown = views(pending, { source: { notices: () => [notice] } });
    expect([...shown.services()][0]).toMatchObject({ pending: "no-pool", why: "no LoadBalancer address: no-pool" });
    expect(shown.pendingLoadBalancers()).toBe(1);
    const loadBalancerAddresses = [{ address: "192.168.122.240", ipMode: "VIP", fromPool: true }] as const;
    const served = { services: [service({ type: "LoadBalancer", loadBalancerAddresses })], slices };
    const unannounced = views(served, { announcerOf: () => ({ node: "", reason: "not-advertised" }) });
    expect([...unannounced.services()][0]).toMatchObject({
      pending: "",
      unannounced: "not-advertised",
      why: "no node announces its address: not-advertised",
    });
  });

  it("are those that are wanted", () => {
    const services = [web, service({ name: "shop/db", clusterIPs: ["10.96.0.11"], labels: { tier: "back" } })];
    const names = [...views({ services }).services((key) => key === "shop/db")];
    expect(names.map(({ name }) => name)).toEqual(["db"]);
  });
});

describe("backends as they are shown", () => {
  const services = [
    service({ name: "zoo", selector, clusterIPs: ["10.96.0.12"] }),
    web,
    service({ name: "app", selector: { app: "wbe" }, clusterIPs: ["10.96.0.11"] }),
  ];
  const slices = [
    slice({
      endpoints: [
        endpoint("10.244.2.5", "node2"),
        ending("10.244.1.7"),
        notReady("10.244.1.6"),
        endpoint("10.244.1.5"),
        gone,
      ],
    }),
    slice({ service: "zoo", endpoints: [ending("10.244.1.8")] }),
  ];
  const shown = (all: boolean) =>
    [...views({ services, slices }).backends(undefined, all)].map(
      ({ service: of, address, index, local, state, why }) =>
        [of, address, index < 0 ? "-" : "used", local ? "local" : "", state, why].join("|"),
    );

  it("are by Service and address what the kernel was given", () => {
    expect(shown(false)).toEqual([
      "default/web|10.244.1.5|used|local|ready|",
      "default/web|10.244.2.5|used||ready|",
      "default/zoo|10.244.1.8|used|local|terminating|terminating, and there is no ready one",
    ]);
  });

  it("are those of the Services that are wanted", () => {
    const found = [...views({ services, slices }).backends((key) => key === "default/zoo", true)];
    expect(found.map(({ address }) => address)).toEqual(["10.244.1.8"]);
  });

  it("are without those that are meant for other zones, which are told so", () => {
    const meant = [
      { ...endpoint("10.244.1.5"), hints: { zones: ["a"], nodes: ["node1"] } },
      { ...endpoint("10.244.2.5", "node2"), hints: { zones: ["a"], nodes: ["node2"] } },
    ];
    const rows = [...views({ services: [web], slices: [slice({ endpoints: meant })] }).backends(undefined, true)];
    expect(rows.map(({ address, state, why }) => [address, state, why])).toEqual([
      ["10.244.1.5", "ready", ""],
      ["10.244.2.5", "unused", "ready, and meant for other zones or nodes"],
    ]);
  });

  it("are beside those that are none, with the reason, and a row for a port that has no endpoint at all", () => {
    expect(shown(true)).toEqual([
      "default/app||-||none|no pods match selector app=wbe",
      "default/web|10.244.1.5|used|local|ready|",
      "default/web|10.244.2.5|used||ready|",
      "default/web|10.244.1.6|-|local|not-ready|its pod is not ready",
      "default/web|10.244.1.7|-|local|unused|terminating, and there are ready ones",
      "default/web|10.244.1.9|-|local|gone|terminating, and it serves no more",
      "default/zoo|10.244.1.8|used|local|terminating|terminating, and there is no ready one",
    ]);
  });
});
