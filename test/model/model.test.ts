// What becomes of objects in the maps, as golden text: one behaviour per test.
import { describe, expect, test } from "vitest";
import { createModel } from "../../src/model/model.ts";
import { ending, endpoint, eventsOf, hostPort, node, notReady, service, slice } from "../flows/builders.ts";
import { bench, CAPACITY, text } from "./setup.ts";

const here = endpoint("10.244.1.2", "node1");
const there = endpoint("10.244.2.2", "node2");
const elsewhere = endpoint("10.244.2.3", "node2");

const nodePort = { type: "NodePort", ports: [{ nodePort: 30080 }] } as const;
const local = { ...nodePort, externalTrafficPolicy: "Local" } as const;
const asked = { type: "LoadBalancer", externalTrafficPolicy: "Local", healthCheckNodePort: 32000 } as const;

describe("a port whose policy Local finds nothing here", () => {
  const both = { ...local, internalTrafficPolicy: "Local" } as const;
  test.each([
    {
      name: "by both policies, with endpoints elsewhere alone",
      given: both,
      endpoints: [there],
      internal: true,
      external: true,
    },
    { name: "by the external one alone", given: local, endpoints: [there], internal: false, external: true },
    { name: "by none with one here", given: both, endpoints: [there, here], internal: false, external: false },
    { name: "by none without any: all are refused", given: both, endpoints: [], internal: false, external: false },
    { name: "by none with policy Cluster", given: nodePort, endpoints: [there], internal: false, external: false },
  ])("is known: $name", ({ given, endpoints, internal, external }) => {
    const { feed, model } = bench();
    feed({ services: [service(given)], slices: [slice({ endpoints })] });
    expect([...model.servicePorts()].map(({ withoutLocal }) => withoutLocal)).toEqual([{ internal, external }]);
  });
});

