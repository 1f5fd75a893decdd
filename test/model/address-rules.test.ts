// Which addresses and ports may be a frontend or an endpoint: a line for each rule, beside one that it must not reach.
import { describe, expect, it, test } from "vitest";
import { type AddressFacts, endpointRefusal, frontendRefusal } from "../../src/model/address-rules.ts";
import { createModel } from "../../src/model/model.ts";
import type { ObjectEvent } from "../../src/model/objects.ts";
import { createFakeMaps } from "../fakes/fake-maps.ts";
import { endpoint, eventsOf, hostPort, node, service, slice } from "../flows/builders.ts";
import { bench, CAPACITY } from "./setup.ts";

const OWN = "192.168.122.11";
const PEER = "192.168.122.12";
const PEER_OUTSIDE = "203.0.113.12";
const DEVICE = "10.96.0.53";
const API = "203.0.113.5";
const CLUSTER_IP = "10.96.0.10";
const BALANCED = "192.168.122.111";
const FORBIDDEN = "198.51.100.7";

const FACTS: AddressFacts = {
  isOwnAddress: (address) => address === OWN,
  isNodeAddress: (address) => [OWN, PEER, PEER_OUTSIDE].includes(address),
  isDeviceAddress: (address) => [OWN, DEVICE].includes(address),
  mayBeExternal: (address) => address !== FORBIDDEN,
  podNetworkOf: (address) => (address.startsWith("10.244.1.") ? "10.244.1.0/24" : undefined),
  isControlPlane: (address, { protocol, port }) =>
    protocol === "TCP" && ((address === API && port === 6443) || (address === PEER && port === 10250)),
  isClusterIP: (address) => address === CLUSTER_IP,
  isClaimed: (address) => [CLUSTER_IP, BALANCED, PEER].includes(address),
  isFrontend: (address, { protocol, port }) =>
    address === CLUSTER_IP || ([BALANCED, PEER].includes(address) && protocol === "TCP" && port === 80),
};

const tcp = (port: number) => ({ protocol: "TCP", port }) as const;
const udp = (port: number) => ({ protocol: "UDP", port }) as const;

describe("a frontend", () => {
  it.each([
    ["cluster-ip", "127.0.0.1", tcp(80), "loopback"],
    ["cluster-ip", "::1", tcp(80), "loopback"],
    ["load-balancer", "169.254.1.1", tcp(80), "link-local"],
    ["load-balancer", "fe80::1", tcp(80), "link-local"],
    ["cluster-ip", "224.0.0.1", tcp(80), "multicast"],
    ["load-balancer", "255.255.255.255", tcp(80), "multicast"],
    ["load-balancer", "0.0.0.0", tcp(80), "unspecified"],
    ["load-balancer", "::", tcp(80), "unspecified"],
    ["host-port", "127.0.0.1", tcp(80), undefined],
    ["host-port", "::1", udp(80), undefined],
    ["host-port", "169.254.1.1", tcp(80), "link-local"],
    ["cluster-ip", "10.96.0.11", tcp(80), undefined],
    ["cluster-ip", "fd00:10:96::b", udp(53), undefined],
    ["cluster-ip", OWN, tcp(80), "the address of a node"],
    ["cluster-ip", PEER, tcp(80), "the address of a node"],
    ["cluster-ip", PEER_OUTSIDE, tcp(80), "the address of a node"],
    ["cluster-ip", DEVICE, udp(53), "the address of a device of this node, which answers there itself"],
    ["load-balancer", OWN, tcp(80), undefined],
    ["load-balancer", PEER_OUTSIDE, tcp(443), undefined],
    ["load-balancer", DEVICE, tcp(80), undefined],
    ["load-balancer", BALANCED, tcp(80), undefined],
    ["load-balancer", "10.244.1.7", tcp(80), "an address of pods, in 10.244.1.0/24"],
    ["load-balancer", "10.244.2.7", tcp(80), undefined],
    ["external-ip", "198.51.100.8", tcp(80), undefined],
    ["external-ip", FORBIDDEN, tcp(80), "in none of the ranges that --external-ip-cidrs allows"],
    ["external-ip", "127.0.0.1", tcp(80), "loopback"],
    ["external-ip", OWN, tcp(80), "the address of a node"],
    ["external-ip", PEER_OUTSIDE, tcp(80), "the address of a node"],
    ["external-ip", DEVICE, udp(53), "the address of a device of this node"],
    ["external-ip", "10.244.1.7", tcp(80), "an address of pods, in 10.244.1.0/24"],
    ["external-ip", API, tcp(6443), "where the API server or a kubelet listens (port 6443)"],
    ["external-ip", BALANCED, tcp(80), undefined],
    ["load-balancer", API, tcp(6443), "where the API server or a kubelet listens (port 6443)"],
    ["load-balancer", API, tcp(443), undefined],
    ["load-balancer", API, udp(6443), undefined],
    ["load-balancer", API, undefined, undefined],
    ["load-balancer", PEER, tcp(10250), "where the API server or a kubelet listens (port 10250)"],
    ["load-balancer", PEER, tcp(10251), undefined],
    ["host-port", OWN, tcp(80), undefined],
    ["host-port", PEER, tcp(80), "the address of another node"],
    ["host-port", BALANCED, tcp(81), "the address of a Service"],
    ["host-port", "198.51.100.7", tcp(81), undefined],
  ] as const)("%s at %s %o: %s", (kind, address, port, why) => {
    expect(frontendRefusal(kind, address, port, FACTS)?.why).toBe(why);
  });

  it("left to a device is no fault of the Service", () => {
    expect(frontendRefusal("cluster-ip", DEVICE, undefined, FACTS)?.reason).toBe("left-to-device");
    expect(frontendRefusal("cluster-ip", OWN, undefined, FACTS)?.reason).toBe("frontend-refused");
  });
});

