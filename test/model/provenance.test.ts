// Where a LoadBalancer address is from: what grants one, what never does, and what a change of pools or nodes costs.
import { describe, expect, it } from "vitest";
import type { GrantedAddress, ObjectEvent, Service } from "../../src/model/objects.ts";
import { createProvenance, type Provenance } from "../../src/model/provenance.ts";
import { costOf } from "../cost.ts";
import { endpoint, node, pool as poolOf, service, slice } from "../flows/builders.ts";
import { seedOfRun, withSeed } from "./random.ts";

const OURS = "192.0.2.10";

const poolEvent = (name: string, ...ranges: string[]): ObjectEvent => ({
  ...{ kind: "AddressPool", key: `metallb-system/${name}` },
  object: ranges.length === 0 ? undefined : poolOf({ name, ranges }),
});
const nodeEvent = (number: number, over: Parameters<typeof node>[1] = {}): ObjectEvent => {
  const object = node(number, over);
  return { kind: "Node", key: object.name, object };
};
const status = (address: string, ipMode: GrantedAddress["ipMode"] = "VIP"): GrantedAddress => ({
  ...{ address, ipMode, by: "status" },
});
function balanced(name: string, addresses: readonly string[], over: Partial<Service> = {}): ObjectEvent {
  const object = { ...service({ name, type: "LoadBalancer" }), ...over };
  const granted = { ...object, grants: { age: 1, addresses: addresses.map((one) => status(one)) } };
  return { kind: "Service", key: `default/${name}`, object: granted };
}

const begin = (loadBalancerClass = ""): Provenance =>
  createProvenance({ loadBalancerClass, serviceRanges: ["10.96.0.0/16"] });

/** "name address=pool" of the Services among the events; "-" for none. */
function grantsIn(events: readonly ObjectEvent[]): string[] {
  return events.flatMap((event) => {
    if (event.kind !== "Service" || event.object === undefined) return [];
    const { name, grants } = event.object;
    const texts = grants.addresses.map(({ address, by, pool = "-" }) => {
      expect(by, "what is from a pool names it").toBe(pool === "-" ? "status" : "pool");
      return `${address}=${pool.replace("metallb-system/", "")}`;
    });
    return [`${name} ${texts.join(" ")}`];
  });
}

