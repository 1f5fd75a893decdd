// EndpointSlices in columns: the same as through wire/normalise.ts, refused by field, and the same after crossing threads.
import { describe, expect, it, vi } from "vitest";
import type { Change } from "../../src/kube/row.ts";
import { createUnpacker, packChanges } from "../../src/kube/rows.ts";
import { takeSlice } from "../../src/kube/slice-row.ts";
import { takeObject } from "../../src/kube/take-object.ts";
import { hasHints } from "../../src/model/endpoint-list.ts";
import type { Service } from "../../src/model/objects.ts";
import type { EndpointSliceObject } from "../../src/wire/kubernetes.ts";
import { normaliseEndpointSlice } from "../../src/wire/normalise.ts";
import { type Json, type SliceFields, service, slice } from "./objects.ts";

function change(object: Json): Change & { kind: "EndpointSlice" } {
  const taken = takeSlice(object);
  if (taken.outcome !== "taken" || taken.change.kind !== "EndpointSlice")
    throw new Error(`not taken: ${JSON.stringify(taken)}`);
  return taken.change;
}

/** What comes out of the main loop's side. */
function crossed(...changes: readonly Change[]): unknown[] {
  const events = createUnpacker().unpack(structuredClone(packChanges(changes)));
  return events.map((event) =>
    event.kind === "EndpointSlice" && event.object !== undefined
      ? { ...event, object: { ...event.object, endpoints: [...event.object.endpoints] } }
      : event,
  );
}

const SLICES: readonly [string, SliceFields][] = [
  ["plain", {}],
  ["several endpoints", { addresses: ["10.244.1.5", "10.244.2.5", "192.168.7.1"] }],
  ["none", { addresses: [] }],
  ["no endpoints field", { top: { endpoints: null } }],
  ["no conditions", { endpoint: { conditions: undefined } }],
  ["conditions of null", { endpoint: { conditions: { ready: null, serving: null, terminating: null } } }],
  ["not ready", { endpoint: { conditions: { ready: false } } }],
  ["terminating and serving", { endpoint: { conditions: { ready: false, serving: true, terminating: true } } }],
  ["host names", { endpoint: { hostname: "db-0" } }],
  ["no node and no pod", { endpoint: { nodeName: null, targetRef: null } }],
  ["a target that is no Pod", { endpoint: { targetRef: { kind: "Node", name: "node1" } } }],
  ["a pod without namespace", { endpoint: { targetRef: { kind: "Pod", name: "web-0" } } }],
  ["a pod of another namespace", { endpoint: { targetRef: { kind: "Pod", namespace: "other", name: "web-0" } } }],
  [
    "ports without name, protocol or number",
    { top: { ports: [{ port: 80 }, { name: "all" }, { name: "x", port: 9, protocol: "UDP" }] } },
  ],
  ["no ports", { top: { ports: null } }],
  ["a hint for a zone", { endpoint: { hints: { forZones: [{ name: "a" }] } } }],
  [
    "hints for zones and nodes",
    { endpoint: { hints: { forZones: [{ name: "a" }, { name: "b" }, { name: "a" }], forNodes: [{ name: "node1" }] } } },
  ],
  ["hints that name nothing", { endpoint: { hints: { forZones: [], forNodes: null } } }],
  [
    "addresses that no endpoint may have",
    { addresses: ["127.0.0.1", "10.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0"] },
  ],
  ["IPv6", { addresses: ["fd00:10:244:1::5", "fe80::1", "2001:DB8::1", "::1", "::"], top: { addressType: "IPv6" } }],
];

