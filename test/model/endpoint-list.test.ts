// Holds EndpointList: it says of its endpoints what an array of them says.
import { expect, test } from "vitest";
import { EndpointList, hasHints, READY, SERVING, TERMINATING } from "../../src/model/endpoint-list.ts";

test("an endpoint list gives back what its columns hold", () => {
  const list = new EndpointList({
    addresses: ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
    conditions: String.fromCharCode(READY | SERVING, SERVING | TERMINATING, 0),
    nodes: String.fromCharCode(1, 1, 0),
    nodeNames: ["", "node1"],
  });
  expect(list).toHaveLength(3);
  const common = { hostname: "", pod: "", terminating: false, serving: true };
  expect([...list]).toEqual([
    { ...common, addresses: ["10.0.0.1"], ready: true, nodeName: "node1" },
    { ...common, addresses: ["10.0.0.2"], ready: false, terminating: true, nodeName: "node1" },
    { ...common, addresses: ["10.0.0.3"], ready: false, serving: false, nodeName: "" },
  ]);
  expect([...list]).toEqual([...list]);
});

test("hints are kept for those that have some", () => {
  const common = {
    addresses: ["10.0.0.1", "10.0.0.2"],
    conditions: String.fromCharCode(READY, READY),
    nodes: "\0\0",
    nodeNames: [""],
  };
  const hints = { zones: ["a"], nodes: [] };
  const list = new EndpointList({ ...common, hints: "\x01\0", hintSets: [undefined, hints] });
  expect([...list].map((one) => one.hints)).toEqual([hints, undefined]);
  expect([list, [...list], new EndpointList(common), []].map(hasHints)).toEqual([true, true, false, false]);
});

test("columns of different lengths are refused", () => {
  const columns = { addresses: ["10.0.0.1"], nodes: "\0", nodeNames: [""] };
  expect(() => new EndpointList({ ...columns, conditions: "\0", hints: "\0\0" })).toThrow("1 nodes and 2 hints");
  expect(() => new EndpointList({ ...columns, conditions: "\0\0" })).toThrow("columns must be of one length");
});
