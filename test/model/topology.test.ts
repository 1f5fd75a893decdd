// Which endpoints each policy uses where EndpointSlices have hints: when they are heeded, and when not.
import { expect, test } from "vitest";
import type { Endpoint } from "../../src/model/objects.ts";
import { ending, endpoint, node, notReady, service, slice } from "../flows/builders.ts";
import { categorise } from "./categorise.ts";
import { bench } from "./setup.ts";

const PLACE = { node: "node1", zone: "a" };

function hinted(one: Endpoint, zones: readonly string[], nodes: readonly string[] = []): Endpoint {
  return { ...one, hints: { zones, nodes } };
}
const at = (last: number, nodeName: string): Endpoint => endpoint(`10.0.0.${last}`, nodeName);
const texts = (...lasts: number[]): string[] => lasts.map((last) => `10.0.0.${last}:8080`);

const here = at(1, "node1");
const near = at(2, "node2");
const far = at(3, "node3");

interface Case {
  readonly name: string;
  readonly endpoints: readonly Endpoint[];
  readonly place?: typeof PLACE;
  readonly cluster: readonly number[];
  readonly local?: readonly number[];
}

const CASES: readonly Case[] = [
  {
    name: "hints for this zone leave what is meant for others",
    endpoints: [hinted(here, ["a"]), hinted(near, ["a"]), hinted(far, ["b"])],
    cluster: [1, 2],
    local: [1],
  },
  {
    name: "one hint may name several zones",
    endpoints: [hinted(here, ["b"]), hinted(near, ["b", "a"])],
    cluster: [2],
    local: [1],
  },
  {
    name: "no endpoint for this zone: none is left out",
    endpoints: [hinted(here, ["b"]), hinted(far, ["c"])],
    cluster: [1, 3],
    local: [1],
  },
  {
    name: "a ready endpoint without hint: none is left out",
    endpoints: [hinted(near, ["a"]), far],
    cluster: [2, 3],
  },
  {
    name: "a node of unknown zone heeds no zone",
    endpoints: [hinted(near, ["a"]), hinted(far, ["b"])],
    place: { node: "node1", zone: "" },
    cluster: [2, 3],
  },
  {
    name: "an endpoint that is not ready has no say, with a hint or without",
    endpoints: [notReady("10.0.0.1"), hinted(notReady("10.0.0.2"), ["a"]), hinted(at(3, "node3"), ["b"])],
    cluster: [3],
  },
  {
    name: "an endpoint that is not ready does not keep the hints of others from being heeded",
    endpoints: [notReady("10.0.0.1"), hinted(near, ["a"]), hinted(far, ["b"])],
    cluster: [2],
  },
  {
    name: "hints for this node come before those for its zone",
    endpoints: [hinted(here, ["a"], ["node1"]), hinted(near, ["a"], ["node2"]), hinted(far, ["b"], ["node3"])],
    cluster: [1],
    local: [1],
  },
  {
    name: "no endpoint for this node: its zone counts",
    endpoints: [hinted(near, ["a"], ["node2"]), hinted(far, ["b"], ["node3"])],
    cluster: [2],
  },
  {
    name: "a ready endpoint without hint for a node: the zones count",
    endpoints: [hinted(here, ["a"], ["node1"]), hinted(near, ["a"]), hinted(far, ["b"])],
    cluster: [1, 2],
    local: [1],
  },
  {
    name: "no endpoint for this node and hints for zones are not complete: none is left out",
    endpoints: [hinted(near, [], ["node2"]), hinted(far, ["a"], ["node3"])],
    cluster: [2, 3],
  },
  {
    name: "a node is meant by its name, wherever the endpoint is",
    endpoints: [hinted(near, [], ["node1"]), hinted(here, [], ["node2"])],
    cluster: [2],
    local: [1],
  },
  {
    name: "policy Local uses what is here, whoever it is meant for",
    endpoints: [hinted(here, ["b"]), hinted(near, ["a"])],
    cluster: [2],
    local: [1],
  },
  {
    name: "terminating endpoints serve whatever zone they are meant for, once nothing is ready",
    endpoints: [
      hinted(ending("10.0.0.1"), ["b"]),
      hinted(ending("10.0.0.2", "node2"), ["a"]),
      ending("10.0.0.3", "node3"),
    ],
    cluster: [1, 2, 3],
    local: [1],
  },
  {
    name: "a terminating endpoint does not stand in for a zone that has no ready one",
    endpoints: [hinted(ending("10.0.0.2", "node2"), ["a"]), hinted(far, ["b"])],
    cluster: [3],
  },
  {
    name: "a terminating endpoint on this node serves policy Local, ready ones of the zone everybody else",
    endpoints: [hinted(ending("10.0.0.1"), ["a"]), hinted(near, ["a"]), hinted(far, ["b"])],
    cluster: [2],
    local: [1],
  },
];

test.each(CASES)("$name", ({ endpoints, place = PLACE, cluster, local = [] }) => {
  expect(categorise([slice({ endpoints })], place)).toEqual({ cluster: texts(...cluster), local: texts(...local) });
});

test("of an endpoint in two slices the hints of the one that counts do", () => {
  const slices = [
    slice({ name: "a", endpoints: [hinted(notReady("10.0.0.2", "node2"), ["b"]), hinted(far, ["b"])] }),
    slice({ name: "b", endpoints: [hinted(near, ["a"])] }),
  ];
  expect(categorise(slices, PLACE).cluster).toEqual(texts(2));
});

const inZone = (zone: string) => node(1, { labels: { "topology.kubernetes.io/zone": zone } });

test("a node that comes to another zone, or loses it, uses others", () => {
  const { feed, feedEvents, dump } = bench();
  const endpoints = [hinted(near, ["a"]), hinted(far, ["b"])];
  feed({ services: [service()], slices: [slice({ endpoints })] });
  const backends = (): string[] => dump().match(/10\.0\.0\.\d/g) ?? [];
  expect(backends()).toEqual(["10.0.0.2", "10.0.0.3"]);
  feed({ nodes: [inZone("a")] });
  expect(backends()).toEqual(["10.0.0.2"]);
  feed({ nodes: [inZone("b")] });
  expect(backends()).toEqual(["10.0.0.3"]);
  feedEvents([{ kind: "Node", key: "node1", object: undefined }]);
  expect(backends()).toEqual(["10.0.0.3"]);
  feed({ nodes: [inZone("c")] });
  expect(backends()).toEqual(["10.0.0.2", "10.0.0.3"]);
});

test("a node that comes to another zone leaves Services without hints alone", () => {
  const { feed } = bench();
  feed({ services: [service()], slices: [slice({ endpoints: [near] })] });
  expect(feed({ nodes: [inZone("a")] })).toEqual([]);
});
