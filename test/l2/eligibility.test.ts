// Who may announce an address and why not, and who ought to.
import { describe, expect, test } from "vitest";
import { announcerOf, type EligibilityQuestion, eligibleNodes, matchesSelector } from "../../src/l2/eligibility.ts";
import { rank } from "../../src/l2/ranking.ts";
import type { AddressPool, L2Advertisement, LabelSelector, Node } from "../../src/model/objects.ts";
import { ending, endpoint, node, notReady, service, slice } from "../flows/builders.ts";

const ADDRESS = "192.168.122.111";

function selector(
  matchLabels: Record<string, string>,
  ...matchExpressions: LabelSelector["matchExpressions"]
): LabelSelector {
  return { matchLabels, matchExpressions };
}

function pool(given: Partial<AddressPool> = {}): AddressPool {
  return {
    namespace: "metallb-system",
    name: "pool",
    labels: {},
    ranges: ["192.168.122.110-192.168.122.119"],
    autoAssign: true,
    avoidBuggyIPs: false,
    priority: 0,
    namespaces: [],
    namespaceSelectors: [],
    serviceSelectors: [],
    ...given,
  };
}

function advertisement(given: Partial<L2Advertisement> = {}): L2Advertisement {
  return {
    namespace: "metallb-system",
    name: "l2",
    pools: [],
    poolSelectors: [],
    nodeSelectors: [],
    interfaces: [],
    ...given,
  };
}

function question(
  given: Partial<EligibilityQuestion> & { policy?: "Cluster" | "Local"; fromPool?: boolean } = {},
): EligibilityQuestion {
  const { policy = "Cluster", fromPool = true, ...rest } = given;
  return {
    service: service({
      type: "LoadBalancer",
      externalTrafficPolicy: policy,
      loadBalancerAddresses: [{ address: ADDRESS, ipMode: "VIP", fromPool }],
    }),
    address: ADDRESS,
    nodes: [node(1), node(2), node(3)],
    advertisements: [advertisement()],
    pools: [pool()],
    endpoints: [],
    ...rest,
  };
}

/** "yes", or the reason, by node. */
function answers(asked: EligibilityQuestion): Record<string, string> {
  return Object.fromEntries(eligibleNodes(asked).map(({ node: name, reason }) => [name, reason ?? "yes"]));
}

const all = (answer: string): Record<string, string> => ({ node1: answer, node2: answer, node3: answer });
const west: Node = node(2, { labels: { zone: "west" } });

