// What is told to whoever reads objects: each Service that is announced, each wrong once, by one node.
import { describe, expect, it } from "vitest";
import { createReports } from "../../src/agent/reports.ts";
import type { Announcement } from "../../src/l2/announcer-machine.ts";
import type { Node, Notice } from "../../src/model/objects.ts";
import type { AnnouncedService, ObjectReport } from "../../src/model/source.ts";
import { node } from "../flows/builders.ts";

const announcement = (address: string, device = "eth0", service = "default/a"): Announcement => ({
  ...{ address, device, service, ifindex: 2, mac: new Uint8Array(6) },
});

const notice = (over: Partial<Notice> = {}): Notice => ({
  ...{ object: "Service default/web", file: "", field: "status", reason: "address-in-use", severity: "warning" },
  message: "192.0.2.1 was claimed by another MAC",
  ...over,
});

function bench(nodeName = "node1", nodes: readonly Node[] = [node(1), node(2), node(3)]) {
  const announced: (readonly AnnouncedService[])[] = [];
  const reported: ObjectReport[] = [];
  const sharers = new Map([["192.0.2.1", ["default/a", "default/b"]]]);
  let version = 0;
  const reports = createReports({
    nodeName,
    source: { announced: (list) => void announced.push(list), report: (one) => void reported.push(one) },
    provenance: { servicesAt: (address) => sharers.get(address) ?? [], version: () => version },
    nodes: () => new Map(nodes.map((one) => [one.name, one])),
  });
  return { announced, reported, reports, grantsChange: () => version++ };
}

describe("the list of what is announced", () => {
  it("names every Service that has the address, with all devices, and is told when it is another", () => {
    const { announced, reports, grantsChange } = bench();
    const list = [
      announcement("192.0.2.1"),
      announcement("192.0.2.1", "eth1"),
      announcement("192.0.2.9", "eth0", "default/c"),
    ];
    reports.announced(list);
    expect(announced).toEqual([
      [
        { service: "default/a", interfaces: ["eth0", "eth1"] },
        { service: "default/b", interfaces: ["eth0", "eth1"] },
        { service: "default/c", interfaces: ["eth0"] },
      ],
    ]);
    reports.announced([...list]);
    expect(announced, "the same").toHaveLength(1);
    grantsChange();
    reports.announced(list);
    expect(announced, "another Service may share an address").toHaveLength(2);
    reports.announced([]);
    expect(announced.at(-1)).toEqual([]);
  });
});

describe("a notice", () => {
  it("of this node alone becomes an event when it begins, and again when it comes back", () => {
    const { reported, reports } = bench();
    reports.note([notice()], []);
    reports.note([notice()], []);
    expect(reported).toEqual([
      {
        ...{ kind: "Service", key: "default/web", reason: "AddressInUse", type: "Warning" },
        message: "192.0.2.1 was claimed by another MAC",
      },
    ]);
    reports.note([], []);
    reports.note([notice()], []);
    expect(reported).toHaveLength(2);
  });

  it.each<[string, Notice]>([
    ["about a node", notice({ object: "Node node1" })],
    ["about the API", notice({ object: "Kubernetes API" })],
    ["about an EndpointSlice", notice({ object: "EndpointSlice default/web-1" })],
    ["that is information", notice({ severity: "info" })],
  ])("%s becomes none", (_name, one) => {
    const { reported, reports } = bench();
    reports.note([one], [one]);
    expect(reported).toEqual([]);
  });

  it("that every node has becomes one event of exactly one node, whichever is ready", () => {
    for (let i = 0; i < 50; i++) {
      const shared = notice({ object: `IPAddressPool metallb-system/p${i}`, reason: "pool-covers-reserved" });
      const tell = (nodes: readonly Node[]): string[] =>
        nodes.flatMap(({ name }) => {
          const { reported, reports } = bench(name, nodes);
          reports.note([], [shared]);
          return reported.map(({ kind, key, reason }) => `${kind} ${key} ${reason}`);
        });
      const one = [`IPAddressPool metallb-system/p${i} PoolCoversReserved`];
      expect(tell([node(1), node(2), node(3)])).toEqual(one);
      // One that is not ready may not be there to tell: the others have one among them, whatever it does.
      const others = [node(1, { ready: false }), node(2), node(3)];
      const told = others.slice(1).flatMap(({ name }) => {
        const { reported, reports } = bench(name, others);
        reports.note([], [shared]);
        return reported;
      });
      expect(told).toHaveLength(1);
    }
  });
});

it("nothing is made of either where nobody reads it", () => {
  const reports = createReports({
    ...{ nodeName: "node1", source: {}, nodes: () => new Map() },
    provenance: { servicesAt: () => [], version: () => 0 },
  });
  expect(() => {
    reports.announced([announcement("192.0.2.1")]);
    reports.note([notice()], [notice()]);
  }).not.toThrow();
});
