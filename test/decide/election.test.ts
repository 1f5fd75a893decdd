// Who ought to announce an address: what is kept is always what holding every election anew would give, and a change costs
// what it changes.
import { describe, expect, test } from "vitest";
import { createElection, type Election } from "../../src/decide/election.ts";
import type { AddressPool, L2Advertisement, ObjectEvent, Service } from "../../src/model/objects.ts";
import { costOf } from "../cost.ts";
import { advertisement, ending, endpoint, eventsOf, node, notReady, pool, service, slice } from "../flows/builders.ts";
import { type Random, seedOfRun, withSeed } from "../model/random.ts";
import { electionModel, type FedModel } from "./election-model.ts";

const POOL = pool({ ranges: ["192.168.122.0/24", "fd00:192:168:122::/64", "10.0.0.0/8"] });
const ADVERTISEMENT = advertisement();
const WEST = { matchLabels: { zone: "west" }, matchExpressions: [] };

type Policy = Service["externalTrafficPolicy"];

function balanced(name: string, address: string, externalTrafficPolicy: Policy = "Cluster"): Service {
  return service({
    name,
    type: "LoadBalancer",
    externalTrafficPolicy,
    loadBalancerAddresses: [{ address, ipMode: "VIP", fromPool: true }],
  });
}

const poolEvent = (object: AddressPool | undefined, name = "pool"): ObjectEvent => ({
  kind: "AddressPool",
  key: `metallb-system/${name}`,
  object,
});
const advertised = (object: L2Advertisement | undefined, name = "all"): ObjectEvent => ({
  kind: "L2Advertisement",
  key: `metallb-system/${name}`,
  object,
});
const goneNode = (name: string): ObjectEvent => ({ kind: "Node", key: name, object: undefined });

function bench(start: readonly ObjectEvent[] = [poolEvent(POOL), advertised(ADVERTISEMENT)]) {
  const model = electionModel({});
  model.update(start);
  const election = createElection(model);
  election.settle();
  return { model, election, feed: feedInto(model, election) };
}

/** The addresses whose outcome is another. */
function feedInto(model: FedModel, election: Election): (events: readonly ObjectEvent[]) => string[] {
  return (events) => {
    election.note(events);
    model.update(events);
    return [...election.settle()].sort();
  };
}

const A = "192.168.122.101";
const B = "192.168.122.102";

describe("an address", () => {
  test("is announced by one of the nodes, and the same whatever the order in which they came", () => {
    const nodes = [node(1), node(2), node(3)];
    const winners = [nodes, nodes.toReversed()].map((order) => {
      const { election, feed } = bench();
      feed(eventsOf({ services: [balanced("a", A)] }));
      for (const one of order) feed(eventsOf({ nodes: [one] }));
      return election.outcome(A)?.node;
    });
    expect(winners[0]).toMatch(/^node[123]$/);
    expect(winners[1]).toBe(winners[0]);
  });

  test("goes to the next when its node is not ready, back when it is again, and stays when none is ready", () => {
    const { election, feed } = bench();
    feed(eventsOf({ nodes: [node(1), node(2), node(3)], services: [balanced("a", A)] }));
    const first = election.outcome(A)!.node;
    const number = Number(first.slice(-1)) as 1 | 2 | 3;
    expect(feed(eventsOf({ nodes: [node(number, { ready: false })] }))).toEqual([A]);
    expect(election.outcome(A)?.node).not.toBe(first);
    feed(eventsOf({ nodes: [1, 2, 3].map((n) => node(n as 1 | 2 | 3, { ready: false })) }));
    expect(election.outcome(A)?.node).toBe(first);
    feed(eventsOf({ nodes: [1, 2, 3].map((n) => node(n as 1 | 2 | 3)) }));
    expect(election.outcome(A)?.node).toBe(first);
  });

  test("is of nobody when nobody may announce it, and of whoever may first", () => {
    const { election, feed } = bench();
    feed(eventsOf({ services: [balanced("a", A)] }));
    expect(election.outcome(A)?.node).toBe("");
    expect(election.whyNobody(A)).toBe("not-advertised");
    feed(eventsOf({ nodes: [node(1, { excludeFromLoadBalancers: true })] }));
    expect(election.whyNobody(A)).toBe("excluded");
    feed(eventsOf({ services: [balanced("b", B), balanced("c", "192.168.122.103", "Local")] }));
    expect([...election.unannounced()]).toEqual([["excluded", 3]]);
    expect(feed(eventsOf({ nodes: [node(2)] }))).toEqual([A, B]);
    expect([...election.unannounced()]).toEqual([["no-local-endpoint", 1]]);
    expect(election.wonBy("node2")).toEqual([
      { address: A, service: "default/a" },
      { address: B, service: "default/b" },
    ]);
    expect(election.wonBy("node1")).toEqual([]);
    expect(election.outcome(A)?.node).toBe("node2");
    expect(election.whyNobody(A)).toBeUndefined();
  });

  test("is forgotten with its Service", () => {
    const { election, feed } = bench();
    feed(eventsOf({ nodes: [node(1)], services: [balanced("a", A)] }));
    expect(feed([{ kind: "Service", key: "default/a", object: undefined }])).toEqual([A]);
    expect(election.outcome(A)).toBeUndefined();
  });
});

