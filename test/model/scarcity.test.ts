// When there is not enough for all: fewer are served, never what is gone, and who asks for too much takes it from himself first.
import { describe, expect, test } from "vitest";
import type { ObjectEvent } from "../../src/model/objects.ts";
import { ending, endpoint, eventsOf, node, service, slice } from "../flows/builders.ts";
import { bench } from "./setup.ts";

const many = (numbers: readonly number[]) => numbers.map((i) => endpoint(`10.244.${i >> 8}.${i & 255}`));
const upTo = (count: number, from = 1): number[] => Array.from({ length: count }, (_, i) => from + i);
const web = (numbers: readonly number[]) => slice({ endpoints: many(numbers) });
const gone = (key: string): ObjectEvent => ({ kind: "Service", key, object: undefined });

/** Addresses of the backends that serve, in the order of their indexes. */
function serving(of: { dump(): string }): string[] {
  return [...of.dump().matchAll(/^backend \d+\.\d+ service \d+ ([\d.]+):/gm)].map(([, address]) => address!).sort();
}

describe("full tables", () => {
  test.each([
    { map: "frontends", capacity: { frontends: 1 }, served: "0 of 1 addresses" },
    { map: "rows", capacity: { rows: 1 }, served: "0 of 1 addresses" },
    { map: "services", capacity: { services: 2 }, served: "0 of 1 addresses" },
    { map: "backends", capacity: { backends: 3 }, served: "1 of 2 endpoints" },
    { map: "slots", capacity: { slots: 3 }, served: "1 of 2 endpoints" },
  ])("$map: the Service that does not fit is named, the other is served", ({ map, capacity, served }) => {
    const { feed, feedEvents, dump, model } = bench({ capacity });
    const other = service({ name: "other", age: 2, clusterIPs: ["10.96.0.11"] });
    feed({ services: [service()], slices: [web([1, 2])] });
    feed({ services: [other], slices: [slice({ service: "other", endpoints: many([3, 4]) })] });
    expect(dump()).toContain("10.96.0.10 TCP 80 cluster-ip service 1 row 0.1 ext 0[0 1]");
    expect(dump().includes("10.96.0.11")).toBe(served.startsWith("1"));
    const [notice, ...more] = model.notices();
    expect(notice).toMatchObject({ object: "Service default/other", reason: "table-full", severity: "error" });
    const said = `could serve only ${served} of TCP port 80 (IPv4): map "${map}" is full for its namespace`;
    expect(notice?.message).toContain(said);
    expect(more).toEqual([]);
    feedEvents([gone("default/web")]);
    expect(dump()).toContain("10.96.0.11 TCP 80 cluster-ip");
    expect(serving({ dump })).toEqual(["10.244.0.3", "10.244.0.4"]);
    expect(model.notices()).toEqual([]);
  });

  test("endpoints are replaced one for one when there is room for no more, and none that is gone is served", () => {
    const { feed, dump, model } = bench({ capacity: { backends: 3 } });
    feed({ services: [service()], slices: [web([1, 2, 3])] });
    feed({ slices: [web([4, 5, 6])] });
    expect(serving({ dump })).toEqual(["10.244.0.4", "10.244.0.5", "10.244.0.6"]);
    expect(model.notices()).toEqual([]);
  });

  test("what is left of the old endpoints serves all the while", () => {
    const { feed, maps, model } = bench({ capacity: { backends: 3 } });
    feed({ services: [service()], slices: [web([1, 2, 3])] });
    model.update(eventsOf({ slices: [web([3, 4, 5])] }));
    for (const operation of model.plan()) {
      maps.apply([operation]);
      expect(maps.dump()).toMatch(/ext \d\[(0 1 )?2|ext \d\[2/);
    }
    expect(serving(maps)).toEqual(["10.244.0.3", "10.244.0.4", "10.244.0.5"]);
  });

  test("old endpoints come before new ones, and these in the order of their addresses", () => {
    const { feed, dump, model } = bench({ capacity: { backends: 4 } });
    feed({ services: [service()], slices: [web([7, 8])] });
    feed({ slices: [web([5, 4, 3, 7, 8])] });
    expect(serving({ dump })).toEqual(["10.244.0.3", "10.244.0.4", "10.244.0.7", "10.244.0.8"]);
    expect(model.notices().map(({ message }) => message)).toEqual([
      'could serve only 4 of 5 endpoints of TCP port 80 (IPv4): map "backends" is full for its namespace; raise --max-backends',
    ]);
    feed({ slices: [web([5, 4, 7, 8])] });
    expect(serving({ dump })).toEqual(["10.244.0.4", "10.244.0.5", "10.244.0.7", "10.244.0.8"]);
    expect(model.notices()).toEqual([]);
  });

  test("a terminating endpoint that has a backend serves as long as no ready one finds room", () => {
    const { feed, feedEvents, dump, model } = bench({ capacity: { backends: 2 } });
    feed({
      services: [service({ name: "a/web" })],
      slices: [slice({ service: "a/web", name: "a/w", endpoints: many([1]) })],
    });
    feed({
      services: [service({ name: "b/web", clusterIPs: ["10.96.0.11"] })],
      slices: [slice({ service: "b/web", name: "b/w", endpoints: many([9]) })],
    });
    feed({
      slices: [slice({ service: "a/web", name: "a/w", endpoints: [ending("10.244.0.1"), endpoint("10.244.0.2")] })],
    });
    expect(serving({ dump })).toEqual(["10.244.0.1", "10.244.0.9"]);
    expect(model.notices()).toMatchObject([{ object: "Service a/web", reason: "table-full" }]);
    feedEvents([gone("b/web")]);
    expect(serving({ dump })).toEqual(["10.244.0.2"]);
  });

  test.each([
    { name: "one of many is replaced", from: upTo(9), to: [1, 2, 3, 4, 6, 7, 8, 9, 10] },
    { name: "all are replaced", from: upTo(9), to: upTo(9, 20) },
    { name: "one comes", from: upTo(9), to: upTo(10) },
    { name: "one goes", from: upTo(16), to: upTo(15) },
    { name: "the table is full and one is replaced", from: upTo(16), to: [...upTo(8), ...upTo(8, 30)] },
  ])("a Service with more than half of the slots still changes: $name", ({ from, to }) => {
    const { feed, dump, reasons } = bench({ capacity: { slots: 16, backends: 512 } });
    // The division of slots leaves a sixteenth of them to changes.
    const served = (numbers: readonly number[]): string[] =>
      many(numbers)
        .map(({ addresses }) => addresses[0]!)
        .sort();
    feed({ services: [service()], slices: [web(from)] });
    feed({ slices: [web(to)] });
    const now = serving({ dump });
    expect(now.length).toBe(Math.min(to.length, 15));
    expect(served(to)).toEqual(expect.arrayContaining(now));
    expect(reasons()).toEqual(to.length > 15 ? ["table-full Service default/web"] : []);
  });

  test("frontends that there is no room for are left out, those that are there stay", () => {
    const { feed, dump, model } = bench({ capacity: { frontends: 3 } });
    const port = (i: number) => ({ name: `p${i}`, port: i });
    feed({ services: [service({ ports: [port(7), port(8)] })] });
    feed({ services: [service({ ports: [port(6), port(7), port(8), port(5)] })] });
    expect(dump().match(/TCP \d+/g)).toEqual(["TCP 6", "TCP 7", "TCP 8"]);
    expect(model.notices().map(({ message }) => message)).toEqual([
      'could serve only 0 of 1 addresses of TCP port 5 (IPv4): map "frontends" is full for its namespace; raise --max-frontends',
    ]);
  });
});

describe("addresses", () => {
  const addresses = (of: { dump(): string }): string[] =>
    of
      .dump()
      .split("\n")
      .filter((line) => line.startsWith("address 10."));

  test("of Services that got no frontend have no role, until they get one", () => {
    const { feed, feedEvents, maps } = bench({ capacity: { frontends: 1 } });
    feed({ services: [service(), service({ name: "other", age: 2, clusterIPs: ["10.96.0.11"] })] });
    expect(maps.frontends.size).toBe(1);
    expect(addresses(maps)).toEqual(["address 10.96.0.11 refuse"]);
    feedEvents([gone("default/other")]);
    expect(addresses(maps)).toEqual(["address 10.96.0.10 refuse"]);
  });

  test("that do not fit are named, do not fail the plan, and get their role when there is room", () => {
    // The two nodes have two addresses each.
    const { feed, feedEvents, maps, model } = bench({ capacity: { addresses: 5 } });
    feed({ services: [service(), service({ name: "other", age: 2, clusterIPs: ["10.96.0.11"] })] });
    expect(maps.frontends.size).toBe(2);
    expect(addresses(maps)).toEqual(["address 10.96.0.10 refuse"]);
    expect(model.notices()).toMatchObject([{ object: "Map addresses", reason: "table-full" }]);
    feedEvents([gone("default/web")]);
    expect(addresses(maps)).toEqual(["address 10.96.0.11 refuse"]);
    expect(model.notices()).toEqual([]);
  });

  test("of nodes come before those of Services", () => {
    const { feed, maps } = bench({ capacity: { addresses: 6 } });
    feed({ services: [service(), service({ name: "other", age: 2, clusterIPs: ["10.96.0.11"] })] });
    feed({ nodes: [node(3, { internalAddresses: ["192.168.122.13"] })] });
    expect(maps.dump()).toContain("address 192.168.122.13 peer");
    expect(addresses(maps)).toHaveLength(1);
  });
});

describe("shares", () => {
  const SIZES = {
    frontends: 65_536,
    rows: 65_536,
    slots: 524_288,
    backends: 131_072,
    services: 65_536,
    addresses: 65_536,
  };
  const names = upTo(132).map((i) => `p${i}`);

  /** One Service of 132 ports with 1000 endpoints, and one of 80 ports with one: more backends than there are. */
  const greedy = (namespace: string) =>
    eventsOf({
      services: [
        service({
          name: `${namespace}/wide`,
          clusterIPs: ["10.96.1.1"],
          ports: names.map((name, i) => ({ name, port: i + 1 })),
        }),
        service({
          name: `${namespace}/long`,
          clusterIPs: ["10.96.1.2"],
          ports: names.slice(0, 80).map((name, i) => ({ name, port: i + 1 })),
        }),
      ],
      slices: [
        slice({
          service: `${namespace}/wide`,
          name: `${namespace}/wide-1`,
          ports: names.map((name) => ({ name })),
          endpoints: many(upTo(1000)),
        }),
        slice({
          service: `${namespace}/long`,
          name: `${namespace}/long-1`,
          ports: names.map((name) => ({ name })),
          endpoints: many([9000]),
        }),
      ],
    });
  const victim = (numbers: readonly number[]) =>
    slice({ service: "prod/web", name: "prod/web-1", endpoints: many(numbers) });
  const served = ({ model }: Pick<ReturnType<typeof bench>, "model">, key: string): string[] =>
    [...model.servicePortsOf(key)].flatMap(({ backends }) =>
      backends.map(({ address, state }) => `${address} ${state}`),
    );

  test("a namespace that asks for more backends than there are takes them from itself: another one's rollout is in force at once", () => {
    const all = bench({ capacity: SIZES });
    all.feed({ services: [service({ name: "prod/web" })], slices: [victim([5000, 5001])] });
    all.feedEvents(greedy("greedy"));
    const start = performance.now();
    const operations = all.feed({ slices: [victim([5002, 5003])] });
    expect(performance.now() - start).toBeLessThan(1000);
    expect(served(all, "prod/web")).toEqual(["10.244.19.138 ready", "10.244.19.139 ready"]);
    // There is a reserve for changes: the new ones serve before the old ones go.
    expect(operations.map(({ op }) => op)).toEqual([
      "put-backends",
      "put-slots",
      "set-windows",
      "retire-backend",
      "retire-backend",
      "grace",
      "free-backend",
      "free-backend",
      "free-slots",
    ]);
    all.feed({ slices: [victim([])] });
    all.feed({ slices: [victim([5004, 5005, 5006])] });
    expect(served(all, "prod/web")).toHaveLength(3);
    const reasons = new Set(all.reasons());
    expect(reasons).toEqual(new Set(["table-full Service greedy/wide"]));
    expect(all.model.usage().backends).toBeGreaterThan(100_000);
  });

  test("in parts what a small namespace needs comes before what a large one gives up for it", () => {
    const all = bench({ capacity: { backends: 128, slots: 256 } });
    all.feed({ services: [service()], slices: [web(upTo(300))] });
    all.model.update(
      eventsOf({
        services: [service({ name: "prod/web", clusterIPs: ["10.96.0.11"] })],
        slices: [victim(upTo(4, 900))],
      }),
    );
    const first = all.model.plan(800);
    all.maps.apply(first);
    expect(first.map(({ op }) => op)).not.toContain("retire-backend");
    expect(served(all, "prod/web")).toHaveLength(4);
    expect(served(all, "default/web")).toHaveLength(120);
    expect(all.model.isDirty()).toBe(true);
    all.maps.apply(all.model.plan(800));
    expect(served(all, "default/web")).toHaveLength(116);
    expect(all.model.isDirty()).toBe(false);
  });

  test("who came first decides nothing", () => {
    const all = bench({ capacity: SIZES });
    all.feedEvents(greedy("greedy"));
    const before = served(all, "greedy/wide").length;
    expect(before).toBeGreaterThan(100_000);
    const big = upTo(20_000, 10_000);
    all.feed({
      services: [service({ name: "prod/web" })],
      slices: [victim(big)],
    });
    expect(served(all, "prod/web")).toHaveLength(20_000);
    expect(served(all, "greedy/long")).toHaveLength(80);
    expect(served(all, "greedy/wide").length).toBeLessThan(before);
    all.feed({ slices: [victim([])] });
    expect(served(all, "greedy/wide")).toHaveLength(before);
  });

  test("one Service alone may have nearly the whole table, and none that asks for less is cut when it is short", () => {
    const { feed, model } = bench({ capacity: { backends: 320, slots: 1280 } });
    feed({ services: [service()], slices: [web(upTo(320))] });
    expect(model.usage().backends).toBe(296);
    feed({ slices: [web(upTo(300))] });
    expect(model.notices()).toEqual([]);
  });

  test("when many namespaces ask for too much each has the same, and a small one all that it asks for", () => {
    const all = bench({ capacity: { backends: 64, slots: 128 } });
    const names = ["a", "b", "c", "d"];
    for (const [i, name] of names.entries()) {
      const slices = [slice({ service: `${name}/web`, name: `${name}/web-1`, endpoints: many(upTo(60, i * 60)) })];
      all.feed({ services: [service({ name: `${name}/web`, clusterIPs: [`10.96.0.${i + 1}`] })], slices });
    }
    all.feed({ services: [service({ name: "prod/web" })], slices: [victim(upTo(4, 900))] });
    expect(served(all, "prod/web")).toHaveLength(4);
    for (const name of names) expect(served(all, `${name}/web`)).toHaveLength(14);
  });

  test("within a namespace the Services that ask for much share, and the ports of each", () => {
    const all = bench({ capacity: { backends: 64, slots: 128 } });
    const ports = [{ name: "a" }, { name: "b", port: 81 }];
    all.feed({ services: [service({ ports })], slices: [slice({ ports, endpoints: many(upTo(40)) })] });
    const small = service({ name: "small", clusterIPs: ["10.96.0.11"] });
    all.feed({ services: [small], slices: [slice({ service: "small", endpoints: many(upTo(6, 100)) })] });
    expect(served(all, "default/small")).toHaveLength(6);
    expect([...all.model.servicePortsOf("default/web")].map(({ backendCount }) => backendCount)).toEqual([27, 27]);
  });

  test("a namespace with too many frontends loses the last of its own", () => {
    const all = bench({ capacity: { frontends: 16, rows: 16 } });
    const ports = upTo(20).map((i) => ({ name: `p${i}`, port: i }));
    all.feed({ services: [service({ name: "greedy/web", ports })] });
    expect(all.maps.frontends.size).toBe(15);
    const wanted = service({
      name: "prod/web",
      clusterIPs: ["10.96.0.11"],
      type: "NodePort",
      ports: [{ nodePort: 30080 }],
    });
    all.feed({ services: [wanted] });
    expect(all.dump().match(/frontend 0.0.0.0 TCP 30080|frontend 10.96.0.11 TCP 80/g)).toHaveLength(2);
    expect(all.maps.frontends.size).toBe(15);
  });
});
