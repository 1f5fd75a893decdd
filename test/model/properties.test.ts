// Properties of random histories of a small cluster: every prefix of a plan is safe, a restart changes nothing, and the
// maps are the same whatever way led to them.
import { expect, test, vi } from "vitest";
import { patience } from "../../src/lib/patience.ts";
import { frontendText } from "../../src/model/compile.ts";
import { createModel } from "../../src/model/model.ts";
import type { Model } from "../../src/model/model-interface.ts";
import type { Endpoint, HostPort, ObjectEvent } from "../../src/model/objects.ts";
import type { Capacity, Operation, Window } from "../../src/model/operations.ts";
import { type Balancing, BY_HASH } from "../../src/model/spread.ts";
import { createFakeMaps, endpointText, type FakeBackend, type FakeMaps } from "../fakes/fake-maps.ts";
import { endpoint, eventsOf, hostPort, node, service, slice } from "../flows/builders.ts";
import { createRandom, type Random, seedOfRun, withSeed } from "./random.ts";
import { CAPACITY } from "./setup.ts";

/** With room for slots by weight. */
const ROOMY: Capacity = { ...CAPACITY, slots: 1024 };

// Each walks thousands of prefixes.
vi.setConfig({ testTimeout: patience(180_000) });

const HISTORIES = 60;
const STEPS = 40;
const SEED = seedOfRun();

const NAMES = ["default/a", "default/b", "other/c", "other/d"];
const CLUSTER_ADDRESSES = ["10.96.0.1", "10.96.0.2", "10.96.0.3"];
const CLUSTER_ADDRESSES_6 = ["fd00:10:96::1", "fd00:10:96::2"];
const VIPS = ["192.168.122.111", "192.168.122.112"];
const ENDPOINTS = ["10.244.1.1", "10.244.1.2", "10.244.2.1", "10.244.2.2", "10.96.0.3", "192.168.122.11"];
const NODE_PORTS = [30001, 30002];
const ZONES = ["a", "b"];
const SOURCE_RANGES = ["192.0.2.0/24", "192.0.2.128/25", "198.51.100.0/24", "2001:db8::/32", "192.0.2.0/33"];
const CLIENTS = ["192.0.2.1", "192.0.2.200", "198.51.100.1"];

type World = Map<string, ObjectEvent>;

/** Remembers the event, so that the world can be told again. */
function record(world: World, events: readonly ObjectEvent[]): ObjectEvent[] {
  for (const event of events) {
    const key = `${event.kind} ${event.key}`;
    if (event.object === undefined) world.delete(key);
    else world.set(key, event);
  }
  return [...events];
}

function randomEndpoints(random: Random): Endpoint[] {
  const hinted = random.chance(0.5);
  return ENDPOINTS.filter(() => random.chance(0.5)).map((address) => {
    const nodeName = address.startsWith("10.244.1") ? "node1" : random.pick(["node2", "node1", ""]);
    const ready = random.chance(0.6);
    const serving = ready || random.chance(0.6);
    const one = endpoint(address, nodeName, { ready, serving, terminating: !ready && random.chance(0.7) });
    return hinted ? { ...one, hints: { zones: [random.pick(ZONES)], nodes: nodeName === "" ? [] : [nodeName] } } : one;
  });
}