describe("the order of those that may announce an address", () => {
  const many = Array.from({ length: 7 }, (_, i) => ({ ...node(1), name: `worker-${i}`, internalAddresses: [] }));

  test("has the node that ought to and three that come next, each the next winner when those before it are gone", () => {
    const { election, feed } = bench();
    feed(eventsOf({ nodes: many, services: [balanced("a", A)] }));
    const { order } = election.outcome(A)!;
    expect(order).toHaveLength(4);
    for (const [i, name] of order.entries()) {
      expect(election.outcome(A)?.node).toBe(name);
      expect(election.standing(A, name)).toEqual({ interfaces: [], above: [] });
      if (i < 3) expect(election.standing(A, order[i + 1]!)?.above[0]).toBe(name);
      expect(feed([goneNode(name)])).toEqual([A]);
    }
    expect(election.standing(A, order[0]!)).toBeUndefined();
  });

  test("has ready nodes first, then preferred ones, and a node behind the fourth has all four before it", () => {
    const { election, feed } = bench();
    const west = { zone: "west" };
    feed(eventsOf({ nodes: many, services: [balanced("a", A)] }));
    const last = many.map(({ name }) => name).find((name) => !election.outcome(A)!.order.includes(name))!;
    expect(election.standing(A, last)?.above).toEqual(election.outcome(A)!.order);
    const [first = ""] = election.outcome(A)!.order;
    const preferring = { ...ADVERTISEMENT, preferredNodeSelectors: [{ weight: 10, preference: WEST }] };
    feed([advertised(preferring)]);
    expect(election.outcome(A)!.order[0]).toBe(first);
    feed(eventsOf({ nodes: [{ ...many[0]!, name: last, labels: west }] }));
    expect(election.outcome(A)!.order.slice(0, 2)).toEqual([last, first]);
    feed(eventsOf({ nodes: [{ ...many[0]!, name: last, labels: west, ready: false }] }));
    expect(election.outcome(A)!.order[0]).toBe(first);
  });

  test("adds up the weights of all selectors that match, over the advertisements that cover the node", () => {
    const { election, feed } = bench();
    const selector = (name: string) => ({ matchLabels: { name }, matchExpressions: [] });
    const labelled = [1, 2, 3].map((n) => node(n as 1 | 2 | 3, { labels: { name: `n${n}` } }));
    feed(eventsOf({ nodes: labelled, services: [balanced("a", A)] }));
    const prefer = (name: string, weight: number, given: Partial<L2Advertisement> = {}): ObjectEvent =>
      advertised(
        advertisement({
          name: `${name}-${weight}`,
          preferredNodeSelectors: [{ weight, preference: selector(name) }],
          ...given,
        }),
        `${name}-${weight}`,
      );
    feed([prefer("n1", 50), prefer("n2", 30), prefer("n2", 25)]);
    expect(election.outcome(A)!.order).toEqual(["node2", "node1", "node3"]);
    // Weights of an advertisement that does not cover the node do not count.
    feed([prefer("n3", 100, { nodeSelectors: [selector("n1")] })]);
    expect(election.outcome(A)!.order[0]).toBe("node2");
  });
});