describe("eligible nodes", () => {
  test.each<{ name: string; given: Parameters<typeof question>[0]; expected: Record<string, string> }>([
    { name: "all when nothing is selected", given: {}, expected: all("yes") },
    { name: "none for an address that is not from our pools", given: { fromPool: false }, expected: all("not-ours") },
    {
      name: "none for an address the Service does not have",
      given: { address: "192.168.122.112" },
      expected: all("not-ours"),
    },
    {
      name: "none when no pool contains the address",
      given: { pools: [pool({ ranges: ["10.0.0.0/24"] })] },
      expected: all("no-pool"),
    },
    { name: "none without an L2Advertisement", given: { advertisements: [] }, expected: all("not-advertised") },
    {
      name: "all when the pool is named",
      given: { advertisements: [advertisement({ pools: ["pool"] })] },
      expected: all("yes"),
    },
    {
      name: "none when only another pool is named",
      given: { advertisements: [advertisement({ pools: ["other"] })] },
      expected: all("not-advertised"),
    },
    {
      name: "all when the pool is selected by label",
      given: {
        pools: [pool({ labels: { tier: "front" } })],
        advertisements: [advertisement({ pools: ["other"], poolSelectors: [selector({ tier: "front" })] })],
      },
      expected: all("yes"),
    },
    {
      name: "none when the pool's labels do not match",
      given: { advertisements: [advertisement({ poolSelectors: [selector({ tier: "front" })] })] },
      expected: all("not-advertised"),
    },
    {
      name: "none when the advertisement is in another namespace than the pool",
      given: { advertisements: [advertisement({ namespace: "default" })] },
      expected: all("not-advertised"),
    },
    {
      name: "those that a node selector matches",
      given: {
        nodes: [node(1), west, node(3)],
        advertisements: [advertisement({ nodeSelectors: [selector({ zone: "west" })] })],
      },
      expected: { node1: "not-advertised", node2: "yes", node3: "not-advertised" },
    },
    {
      name: "not those that are excluded from load balancers or have no network",
      given: {
        nodes: [
          node(1, { excludeFromLoadBalancers: true }),
          node(2, { networkUnavailable: true }),
          node(3, { ready: false }),
        ],
      },
      expected: { node1: "excluded", node2: "network-unavailable", node3: "yes" },
    },
    {
      name: "with policy Local those with a ready endpoint",
      given: {
        policy: "Local",
        endpoints: [
          slice({
            endpoints: [notReady("10.244.1.2"), endpoint("10.244.2.2", "node2"), ending("10.244.3.2", "node3")],
          }),
        ],
      },
      expected: { node1: "no-local-endpoint", node2: "yes", node3: "no-local-endpoint" },
    },
    {
      name: "with policy Local those whose endpoint terminates when none is ready",
      given: {
        policy: "Local",
        endpoints: [slice({ endpoints: [notReady("10.244.1.2"), ending("10.244.3.2", "node3")] })],
      },
      expected: { node1: "no-local-endpoint", node2: "no-local-endpoint", node3: "yes" },
    },
    {
      name: "with policy Local an endpoint at the node's address counts",
      given: { policy: "Local", endpoints: [slice({ endpoints: [endpoint("192.168.122.13", "")] })] },
      expected: { node1: "no-local-endpoint", node2: "no-local-endpoint", node3: "yes" },
    },
    {
      name: "with policy Local endpoints of another family do not count",
      given: { policy: "Local", endpoints: [slice({ endpoints: [endpoint("fd00:10:244:1::2", "node1")] })] },
      expected: all("no-local-endpoint"),
    },
  ])("are $name", ({ given, expected }) => {
    expect(answers(question(given))).toEqual(expected);
  });

  test("announce on the devices that every advertisement that covers them names together", () => {
    const named = [advertisement({ interfaces: ["eth0", "eth1"] }), advertisement({ name: "b", interfaces: ["eth1"] })];
    expect(eligibleNodes(question({ advertisements: named }))[0]?.interfaces).toEqual(["eth0", "eth1"]);
    const open = [...named, advertisement({ name: "c" })];
    expect(eligibleNodes(question({ advertisements: open }))[0]?.interfaces).toEqual([]);
  });
});

describe("the announcer", () => {
  test("is the best ranked node, whatever the order of the objects", () => {
    const [first] = rank(["node1", "node2", "node3"], ADDRESS);
    expect(announcerOf(question())?.node).toBe(first);
    expect(announcerOf(question({ nodes: [node(3), node(1), node(2)] }))?.node).toBe(first);
  });

  test("is the next one when the best is not ready, and the best again when none is", () => {
    const [first, second] = rank(["node1", "node2", "node3"], ADDRESS);
    const nodes = [1, 2, 3].map((n) => node(n, { ready: `node${n}` !== first }));
    expect(announcerOf(question({ nodes }))?.node).toBe(second);
    expect(announcerOf(question({ nodes: nodes.map((one) => ({ ...one, ready: false })) }))?.node).toBe(first);
  });

  test("is nobody when nobody is eligible", () => {
    expect(announcerOf(question({ advertisements: [] }))).toBeUndefined();
  });
});

describe("selectors", () => {
  const labels = { a: "1", b: "2" };
  test.each<{ name: string; given: LabelSelector; expected: boolean }>([
    { name: "an empty one", given: selector({}), expected: true },
    { name: "equal labels", given: selector({ a: "1" }), expected: true },
    { name: "an unequal label", given: selector({ a: "1", b: "3" }), expected: false },
    { name: "In", given: selector({}, { key: "a", operator: "In", values: ["0", "1"] }), expected: true },
    { name: "In without the label", given: selector({}, { key: "c", operator: "In", values: ["1"] }), expected: false },
    { name: "NotIn", given: selector({}, { key: "a", operator: "NotIn", values: ["1"] }), expected: false },
    {
      name: "NotIn without the label",
      given: selector({}, { key: "c", operator: "NotIn", values: ["1"] }),
      expected: true,
    },
    { name: "Exists", given: selector({}, { key: "b", operator: "Exists", values: [] }), expected: true },
    { name: "DoesNotExist", given: selector({}, { key: "b", operator: "DoesNotExist", values: [] }), expected: false },
    {
      name: "a label named like a method",
      given: selector({}, { key: "toString", operator: "Exists", values: [] }),
      expected: false,
    },
  ])("$name: $expected", ({ given, expected }) => {
    expect(matchesSelector(given, labels)).toBe(expected);
  });
});