function randomEvents(random: Random): ObjectEvent[] {
  const name = random.pick(NAMES);
  const policy = ["Cluster", "Local"] as const;
  const what = random.below(10);
  if (what === 0) return [{ kind: "Service", key: name, object: undefined }];
  if (what === 1) return [{ kind: "EndpointSlice", key: `${name}-1`, object: undefined }];
  if (what === 2) {
    const hostPorts: HostPort[] = [hostPort({ hostPort: random.pick(NODE_PORTS), age: random.below(5) })];
    return random.chance(0.3)
      ? [{ kind: "HostPorts", key: "default/pod", object: undefined }]
      : eventsOf({ hostPorts });
  }
  if (what === 3) {
    // What is known of a node that tells none of its addresses depends on the way: node1 always tells one.
    const number = random.pick([1, 2]);
    const some = [["192.168.122.11"], ["192.168.122.11", "10.96.0.2"]];
    const internalAddresses = random.pick(number === 1 ? some : [...some, []]);
    const labels = { "topology.kubernetes.io/zone": random.pick(["", ...ZONES]) };
    return eventsOf({ nodes: [node(number, { internalAddresses, labels })] });
  }
  if (what < 7) {
    const ports = [{ name: "a" }, { name: "b", port: 53, protocol: "UDP" as const }].filter(() => random.chance(0.8));
    const number = random.pick([1, 2]);
    const endpoints = randomEndpoints(random);
    const weights = endpoints.map(({ addresses }) => `${addresses[0]}=${random.below(4)}`).join();
    return eventsOf({
      slices: [
        slice({
          ...{ service: name, name: `${name}-${number}`, ports, endpoints },
          ...(random.chance(0.4) ? { weights } : {}),
        }),
      ],
    });
  }
  const type = random.pick(["ClusterIP", "NodePort", "LoadBalancer"] as const);
  return eventsOf({
    services: [
      service({
        name,
        age: random.below(4),
        type,
        clusterIPs: [random.pick(CLUSTER_ADDRESSES), ...(random.chance(0.3) ? [random.pick(CLUSTER_ADDRESSES_6)] : [])],
        externalTrafficPolicy: random.pick(policy),
        internalTrafficPolicy: random.pick(policy),
        externalIPs: random.chance(0.3) ? [random.pick([...VIPS, "10.96.0.3"])] : [],
        affinitySeconds: random.pick([0, 0, 60]),
        sourceRanges: random.chance(0.5) ? SOURCE_RANGES.filter(() => random.chance(0.4)) : [],
        loadBalancerAddresses: random.chance(0.6)
          ? [{ address: random.pick(VIPS), ipMode: "VIP", fromPool: random.chance(0.5) }]
          : [],
        ports: [
          { name: "a", port: random.pick([80, 81]), nodePort: random.pick(NODE_PORTS) },
          { name: "b", port: 53, protocol: "UDP" as const, nodePort: random.pick(NODE_PORTS) },
        ].filter(() => random.chance(0.8)),
      }),
    ],
  });
}

/** What each client of each frontend finds, or the name of what is wrong with it. */
function serving(maps: FakeMaps): Map<string, string> {
  const found = new Map<string, string>();
  for (const [text, frontend] of maps.frontends) {
    const row = maps.rows.get(frontend.row);
    if (row?.generation !== frontend.generation) throw new Error(`frontend ${text} has no row`);
    for (const name of ["external", "internal", "cluster"] as const) {
      found.set(`${text} ${name}`, windowContent(maps, row.windows[name], row.serviceId, `${text} ${name}`));
    }
    for (const client of row.kind === "load-balancer" ? CLIENTS : []) {
      const isIn = !row.restricted || maps.letsIn(row.serviceId, client);
      found.set(`${text} from ${client}`, isIn ? "served" : "refused");
    }
    found.set(`${text} affinity`, String(row.affinity));
  }
  return found;
}

function windowContent(maps: FakeMaps, window: Window, serviceId: number, where: string): string {
  if (window.count === 0) return window.whenEmpty;
  const content: string[] = [];
  for (let i = window.first; i < window.first + window.count; i++) {
    const { backend: index, generation } = maps.slot(i);
    const backend = maps.backends.get(index);
    if (backend === undefined || backend.state !== "live" || backend.generation !== generation) {
      throw new Error(`a hole in ${where}: slot ${i} shows backend ${index}.${generation}`);
    }
    if (backend.serviceId !== serviceId) throw new Error(`a stranger in ${where}: ${backend.address}`);
    content.push(endpointText(backend.address, backend.port));
  }
  return content.sort().join(" ");
}

/** Applies one operation after the other and looks at every prefix. */
function applyChecked(maps: FakeMaps, operations: readonly Operation[]): void {
  const before = serving(maps);
  const done = maps.clone();
  done.apply(operations);
  const after = serving(done);
  for (const [i, operation] of operations.entries()) {
    maps.apply([operation]);
    const now = serving(maps);
    for (const key of new Set([...before.keys(), ...after.keys(), ...now.keys()])) {
      const allowed = [before.get(key), after.get(key)];
      // Closed before it is opened: a client may be refused for a moment, and never served.
      if (now.get(key) === "refused") continue;
      if (!allowed.includes(now.get(key))) {
        const ops = operations.slice(0, i + 1).map(({ op }) => op);
        throw new Error(`after ${ops.join(", ")}: ${key} finds ${now.get(key)}, neither ${allowed.join(" nor ")}`);
      }
    }
  }
}