describe("rows and windows", () => {
  test("frontends of a port share its service id and slots", () => {
    const { feed, dump } = bench();
    feed({
      services: [
        service({
          type: "LoadBalancer",
          ports: [{ nodePort: 30080 }],
          loadBalancerAddresses: [{ address: "192.168.122.111", ipMode: "VIP", fromPool: true }],
        }),
      ],
      slices: [slice({ endpoints: [here, there] })],
    });
    expect(dump()).toBe(
      text(`
        backend 0.1 service 1 10.244.1.2:8080 local
        backend 1.1 service 1 10.244.2.2:8080
        frontend 0.0.0.0 TCP 30080 node-port service 1 row 2.1 ext 0[0 1] int 0[0 1] all 0[0 1]
        frontend 10.96.0.10 TCP 80 cluster-ip service 1 row 0.1 ext 0[0 1] int 0[0 1] all 0[0 1]
        frontend 192.168.122.111 TCP 80 load-balancer service 1 row 1.1 ext 0[0 1] int 0[0 1] all 0[0 1]
      `),
    );
  });

  test("externalTrafficPolicy Local narrows the external window of node ports only", () => {
    const { feed, dump } = bench();
    feed({ services: [service(local)], slices: [slice({ endpoints: [there, here] })] });
    expect(dump()).toContain("10.96.0.10 TCP 80 cluster-ip service 1 row 0.1 ext 0[0 1] int 0[0 1] all 0[0 1]");
    expect(dump()).toContain("0.0.0.0 TCP 30080 node-port service 1 row 1.1 ext 0[0] int 0[0 1] all 0[0 1]");
  });

  test("internalTrafficPolicy Local narrows the internal window of the cluster address only", () => {
    const { feed, dump } = bench();
    const given = service({ ...nodePort, internalTrafficPolicy: "Local" });
    feed({ services: [given], slices: [slice({ endpoints: [there, here] })] });
    expect(dump()).toContain("10.96.0.10 TCP 80 cluster-ip service 1 row 0.1 ext 0[0] int 0[0] all 0[0 1]");
    expect(dump()).toContain("0.0.0.0 TCP 30080 node-port service 1 row 1.1 ext 0[0 1] int 0[0 1] all 0[0 1]");
  });

  test.each([
    { name: "no endpoint at all refuses", endpoints: [], windows: "ext refuse int refuse all refuse" },
    { name: "endpoints elsewhere only drop", endpoints: [there], windows: "ext drop int 0[0] all 0[0]" },
    {
      name: "endpoints that are not ready refuse",
      endpoints: [notReady("10.244.1.2")],
      windows: "ext refuse int refuse",
    },
    {
      name: "a terminating local endpoint serves next to ready remote ones",
      endpoints: [ending("10.244.1.2"), there],
      windows: "ext 0[0] int 1[1] all 1[1]",
    },
    {
      name: "a ready local endpoint leaves no place for terminating ones",
      endpoints: [here, ending("10.244.1.3"), ending("10.244.2.9", "node2"), there],
      windows: "ext 0[0] int 0[0 1] all 0[0 1]",
    },
    {
      name: "terminating ones serve everywhere when nothing is ready",
      endpoints: [ending("10.244.2.9", "node2"), ending("10.244.1.3")],
      windows: "ext 0[0] int 0[0 1] all 0[0 1]",
    },
    {
      name: "serving without terminating is not ready",
      endpoints: [endpoint("10.244.1.3", "node1", { ready: false, serving: true })],
      windows: "ext refuse int refuse all refuse",
    },
  ])("with policy Local, $name", ({ endpoints, windows }) => {
    const { feed, dump } = bench();
    feed({ services: [service(local)], slices: [slice({ endpoints })] });
    expect(dump()).toContain(`node-port service 1 row 1.1 ${windows}`);
  });

  test("a dual-stack Service has a service id per family", () => {
    const { feed, dump } = bench();
    feed({
      services: [service({ ...nodePort, clusterIPs: ["10.96.0.10", "fd00:10:96::a"] })],
      slices: [
        slice({ endpoints: [here] }),
        slice({ name: "web-6", endpoints: [endpoint("fd00:10:244:2::2", "node2")] }),
      ],
    });
    expect(dump()).toBe(
      text(`
        backend 0.1 service 1 10.244.1.2:8080 local
        backend 1.1 service 2 [fd00:10:244:2::2]:8080
        frontend 0.0.0.0 TCP 30080 node-port service 1 row 1.1 ext 0[0] int 0[0] all 0[0]
        frontend 10.96.0.10 TCP 80 cluster-ip service 1 row 0.1 ext 0[0] int 0[0] all 0[0]
        frontend :: TCP 30080 node-port service 2 row 3.1 ext 1[1] int 1[1] all 1[1]
        frontend fd00:10:96::a TCP 80 cluster-ip service 2 row 2.1 ext 1[1] int 1[1] all 1[1]
      `),
    );
  });

  test("ports match slices by name and protocol, each with its own service id", () => {
    const { feed, dump, reasons } = bench();
    feed({
      services: [
        service({
          ports: [
            { name: "web", port: 80 },
            { name: "dns", port: 53, protocol: "UDP" },
            { name: "typo", port: 81 },
          ],
        }),
      ],
      slices: [
        slice({
          ports: [
            { name: "web", port: 8080 },
            { name: "dns", port: 5353, protocol: "UDP" },
          ],
          endpoints: [here],
        }),
      ],
    });
    expect(dump()).toBe(
      text(`
        backend 0.1 service 1 10.244.1.2:8080 local
        backend 1.1 service 2 10.244.1.2:5353 local
        frontend 10.96.0.10 TCP 80 cluster-ip service 1 row 0.1 ext 0[0] int 0[0] all 0[0]
        frontend 10.96.0.10 TCP 81 cluster-ip service 3 row 2.1 ext refuse int refuse all refuse
        frontend 10.96.0.10 UDP 53 cluster-ip service 2 row 1.1 ext 1[1] int 1[1] all 1[1]
      `),
    );
    expect(reasons()).toEqual(["port-unmatched Service default/web"]);
  });

  test("of equal endpoints in two slices the ready one counts, then the one on this node, whatever the order", () => {
    const unknown = endpoint("10.244.1.2", "");
    for (const [first, second] of [
      [unknown, here],
      [here, unknown],
      [ending("10.244.1.2"), unknown],
    ] as const) {
      const { feed, dump } = bench();
      const slices = [slice({ name: "web-1", endpoints: [first] }), slice({ name: "web-2", endpoints: [second] })];
      feed({ services: [service(local)], slices });
      const window = first === here || second === here ? "0[0]" : "drop";
      expect(dump()).toContain(`frontend 0.0.0.0 TCP 30080 node-port service 1 row 1.1 ext ${window}`);
    }
  });

  test("a named target port that no pod has is told by that name", () => {
    const { feed, model } = bench();
    const of = (targetPort: number | string) => {
      feed({
        services: [service({ ports: [{ name: "", port: 80, targetPort }] })],
        slices: [slice({ ports: [{ name: "other", port: 8080 }], endpoints: [here] })],
      });
      return model.notices().map(({ field, message }) => `${field} ${message}`);
    };
    expect(of("htpp")).toEqual([
      'spec.ports[0].targetPort no IPv4 endpoint serves port 80: no pod that is selected has a TCP container port named "htpp"',
    ]);
    expect(of(8080)).toEqual([
      "spec.ports[0].name no IPv4 endpoint serves port 80: none has an unnamed port with protocol TCP",
    ]);
  });

  test("endpoints are deduplicated over slices: ready over serving over neither", () => {
    const { feed, dump } = bench();
    feed({
      services: [service()],
      slices: [
        slice({ name: "a", endpoints: [notReady("10.244.1.2"), ending("10.244.1.3"), here] }),
        slice({ name: "b", endpoints: [here, endpoint("10.244.1.3"), notReady("10.244.1.3")] }),
      ],
    });
    expect(dump()).toBe(
      text(`
        backend 0.1 service 1 10.244.1.2:8080 local
        backend 1.1 service 1 10.244.1.3:8080 local
        frontend 10.96.0.10 TCP 80 cluster-ip service 1 row 0.1 ext 0[0 1] int 0[0 1] all 0[0 1]
      `),
    );
  });

  test("an endpoint on this node's address is local whatever its nodeName says", () => {
    const { feed, dump } = bench();
    feed({ services: [service()], slices: [slice({ endpoints: [endpoint("192.168.122.11", "")] })] });
    expect(dump()).toContain("192.168.122.11:8080 local");
  });
});

