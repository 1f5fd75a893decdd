// What a node is to be, as text, by what is known; and that what is not known whole takes nothing away.
import { describe, expect, it } from "vitest";
import { type Believed, type Desired, decide } from "../../src/decide/decide.ts";
import type { Network } from "../../src/decide/network.ts";
import { createRandom } from "../model/random.ts";
import { dump } from "./dump.ts";
import { at, believed, device, ETH0, type Given, inputs, NETWORK, route, SETTINGS } from "./inputs.ts";

const POD = device("veth1", 7, { kind: "veth" });
const WITH_POD: Network = {
  ...NETWORK,
  devices: [...NETWORK.devices, POD],
  routes: [...NETWORK.routes, route("10.244.1.5/32", "veth1")],
};
const ETH1 = device("eth1", 3, { addresses: at("10.1.0.11/24") });
const TWO_NICS: Network = {
  ...NETWORK,
  devices: [...NETWORK.devices, ETH1],
  routes: [...NETWORK.routes, route("10.1.0.0/24", "eth1")],
};
const LOCAL = { service: "shop/web", port: 32000, localEndpoints: { IPv4: 2, IPv6: 1 } };

/** Lines that differ from those of a quiet node. */
const QUIET = dump(decide(inputs(), believed())).trim().split("\n");
const news = (desired: Desired): string[] =>
  dump(desired)
    .trim()
    .split("\n")
    .filter((line) => !QUIET.includes(line));

it("a quiet node has its uplink, its settings and nothing to tell", () => {
  expect(`\n${QUIET.join("\n")}\n`).toBe(`
announcements of the objects
device eth0 uplink xdp source4=192.168.122.11
devices all
forwarding ipv4 eth0
health good
maps of the objects
programs attached
settings sockets=all uplink=2
`);
});

describe("forwarding is asked for", () => {
  const own = ["192.168.122.11", "fd00:122::11"];
  const network: Network = {
    ...NETWORK,
    devices: [{ ...ETH0, addresses: at("192.168.122.11/24", "fd00:122::11/64") }],
  };
  const asked = (given: Given): string[] =>
    decide(inputs({ network, ...given }), believed()).devices.forwarding.map(({ family }) => family);
  const addresses = { own, others: [], otherPodCIDRs: [] };
  it.each([
    ["for both families of node and Services", { objects: { addresses } }, ["ipv4", "ipv6"]],
    ["not for one that no Service has", { objects: { addresses, families: ["ipv4"] } }, ["ipv4"]],
    ["not for one that the node has not", { objects: { addresses: { ...addresses, own: own.slice(0, 1) } } }, ["ipv4"]],
    ["not before the objects have come", { objects: { addresses }, synced: false }, []],
  ] as const)("%s", (_name, given, families) => expect(asked(given)).toEqual(families));

  it("again when a family comes", () => {
    const before = decide(inputs({ network, objects: { addresses, families: ["ipv4"] } }), believed());
    const after = decide(inputs({ network, objects: { addresses } }), believed({ previous: before }));
    expect(after.devices.forwarding.map(({ family }) => family)).toEqual(["ipv4", "ipv6"]);
  });
});

interface Case {
  readonly name: string;
  readonly given: Given;
  readonly believed?: Partial<Believed>;
  readonly lines: readonly string[];
}