describe("an advertisement that selects Services", () => {
  const selecting = (app: string) =>
    advertised(advertisement({ serviceSelectors: [{ matchLabels: { app }, matchExpressions: [] }] }));
  const labelled = (name: string, app: string): Service => ({ ...balanced(name, A), labels: { app } });

  test("covers the addresses of these alone, as their labels are now", () => {
    const { election, feed } = bench([poolEvent(POOL)]);
    feed([...eventsOf({ nodes: [node(1)], services: [labelled("a", "web")] }), selecting("web")]);
    expect(election.outcome(A)?.node).toBe("node1");
    expect(feed(eventsOf({ services: [labelled("a", "other")] }))).toEqual([A]);
    expect([election.outcome(A)?.node, election.whyNobody(A)]).toEqual(["", "not-advertised"]);
    feed([selecting("other")]);
    expect(election.outcome(A)?.node).toBe("node1");
  });

  test("covers an address that Services share only if it selects all of them", () => {
    const { election, feed } = bench([poolEvent(POOL)]);
    feed([...eventsOf({ nodes: [node(1)], services: [labelled("a", "web"), labelled("b", "web")] }), selecting("web")]);
    expect(election.outcome(A)?.node).toBe("node1");
    feed(eventsOf({ services: [labelled("b", "other")] }));
    expect(election.outcome(A)?.node).toBe("");
    feed([{ kind: "Service", key: "default/b", object: undefined }]);
    expect(election.outcome(A)?.node).toBe("node1");
  });
});

describe("an address that several Services share", () => {
  const here = (name: string, ...nodes: string[]) =>
    slice({ service: name, name: `${name}-1`, endpoints: nodes.map((on, i) => endpoint(`10.244.9.${i + 2}`, on)) });

  test("has one place, where most of them are served, whatever their policies", () => {
    const { election, feed } = bench();
    feed(
      eventsOf({
        nodes: [node(1), node(2), node(3)],
        services: [balanced("tcp", A, "Local"), balanced("udp", A, "Local"), balanced("sctp", A)],
        slices: [here("tcp", "node1", "node2"), here("udp", "node2", "node3")],
      }),
    );
    expect(election.outcome(A)?.node).toBe("node2");
    feed(eventsOf({ slices: [here("udp", "node3"), here("tcp", "node3")] }));
    expect(election.outcome(A)?.node).toBe("node3");
    // Nobody serves those of policy Local: the third is served from anywhere.
    feed(eventsOf({ slices: [here("udp"), here("tcp")] }));
    expect(election.outcome(A)?.node).toMatch(/^node/);
    feed([{ kind: "Service", key: "default/sctp", object: undefined }]);
    expect(election.outcome(A)?.node).toBe("");
    expect(election.whyNobody(A)).toBe("no-local-endpoint");
  });

  test("goes on in the name of the other when one loses it", () => {
    const { election, feed } = bench();
    feed(eventsOf({ nodes: [node(1)], services: [balanced("tcp", A), balanced("udp", A)] }));
    expect(election.outcome(A)).toMatchObject({ node: "node1", service: "default/tcp", interfaces: [] });
    expect(feed(eventsOf({ services: [balanced("tcp", B)] }))).toEqual([A, B]);
    expect(election.outcome(A)).toMatchObject({ node: "node1", service: "default/udp", interfaces: [] });
  });
});