describe("an endpoint", () => {
  it.each([
    ["10.244.1.7", tcp(8080), "IPv4", undefined],
    ["10.244.1.7", tcp(8080), "IPv6", "it is no IPv6 address"],
    ["127.0.0.1", tcp(8080), "IPv4", "it is loopback"],
    ["fe80::1", tcp(8080), "IPv6", "it is link-local"],
    ["224.0.0.9", tcp(8080), "IPv4", "it is multicast"],
    ["0.0.0.0", tcp(8080), "IPv4", "it is unspecified"],
    [CLUSTER_IP, tcp(9999), "IPv4", "it is the address of a Service"],
    [BALANCED, tcp(80), "IPv4", "it is where a Service answers (port 80)"],
    [BALANCED, tcp(6443), "IPv4", undefined],
    [BALANCED, udp(80), "IPv4", undefined],
    // A node answers at its own address itself, also where a LoadBalancer address leads to it.
    [PEER, tcp(80), "IPv4", undefined],
    [API, tcp(6443), "IPv4", undefined],
  ] as const)("at %s %o for %s: %s", (address, port, family, why) => {
    expect(endpointRefusal(address, port, family, FACTS)).toBe(why);
  });
});

/** The API server at 203.0.113.5:6443, as endpoint of its own Service. */
const apiService = () =>
  service({ name: "kubernetes", clusterIPs: ["10.96.0.1"], ports: [{ name: "https", port: 443, targetPort: 6443 }] });
const apiSlice = (...addresses: string[]) =>
  slice({
    service: "kubernetes",
    ports: [{ name: "https", port: 6443 }],
    endpoints: addresses.map((address) => endpoint(address, "")),
  });
const balanced = (address: string, ...ports: number[]) =>
  service({
    type: "LoadBalancer",
    ports: ports.map((port) => ({ name: `p${port}`, port })),
    loadBalancerAddresses: [{ address, ipMode: "VIP", fromPool: false }],
  });
const frontends = (dump: string): string[] =>
  dump.split("\n").flatMap((line) => /^frontend (\S+ \S+ \d+)/.exec(line)?.[1] ?? []);