describe("what gets nothing", () => {
  test.each([
    { name: "headless", given: { clusterIPs: [], headless: true } },
    { name: "ExternalName", given: { type: "ExternalName", clusterIPs: [], externalName: "example.org" } as const },
    { name: "not yet allocated", given: { clusterIPs: [], type: "NodePort", ports: [{ nodePort: 30080 }] } as const },
  ])("a Service that is $name", ({ given }) => {
    const { feed, maps, reasons } = bench({ nodes: [] });
    feed({ services: [service(given)], slices: [slice({ endpoints: [here] })] });
    expect(maps.dump()).toBe("");
    expect(reasons()).toEqual([]);
  });

  test("a LoadBalancer address with ipMode Proxy", () => {
    const { feed, dump } = bench();
    const loadBalancerAddresses = [{ address: "192.168.122.111", ipMode: "Proxy", fromPool: true }] as const;
    feed({ services: [service({ type: "LoadBalancer", loadBalancerAddresses })] });
    expect(dump()).not.toContain("192.168.122.111");
  });

  test.each([
    { name: "loopback", address: "127.0.0.1" },
    { name: "link-local", address: "169.254.1.1" },
    { name: "multicast", address: "224.0.0.1" },
    { name: "unspecified", address: "0.0.0.0" },
    { name: "IPv6 loopback", address: "::1" },
    { name: "IPv6 link-local", address: "fe80::1" },
    { name: "IPv6 multicast", address: "ff02::1" },
    { name: "a Service's own", address: "10.96.0.10" },
    { name: "another Service's", address: "10.96.0.20" },
  ])("an endpoint whose address is $name", ({ address }) => {
    const { feed, dump, reasons } = bench();
    feed({
      services: [
        service({ clusterIPs: ["10.96.0.10", "fd00:10:96::a"] }),
        service({ name: "other", clusterIPs: ["10.96.0.20"] }),
      ],
      slices: [slice({ endpoints: [endpoint(address)] })],
    });
    expect(dump()).not.toContain("backend");
    expect(reasons()).toContain("endpoint-refused Service default/web");
  });

  test.each(["127.0.0.1", "169.254.1.1", "224.0.0.1", "192.168.122.12", "::1", "fe80::1"])(
    "a cluster address %s",
    (address) => {
      const { feed, dump, reasons } = bench();
      feed({ services: [service({ clusterIPs: [address] })] });
      expect(dump()).toBe("");
      expect(reasons()).toEqual(["frontend-refused Service default/web"]);
    },
  );
});

