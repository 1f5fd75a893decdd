// Who may announce an address and why not, and on which devices.
import { describe, expect, test } from "vitest";
import { createElection } from "../../src/decide/election.ts";
import type { AddressPool, EndpointSlice, L2Advertisement, LabelSelector, Node } from "../../src/model/objects.ts";
import { advertisement, ending, endpoint, node, notReady, pool as poolOf, service, slice } from "../flows/builders.ts";
import { electionModel } from "./election-model.ts";

const ADDRESS = "192.168.122.111";

function selector(
  matchLabels: Record<string, string>,
  ...matchExpressions: LabelSelector["matchExpressions"]
): LabelSelector {
  return { matchLabels, matchExpressions };
}

interface Question {
  readonly policy?: "Cluster" | "Local";
  readonly fromPool?: boolean;
  readonly nodes?: readonly Node[];
  readonly advertisements?: readonly L2Advertisement[];
  readonly pools?: readonly AddressPool[];
  readonly endpoints?: readonly EndpointSlice[];
}

const pool = (given: Partial<AddressPool> = {}): AddressPool =>
  poolOf({ ranges: ["192.168.122.110-192.168.122.119"], ...given });

const DEFAULTS = {
  policy: "Cluster",
  fromPool: true,
  nodes: [node(1), node(2), node(3)],
  advertisements: [advertisement()],
  pools: [pool()],
  endpoints: [],
} as const;

function ask(node_: Node, given: Question) {
  const { policy, fromPool, advertisements, pools, endpoints } = { ...DEFAULTS, ...given };
  const asked = service({
    type: "LoadBalancer",
    externalTrafficPolicy: policy,
    loadBalancerAddresses: [{ address: ADDRESS, ipMode: "VIP", fromPool }],
  });
  const model = electionModel({ nodes: [node_], services: [asked], slices: endpoints, pools, advertisements });
  const election = createElection(model);
  election.settle();
  return { outcome: election.outcome(ADDRESS), why: election.whyNobody(ADDRESS) };
}

/** "yes", or the reason, by node, each asked as if it were alone. */
function answers(given: Question): Record<string, string> {
  const nodes = given.nodes ?? DEFAULTS.nodes;
  return Object.fromEntries(
    nodes.map((one) => {
      const { outcome, why } = ask(one, given);
      return [one.name, outcome?.node === one.name ? "yes" : (why ?? "not-ours")];
    }),
  );
}

const all = (answer: string): Record<string, string> => ({ node1: answer, node2: answer, node3: answer });
const west: Node = node(2, { labels: { zone: "west" } });

describe("eligible nodes", () => {
  test.each<{ name: string; given: Question; expected: Record<string, string> }>([
    { name: "all when nothing is selected", given: {}, expected: all("yes") },
    { name: "none for an address that is not from our pools", given: { fromPool: false }, expected: all("not-ours") },
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
    expect(answers(given)).toEqual(expected);
  });

  test("announce on the devices that every advertisement that covers them names together", () => {
    const named = [advertisement({ interfaces: ["eth0", "eth1"] }), advertisement({ name: "b", interfaces: ["eth1"] })];
    expect(ask(node(1), { advertisements: named }).outcome?.interfaces).toEqual(["eth0", "eth1"]);
    const open = [...named, advertisement({ name: "c" })];
    expect(ask(node(1), { advertisements: open }).outcome?.interfaces).toEqual([]);
  });
});