describe("the API server", () => {
  test("stays an endpoint when a Service has its address for another port", () => {
    const { feed, dump, reasons } = bench();
    feed({ services: [balanced(API, 80), apiService()], slices: [apiSlice(API)] });
    expect(dump()).toContain(`${API}:6443`);
    expect(frontends(dump())).toContain(`${API} TCP 80`);
    expect(reasons()).toEqual([]);
  });

  test("is covered by no frontend, whoever came first, and the port beside it is served", () => {
    for (const isLate of [false, true]) {
      const { feed, feedEvents, dump, reasons } = bench();
      const first = { services: [apiService()], slices: [apiSlice(API)] };
      const second = { services: [balanced(API, 80, 6443)] };
      feed(isLate ? second : first);
      feed(isLate ? first : second);
      expect(frontends(dump())).not.toContain(`${API} TCP 6443`);
      expect(frontends(dump())).toContain(`${API} TCP 80`);
      expect(dump()).toContain(`${API}:6443`);
      expect(reasons()).toEqual(["frontend-refused Service default/web"]);
      feedEvents([{ kind: "EndpointSlice", key: "default/kubernetes-1", object: undefined }]);
      expect(frontends(dump())).toContain(`${API} TCP 6443`);
    }
  });

  test("is told by nobody but its own Service", () => {
    const { feed, dump } = bench();
    feed({
      services: [balanced(API, 6443)],
      slices: [{ ...apiSlice(API), namespace: "tenant" }],
    });
    expect(frontends(dump())).toContain(`${API} TCP 6443`);
  });
});

describe("nodes", () => {
  test("are known by their ExternalIPs too: a kubelet there is covered by nobody, and no port refused", () => {
    const { feed, maps, dump, reasons } = bench({
      nodes: [node(1), node(2, { externalAddresses: [PEER_OUTSIDE], kubeletPort: 10250 })],
    });
    feed({ services: [balanced(PEER_OUTSIDE, 443, 10250)] });
    expect(frontends(dump())).toEqual(["10.96.0.10 TCP 10250", "10.96.0.10 TCP 443", `${PEER_OUTSIDE} TCP 443`]);
    expect(maps.dump()).toContain(`address ${PEER_OUTSIDE} peer`);
    expect(reasons()).toEqual(["frontend-refused Service default/web"]);
  });

  test("have pods, whose addresses no LoadBalancer address covers, until that network is another's", () => {
    const { feed, dump, reasons } = bench();
    feed({ services: [balanced("10.244.2.7", 80)] });
    expect([frontends(dump()), reasons()]).toEqual([["10.96.0.10 TCP 80"], ["frontend-refused Service default/web"]]);
    feed({ nodes: [node(2, { podCIDRs: ["10.245.2.0/24"] })] });
    expect([frontends(dump()), reasons()]).toEqual([["10.244.2.7 TCP 80", "10.96.0.10 TCP 80"], []]);
  });

  test.each([
    ["whose object is gone", undefined],
    ["that names no address for a while", node(1, { internalAddresses: [] })],
  ])("this one, %s, goes on serving, also after a restart", (_, object) => {
    const { feed, feedEvents, maps, model } = bench();
    feed({ services: [service({ type: "NodePort", ports: [{ nodePort: 30080 }] })] });
    const before = maps.dump();
    expect(feedEvents([{ kind: "Node", key: "node1", object }])).toEqual([]);
    model.adopt(maps.readState());
    maps.apply(model.plan());
    expect(maps.dump()).toBe(before);
    feed({ nodes: [node(1, { internalAddresses: ["192.168.122.99"] })] });
    expect(maps.dump()).toContain("address 192.168.122.99 node");
    expect(maps.dump()).not.toContain(`address ${OWN}`);
  });

  test("an address of this one that another has meanwhile is that one's", () => {
    const { feed, feedEvents, maps } = bench();
    feedEvents([{ kind: "Node", key: "node1", object: undefined }]);
    feed({ nodes: [node(2, { internalAddresses: [OWN] })] });
    expect(maps.dump()).toContain(`address ${OWN} peer`);
  });
});

