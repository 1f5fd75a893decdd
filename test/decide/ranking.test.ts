// The order of nodes for an address: the same for everyone, fair, and moved only by who comes or goes.
import { expect, test } from "vitest";
import { hashOf, score } from "../../src/decide/ranking.ts";

const NODES = ["node1", "node2", "node3", "node4"];
const ADDRESSES = Array.from({ length: 1000 }, (_, i) => `192.168.${i >> 8}.${i & 255}`);
const of = (node: string, address: string): number => score(hashOf(node), hashOf(address));
const first = (nodes: readonly string[], address: string): string =>
  nodes.reduce((best, node) => (of(node, address) > of(best, address) ? node : best));

test("the score of a node is fixed for good: every version and node must compute the same", () => {
  expect(of("node1", "192.168.122.111")).toBe(2132616789831291);
  expect(of("worker-7.example.net", "fd00:192:168:122::111")).toBe(4060669011290348);
});

test("scores are whole numbers below 2^52, and no two of many nodes are equal", () => {
  const scores = Array.from({ length: 5000 }, (_, i) => of(`node-${i}`, "192.168.122.111"));
  expect(scores.every((one) => Number.isInteger(one) && one >= 0 && one < 2 ** 52)).toBe(true);
  expect(new Set(scores).size).toBe(5000);
});

test("a name and an address do not run into each other", () => {
  expect(of("node1", "1.1.1.1")).not.toBe(of("node11", ".1.1.1"));
});

test.each([
  { name: "a few nodes", nodes: NODES, least: 200 },
  {
    name: "nodes whose names differ in a number",
    nodes: Array.from({ length: 20 }, (_, i) => `worker-${i}`),
    least: 25,
  },
  { name: "nodes named by addresses", nodes: Array.from({ length: 10 }, (_, i) => `ip-10-0-0-${i}`), least: 60 },
])("addresses spread over $name", ({ nodes, least }) => {
  const count = new Map(nodes.map((node) => [node, 0]));
  for (const address of ADDRESSES) {
    const best = first(nodes, address);
    count.set(best, count.get(best)! + 1);
  }
  expect(Math.min(...count.values())).toBeGreaterThan(least);
});

test("who is second varies when the first goes", () => {
  const orphans = ADDRESSES.filter((address) => first(NODES, address) === "node4");
  const heirs = orphans.map((address) => first(NODES.slice(0, 3), address));
  for (const node of NODES.slice(0, 3))
    expect(heirs.filter((heir) => heir === node).length).toBeGreaterThan(orphans.length / 5);
});