const CASES: readonly Case[] = [
  {
    name: "nothing is attached, announced or answered before rows serve",
    given: { synced: false, objects: { healthChecks: [LOCAL] } },
    believed: { filled: false, serves: false },
    lines: [
      "announcements as they are",
      "health ports as they are",
      "health the source of objects has not synced yet",
      "maps as they are",
      "programs as they are",
    ],
  },
  {
    name: "over rows of an agent before, programs are attached before the source has synced",
    given: { synced: false },
    believed: { filled: false },
    lines: [
      "announcements as they are",
      "health ports as they are",
      "health the source of objects has not synced yet",
      "maps as they are",
    ],
  },
  {
    name: "once all is in force, health check ports are served",
    given: { objects: { healthChecks: [LOCAL] } },
    lines: ["health port 32000 shop/web 2 1"],
  },
  {
    name: "a pod device is served by its pod's address",
    given: { network: WITH_POD },
    lines: ["device veth1 pod source4=192.168.122.11 pod4=10.244.1.5", "forwarding ipv4 veth1"],
  },
  {
    name: "a device leads to other nodes by what is known of them",
    given: {
      network: TWO_NICS,
      objects: { addresses: { own: ["192.168.122.11"], others: ["10.1.0.12"], otherPodCIDRs: [] } },
    },
    lines: ["device eth1 uplink xdp source4=10.1.0.11", "forwarding ipv4 eth1"],
  },
  {
    name: "a device without a role loses the programs that it has once all is known",
    given: { network: TWO_NICS },
    lines: ["device eth1 none source4=10.1.0.11"],
  },
  {
    name: "a device without a role keeps the programs that it has while the source has not synced",
    given: { network: TWO_NICS, synced: false },
    lines: [
      "announcements as they are",
      "device eth1 as it is source4=10.1.0.11",
      "health ports as they are",
      "health the source of objects has not synced yet",
      "maps as they are",
    ],
  },
  {
    name: "what a reading of the network misses is not gone",
    given: { networkWhole: false, network: { ...NETWORK, devices: [], routes: [] } },
    believed: { settings: { ...SETTINGS, uplink: 2, tunnel: 9, sourceRoutes: true } },
    lines: ["announcements as they are", "devices some", "settings sockets=all uplink=2 tunnel=9 sourceRoutes=true"],
  },
  {
    name: "without a Node object the node speaks by its default route",
    given: { objects: { addresses: { own: [], others: [], otherPodCIDRs: [] } } },
    lines: [],
  },
  {
    name: "a firewall that forwards nothing by default makes packets carry the mark",
    given: { firewall: { marks: true, problem: "in the way" } },
    lines: ["notice warning Firewall FORWARD forward-policy", "settings sockets=all uplink=2 forwardMark=4096"],
  },
  {
    name: "the mark stays while the firewall does not answer",
    given: { firewallWhole: false },
    believed: { settings: { ...SETTINGS, forwardMark: 0x1000 } },
    lines: ["settings sockets=all uplink=2 forwardMark=4096"],
  },
  {
    name: "no mark is set where the operator wants none",
    given: { firewallWhole: false, wishes: { forwardMark: 0 } },
    believed: { settings: { ...SETTINGS, forwardMark: 0x1000 } },
    lines: [],
  },
  {
    name: "while another proxy's connections go on conntrack is asked",
    given: { otherProxy: { connections: 1 } },
    lines: ["settings sockets=all uplink=2 otherProxy=true"],
  },
  {
    name: "it is asked until it is known that there is no other proxy",
    given: { otherProxyWhole: false },
    believed: { settings: { ...SETTINGS, otherProxy: true } },
    lines: ["settings sockets=all uplink=2 otherProxy=true"],
  },
  {
    name: "and no longer",
    given: {},
    believed: { settings: { ...SETTINGS, otherProxy: true } },
    lines: [],
  },
  {
    name: "a pod that sockets do not reach has everybody's packets translated instead",
    given: { wishes: { sockets: "auto" }, objects: { bypassesSockets: true } },
    lines: ["settings sockets=host-only uplink=2"],
  },
  {
    name: "the sockets stay as an agent before had them while such a pod may still come",
    given: { wishes: { sockets: "auto" }, synced: false },
    believed: { settings: { ...SETTINGS, sockets: "host-only" } },
    lines: [
      "announcements as they are",
      "health ports as they are",
      "health the source of objects has not synced yet",
      "maps as they are",
      "settings sockets=host-only uplink=2",
    ],
  },
  {
    name: "until the first sweep a full table stays closed as long as it was to",
    given: {},
    believed: { settings: { ...SETTINGS, tcpFullUntil: 77n } },
    lines: ["settings sockets=all uplink=2 tcpFullUntil=77"],
  },
  {
    name: "a sweep's word counts from then on",
    given: { flows: { tcpFullUntil: 0n, udpFullUntil: 5n, crowdedUntil: 6n } },
    believed: { settings: { ...SETTINGS, tcpFullUntil: 77n } },
    lines: ["settings sockets=all uplink=2 udpFullUntil=5 crowdedUntil=6"],
  },
  {
    name: "a device without link header asks for its programs",
    given: {
      network: { ...NETWORK, devices: [...NETWORK.devices, device("wg0", 8, { kind: "wireguard", linkType: "none" })] },
    },
    lines: ["device wg0 none source4=192.168.122.11", "devices all, without link header too"],
  },
  {
    name: "health goes when the maps cannot be brought in force, with the reason for those who may know it",
    given: {},
    believed: { effects: [{ name: "maps", ok: false, error: "EPERM" }] },
    lines: ["health a change could not be brought in force: EPERM"],
  },
  {
    name: "health does not go for what only announces",
    given: {},
    believed: { effects: [{ name: "announcer", ok: false, error: "E2BIG" }] },
    lines: [],
  },
  {
    name: "health goes when a change waits for more than a minute",
    given: { objects: { waitingSinceMs: 939_999 } },
    lines: ["health a change has not come into force for 60 s"],
  },
  {
    name: "health stays for a change that waits for a minute",
    given: { objects: { waitingSinceMs: 940_000 } },
    lines: [],
  },
  {
    name: "a node that is going away is no place for new clients, and goes on serving",
    given: { objects: { goingAway: true } },
    lines: ["health good, going away", "notice warning Node going-away"],
  },
];