describe("a status address", () => {
  it.each<{ name: string; given: readonly ObjectEvent[]; expected: string; why?: string }>([
    { name: "is from a pool that holds it", given: [poolEvent("lan", "192.0.2.0/24")], expected: `web ${OURS}=lan` },
    { name: "is from nobody without a pool", given: [], expected: `web ${OURS}=-` },
    {
      name: "is from nobody beside a pool",
      given: [poolEvent("lan", "192.0.2.11-192.0.2.20")],
      expected: `web ${OURS}=-`,
    },
    {
      name: "is from the pool that begins first where two overlap",
      given: [poolEvent("late", "192.0.2.8/29"), poolEvent("first", "192.0.2.0/24")],
      expected: `web ${OURS}=first`,
    },
    {
      name: "is from the later of two pools behind the end of the first",
      given: [poolEvent("a", "192.0.2.0-192.0.2.9"), poolEvent("b", "192.0.2.5-192.0.2.30")],
      expected: `web ${OURS}=b`,
    },
    {
      name: "that is a node's is nobody's to give",
      given: [poolEvent("lan", "192.0.2.0/24"), nodeEvent(1, { internalAddresses: [OURS] })],
      expected: `web ${OURS}=-`,
      why: "the address of node node1",
    },
    {
      name: "that is a node's for the outside is nobody's to give",
      given: [poolEvent("lan", "192.0.2.0/24"), nodeEvent(1, { externalAddresses: [OURS] })],
      expected: `web ${OURS}=-`,
      why: "the address of node node1",
    },
    {
      name: "of a pod network is nobody's to give",
      given: [poolEvent("lan", "192.0.2.0/24"), nodeEvent(1, { podCIDRs: ["192.0.2.0/28"] })],
      expected: `web ${OURS}=-`,
      why: "an address of pods, in 192.0.2.0/28",
    },
    {
      name: "of a ServiceCIDR is nobody's to give",
      given: [
        poolEvent("lan", "192.0.2.0/24"),
        { kind: "ServiceCIDR", key: "more", object: { name: "more", cidrs: ["192.0.2.8/30"] } },
      ],
      expected: `web ${OURS}=-`,
      why: "an address of the cluster's Services, in 192.0.2.8/30",
    },
    {
      name: "where the API server listens is nobody's to give",
      given: [
        poolEvent("lan", "192.0.2.0/24"),
        {
          ...{ kind: "EndpointSlice", key: "default/kubernetes" },
          object: { ...slice({ service: "kubernetes", endpoints: [endpoint(OURS)] }), name: "kubernetes" },
        },
      ],
      expected: `web ${OURS}=-`,
      why: "an address of the API server",
    },
    {
      name: "that another slice says the API server has stays given: anybody may label one",
      given: [
        poolEvent("lan", "192.0.2.0/24"),
        {
          ...{ kind: "EndpointSlice", key: "default/forged" },
          object: { ...slice({ service: "kubernetes", endpoints: [endpoint(OURS)] }), name: "forged" },
        },
      ],
      expected: `web ${OURS}=lan`,
    },
  ])("$name", ({ given, expected, why }) => {
    for (const events of [
      [...given, balanced("web", [OURS])],
      [balanced("web", [OURS]), ...given],
    ]) {
      const provenance = begin();
      const [last = ""] = grantsIn(provenance.judge(events)).slice(-1);
      expect(last).toBe(expected);
      const said = provenance.notices().filter(({ object }) => object === "Service default/web");
      expect(said.map(({ reason, field }) => `${reason} ${field}`)).toEqual(
        why === undefined ? [] : ["address-reserved status.loadBalancer.ingress[0].ip"],
      );
      if (why !== undefined) expect(said[0]?.message).toContain(`of IPAddressPool metallb-system/lan is ${why}:`);
    }
  });

  it.each(["127.0.0.5", "169.254.1.1", "224.0.0.9", "fe80::5", "ff02::1"])(
    "that nobody can have (%s) is from no pool, though one holds everything",
    (address) => {
      const provenance = begin();
      const all = poolEvent("all", "0.0.0.0-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
      expect(grantsIn(provenance.judge([all, balanced("web", [address])]))).toEqual([`web ${address}=-`]);
    },
  );

  it.each([
    { ours: "", its: "", expected: "lan" },
    { ours: "", its: "example.com/other", expected: "-" },
    { ours: "example.com/lb", its: "example.com/lb", expected: "lan" },
    { ours: "example.com/lb", its: "", expected: "-" },
  ])("of a Service of class '$its' is from '$expected' where ours is '$ours'", ({ ours, its, expected }) => {
    const provenance = begin(ours);
    const events = [poolEvent("lan", "192.0.2.0/24"), balanced("web", [OURS], { loadBalancerClass: its })];
    expect(grantsIn(provenance.judge(events))).toEqual([`web ${OURS}=${expected}`]);
    expect(provenance.services()).toBe(expected === "-" ? 0 : 1);
  });

  it("of a Service of another type is from no pool", () => {
    const provenance = begin();
    provenance.judge([poolEvent("lan", "192.0.2.0/24")]);
    expect(grantsIn(provenance.judge([balanced("web", [OURS], { type: "NodePort" })]))).toEqual([`web ${OURS}=-`]);
  });
});

describe("a change", () => {
  it("of a pool changes the grants of its Services at once, and of no others", () => {
    const provenance = begin();
    provenance.judge([
      balanced("a", ["192.0.2.1"]),
      balanced("b", ["192.0.2.200", "2001:db8::1"]),
      balanced("c", ["198.51.100.1"]),
    ]);
    const lan = provenance.judge([poolEvent("lan", "192.0.2.0/25", "2001:db8::/120")]);
    expect(grantsIn(lan)).toEqual(["a 192.0.2.1=lan", "b 192.0.2.200=- 2001:db8::1=lan"]);
    expect(grantsIn(provenance.judge([poolEvent("lan", "192.0.2.128/25", "2001:db8::/120")]))).toEqual([
      "a 192.0.2.1=-",
      "b 192.0.2.200=lan 2001:db8::1=lan",
    ]);
    expect(grantsIn(provenance.judge([poolEvent("lan", "192.0.2.128/25", "2001:db8::/120")]))).toEqual([]);
    expect(grantsIn(provenance.judge([poolEvent("lan")]))).toEqual(["b 192.0.2.200=- 2001:db8::1=-"]);
  });

  it("of a Service that comes in the same batch is told once", () => {
    const provenance = begin();
    provenance.judge([balanced("a", ["192.0.2.1"])]);
    const events = provenance.judge([balanced("a", ["192.0.2.2"]), poolEvent("lan", "192.0.2.0/24")]);
    expect(grantsIn(events)).toEqual(["a 192.0.2.2=lan"]);
    expect(events).toHaveLength(2);
  });

  it("of nodes takes and gives back", () => {
    const provenance = begin();
    provenance.judge([poolEvent("lan", "192.0.2.0/24"), balanced("web", [OURS])]);
    expect(grantsIn(provenance.judge([nodeEvent(1, { internalAddresses: [OURS] })]))).toEqual([`web ${OURS}=-`]);
    expect(grantsIn(provenance.judge([nodeEvent(1, { internalAddresses: [OURS], ready: false })]))).toEqual([]);
    expect(grantsIn(provenance.judge([{ kind: "Node", key: "node1", object: undefined }]))).toEqual([
      `web ${OURS}=lan`,
    ]);
    expect(provenance.notices()).toEqual([]);
  });

  it("is followed by who has an address, when several share it", () => {
    const provenance = begin();
    provenance.judge([poolEvent("lan", "192.0.2.0/24"), balanced("b", [OURS]), balanced("a", [OURS])]);
    expect(provenance.servicesAt(OURS)).toEqual(["default/a", "default/b"]);
    const before = provenance.version();
    provenance.judge([{ kind: "Service", key: "default/a", object: undefined }]);
    expect(provenance.servicesAt(OURS)).toEqual(["default/b"]);
    expect(provenance.version()).not.toBe(before);
    provenance.judge([poolEvent("lan")]);
    expect(provenance.servicesAt(OURS)).toEqual([]);
  });

  it("leaves what is no Service, and Services whose grants are right, as the very objects that they are", () => {
    const provenance = begin();
    const events = [balanced("web", ["198.51.100.1"]), nodeEvent(1), poolEvent("lan", "192.0.2.0/24")];
    const judged = provenance.judge(events);
    expect(judged).toHaveLength(3);
    for (const [i, event] of judged.entries()) expect(event).toBe(events[i]);
  });

  it("of a pool, a node or a Service costs little at 10,000 Services, 100 pools and 1,000 nodes", () => {
    const provenance = begin();
    const address = (i: number): string => `10.${Math.floor(i / 65536)}.${(i >> 8) & 255}.${i & 255}`;
    const services = Array.from({ length: 10_000 }, (_, i) => balanced(`s${i}`, [address(i)]));
    const pools = Array.from({ length: 100 }, (_, i) =>
      poolEvent(`p${i}`, `${address(i * 100)}-${address(i * 100 + 99)}`),
    );
    const nodes = Array.from({ length: 1_000 }, (_, i) =>
      nodeEvent(1, {
        name: `n${i}`,
        internalAddresses: [`172.16.${i >> 8}.${i & 255}`],
        podCIDRs: [`10.${64 + (i >> 8)}.${i & 255}.0/24`],
      }),
    );
    const found: string[] = [];
    const all = costOf("provenance of 10,000 Services x 100 pools x 1,000 nodes, all at once", () => {
      for (const batch of [nodes, pools]) provenance.judge(batch);
      found.push(...grantsIn(provenance.judge(services)));
    });
    expect(found.filter((text) => text.endsWith("=-"))).toEqual([]);
    const changes = [poolEvent("p5"), nodeEvent(1, { name: "n5" }), services[7]!];
    const [ofPool = 0, ofNode = 0, ofService = 0] = changes.map((event) =>
      costOf(`one ${event.kind} is another`, () => void provenance.judge([event])),
    );
    expect(ofService).toBeLessThan(5);
    expect(Math.max(ofPool, ofNode)).toBeLessThan(100);
    expect(all).toBeLessThan(2_000);
  });
});

describe("nothing that a Service's author can write", () => {
  it("makes an address one from a pool, or keeps it from being one", () => {
    const seed = seedOfRun();
    withSeed(seed, ({ pick, chance }) => {
      for (let round = 0; round < 500; round++) {
        const inPool = chance(0.5);
        const address = inPool ? OURS : "203.0.113.9";
        // All of a Service but what its status holds; of its type and class those that are ours.
        const written: Partial<Service> = {
          labels: { "metallb.io/ip-allocated-from-pool": "lan", app: pick(["a", "b"]) },
          externalIPs: pick([[], [OURS], ["192.0.2.99"]]),
          externalTrafficPolicy: pick(["Cluster", "Local"] as const),
          sourceRanges: pick([[], ["192.0.2.0/24"]]),
          clusterIPs: pick([["10.96.0.5"], [OURS]]),
          selector: pick([{}, { app: "a" }]),
          healthCheckNodePort: pick([0, 30100]),
          loadBalancing: pick(["hash", "maglev"]),
        };
        const provenance = begin();
        const events = [poolEvent("lan", "192.0.2.0/24"), balanced("web", [address], written)];
        expect(grantsIn(provenance.judge(events))).toEqual([`web ${address}=${inPool ? "lan" : "-"}`]);
      }
    });
  });
});

describe("an IPAddressPool", () => {
  it.each<{ name: string; events: readonly ObjectEvent[]; covers: string }>([
    {
      name: "a node's address",
      events: [nodeEvent(1, { internalAddresses: ["192.0.2.200"], podCIDRs: [] })],
      covers: "the address of node node1",
    },
    {
      name: "a pod network",
      events: [nodeEvent(1, { internalAddresses: [], podCIDRs: ["192.0.0.0/16"] })],
      covers: "an address of pods, in 192.0.0.0/16",
    },
    {
      name: "cluster addresses",
      events: [{ kind: "ServiceCIDR", key: "k", object: { name: "k", cidrs: ["192.0.2.128/25"] } }],
      covers: "an address of the cluster's Services, in 192.0.2.128/25",
    },
  ])("that covers $name is told of, by its range", ({ events, covers }) => {
    const provenance = begin();
    provenance.judge([poolEvent("lan", "198.51.100.0/24", "192.0.2.0/24"), ...events]);
    expect(provenance.notices()).toEqual([
      {
        ...{ object: "IPAddressPool metallb-system/lan", file: "", field: "spec.addresses[1]", severity: "warning" },
        reason: "pool-covers-reserved",
        message: `spec.addresses[1]: 192.0.2.0/24 covers ${covers}: such addresses are not announced`,
      },
    ]);
  });
});