describe("what changes nothing moves nothing", () => {
  const { feed } = bench();
  feed(
    eventsOf({
      nodes: [node(1), node(2)],
      services: [balanced("a", A), balanced("b", B, "Local")],
      slices: [slice({ service: "b", name: "b-1", endpoints: [endpoint("10.244.1.2", "node1")] })],
    }),
  );
  test.each<{ name: string; events: readonly ObjectEvent[] }>([
    { name: "the same pool", events: [poolEvent({ ...POOL })] },
    { name: "the same advertisement", events: [advertised({ ...ADVERTISEMENT })] },
    { name: "another label of a node", events: eventsOf({ nodes: [node(1, { labels: { any: "thing" } })] }) },
    { name: "endpoints of policy Cluster", events: eventsOf({ slices: [slice({ service: "a", name: "a-1" })] }) },
    {
      name: "another endpoint on the same node",
      events: eventsOf({
        slices: [slice({ service: "b", name: "b-1", endpoints: [endpoint("10.244.1.3", "node1")] })],
      }),
    },
    { name: "a Service without an address", events: eventsOf({ services: [service({ name: "c" })] }) },
  ])("$name", ({ events }) => {
    expect(feed(events)).toEqual([]);
  });
});

const SEED = seedOfRun();
test.each([0, 1, 2, 3, 4])("after any events every outcome is what a new election gives (history %i)", (n) =>
  withSeed(SEED + n, history),
);

function history({ below, pick: pickFrom }: Random): void {
  const pick = <T>(...from: readonly T[]): T => pickFrom(from);
  const addresses = [A, B, "192.168.122.103", "fd00:192:168:122::1"];
  const number = (): 1 | 2 | 3 => (1 + below(3)) as 1 | 2 | 3;
  const anyNode = (): ObjectEvent => {
    const n = number();
    if (below(5) === 0) return goneNode(`node${n}`);
    const flags = { ready: below(3) > 0, excludeFromLoadBalancers: below(6) === 0, networkUnavailable: below(8) === 0 };
    return eventsOf({ nodes: [node(n, { ...flags, labels: pick({}, { zone: "west" }) })] })[0]!;
  };
  const anyService = (): ObjectEvent => {
    const name = pick("a", "b", "c");
    if (below(5) === 0) return { kind: "Service", key: `default/${name}`, object: undefined };
    const labels = pick<Record<string, string>>({}, { zone: "west" });
    const one = { ...balanced(name, pick(...addresses), pick<Policy>("Cluster", "Local")), labels };
    return eventsOf({ services: [one] })[0]!;
  };
  const anySlice = (): ObjectEvent => {
    const name = pick("a", "b", "c");
    if (below(6) === 0) return { kind: "EndpointSlice", key: `default/${name}-1`, object: undefined };
    const of = pick(endpoint, notReady, ending);
    // At an address of its own, or at a node's without a name.
    const endpoints = [of(`10.244.${number()}.2`, `node${number()}`), endpoint(`192.168.122.1${number()}`, "")];
    return eventsOf({
      slices: [slice({ service: name, name: `${name}-1`, endpoints: endpoints.slice(below(3)) })],
    })[0]!;
  };
  const anyPool = (): ObjectEvent => poolEvent(pick(POOL, { ...POOL, ranges: [`${A}/32`, "fd00::/16"] }, undefined));
  const anyAdvertisement = (): ObjectEvent => {
    const name = pick("x", "y");
    return advertised(
      pick(
        { ...ADVERTISEMENT, name, nodeSelectors: [WEST] },
        { ...ADVERTISEMENT, name, interfaces: ["eth1"] },
        { ...ADVERTISEMENT, name, pools: ["other"] },
        { ...ADVERTISEMENT, name, preferredNodeSelectors: [{ weight: 7, preference: WEST }] },
        { ...ADVERTISEMENT, name, serviceSelectors: [WEST] },
        undefined,
      ),
      name,
    );
  };

  const model = electionModel({});
  model.update([poolEvent(POOL), advertised(ADVERTISEMENT)]);
  const election = createElection(model, "node2");
  election.settle();
  const feed = feedInto(model, election);
  for (let step = 0; step < 200; step++) {
    const kinds = [anyNode, anyNode, anyService, anyService, anySlice, anySlice, anyPool, anyAdvertisement];
    const events = Array.from({ length: 1 + below(3) }, () => pick(...kinds)());
    const state = (address: string) => [election.outcome(address), election.standing(address, "node2")];
    const before = new Map(addresses.map((address) => [address, state(address)]));
    const moved = feed(events);
    const anew = createElection(model);
    anew.settle();
    const why = addresses.flatMap((address) => anew.whyNobody(address) ?? []);
    expect([...election.unannounced()].flatMap(([reason, n]) => Array<string>(n).fill(reason)).sort()).toEqual(
      why.sort(),
    );
    for (const name of ["node1", "node2", "node3"]) {
      const won = addresses.filter((address) => anew.outcome(address)?.node === name);
      expect(
        election
          .wonBy(name)
          .map(({ address }) => address)
          .sort(),
      ).toEqual(won.sort());
    }
    for (const address of addresses) {
      const note = `step ${step}, ${address}: ${JSON.stringify(events)}`;
      expect(election.outcome(address), note).toEqual(anew.outcome(address));
      expect(election.whyNobody(address), note).toEqual(anew.whyNobody(address));
      for (const name of ["node1", "node2", "node3"])
        expect(election.standing(address, name), note).toEqual(anew.standing(address, name));
      const isOther = JSON.stringify(before.get(address)) !== JSON.stringify(state(address));
      if (isOther) expect(moved, note).toContain(address);
    }
  }
}