describe("an external IP", () => {
  const EXTERNAL = "198.51.100.7";
  const allowed = () => {
    const maps = createFakeMaps(CAPACITY);
    const model = createModel({
      ...{ nodeName: "node1", capacity: CAPACITY, serviceRanges: [] },
      externalIPRanges: [{ address: "198.51.100.0", length: 24 }],
    });
    return {
      feed(events: readonly ObjectEvent[]) {
        model.update(events);
        maps.apply(model.plan());
      },
      ownerOf: () => {
        const row = maps.rows.get(maps.frontends.get(`${EXTERNAL} TCP 80`)?.row ?? -1);
        return row === undefined ? undefined : [model.serviceById(row.serviceId)?.service, row.kind];
      },
      told: () => model.notices().map(({ object, reason, message }) => [object, reason, message]),
    };
  };

  test("passes to who has it as LoadBalancer address, and back when that goes; the losers are told", () => {
    const { feed, ownerOf, told } = allowed();
    const first = service({ name: "first", externalIPs: [EXTERNAL] });
    const second = service({ name: "second", age: 2, clusterIPs: ["10.96.0.11"], externalIPs: [EXTERNAL] });
    const balanced = service({
      ...{ name: "balanced", age: 3, type: "LoadBalancer", clusterIPs: ["10.96.0.12"] },
      loadBalancerAddresses: [{ address: EXTERNAL, ipMode: "VIP", fromPool: false }],
    });
    const lost = (name: string, to: string) => [
      `Service default/${name}`,
      "address-in-use",
      `could not serve port 80 of ${EXTERNAL}: Service default/${to} has it`,
    ];
    feed(eventsOf({ services: [second] }));
    expect([ownerOf(), told()]).toEqual([["default/second", "external-ip"], []]);
    feed(eventsOf({ services: [first] }));
    expect([ownerOf(), told()]).toEqual([["default/first", "external-ip"], [lost("second", "first")]]);
    feed(eventsOf({ services: [balanced] }));
    expect(ownerOf()).toEqual(["default/balanced", "load-balancer"]);
    expect(told().sort()).toEqual([lost("first", "balanced"), lost("second", "balanced")]);
    feed([{ kind: "Service", key: "default/balanced", object: undefined }]);
    feed([{ kind: "Service", key: "default/first", object: undefined }]);
    expect([ownerOf(), told()]).toEqual([["default/second", "external-ip"], []]);
  });

  test("that is not allowed is told for each address, and the others are served", () => {
    const { feed, ownerOf, told } = allowed();
    feed(eventsOf({ services: [service({ externalIPs: ["203.0.113.5", EXTERNAL, "203.0.113.6"] })] }));
    expect(ownerOf()).toEqual(["default/web", "external-ip"]);
    expect(told().map(([, reason]) => reason)).toEqual(["external-ip-not-allowed", "external-ip-not-allowed"]);
    expect(told()[0]?.[2]).toBe(
      "could not serve 203.0.113.5: it is in none of the ranges that --external-ip-cidrs allows",
    );
  });

  test("is given up while a node has it", () => {
    const { feed, ownerOf, told } = allowed();
    feed(
      eventsOf({
        services: [service({ externalIPs: [EXTERNAL] })],
        nodes: [node(2, { internalAddresses: [EXTERNAL] })],
      }),
    );
    expect([ownerOf(), told().map(([, reason]) => reason)]).toEqual([undefined, ["frontend-refused"]]);
    feed(eventsOf({ nodes: [node(2)] }));
    expect([ownerOf(), told()]).toEqual([["default/web", "external-ip"], []]);
  });
});

describe("a Service of another proxy", () => {
  test("has nothing in the maps but its address, which is left alone; and is served once it is ours", () => {
    const { feed, maps, reasons } = bench({ nodes: [] });
    const given = {
      clusterIPs: ["10.96.0.10", "fd00:10:96::a"],
      type: "NodePort",
      ports: [{ nodePort: 30080 }],
    } as const;
    feed({
      services: [service({ ...given, isForeign: true })],
      slices: [slice({ endpoints: [endpoint("10.244.1.2")] })],
    });
    expect(maps.dump().split("\n")).toEqual(["address 10.96.0.10 peer", "address fd00:10:96::a peer"]);
    expect(reasons()).toEqual([]);
    feed({ services: [service(given)] });
    expect(maps.dump()).toContain("address 10.96.0.10 refuse");
    expect(maps.dump()).toContain("frontend 10.96.0.10 TCP 80 cluster-ip");
  });

  test("keeps its address from a host port", () => {
    const { feed, reasons } = bench();
    feed({ services: [service({ isForeign: true })], hostPorts: [hostPort({ hostAddress: "10.96.0.10" })] });
    expect(reasons()).toEqual(["frontend-refused Pod default/pod"]);
  });
});
