// "Never cost a node its own traffic": whatever the objects are, a packet between any two addresses of nodes, on a port that no
// Service and no pod asked for there, goes as it would without us, from wherever it comes.
import { expect, test } from "vitest";
import { type Address, familyOf, type Prefix } from "../../src/lib/address.ts";
import { createModel } from "../../src/model/model.ts";
import type { HostPort, Node, ObjectEvent, Service } from "../../src/model/objects.ts";
import type { RowProtocol } from "../../src/model/operations.ts";
import { createFakeMaps, type FakeMaps } from "../fakes/fake-maps.ts";
import { endpoint, eventsOf, hostPort, node, service, slice } from "../flows/builders.ts";
import { trace } from "../flows/reference.ts";
import { type Random, seedOfRun, withSeed } from "./random.ts";
import { CAPACITY } from "./setup.ts";

const HISTORIES = 80;
const STEPS = 30;
const SEED = seedOfRun();

/** Few addresses of every kind, so that each is now a node's, now a Service's, now a device's, now an endpoint's. */
const ADDRESSES = [
  "192.168.122.11",
  "192.168.122.12",
  "10.96.5.11",
  "10.96.5.12",
  "10.96.0.10",
  "10.244.1.2",
  "fd00:192:168:122::11",
  "fd00:10:96::a",
  "fd00:10:96::12",
];
const LENGTHS = { IPv4: [8, 16, 24, 32], IPv6: [32, 64, 120, 128] } as const;
const RANGES = ["10.96.0.0/12", "10.96.5.0/24", "192.168.0.0/16", "0.0.0.0/1", "fd00:10:96::/112", "fd00::/16"];
const PORTS = [22, 80, 8080, 30080, 30081];
const NAMES = ["a", "b", "c", "d"];
const PROTOCOLS = ["TCP", "UDP"] as const;

interface World {
  readonly services: Map<string, Service>;
  readonly nodes: Map<string, Node>;
  hostPorts: readonly HostPort[];
  networks: readonly Prefix[];
  /** What node1 named last. */
  own: readonly Address[];
}

const some = <T>(random: Random, from: readonly T[], probability: number): T[] =>
  from.filter(() => random.chance(probability));

function randomService(random: Random, name: string): Service {
  const address = (): Address => random.pick(ADDRESSES);
  return service({
    name,
    age: random.below(4),
    type: random.pick(["ClusterIP", "NodePort", "LoadBalancer"] as const),
    clusterIPs: [address(), ...some(random, [address()], 0.4)].filter(
      (one, i, all) => all.findIndex((other) => familyOf(other) === familyOf(one)) === i,
    ),
    externalTrafficPolicy: random.pick(["Cluster", "Local"] as const),
    externalIPs: some(random, ADDRESSES, 0.2),
    loadBalancerAddresses: some(random, ADDRESSES, 0.2).map((one) => ({
      address: one,
      ipMode: random.pick(["VIP", "VIP", "Proxy"] as const),
      fromPool: random.chance(0.6),
    })),
    ports: PROTOCOLS.map((protocol) => ({
      name: protocol,
      protocol,
      port: random.pick(PORTS),
      nodePort: random.pick([0, 30080, 30081]),
    })),
  });
}

/** Changes the world, and says what changed. */
function step(random: Random, world: World): ObjectEvent[] {
  const name = random.pick(NAMES);
  switch (random.below(7)) {
    case 0: {
      const key = random.pick(["node1", "node2", "node3"]);
      const object = random.chance(0.15)
        ? undefined
        : node(Number(key.at(-1)), { internalAddresses: some(random, ADDRESSES, 0.25) });
      if (object === undefined) world.nodes.delete(key);
      else world.nodes.set(key, object);
      if (key === "node1" && object !== undefined && object.internalAddresses.length > 0)
        world.own = object.internalAddresses;
      return [{ kind: "Node", key, object }];
    }
    case 1: {
      world.networks = some(random, ADDRESSES, 0.3).map((address) => ({
        address,
        length: random.pick(LENGTHS[familyOf(address)]),
      }));
      return [];
    }
    case 2: {
      const object = random.chance(0.3) ? undefined : { name, cidrs: some(random, RANGES, 0.4) };
      return [{ kind: "ServiceCIDR", key: name, object }];
    }
    case 3: {
      world.hostPorts = some(random, [0, 1], 0.7).map(() =>
        hostPort({
          node: random.pick(["node1", "node2"]),
          hostAddress: random.pick(["", "0.0.0.0", ...ADDRESSES]),
          hostPort: random.pick(PORTS),
          podAddress: random.pick(ADDRESSES),
          protocol: random.pick(PROTOCOLS),
        }),
      );
      const object = world.hostPorts.length === 0 ? undefined : world.hostPorts;
      return [{ kind: "HostPorts", key: "default/pod", object }];
    }
    case 4:
      return eventsOf({
        slices: [
          slice({
            service: name,
            family: random.pick(["IPv4", "IPv6"] as const),
            ports: PROTOCOLS.map((protocol) => ({ name: protocol, protocol, port: random.pick(PORTS) })),
            endpoints: some(random, ADDRESSES, 0.3).map((one) => endpoint(one, random.pick(["node1", "node2", ""]))),
          }),
        ],
      });
    default: {
      const object = random.chance(0.2) ? undefined : randomService(random, name);
      if (object === undefined) world.services.delete(name);
      else world.services.set(name, object);
      return [{ kind: "Service", key: `default/${name}`, object }];
    }
  }
}

