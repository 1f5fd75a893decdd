// Holds the agent's announcements: what is kept for each Service is always what computing everything anew would give.
import { expect, test } from "vitest";
import { createAnnouncements } from "../../src/agent/announcements.ts";
import type { Network } from "../../src/decide/network.ts";
import type { Candidacy } from "../../src/l2/announcement.ts";
import { createModel } from "../../src/model/model.ts";
import type { AddressPool, ObjectEvent, Service } from "../../src/model/objects.ts";
import { costOf } from "../cost.ts";
import { at, device } from "../decide/inputs.ts";
import { advertisement, endpoint, eventsOf, node, notReady, pool, service, slice } from "../flows/builders.ts";
import { CAPACITY } from "../model/setup.ts";

const poolEvent = (object: AddressPool | undefined): ObjectEvent => ({
  kind: "AddressPool",
  key: "metallb-system/pool",
  object,
});

function bench() {
  let network: Network = {
    devices: [device("eth0", 2, { addresses: at("192.168.122.11/24") })],
    routes: [],
    routesBySource: false,
  };
  const roles = new Map<number, "uplink" | "pod">([[2, "uplink"]]);
  const model = createModel({ nodeName: "node1", capacity: CAPACITY, serviceRanges: [] });
  const around = { network: () => network, roles: () => roles } as Parameters<typeof createAnnouncements>[2];
  const announcements = createAnnouncements("node1", model, around);
  const feed = (events: readonly ObjectEvent[]): string[] => {
    announcements.note(events);
    model.update(events);
    const anew = createAnnouncements("node1", model, around)
      .current()
      .map(({ address }) => address);
    const kept = announcements.current().map(({ address }) => address);
    expect(kept.toSorted()).toEqual(anew.toSorted());
    return kept.toSorted();
  };
  /** Other devices, as the kernel would tell of them. */
  const setDevices = (change: (before: Network["devices"]) => Network["devices"]): readonly Candidacy[] => {
    network = { ...network, devices: change(network.devices) };
    announcements.noteNetwork();
    return announcements.current();
  };
  return { feed, announcements, roles, setDevices };
}

const balanced = (name: string, address: string, given: Partial<Service> = {}): Service => {
  const { ports: _, ...rest } = given;
  return service({
    name,
    type: "LoadBalancer",
    loadBalancerAddresses: [{ address, ipMode: "VIP", fromPool: true }],
    ...rest,
  });
};

const START: ObjectEvent[] = [
  poolEvent(pool()),
  { kind: "L2Advertisement", key: "metallb-system/all", object: advertisement() },
];

test("addresses come and go with Services, endpoints, pools, nodes and devices", () => {
  const { feed, announcements, roles } = bench();
  const start: ObjectEvent[] = [
    poolEvent(pool()),
    { kind: "L2Advertisement", key: "metallb-system/all", object: advertisement() },
  ];
  expect(feed([...start, ...eventsOf({ nodes: [node(1)], services: [balanced("a", "192.168.122.101")] })])).toEqual([
    "192.168.122.101",
  ]);
  const local = balanced("b", "192.168.122.102", { externalTrafficPolicy: "Local" });
  expect(feed(eventsOf({ services: [local] }))).toEqual(["192.168.122.101"]);
  const here = slice({ service: "b", endpoints: [endpoint("10.244.1.2")] });
  expect(feed(eventsOf({ slices: [here] }))).toEqual(["192.168.122.101", "192.168.122.102"]);
  expect(feed(eventsOf({ slices: [{ ...here, endpoints: [notReady("10.244.1.2")] }] }))).toEqual(["192.168.122.101"]);
  expect(feed(eventsOf({ slices: [here] }))).toHaveLength(2);
  expect(feed([{ kind: "EndpointSlice", key: "default/b-1", object: undefined }])).toEqual(["192.168.122.101"]);
  expect(feed([poolEvent(pool({ ranges: ["10.0.0.0/24"] }))])).toEqual([]);
  expect(feed([poolEvent(pool())])).toEqual(["192.168.122.101"]);
  roles.clear();
  announcements.noteNetwork();
  expect(announcements.current()).toEqual([]);
  roles.set(2, "uplink");
  announcements.noteNetwork();
  expect(feed(eventsOf({ nodes: [node(1, { excludeFromLoadBalancers: true })] }))).toEqual([]);
  expect(feed(eventsOf({ nodes: [node(1)] }))).toEqual(["192.168.122.101"]);
  expect(feed([{ kind: "Service", key: "default/a", object: undefined }])).toEqual([]);
});

test("an address that another node comes first for is a candidacy behind that node", () => {
  const { feed, announcements } = bench();
  const own = { ...node(1), name: "node1" };
  feed([...START, ...eventsOf({ nodes: [own, node(2), node(3)], services: [balanced("a", "192.168.122.101")] })]);
  const [one] = announcements.current();
  expect([...one!.above, "node1", ...one!.below].toSorted()).toEqual(["node1", "node2", "node3"]);
  // A node that comes before this one goes, and one that does not may announce no more.
  feed(eventsOf({ nodes: [2, 3].map((n) => node(n as 2 | 3, { excludeFromLoadBalancers: true })) }));
  expect(announcements.current()[0]).toMatchObject({ above: [], below: [] });
  expect(announcements.current()[0]?.device).toBe("eth0");
});