describe("who wins", () => {
  const vip = (name: string, address: string, age: number, port = 80) =>
    service({
      name,
      age,
      type: "LoadBalancer",
      clusterIPs: [`10.96.1.${age}`],
      ports: [{ port }],
      loadBalancerAddresses: [{ address, ipMode: "VIP", fromPool: true }],
    });

  test("the older of two Services has the cluster address; the other gets it when the first goes", () => {
    const { feed, feedEvents, dump, reasons } = bench();
    feed({ services: [service({ name: "young", age: 2 }), service({ name: "old", age: 1 })] });
    expect(reasons()).toEqual(["address-in-use Service default/young"]);
    expect(dump()).toContain("10.96.0.10 TCP 80 cluster-ip service 1");
    feedEvents([{ kind: "Service", key: "default/old", object: undefined }]);
    expect(reasons()).toEqual([]);
    expect(dump()).toContain("10.96.0.10 TCP 80 cluster-ip service 2");
  });

  test("an older Service that comes later takes its address without a hole", () => {
    const { feed, dump, reasons } = bench();
    feed({ services: [service({ name: "young", age: 2 })] });
    const operations = feed({ services: [service({ name: "old", age: 1 })] });
    expect(operations.map(({ op }) => op)).not.toContain("drop-frontend");
    expect(dump()).toBe("frontend 10.96.0.10 TCP 80 cluster-ip service 2 row 1.1 ext refuse int refuse all refuse");
    expect(reasons()).toEqual(["address-in-use Service default/young"]);
  });

  test("a cluster address wins over a LoadBalancer address, however old", () => {
    const { feed, dump, reasons } = bench();
    feed({ services: [vip("lb", "10.96.0.10", 1), service({ age: 9 })] });
    expect(dump()).toContain("10.96.0.10 TCP 80 cluster-ip");
    expect(dump()).not.toContain("10.96.0.10 TCP 80 load-balancer");
    expect(reasons()).toEqual(["address-in-use Service default/lb"]);
  });

  test("a LoadBalancer address is shared port by port", () => {
    const { feed, dump, reasons } = bench();
    const address = "192.168.122.111";
    feed({ services: [vip("a", address, 1), vip("b", address, 2, 81), vip("c", address, 3, 81)] });
    expect(dump()).toContain("192.168.122.111 TCP 80 load-balancer service 1");
    expect(dump()).toContain("192.168.122.111 TCP 81 load-balancer service 2");
    expect(reasons()).toEqual(["address-in-use Service default/c"]);
  });

  test("the older of two Services has a node port", () => {
    const { feed, dump, reasons } = bench();
    feed({ services: [service({ name: "b", age: 2, clusterIPs: ["10.96.0.11"], ...nodePort }), service(nodePort)] });
    expect(dump()).toContain("0.0.0.0 TCP 30080 node-port service 2");
    expect(reasons()).toEqual(["port-in-use Service default/b"]);
  });

  test("a node port wins over a host port, an older pod over a younger", () => {
    const { feed, dump, reasons } = bench();
    feed({
      services: [service({ ...nodePort, age: 9 })],
      hostPorts: [
        hostPort({ pod: "default/a", hostPort: 30080 }),
        hostPort({ pod: "default/a", hostPort: 80 }),
        hostPort({ pod: "default/b", age: 2, hostPort: 80, hostAddress: "192.168.122.11" }),
      ],
    });
    expect(dump()).toContain("0.0.0.0 TCP 30080 node-port");
    expect(dump()).toContain("0.0.0.0 TCP 80 host-port");
    expect(dump()).not.toContain("192.168.122.11 TCP 80");
    expect(reasons()).toEqual(["port-in-use Pod default/a", "port-in-use Pod default/b"]);
  });

  test("an endpoint is refused while a Service has its address, and used again after", () => {
    const { feed, feedEvents, dump } = bench();
    feed({ services: [service()], slices: [slice({ endpoints: [endpoint("10.96.0.99"), there] })] });
    expect(dump()).toContain("10.96.0.99:8080");
    feed({ services: [service({ name: "other", clusterIPs: ["10.96.0.99"] })] });
    expect(dump()).not.toContain("10.96.0.99:8080");
    feedEvents([{ kind: "Service", key: "default/other", object: undefined }]);
    expect(dump()).toContain("10.96.0.99:8080");
  });
});