describe("a slice", () => {
  it.each(SLICES)(
    "with %s is the same as through the normaliser of manifests, but for names that nothing needs",
    (_, fields) => {
      const object = slice("web-1", fields);
      const { slice: expected } = normaliseEndpointSlice(object as unknown as EndpointSliceObject);
      expect(crossed(change(object))).toEqual([
        {
          kind: "EndpointSlice",
          key: "default/web-1",
          object: {
            ...expected,
            endpoints: [...(expected?.endpoints ?? [])].map((one) => ({ ...one, hostname: "", pod: "" })),
          },
        },
      ]);
    },
  );

  it("keeps its weights, and is another slice with others", () => {
    const weighted = (weights: unknown): Json => {
      const object = slice("web-1", {});
      const metadata = object["metadata"] as Json;
      return { ...object, metadata: { ...metadata, annotations: { "millrace.io/weights": weights } } };
    };
    const plain = change(slice("web-2", {}));
    expect(crossed(plain, change(weighted("10.1.1.1=0")))).toMatchObject([
      { key: "default/web-2" },
      { key: "default/web-1", object: { weights: "10.1.1.1=0" } },
    ]);
    const hashes = ["10.1.1.1=0", "10.1.1.1=1", undefined].map((weights) => {
      const taken = takeSlice(weights === undefined ? slice("web-1", {}) : weighted(weights));
      return taken.outcome === "taken" ? taken.hash : 0;
    });
    expect(new Set(hashes).size).toBe(3);
    expect(takeSlice(weighted(5))).toMatchObject({
      outcome: "refused",
      complaints: [{ field: "metadata.annotations[millrace.io/weights]" }],
    });
  });

  it("keeps the first address of an endpoint that can be used", () => {
    const { content } = change(slice("web", { endpoint: { addresses: ["127.0.0.1", "10.1.1.1", "10.1.1.2"] } }));
    expect(content?.addresses).toEqual(["10.1.1.1"]);
  });

  it("says which addresses were left out, and why", () => {
    const taken = takeSlice(slice("web", { addresses: ["10.1.1.1", "127.0.0.1", "10.1.1.300"] }));
    expect(taken.outcome === "taken" && taken.complaints).toEqual([
      {
        field: "endpoints[1].addresses[0]",
        reason: "endpoint-refused",
        message:
          'endpoints[1].addresses[0]: Invalid value: "127.0.0.1": may not be a loopback address; this address is left out',
      },
      {
        field: "endpoints[2].addresses[0]",
        reason: "endpoint-refused",
        message:
          'endpoints[2].addresses[0]: Invalid value: "10.1.1.300": must be a valid IP address; this address is left out',
      },
    ]);
  });

  it("has the time of the change that led to it", () => {
    const timed = change(slice("web", { trigger: "2026-01-01T00:00:01.5Z" }));
    expect(timed.triggerMs).toBe(Date.UTC(2026, 0, 1, 0, 0, 1, 500));
    expect(crossed(timed)[0]).toMatchObject({ triggerMs: timed.triggerMs });
    expect(change(slice("web", { trigger: "soon" })).triggerMs).toBe(0);
  });

  it.each<[string, Json]>([
    ["of no Service", { metadata: { name: "a", namespace: "b", labels: {} }, addressType: "IPv4", endpoints: [] }],
    ["with host names for addresses", slice("a", { top: { addressType: "FQDN" } })],
  ])("%s is of no use", (_, object) => {
    expect(takeSlice(object).outcome).toBe("skipped");
  });

  it.each<[string, unknown]>([
    ["", null],
    ["", []],
    ["metadata", { ...slice("a"), metadata: 7 }],
    ["metadata.name", { ...slice("a"), metadata: { namespace: "default" } }],
    ["metadata.namespace", { ...slice("a"), metadata: { name: "a", namespace: 1 } }],
    ["metadata.labels", { ...slice("a"), metadata: { name: "a", namespace: "b", labels: "x" } }],
    ["addressType", slice("a", { top: { addressType: "IPX" } })],
    ["endpoints", slice("a", { top: { endpoints: {} } })],
    ["endpoints[0]", slice("a", { top: { endpoints: ["10.0.0.1"] } })],
    ["endpoints[0].addresses", slice("a", { endpoint: { addresses: "10.0.0.1" } })],
    ["endpoints[0].addresses[0]", slice("a", { endpoint: { addresses: [1] } })],
    ["endpoints[0].conditions", slice("a", { endpoint: { conditions: true } })],
    ["endpoints[0].conditions.ready", slice("a", { endpoint: { conditions: { ready: "yes" } } })],
    ["endpoints[0].nodeName", slice("a", { endpoint: { nodeName: {} } })],
    ["ports", slice("a", { top: { ports: 80 } })],
    ["ports[0].port", slice("a", { top: { ports: [{ port: "80" }] } })],
    ["ports[0].port", slice("a", { top: { ports: [{ port: 70000 }] } })],
    ["ports[0].protocol", slice("a", { top: { ports: [{ port: 80, protocol: "ICMP" }] } })],
  ])("with a wrong %s is refused by that field", (field, object) => {
    const taken = takeSlice(object);
    expect(taken.outcome).toBe("refused");
    expect(taken.outcome === "refused" && taken.complaints[0]?.field).toBe(field);
  });

  it("has another hash for every difference that the model can see, and none else", () => {
    const hashes = SLICES.map(([, fields]) => {
      const taken = takeSlice(slice("web-1", fields));
      return taken.outcome === "taken" ? taken.hash : 0;
    });
    const contents = SLICES.map(([, fields]) => JSON.stringify(change(slice("web-1", fields)).content));
    expect(new Set(hashes).size).toBe(new Set(contents).size);
    const same = takeSlice(slice("web-1", { version: 99, trigger: "2026-01-01T00:00:00Z", top: { extra: 1 } }));
    expect(same.outcome === "taken" && same.hash).toBe(hashes[0]);
  });
});