describe("a decision", () => {
  it.each(CASES)("$name", ({ given, believed: knows, lines }) => {
    expect(news(decide(inputs(given), believed(knows)))).toEqual(lines.toSorted());
  });

  it("tells strangers nothing of what exactly failed", () => {
    const { health } = decide(inputs(), believed({ effects: [{ name: "maps", ok: false, error: "/sys/fs/bpf/x" }] }));
    expect(health.reasons).toEqual(["a change could not be brought in force"]);
  });

  it("is about the very same devices when it is asked the same", () => {
    const asked = inputs({ network: WITH_POD });
    const before = decide(asked, believed());
    expect(decide({ ...asked, nowMs: 7 }, believed({ previous: before })).devices).toBe(before.devices);
  });
});

/** A network of some devices, each an uplink, a pod's or neither, by chance. */
function anyNetwork(random: ReturnType<typeof createRandom>): Network {
  const devices = NETWORK.devices.slice(0, 1);
  const routes = [];
  for (let ifindex = 2; ifindex < 8; ifindex++) {
    const name = `dev${ifindex}`;
    if (random.chance(0.3)) continue;
    devices.push(
      device(name, ifindex, {
        kind: random.pick(["", "veth", "vxlan"]),
        addresses: random.chance(0.5) ? at(`10.0.${ifindex}.1/24`) : [],
      }),
    );
    if (random.chance(0.3)) routes.push(route("0.0.0.0/0", name, { metric: ifindex }));
    if (random.chance(0.4)) routes.push(route(`10.0.${ifindex}.0/24`, name));
    if (random.chance(0.4)) routes.push(route(`10.244.1.${ifindex}/32`, name));
    if (random.chance(0.2)) routes.push(route(`10.9.${ifindex}.0/24`, name, { encapsulation: "ip" }));
  }
  return { devices, routes, routesBySource: random.chance(0.3) };
}

function anyGiven(random: ReturnType<typeof createRandom>): Given {
  const some = (text: (n: number) => string): string[] => [2, 3, 4, 5, 6, 7].filter(() => random.chance(0.3)).map(text);
  return {
    network: anyNetwork(random),
    wishes: { sockets: "auto" },
    firewall: { marks: random.chance(0.5) },
    objects: {
      addresses: {
        own: some((n) => `10.0.${n}.1`),
        others: some((n) => `10.0.${n}.9`),
        otherPodCIDRs: some((n) => `10.0.${n}.128/25`),
      },
      bypassesSockets: random.chance(0.5),
      healthChecks: random.chance(0.5) ? [LOCAL] : [],
    },
    ...(random.chance(0.5) ? { otherProxy: { connections: random.chance(0.5) ? 3 : 0 } } : {}),
    ...(random.chance(0.5) ? { flows: { tcpFullUntil: 5n, udpFullUntil: 0n, crowdedUntil: 0n } } : {}),
  };
}