test("1,000 addresses on 1,000 nodes: a change of a Node costs what it changes, and so does its death", () => {
  const many = Array.from({ length: 1_000 }, (_, i) => ({ ...node(1), name: `worker-${i}`, internalAddresses: [] }));
  const services = Array.from({ length: 1_000 }, (_, i) => balanced(`s${i}`, `10.0.${i >> 8}.${i & 255}`));
  const { election, feed } = bench();
  const timed = (what: string, limitMs: number, run: () => string[]): string[] => {
    let moved: string[] = [];
    const ms = costOf(`1,000 nodes, 1,000 addresses: ${what}`, () => {
      moved = run();
    });
    expect(ms, what).toBeLessThan(limitMs);
    return moved;
  };
  timed("all at the start", 4_000, () => feed(eventsOf({ nodes: many, services })));
  const name = election.outcome("10.0.0.7")!.node;
  const moved = timed("a node that is not ready", 50, () =>
    feed(eventsOf({ nodes: [{ ...many.find((one) => one.name === name)!, ready: false }] })),
  );
  // It stood in four places of a thousand for each address.
  expect(moved.length).toBeLessThan(30);
  timed("a node whose labels change", 50, () => feed(eventsOf({ nodes: [{ ...many[1]!, labels: { any: "thing" } }] })));
  const [next = ""] = election.outcome("10.0.0.7")!.order;
  expect(timed("a node that leaves", 50, () => feed([goneNode(next)])).length).toBeLessThan(30);
  timed("a node that joins", 50, () => feed(eventsOf({ nodes: [{ ...many[0]!, name: "late" }] })));
  timed("a Service that comes", 50, () => feed(eventsOf({ services: [balanced("new", "10.0.9.9")] })));
});

test.each([1000, 5000])("with %i nodes and 500 addresses a change costs what it changes", (count) => {
  const many = Array.from({ length: count }, (_, i) => ({ ...node(1), name: `worker-${i}`, internalAddresses: [] }));
  const services = Array.from({ length: 500 }, (_, i) => balanced(`s${i}`, `10.0.${i >> 8}.${i & 255}`));
  const { election, feed } = bench();
  const timed = (what: string, limitMs: number, run: () => void): void =>
    expect(costOf(`${count} nodes, 500 addresses: ${what}`, run), what).toBeLessThan(limitMs);
  timed("all at the start", 2_000, () => void feed(eventsOf({ nodes: many, services })));
  const winner = election.outcome("10.0.0.7")!.node;
  timed("a node that joins", 50, () => void feed(eventsOf({ nodes: [{ ...many[0]!, name: "late" }] })));
  timed("a node that is not ready", 50, () => void feed(eventsOf({ nodes: [{ ...many[1]!, ready: false }] })));
  timed("a node that leaves", 50, () => void feed([goneNode(winner)]));
  expect(election.outcome("10.0.0.7")!.node).not.toBe(winner);
  timed("a Service that comes", 50, () => void feed(eventsOf({ services: [balanced("new", "10.0.9.9")] })));
});