/** Every live backend is in a window or drained, and the model counts what the maps hold. */
function checkNothingLeaks(maps: FakeMaps, model: Model): void {
  const drained = drainedIn(model);
  const shown = new Set<number>();
  const slots = new Set<number>();
  for (const { windows } of maps.readState().rows.values()) {
    for (const { first, count } of [windows.external, windows.internal, windows.cluster]) {
      for (let i = first; i < first + count; i++) {
        slots.add(i);
        shown.add(maps.slot(i).backend);
      }
    }
  }
  const live = liveBackends(maps);
  expect(live.filter((index) => !shown.has(index) && !drained(maps.backends.get(index)!))).toEqual([]);
  expect([...shown].filter((index) => !live.includes(index))).toEqual([]);
  expect(model.usage().slots).toBe(slots.size);
  checkCounts(maps, model);
}

/** Has some slice of its Service weight 0 for it? */
function drainedIn(model: Model): (backend: FakeBackend) => boolean {
  return ({ serviceId, address }) => {
    const port = model.serviceById(serviceId);
    return port !== undefined && model.slicesOf(port.service).some(({ weights }) => weights?.includes(`${address}=0`));
  };
}

function checkCounts(maps: FakeMaps, model: Model): void {
  const rows = [...maps.readState().rows.values()];
  const { slots: _, ...counts } = model.usage();
  expect(counts).toEqual({
    rows: rows.length,
    backends: liveBackends(maps).length,
    services: new Set(rows.map((row) => row.serviceId)).size,
    frontends: maps.frontends.size,
    addresses: maps.addresses.size,
    sourceRanges: [...maps.readState().sourceRanges.values()].flat().length,
  });
}

function liveBackends(maps: FakeMaps): number[] {
  return [...maps.backends].filter(([, backend]) => backend.state === "live").map(([index]) => index);
}

function newModel(capacity: Capacity = ROOMY, balancing: Balancing = BY_HASH): Model {
  return createModel({
    ...{ nodeName: "node1", capacity, balancing },
    serviceRanges: [{ address: "10.96.0.0", length: 12 }],
    externalIPRanges: [{ address: "0.0.0.0", length: 0 }],
  });
}

/** Without what is said again after each adoption. */
function withoutRanges(operations: readonly Operation[]): Operation[] {
  return operations.filter(({ op }) => op !== "set-service-ranges" && op !== "raise-policy");
}

function contentOf(maps: FakeMaps): unknown {
  return { serving: Object.fromEntries([...serving(maps)].sort()), addresses: new Map([...maps.addresses].sort()) };
}

/** What a model that never knew anything else makes of the world. */
function fromScratch(world: World, capacity: Capacity = ROOMY, balancing: Balancing = BY_HASH): unknown {
  const maps = createFakeMaps(capacity);
  const model = newModel(capacity, balancing);
  model.update([...world.values()]);
  maps.apply(model.plan());
  return contentOf(maps);
}

function histories(body: (random: Random) => void): void {
  for (let i = 0; i < HISTORIES; i++) withSeed((SEED + i) >>> 0, body);
}

/** A history of batches; after each `step` gets what has just been planned and not applied. */
function live(
  random: Random,
  capacity: Capacity,
  step: (maps: FakeMaps, model: Model, plan: readonly Operation[], world: World) => void,
): void {
  const world: World = new Map();
  const maps = createFakeMaps(capacity);
  const model = newModel(capacity);
  model.update(record(world, eventsOf({ nodes: [node(1), node(2)] })));
  for (let i = 0; i < STEPS; i++) {
    for (let changes = random.below(4); changes >= 0; changes--) model.update(record(world, randomEvents(random)));
    step(maps, model, model.plan(), world);
  }
}