describe("host ports", () => {
  test("are served on their own node only", () => {
    const { feed, dump } = bench();
    feed({
      hostPorts: [
        hostPort(),
        hostPort({ pod: "default/six", podAddress: "fd00:10:244:1::2", hostPort: 8081, protocol: "UDP" }),
        hostPort({ pod: "default/bound", hostAddress: "192.168.122.11", hostPort: 8082 }),
        hostPort({ pod: "default/away", node: "node2", hostPort: 8083 }),
      ],
    });
    expect(dump()).toBe(
      text(`
        backend 0.1 service 1 10.244.1.2:80 local
        backend 1.1 service 2 [fd00:10:244:1::2]:80 local
        backend 2.1 service 3 10.244.1.2:80 local
        frontend 0.0.0.0 TCP 8080 host-port service 1 row 0.1 ext 0[0] int 0[0] all 0[0]
        frontend 192.168.122.11 TCP 8082 host-port service 3 row 2.1 ext 2[2] int 2[2] all 2[2]
        frontend :: UDP 8081 host-port service 2 row 1.1 ext 1[1] int 1[1] all 1[1]
      `),
    );
  });

  test.each(["169.254.1.1", "10.96.0.10"])("are refused at %s", (hostAddress) => {
    const { feed, dump, reasons } = bench();
    feed({ services: [service()], hostPorts: [hostPort({ hostAddress })] });
    expect(dump()).not.toContain("host-port");
    expect(reasons()).toEqual(["frontend-refused Pod default/pod"]);
  });
});

describe("addresses", () => {
  const addressesOf = (dump: string): string[] => dump.split("\n").filter((line) => /^(address|range) /.test(line));

  test("cluster addresses and those of our pools refuse, this node's addresses serve node ports", () => {
    const { feed, maps } = bench({ serviceRanges: [{ address: "10.96.0.0", length: 12 }] });
    feed({
      services: [
        service({
          type: "LoadBalancer",
          loadBalancerAddresses: [
            { address: "192.168.122.111", ipMode: "VIP", fromPool: true },
            { address: "203.0.113.9", ipMode: "VIP", fromPool: false },
            { address: "192.168.122.12", ipMode: "VIP", fromPool: true },
          ],
        }),
      ],
    });
    expect(addressesOf(maps.dump())).toEqual([
      "address 10.96.0.10 refuse",
      "address 192.168.122.11 node",
      "address 192.168.122.111 refuse",
      "address 192.168.122.12 peer",
      "address fd00:192:168:122::11 node",
      "address fd00:192:168:122::12 peer",
      "range 10.96.0.0/12",
    ]);
    expect(maps.dump()).toContain("frontend 203.0.113.9 TCP 80 load-balancer");
    expect(maps.dump()).toContain("frontend 192.168.122.12 TCP 80 load-balancer");
  });

  test("follow the node's object", () => {
    const { feed, maps } = bench({ nodes: [node(1, { internalAddresses: ["192.168.122.11"] })] });
    feed({ services: [service({ clusterIPs: ["192.168.122.99"] })] });
    expect(addressesOf(maps.dump())).toEqual(["address 192.168.122.11 node", "address 192.168.122.99 refuse"]);
    feed({ nodes: [node(1, { internalAddresses: ["192.168.122.99"] })] });
    expect(addressesOf(maps.dump())).toEqual(["address 192.168.122.99 node"]);
    expect(maps.dump()).not.toContain("frontend");
  });
});

