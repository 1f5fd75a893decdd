// On which addresses of a node its node ports answer: what the texts of the flag mean, and roles as addresses come and go.
import { describe, expect, it, test } from "vitest";
import { createModel } from "../../src/model/model.ts";
import { parseNodePortAddresses, servesNodePorts } from "../../src/model/node-port-addresses.ts";
import type { Operation } from "../../src/model/operations.ts";
import { eventsOf, node } from "../flows/builders.ts";
import { CAPACITY } from "./setup.ts";

const V4 = "192.168.122.11";
const V6 = "fd00:192:168:122::11";
const INTERNAL = [V4, "10.9.9.1", V6];

describe("--nodeport-addresses", () => {
  it.each([
    ["primary", [V4, "10.9.9.1", V6], false],
    ["primary,localhost", [V4, "10.9.9.1", V6], true],
    ["localhost", [], true],
    ["all", [...INTERNAL, "10.8.8.1", "fd00::8"], false],
    ["10.9.9.0/24,fd00::/64", ["10.9.9.1", "fd00::8"], false],
    ["10.9.9.0/24", ["10.9.9.1", V6, "fd00::8"], false],
    ["primary,10.8.0.0/16", [V4, "10.9.9.1", V6, "10.8.8.1"], false],
    ["primary,127.0.0.0/8", [V4, "10.9.9.1", V6], true],
    ["127.0.0.0/8,::1/128", [], true],
  ] as const)("%s", (text, served, localhost) => {
    const parsed = parseNodePortAddresses(text.split(","))!;
    const all = [...INTERNAL, "10.8.8.1", "fd00::8"];
    expect(all.filter((one) => servesNodePorts(parsed, one, new Set(INTERNAL))).sort()).toEqual([...served].sort());
    expect(parsed.localhost).toBe(localhost);
  });

  it("is none of other words", () => {
    expect(parseNodePortAddresses(["primary", "second"])).toBeUndefined();
    expect(parseNodePortAddresses(["10.0.0.1"])).toBeUndefined();
  });
});

/** The roles that operations give and take. */
function changes(operations: readonly Operation[]): string[] {
  return operations.flatMap((one) => {
    if (one.op === "drop-address") return [`${one.address} -`];
    if (one.op !== "put-address") return [];
    const { node: isNode, withoutNodePorts } = one.roles;
    return [`${one.address} ${isNode ? (withoutNodePorts ? "host ports" : "node ports") : "peer"}`];
  });
}

function modelWith(texts: readonly string[]) {
  const model = createModel({
    ...{ nodeName: "node1", capacity: CAPACITY, serviceRanges: [] },
    nodePortAddresses: parseNodePortAddresses(texts)!,
  });
  return {
    hold(...addresses: string[]): string[] {
      model.setNetworks(addresses.map((address) => ({ address, length: 24 })));
      return changes(model.plan());
    },
    name(...internalAddresses: string[]): string[] {
      model.update(eventsOf({ nodes: [node(1, { internalAddresses })] }));
      return changes(model.plan());
    },
    forget(): string[] {
      model.update([{ kind: "Node", key: "node1", object: undefined }]);
      return changes(model.plan());
    },
  };
}

test("every InternalIP that the Node object names has node ports, in whatever order, as long as it is named", () => {
  const { name } = modelWith(["primary"]);
  expect(name(V4, "10.9.9.1", V6)).toEqual([`${V4} node ports`, "10.9.9.1 node ports", `${V6} node ports`]);
  expect(name("10.9.9.1", V4, V6)).toEqual([]);
  expect(name("10.9.9.1", V6)).toEqual([`${V4} -`]);
});

test("of a family without an InternalIP the first ExternalIP has node ports, where a device has it", () => {
  const outside = ["203.0.113.11", "fd00:203::11", "fd00:203::12"];
  const model = createModel({ ...{ nodeName: "node1", capacity: CAPACITY, serviceRanges: [] } });
  model.setNetworks(outside.map((address) => ({ address, length: 64 })));
  model.update(eventsOf({ nodes: [node(1, { internalAddresses: [V4], externalAddresses: outside })] }));
  const withNodePorts = changes(model.plan()).filter((one) => one.endsWith("node ports"));
  expect(withNodePorts.sort()).toEqual([`${V4} node ports`, "fd00:203::11 node ports"]);
  model.update(eventsOf({ nodes: [node(1, { internalAddresses: [V4, V6], externalAddresses: outside })] }));
  expect(changes(model.plan()).sort()).toEqual(["fd00:203::11 peer", `${V6} node ports`].sort());
});

test("an address that turns from internal to external where it stands loses its node ports", () => {
  const model = createModel({ ...{ nodeName: "node1", capacity: CAPACITY, serviceRanges: [] } });
  const both = [V4, "10.9.9.1"];
  model.setNetworks(both.map((address) => ({ address, length: 24 })));
  model.update(eventsOf({ nodes: [node(1, { internalAddresses: both, externalAddresses: [] })] }));
  expect(changes(model.plan())).toContain("10.9.9.1 node ports");
  model.update(eventsOf({ nodes: [node(1, { internalAddresses: [V4], externalAddresses: ["10.9.9.1"] })] }));
  expect(changes(model.plan())).toEqual(["10.9.9.1 peer"]);
});

test("this node's own ExternalIP, on a device, is like any other address of it; another node's is that one's", () => {
  const model = createModel({
    ...{ nodeName: "node1", capacity: CAPACITY, serviceRanges: [] },
    nodePortAddresses: parseNodePortAddresses(["all"])!,
  });
  const outside = "203.0.113.11";
  const own = node(1, { externalAddresses: [outside] });
  model.setNetworks([{ address: outside, length: 24 }]);
  model.update(eventsOf({ nodes: [own] }));
  expect(changes(model.plan())).toContain(`${outside} node ports`);
  model.update(eventsOf({ nodes: [own, node(2, { externalAddresses: [outside] })] }));
  expect(changes(model.plan())).toContain(`${outside} peer`);
});

test("a device's address has node ports from when it comes until it goes", () => {
  const { name, hold } = modelWith(["primary", "10.8.0.0/16"]);
  name(V4);
  expect(hold(V4, "10.8.8.1", "10.7.7.1")).toEqual(["10.8.8.1 node ports"]);
  expect(hold(V4, "10.7.7.1")).toEqual(["10.8.8.1 -"]);
});

test("a Node object that goes, or names no address, changes nothing that is served", () => {
  const { name, hold, forget } = modelWith(["all"]);
  name(V4, "10.9.9.1");
  hold(V4, "10.8.8.1");
  expect(name()).toEqual([]);
  expect(forget()).toEqual([]);
});