test("an address that two Services share is claimed once", () => {
  const { feed, announcements } = bench();
  feed([
    poolEvent(pool()),
    { kind: "L2Advertisement", key: "metallb-system/all", object: advertisement() },
    ...eventsOf({ nodes: [node(1)], services: [balanced("a", "192.168.122.101"), balanced("b", "192.168.122.101")] }),
  ]);
  expect(announcements.current()).toHaveLength(1);
  expect(feed([{ kind: "Service", key: "default/a", object: undefined }])).toEqual(["192.168.122.101"]);
});

test("what changes nothing gives the same answer, not an equal one", () => {
  const { feed, announcements } = bench();
  feed(eventsOf({ nodes: [node(1)], services: [service()] }));
  const before = announcements.current();
  feed(eventsOf({ services: [service({ name: "other", clusterIPs: ["10.96.0.11"] })], slices: [slice()] }));
  expect(announcements.current()).toBe(before);
});

test("an announcement follows its device: another MAC, another name, gone and back", () => {
  const { feed, announcements, setDevices } = bench();
  feed([...START, ...eventsOf({ nodes: [node(1)], services: [balanced("a", "192.168.122.101")] })]);
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 2);
  expect(setDevices(([one]) => [{ ...one!, mac }])[0]?.mac).toEqual(mac);
  expect(setDevices(([one]) => [{ ...one!, name: "lan0" }])[0]?.device).toBe("lan0");
  let kept: Network["devices"] = [];
  expect(
    setDevices((devices) => {
      kept = devices;
      return [];
    }),
  ).toEqual([]);
  expect(setDevices(() => kept)).toHaveLength(1);
  expect(announcements.announcerOf("default/a")).toEqual({ node: "node1", address: "192.168.122.101", reason: "" });
  const elected = [{ address: "192.168.122.101", service: "default/a" }];
  expect(announcements.summary()).toEqual({ elected, unannounced: new Map() });
  feed(eventsOf({ nodes: [node(1, { excludeFromLoadBalancers: true })] }));
  expect(announcements.summary()).toEqual({ elected: [], unannounced: new Map([["excluded", 1]]) });
  expect(announcements.announcerOf("default/a")).toEqual({ node: "", address: "192.168.122.101", reason: "excluded" });
  expect(announcements.announcerOf("default/unknown")).toEqual({ node: "", address: "", reason: "" });
});

test("an address whose device is gone is lacking until the device is back, or until it is not to be announced here", () => {
  const { feed, announcements, setDevices } = bench();
  const advertised = (interfaces: readonly string[]): ObjectEvent => ({
    ...{ kind: "L2Advertisement", key: "metallb-system/all", object: { ...advertisement(), interfaces } },
  });
  const lacking = (): readonly string[] => announcements.lacking();
  feed([
    poolEvent(pool()),
    advertised(["eth1"]),
    ...eventsOf({ nodes: [node(1)], services: [balanced("a", "192.168.122.101")] }),
  ]);
  // It never had one: so it may be meant.
  expect([announcements.current(), lacking()]).toEqual([[], []]);
  feed([advertised(["eth0"])]);
  expect([announcements.current().length, lacking()]).toEqual([1, []]);
  let kept: Network["devices"] = [];
  const lose = (): void => {
    setDevices((devices) => {
      kept = devices;
      return [];
    });
  };
  lose();
  expect([announcements.current(), lacking()]).toEqual([[], ["192.168.122.101"]]);
  expect(announcements.notices()).toMatchObject([{ object: "Service default/a", reason: "not-announced" }]);
  setDevices(() => kept);
  expect([lacking(), announcements.notices()]).toEqual([[], []]);
  lose();
  feed([advertised(["eth1"])]);
  expect(lacking()).toEqual([]);
  setDevices(() => kept);
  feed([advertised([])]);
  lose();
  expect(lacking()).toEqual(["192.168.122.101"]);
  feed(eventsOf({ nodes: [node(1, { excludeFromLoadBalancers: true })] }));
  expect(lacking()).toEqual([]);
});

test.each([1000, 5000])("a network event with %i nodes and 500 addresses costs next to nothing", (count) => {
  const { feed, announcements, setDevices } = bench();
  const services = Array.from({ length: 500 }, (_, i) => balanced(`s${i}`, `10.0.${i >> 8}.${i & 255}`));
  const others = Array.from({ length: count - 1 }, (_, i) => ({
    ...node(2, { excludeFromLoadBalancers: true }),
    ...{ name: `worker-${i}`, internalAddresses: [] },
  }));
  // Every address is this node's: the most that it can have to do.
  feed([...START, poolEvent(pool({ ranges: ["10.0.0.0/16"] }))]);
  setDevices(([one]) => [{ ...one!, addresses: [{ address: "10.0.255.1", length: 16 }] }]);
  feed(eventsOf({ nodes: [node(1), ...others], services }));
  const before = announcements.current();
  expect(before).toHaveLength(500);
  const timed = (what: string, run: () => readonly Candidacy[]): readonly Candidacy[] => {
    let found: readonly Candidacy[] = [];
    const ms = costOf(`${count} nodes, 500 addresses of this one: ${what}`, () => {
      found = run();
    });
    expect(ms, what).toBeLessThan(50);
    return found;
  };
  const pod = { ...{ name: "veth1", ifindex: 9, kind: "veth", addresses: [] }, mac: new Uint8Array(6) };
  expect(timed("a pod's device", () => setDevices(([one]) => [one!, { ...one!, ...pod }]))).toBe(before);
  expect(
    timed("a new MAC", () => setDevices(([one]) => [{ ...one!, mac: Uint8Array.of(2, 0, 0, 0, 0, 2) }])),
  ).toHaveLength(500);
  expect(timed("no device", () => setDevices(() => []))).toEqual([]);
});