describe("changes", () => {
  test("nothing but the order of endpoints or slices changed: nothing is done", () => {
    const { feed } = bench();
    feed({ services: [service(local)], slices: [slice({ endpoints: [here, there, elsewhere] })] });
    expect(feed({ slices: [slice({ endpoints: [elsewhere, here, there] })] })).toEqual([]);
    expect(
      feed({
        slices: [slice({ endpoints: [elsewhere] }), slice({ name: "second", endpoints: [there, here, elsewhere] })],
      }),
    ).toEqual([]);
  });

  test("new endpoints are put, switched to, and the old ones freed after a grace", () => {
    const { feed } = bench();
    feed({ services: [service()], slices: [slice({ endpoints: [here, there] })] });
    expect(feed({ slices: [slice({ endpoints: [there, elsewhere] })] }).map(({ op }) => op)).toEqual([
      "put-backends",
      "put-slots",
      "set-windows",
      "retire-backend",
      "grace",
      "free-backend",
      "free-slots",
    ]);
  });

  test("scaling to zero switches the windows before it retires", () => {
    const { feed, dump } = bench();
    feed({
      services: [service({ ports: [{ protocol: "UDP" }] })],
      slices: [slice({ ports: [{ protocol: "UDP" }], endpoints: [here] })],
    });
    const operations = feed({ slices: [slice({ ports: [{ protocol: "UDP" }] })] });
    expect(operations.map(({ op }) => op)).toEqual([
      "set-windows",
      "retire-backend",
      "grace",
      "free-backend",
      "free-slots",
    ]);
    expect(operations[1]).toMatchObject({ udp: true, generation: 2 });
    expect(dump()).toBe(
      text(`
        frontend 10.96.0.10 UDP 80 cluster-ip service 1 row 0.1 ext refuse int refuse all refuse
        retired 10.244.1.2 8080 service 1
      `),
    );
  });

  test("a policy that changes moves windows and retires nobody", () => {
    const { feed } = bench();
    feed({ services: [service(local)], slices: [slice({ endpoints: [here, there] })] });
    const operations = feed({ services: [service(nodePort)] });
    expect(operations.map(({ op }) => op)).toEqual(["set-backend", "set-windows"]);
    const back = feed({ services: [service(local)] });
    expect(back.map(({ op }) => op)).toEqual(["set-windows", "set-backend"]);
  });

  test("a backend that moves to this node keeps its index and generation", () => {
    const { feed } = bench();
    feed({ services: [service()], slices: [slice({ endpoints: [there] })] });
    expect(feed({ slices: [slice({ endpoints: [endpoint("10.244.2.2", "node1")] })] })).toEqual([
      { op: "set-backend", index: 0, generation: 1, local: true, windows: 2 },
    ]);
  });

  test("an index that is used again has a new generation", () => {
    const { feed, dump } = bench();
    feed({ services: [service()], slices: [slice({ endpoints: [here] })] });
    feed({ slices: [slice({ endpoints: [there] })] });
    feed({ slices: [slice({ endpoints: [elsewhere] })] });
    expect(dump()).toContain("backend 0.3 service 1 10.244.2.3:8080");
  });

  test("a Service that goes leaves nothing", () => {
    const { feed, feedEvents, dump, model } = bench();
    feed({ services: [service(local)], slices: [slice({ endpoints: [here, there] })] });
    feedEvents([{ kind: "Service", key: "default/web", object: undefined }]);
    expect(dump()).toBe("");
    expect(model.usage()).toEqual({
      sourceRanges: 0,
      rows: 0,
      slots: 0,
      backends: 0,
      services: 0,
      frontends: 0,
      addresses: 4,
    });
  });

  test("a renamed port keeps its service id and backends", () => {
    const { feed } = bench();
    feed({ services: [service()], slices: [slice({ endpoints: [here] })] });
    const operations = feed({
      services: [service({ ports: [{ name: "http" }] })],
      slices: [slice({ ports: [{ name: "http" }], endpoints: [here] })],
    });
    expect(operations).toEqual([]);
  });

  test("a Service that replaces another at its address has no hole and a service id of its own", () => {
    const { feedEvents, feed, dump } = bench();
    feed({ services: [service()], slices: [slice({ endpoints: [here] })] });
    const operations = feedEvents([
      { kind: "Service", key: "default/web", object: undefined },
      ...eventsOf({ services: [service({ name: "next" })], slices: [slice({ service: "next", endpoints: [there] })] }),
    ]);
    expect(operations.map(({ op }) => op)).not.toContain("drop-frontend");
    expect(dump()).toContain("frontend 10.96.0.10 TCP 80 cluster-ip service 2 row 1.1 ext 1[1]");
  });

  test("a service id is used again as late as possible", () => {
    const { feed, feedEvents, dump } = bench({ capacity: { services: 4 } });
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) {
      feed({ services: [service()] });
      ids.push(/service (\d+)/.exec(dump())![1]!);
      feedEvents([{ kind: "Service", key: "default/web", object: undefined }]);
    }
    expect(ids).toEqual(["1", "2", "3", "1", "2"]);
  });
});