it.each(Array.from({ length: 300 }, (_, seed) => seed))(
  "an input that is not whole never removes (seed %i)",
  (seed) => {
    const random = createRandom(seed);
    const known = decide(inputs(anyGiven(random)), believed());
    const incomplete = random.pick(["synced", "networkWhole", "firewallWhole", "otherProxyWhole"] as const);
    const next = anyGiven(random);
    // What is read anew is the input that is not whole.
    const asked = inputs({
      ...next,
      ...(incomplete === "networkWhole" ? {} : { network: known.devices.basis.network }),
      [incomplete]: false,
    });
    const desired = decide(asked, believed({ previous: known, settings: known.settings }));
    if (incomplete === "firewallWhole") {
      if (known.settings.forwardMark !== 0) expect(desired.settings.forwardMark).toBe(known.settings.forwardMark);
      return;
    }
    if (incomplete === "otherProxyWhole") {
      if (known.settings.otherProxy) expect(desired.settings.otherProxy).toBe(true);
      return;
    }
    const present = new Set(asked.network.value.devices.map(({ ifindex }) => ifindex));
    for (const [ifindex, role] of known.devices.roles) {
      if (incomplete === "networkWhole" || present.has(ifindex)) expect(desired.devices.roles.get(ifindex)).toBe(role);
    }
    expect(desired.devices.list.filter(({ role, keep }) => role === undefined && !keep)).toEqual([]);
    expect(desired.announce).toBe(false);
    if (incomplete === "synced") {
      expect([desired.healthPorts, desired.maps]).toEqual([undefined, false]);
      if (known.settings.sockets === "host-only") expect(desired.settings.sockets).toBe("host-only");
    } else {
      expect(desired.devices.isWhole).toBe(false);
      if (known.settings.uplink !== 0) expect(desired.settings.uplink).not.toBe(0);
      if (known.settings.tunnel !== 0) expect(desired.settings.tunnel).not.toBe(0);
      if (known.settings.sourceRoutes) expect(desired.settings.sourceRoutes).toBe(true);
    }
  },
);

it("an event of the network costs little with 5,000 nodes and 500 routes", () => {
  const others = Array.from({ length: 5_000 }, (_, n) => `10.${n >> 8}.${n & 255}.12`);
  const otherPodCIDRs = others.map((_, n) => `10.${100 + (n >> 8)}.${n & 255}.0/24`);
  const objects = { addresses: { own: ["192.168.122.11"], others, otherPodCIDRs } };
  const network = (extra: number): Network => ({
    ...NETWORK,
    devices: [
      ...NETWORK.devices,
      ...Array.from({ length: 250 }, (_, n) => device(`veth${n}`, 100 + n, { kind: "veth" })),
      ETH0,
    ],
    routes: [
      ...NETWORK.routes,
      ...Array.from({ length: 250 }, (_, n) => route(`10.90.1.${n}/32`, `veth${n}`)),
      ...Array.from({ length: 250 + extra }, (_, n) => route(`10.${n}.0.0/24`, "eth0", { viaGateway: true })),
    ],
  });
  let desired = decide(inputs({ objects, network: network(0) }), believed());
  const asked = inputs({ objects, network: network(1) });
  // The nodes are the same as before: their index is there.
  const same = {
    ...asked,
    objects: { ...asked.objects, value: { ...asked.objects.value, addresses: objects.addresses } },
  };
  const times: number[] = [];
  for (let i = 0; i < 9; i++) {
    const event = { ...same, network: { ...same.network, value: network(i % 2) } };
    const began = performance.now();
    desired = decide(event, believed({ previous: desired }));
    times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  expect(desired.devices.roles.get(100)).toBe("pod");
  expect(times[4]).toBeLessThan(50);
});
