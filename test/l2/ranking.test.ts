// The order of nodes for an address: the same for everyone, fair, and moved only by who comes or goes.
import { expect, test } from "vitest";
import { rank, score } from "../../src/l2/ranking.ts";

const NODES = ["node1", "node2", "node3", "node4"];
const ADDRESSES = Array.from({ length: 1000 }, (_, i) => `192.168.${i >> 8}.${i & 255}`);

test("the order does not depend on the order of the argument", () => {
  for (const address of ADDRESSES) expect(rank([...NODES].reverse(), address)).toEqual(rank(NODES, address));
});

test("the score of a node is fixed for good: every version and node must compute the same", () => {
  expect(score("node1", "192.168.122.111").toString(16)).toBe("b63de675e29c6f7f");
});

test("a name and an address do not run into each other", () => {
  expect(score("node1", "1.1.1.1")).not.toBe(score("node11", ".1.1.1"));
});

test("addresses spread over the nodes", () => {
  const count = new Map<string, number>();
  for (const address of ADDRESSES) {
    const [first] = rank(NODES, address);
    count.set(first!, (count.get(first!) ?? 0) + 1);
  }
  for (const node of NODES) expect(count.get(node)).toBeGreaterThan(180);
});

test("a node that goes moves only its own addresses", () => {
  for (const address of ADDRESSES) {
    const [first] = rank(NODES, address);
    if (first !== "node4") expect(rank(NODES.slice(0, 3), address)[0]).toBe(first);
  }
});