describe("what can be read", () => {
  test("service ports with their backends", () => {
    const { feed, model } = bench();
    feed({
      services: [service({ ...asked, ports: local.ports })],
      slices: [slice({ endpoints: [ending("10.244.1.2"), there] })],
      hostPorts: [hostPort()],
    });
    const [web, host] = [...model.servicePorts()];
    expect(web).toMatchObject({ serviceId: 1, kind: "service", service: "default/web", port: 80, nodePort: 30080 });
    expect(web?.frontends.map(({ address }) => address)).toEqual(["10.96.0.10", "0.0.0.0"]);
    expect(web?.backends).toEqual([
      { index: 0, generation: 1, address: "10.244.1.2", port: 8080, node: "node1", local: true, state: "terminating" },
      { index: 1, generation: 1, address: "10.244.2.2", port: 8080, node: "node2", local: false, state: "ready" },
    ]);
    expect(host).toMatchObject({ kind: "host-port", service: "default/pod", port: 8080 });
    expect(model.serviceById(2)?.service).toBe("default/pod");
    expect(model.serviceById(3)).toBeUndefined();
    expect(model.healthChecks()).toEqual([
      { service: "default/web", port: 32000, localEndpoints: { IPv4: 0, IPv6: 0 } },
    ]);
    feed({ slices: [slice({ endpoints: [here, endpoint("10.244.1.9"), there] })] });
    expect(model.healthChecks()).toEqual([
      { service: "default/web", port: 32000, localEndpoints: { IPv4: 2, IPv6: 0 } },
    ]);
  });

  test("local endpoints are counted by family, each address once and without those that are drained", () => {
    const { feed, model } = bench();
    const clusterIPs = ["10.96.0.10", "fd00:10:96::a"];
    const ports = [{ name: "a" }, { name: "b", port: 81 }];
    const ofBoth = { ports: ports.map(({ name }) => ({ name, port: 8080 })) };
    feed({
      services: [service({ ...asked, clusterIPs, ports })],
      slices: [
        slice({ ...ofBoth, endpoints: [here, endpoint("10.244.1.3"), there] }),
        slice({ ...ofBoth, name: "web-6", endpoints: [endpoint("fd00:10:244:1::2")] }),
      ],
    });
    expect(model.healthChecks()).toMatchObject([{ localEndpoints: { IPv4: 2, IPv6: 1 } }]);
    feed({ slices: [slice({ ...ofBoth, name: "web-6", endpoints: [notReady("fd00:10:244:1::2")] })] });
    expect(model.healthChecks()).toMatchObject([{ localEndpoints: { IPv4: 2, IPv6: 0 } }]);
    feed({ slices: [slice({ ...ofBoth, weights: "10.244.1.3=0", endpoints: [here, endpoint("10.244.1.3"), there] })] });
    expect(model.healthChecks()).toMatchObject([{ localEndpoints: { IPv4: 1, IPv6: 0 } }]);
  });

  test.each<{ name: string; given: Parameters<typeof service>[0] }>([
    { name: "of another proxy", given: { isForeign: true } },
    { name: "that is no load balancer", given: { type: "NodePort" } },
    { name: "with policy Cluster", given: { externalTrafficPolicy: "Cluster" } },
    { name: "without a cluster address", given: { clusterIPs: [] } },
    { name: "without such a port", given: { healthCheckNodePort: 0 } },
  ])("a Service $name has no health check node port", ({ given }) => {
    const { feed, model } = bench();
    feed({ services: [service(asked)], slices: [slice({ endpoints: [here] })] });
    expect(model.healthChecks()).toHaveLength(1);
    feed({ services: [service({ ...asked, ...given })] });
    expect(model.healthChecks()).toEqual([]);
  });

  test("ServiceCIDR objects replace the ranges of the configuration, which come back when the last has gone", () => {
    const model = createModel({
      nodeName: "node1",
      capacity: CAPACITY,
      serviceRanges: [{ address: "10.96.0.0", length: 12 }],
    });
    const ranges = (): unknown => model.plan().find(({ op }) => op === "set-service-ranges");
    expect(ranges()).toMatchObject({ ranges: [{ address: "10.96.0.0", length: 12 }] });
    const object = { name: "kubernetes", cidrs: ["10.112.0.0/16", "fd00:10:96::/112"] };
    model.update([{ kind: "ServiceCIDR", key: "kubernetes", object }]);
    expect(ranges()).toMatchObject({
      ranges: [
        { address: "10.112.0.0", length: 16 },
        { address: "fd00:10:96::", length: 112 },
      ],
    });
    expect(model.isDirty()).toBe(false);
    model.update([{ kind: "ServiceCIDR", key: "kubernetes", object: undefined }]);
    expect(ranges()).toMatchObject({ ranges: [{ address: "10.96.0.0", length: 12 }] });
  });

  test("ranges beyond what the maps hold are named", () => {
    const model = createModel({ nodeName: "node1", capacity: { ...CAPACITY, serviceRanges: 2 }, serviceRanges: [] });
    const cidrs = (...list: string[]) =>
      model.update([{ kind: "ServiceCIDR", key: "more", object: { name: "more", cidrs: list } }]);
    cidrs("10.0.0.0/16", "10.1.0.0/16");
    expect(model.notices()).toEqual([]);
    cidrs("10.0.0.0/16", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16");
    expect(model.notices()).toMatchObject([
      { reason: "too-many-service-ranges", message: expect.stringContaining("10.2.0.0/16, 10.3.0.0/16") },
    ]);
  });

  test("a plan in parts ends in the same maps", () => {
    const objects = {
      nodes: [node(1), node(2)],
      services: [1, 2, 3, 4].map((i) => service({ name: `s${i}`, age: i, clusterIPs: [`10.96.0.${i}`] })),
      slices: [1, 2, 3, 4].map((i) => slice({ service: `s${i}`, endpoints: [here, there] })),
    };
    const whole = bench();
    whole.feed(objects);
    const parts = bench();
    const model = createModel({ nodeName: "node1", capacity: CAPACITY, serviceRanges: [] });
    model.adopt(parts.maps.readState());
    model.update(eventsOf(objects));
    let calls = 0;
    while (model.isDirty()) {
      parts.maps.apply(model.plan(1));
      calls++;
    }
    // Four enter claims (the last compiles one Service too), three compile the rest, one more is left with addresses.
    expect(calls).toBe(8);
    expect(parts.maps.dump()).toBe(whole.maps.dump());
  });
});