test("after every prefix each client finds its old or its new backends, and the end does not depend on the way", () => {
  histories((random) =>
    live(random, ROOMY, (maps, model, plan, world) => {
      applyChecked(maps, plan);
      expect(contentOf(maps)).toEqual(fromScratch(world));
      checkNothingLeaks(maps, model);
      expect(maps.rows.size).toBe(maps.frontends.size);
      expect(model.plan()).toEqual([]);
    }),
  );
});

test("with Maglev tables too, over every prefix, a restart and whatever way", () => {
  const balancing: Balancing = { byDefault: "maglev", tableSize: 251 };
  const capacity: Capacity = { ...CAPACITY, slots: 32_768 };
  let tables = 0;
  for (let i = 0; i < 3; i++) {
    withSeed((SEED + i) >>> 0, (random) => {
      const world: World = new Map();
      const maps = createFakeMaps(capacity);
      const model = newModel(capacity, balancing);
      model.update(record(world, eventsOf({ nodes: [node(1), node(2)] })));
      for (let step = 0; step < 10; step++) {
        for (let changes = 3; changes > 0; changes--) model.update(record(world, randomEvents(random)));
        applyChecked(maps, model.plan());
        expect(contentOf(maps)).toEqual(fromScratch(world, capacity, balancing));
        checkNothingLeaks(maps, model);
        const next = newModel(capacity, balancing);
        next.update([...world.values()]);
        next.adopt(maps.readState());
        expect(withoutRanges(next.plan())).toEqual([]);
        const told = (of: Model): string[] =>
          of
            .notices()
            .map((notice) => JSON.stringify(notice))
            .sort();
        expect(told(next)).toEqual(told(model));
        tables += [...maps.rows.values()].filter(({ windows }) => windows.cluster.count >= 251).length;
      }
    });
  }
  expect(tables).toBeGreaterThan(0);
});

test("a restart keeps ids and has nothing to do", () => {
  histories((random) =>
    live(random, ROOMY, (maps, model, plan, world) => {
      maps.apply(plan);
      const next = newModel();
      next.update([...world.values()]);
      next.adopt(maps.readState());
      expect(withoutRanges(next.plan())).toEqual([]);
      const ids = (of: Model): string[] =>
        [...of.servicePorts()]
          .map((port) => `${port.serviceId} ${port.service} ${port.family} ${port.portName}`)
          .sort();
      expect(ids(next)).toEqual(ids(model));
      checkNothingLeaks(maps, next);
    }),
  );
});

test("a restart after any prefix of a plan ends where the plan would have ended, safely", () => {
  histories((random) =>
    live(random, ROOMY, (maps, model, plan, world) => {
      const broken = maps.clone();
      broken.apply(plan.slice(0, random.below(plan.length + 1)));
      const next = newModel();
      next.update([...world.values()]);
      next.adopt(broken.readState());
      applyChecked(broken, next.plan());
      expect(contentOf(broken)).toEqual(fromScratch(world));
      checkNothingLeaks(broken, next);
      maps.apply(plan);
      checkNothingLeaks(maps, model);
    }),
  );
});

test("a model whose plan failed half way adopts and goes on", () => {
  histories((random) =>
    live(random, ROOMY, (maps, model, plan, world) => {
      const limit = random.below(plan.length + 5);
      try {
        maps.apply(plan, limit);
        expect(plan.length).toBeLessThanOrEqual(limit);
      } catch (failure) {
        if (plan.length <= limit) throw failure;
        model.adopt(maps.readState());
        applyChecked(maps, model.plan());
      }
      expect(contentOf(maps)).toEqual(fromScratch(world));
      checkNothingLeaks(maps, model);
    }),
  );
});

/** Small tables of all kinds: addresses hold at least those of the nodes. */
function smallCapacity(random: Random): Capacity {
  return {
    ...CAPACITY,
    sourceRanges: random.below(6),
    frontends: 2 + random.below(14),
    rows: 2 + random.below(14),
    slots: 2 + random.below(18),
    backends: 2 + random.below(16),
    services: 2 + random.below(8),
    addresses: 6 + random.below(6),
  };
}