describe("changes in one message", () => {
  it("share lists of ports with those before, of which the least used are forgotten", () => {
    const unpacker = createUnpacker();
    const portsOf = (name: string): unknown => {
      const top = { ports: [{ name, port: 80 }] };
      const [event] = unpacker.unpack(packChanges([change(slice("a", { top }))]));
      return event?.kind === "EndpointSlice" && event.object?.ports;
    };
    const often = portsOf("often");
    const seldom = portsOf("seldom");
    for (let i = 0; i < 2_000; i++) {
      portsOf(`p${i}`);
      expect(portsOf("often")).toBe(often);
    }
    expect(portsOf("seldom")).not.toBe(seldom);
    expect(unpacker.portLists()).toBeLessThanOrEqual(1_000);
  });

  it("of Services share what is equal or empty, and nothing else", () => {
    const spec = (port: Json): Json => ({ clusterIP: "10.96.0.7", ports: [{ port: 80, ...port }] });
    const ports = [{}, {}, { targetPort: 8080 }, { targetPort: "8080" }, { nodePort: 30080 }, { nodePort: 30080 }];
    const taken = ports.map((port, i) => {
      const type = port.nodePort === undefined ? "ClusterIP" : "NodePort";
      const one = takeObject("Service", { ...service(`s${i}`), spec: { ...spec(port), type } });
      if (one.outcome !== "taken") throw new Error("not taken");
      return one.change;
    });
    const events = createUnpacker().unpack(structuredClone(packChanges(taken)));
    const services = events.map((event) => event.object as Service);
    expect(services).toEqual(taken.map(({ content }) => content));
    expect(new Set(services.map((one) => one.ports)).size, "of the first two alone").toBe(5);
    for (const field of ["externalIPs", "sourceRanges", "labels"] as const)
      expect(new Set<unknown>(services.map((one) => one[field])).size, field).toBe(1);
  });

  it("of a Service are the text that it was compared by", () => {
    const taken = takeObject("Service", service("a"));
    if (taken.outcome !== "taken") throw new Error("not taken");
    const write = vi.spyOn(JSON, "stringify");
    const events = crossed(taken.change);
    const writes = write.mock.calls.length;
    write.mockRestore();
    expect(events).toEqual([{ kind: "Service", key: "default/a", object: taken.change.content }]);
    expect(writes).toBe(0);
  });

  it("keep their order for each object, those that go included", () => {
    const first = change(slice("a"));
    const gone = { ...first, content: undefined };
    const again = change(slice("a", { addresses: ["10.244.9.9", "10.244.9.10"] }));
    const other = change(slice("b", { of: "db", top: { ports: [{ name: "sql", port: 5432 }] } }));
    const node: Change = { kind: "Node", key: "node1", content: undefined };
    const shapes = crossed(first, node, gone, other, again).map((event) => {
      const { kind, key, object } = event as {
        kind: string;
        key: string;
        object?: { service: string; endpoints: unknown[] };
      };
      return `${kind} ${key} ${object === undefined ? "gone" : `${object.service} ${object.endpoints.length}`}`;
    });
    expect(shapes).toEqual([
      "Node node1 gone",
      "EndpointSlice default/a web 1",
      "EndpointSlice default/a gone",
      "EndpointSlice default/b db 1",
      "EndpointSlice default/a web 2",
    ]);
  });
});

it("hints of one slice of a message stay with its endpoints, and slices without any keep no column for them", () => {
  const hints = (zone: string) => ({ hints: { forZones: [{ name: zone }] } });
  const changes = [
    change(slice("web-1", { addresses: ["10.244.1.5", "10.244.1.6"] })),
    change(slice("web-2", { addresses: ["10.244.2.5", "10.244.2.6"], endpoint: hints("b") })),
    change(slice("web-3", { addresses: ["10.244.3.5"], endpoint: hints("c") })),
  ];
  const unpacker = createUnpacker();
  for (let round = 0; round < 2; round++) {
    const lists = unpacker
      .unpack(structuredClone(packChanges(changes.slice(round))))
      .flatMap((event) =>
        event.kind === "EndpointSlice" && event.object !== undefined ? [event.object.endpoints] : [],
      );
    const expected = [[undefined, undefined], ["b", "b"], ["c"]].slice(round);
    expect(lists.map((list) => [...list].map((one) => one.hints?.zones.join()))).toEqual(expected);
    expect(lists.map(hasHints)).toEqual([false, true, true].slice(round));
  }
});