/** Somebody asked for this port there: as node port or host port of node1, or as LoadBalancer address to the very port. */
function isAskedFor(world: World, address: Address, port: number, protocol: RowProtocol): boolean {
  const named = world.nodes.get("node1")?.internalAddresses ?? [];
  const isOthers = [...world.nodes].some(([key, one]) => key !== "node1" && one.internalAddresses.includes(address));
  const isOwn = named.length > 0 ? named.includes(address) : world.own.includes(address) && !isOthers;
  const isPeer = !isOwn && isOthers;
  for (const { type, ports, grants } of world.services.values()) {
    const has = (number: "port" | "nodePort"): boolean =>
      ports.some((one) => one.protocol === protocol && one[number] === port);
    if (isOwn && type !== "ClusterIP" && has("nodePort")) return true;
    if (type === "LoadBalancer" && has("port") && grants.addresses.some((one) => one.address === address)) return true;
  }
  return world.hostPorts.some(
    (one) =>
      one.node === "node1" &&
      one.protocol === protocol &&
      one.hostPort === port &&
      ((isOwn && ["", "0.0.0.0", "::"].includes(one.hostAddress)) || (one.hostAddress === address && !isPeer)),
  );
}

/** Every pair of addresses of nodes on every port that nobody asked for; how many were looked at. */
function look(world: World, maps: FakeMaps): number {
  const addresses = new Set([
    ...[...world.nodes.values()].flatMap(({ internalAddresses }) => internalAddresses),
    ...world.networks.map(({ address }) => address),
  ]);
  let looked = 0;
  for (const client of addresses) {
    for (const destination of addresses) {
      if (familyOf(client) !== familyOf(destination)) continue;
      for (const port of PORTS) {
        for (const protocol of PROTOCOLS) {
          if (isAskedFor(world, destination, port, protocol)) continue;
          for (const kind of ["outside", "pod", "host"] as const) {
            const outcome = trace(maps, {
              client: { kind, address: client },
              clientPort: 40000,
              destination: { address: destination, port, protocol },
            });
            looked++;
            if (outcome.verdict === "pass") continue;
            const what = outcome.backend ?? outcome.verdict;
            expect.fail(
              `${kind} ${client} -> ${destination} ${protocol} ${port}: ${what} (${outcome.steps.join("; ")})\n${maps.dump()}`,
            );
          }
        }
      }
    }
  }
  return looked;
}

test(`between addresses of nodes everything goes as without us (MILLRACE_SEED=${SEED})`, () => {
  let looked = 0;
  for (let history = 0; history < HISTORIES; history++) {
    withSeed((SEED + history) >>> 0, (random) => {
      const maps = createFakeMaps(CAPACITY);
      const model = createModel({
        nodeName: "node1",
        capacity: CAPACITY,
        serviceRanges: [
          { address: "10.96.0.0", length: 12 },
          { address: "fd00:10:96::", length: 112 },
        ],
        // Whatever is asked for is allowed: what is left is what must not be.
        externalIPRanges: [
          { address: "0.0.0.0", length: 0 },
          { address: "::", length: 0 },
        ],
      });
      const world: World = { services: new Map(), nodes: new Map(), hostPorts: [], networks: [], own: [] };
      for (let i = 0; i < STEPS; i++) {
        model.update(step(random, world));
        model.setNetworks(world.networks);
        if (random.chance(0.1)) model.adopt(maps.readState());
        if (random.chance(0.3)) continue;
        maps.apply(model.plan());
        looked += look(world, maps);
      }
    });
  }
  expect(looked).toBeGreaterThan(10_000);
});