/** No window leads to what is no endpoint of its Service any more. */
function checkNothingGone(maps: FakeMaps, model: Model, world: World): void {
  const endpoints = new Map<string, Set<string>>();
  for (const { object } of world.values()) {
    if (object === undefined || !("endpoints" in object)) continue;
    const key = `${object.namespace}/${object.service}`;
    const known = endpoints.get(key) ?? new Set();
    for (const { addresses, ready, serving, terminating } of object.endpoints) {
      if (ready || (serving && terminating)) known.add(addresses[0]!);
    }
    endpoints.set(key, known);
  }
  for (const [text, { row: index }] of maps.frontends) {
    const row = maps.rows.get(index)!;
    const port = model.serviceById(row.serviceId);
    if (port === undefined) throw new Error(`${text} leads to nobody`);
    if (port.kind === "host-port") continue;
    for (const { first, count } of [row.windows.external, row.windows.internal, row.windows.cluster]) {
      for (let i = first; i < first + count; i++) {
        const { address } = maps.backends.get(maps.slot(i).backend)!;
        if (!endpoints.get(port.service)?.has(address))
          throw new Error(`${text} of ${port.service} leads to ${address}`);
      }
    }
  }
}

test("in parts every frontend that stays is there all the while, and the end is the same", () => {
  let moved = 0;
  histories((random) => {
    const world: World = new Map();
    const maps = createFakeMaps(ROOMY);
    const model = newModel();
    model.update(record(world, eventsOf({ nodes: [node(1), node(2)] })));
    for (let i = 0; i < STEPS / 2; i++) {
      for (let changes = 8; changes > 0; changes--) model.update(record(world, randomEvents(random)));
      const before = serving(maps);
      const done = fromScratch(world) as { serving: Record<string, string> };
      while (model.isDirty()) {
        for (const operation of model.plan(1)) {
          maps.apply([operation]);
          const now = serving(maps);
          for (const key of before.keys()) {
            if (!now.has(key) && key in done.serving) throw new Error(`after ${operation.op} there is no ${key}`);
          }
          moved += operation.op === "put-frontend" && before.has(`${frontendText(operation.key)} cluster`) ? 1 : 0;
        }
      }
      expect(contentOf(maps)).toEqual(done);
    }
  });
  expect(moved).toBeGreaterThan(0);
});

test("with tables that are full every prefix is safe, nothing leaks, and nothing that is gone is served", () => {
  let full = 0;
  histories((random) => {
    live(random, smallCapacity(random), (maps, model, plan, world) => {
      full += model.notices().filter(({ reason }) => reason === "table-full").length;
      for (const round of splitRounds(plan)) applyChecked(maps, round);
      // A Service that had no room to change may hold a backend that none of its remaining rows uses.
      checkCounts(maps, model);
      checkNothingGone(maps, model, world);
    });
  });
  expect(full).toBeGreaterThan(0);
});

test("with tables that are full a restart after any prefix of a plan, in parts, serves nothing that is gone", () => {
  histories((random) => {
    const capacity = smallCapacity(random);
    live(random, capacity, (maps, model, plan, world) => {
      const broken = maps.clone();
      broken.apply(plan.slice(0, random.below(plan.length + 1)));
      model.adopt(broken.readState());
      const part = 1 + random.below(20);
      let parts = 0;
      for (; model.isDirty() && parts < 200; parts++) broken.apply(model.plan(part));
      expect(parts).toBeLessThan(200);
      checkCounts(broken, model);
      checkNothingGone(broken, model, world);
      // The history goes on with the maps that it had.
      maps.apply(plan);
      model.adopt(maps.readState());
      maps.apply(model.plan());
      checkNothingGone(maps, model, world);
    });
  });
});

/** A plan for full tables has several rounds, each of which ends with what it frees. */
function splitRounds(plan: readonly Operation[]): Operation[][] {
  const rounds: Operation[][] = [[]];
  for (const operation of plan) {
    const last = rounds.at(-1)!;
    if (last.at(-1)?.op.startsWith("free-") && !operation.op.startsWith("free-")) rounds.push([operation]);
    else last.push(operation);
  }
  return rounds;
}

test("a seed repeats its history", () => {
  const numbers = (): number[] => {
    const random = createRandom(7);
    return Array.from({ length: 20 }, () => random.below(1000));
  };
  expect(numbers()).toEqual(numbers());
});
