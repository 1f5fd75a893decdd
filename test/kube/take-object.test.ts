// Services, Nodes and ServiceCIDRs from the API: what is taken, what is refused by which field, what counts as another content.
import { describe, expect, it } from "vitest";
import { takeObject } from "../../src/kube/take-object.ts";
import { type Json, service } from "./objects.ts";

const NODE: Json = {
  metadata: { name: "node1", labels: { "topology.kubernetes.io/zone": "a" } },
  spec: { podCIDR: "10.244.1.0/24", podCIDRs: ["10.244.1.0/24"] },
  status: {
    addresses: [
      { type: "InternalIP", address: "192.168.122.11" },
      { type: "Hostname", address: "node1" },
    ],
    conditions: [{ type: "Ready", status: "True" }],
    images: [{ names: ["x"], sizeBytes: 1 }],
  },
};

function fieldsRefused(kind: "Service" | "Node" | "ServiceCIDR", object: unknown): readonly string[] {
  const taken = takeObject(kind, object);
  return taken.outcome === "refused" ? taken.complaints.map(({ field }) => field) : [];
}

describe("an object of the API", () => {
  it.each([
    { name: "a ClusterIP Service by addresses and ports", object: service("a", { ports: 3 }), size: 3 },
    {
      name: "a dual-stack Service twice",
      object: service("a", { ports: 3, spec: { clusterIPs: ["10.96.0.1", "fd00::1"] } }),
      size: 6,
    },
    { name: "node ports too", object: service("a", { ports: 2, nodePort: 30000 }), size: 4 },
    {
      name: "a headless Service by nothing",
      object: service("a", { spec: { clusterIP: "None", clusterIPs: ["None"] } }),
      size: 0,
    },
  ])("counts frontends: $name", ({ object, size }) => {
    expect(takeObject("Service", object)).toMatchObject({ outcome: "taken", size });
  });

  it("may hold null for what is absent, and fields of a newer server", () => {
    const object = service("a", {
      spec: { clusterIPs: null, externalIPs: null, sessionAffinity: "Sticky", fromTheFuture: [1] },
    });
    (object["metadata"] as Json)["labels"] = null;
    expect(takeObject("Service", object)).toMatchObject({
      outcome: "taken",
      change: { content: { clusterIPs: ["10.96.0.20"], labels: {} } },
    });
  });

  it("has the same hash while nothing changes that we read", () => {
    const hash = (object: Json): number => {
      const taken = takeObject("Node", object);
      return taken.outcome === "taken" ? taken.hash : Number.NaN;
    };
    const heartbeat = {
      ...NODE,
      status: { ...(NODE["status"] as Json), images: [], nodeInfo: { kernelVersion: "6.18" } },
    };
    expect(hash(heartbeat)).toBe(hash(NODE));
    expect(hash({ ...NODE, spec: { podCIDRs: ["10.244.2.0/24"] } })).not.toBe(hash(NODE));
  });

  it.each<[string, boolean, Json]>([
    ["without taints", false, NODE],
    ["cordoned", false, { ...NODE, spec: { taints: [{ key: "node.kubernetes.io/unschedulable" }] } }],
    ["that the autoscaler removes", true, { ...NODE, spec: { taints: [{ key: "ToBeDeletedByClusterAutoscaler" }] } }],
    ["being deleted", true, { ...NODE, metadata: { name: "a", deletionTimestamp: "2026-11-28T10:00:00Z" } }],
  ])("Node %s is going away: %s", (_what, goingAway, object) => {
    expect(takeObject("Node", object)).toMatchObject({ outcome: "taken", change: { content: { goingAway } } });
  });

  it("ServiceCIDR gives its prefixes", () => {
    const object = { metadata: { name: "kubernetes" }, spec: { cidrs: ["10.96.0.0/16", "fd00:10:96::/112"] } };
    expect(takeObject("ServiceCIDR", object)).toMatchObject({
      outcome: "taken",
      change: {
        kind: "ServiceCIDR",
        key: "kubernetes",
        content: { name: "kubernetes", cidrs: ["10.96.0.0/16", "fd00:10:96::/112"] },
      },
    });
  });

  it.each<[string, "Service" | "Node" | "ServiceCIDR", unknown]>([
    ["", "Service", "text"],
    ["", "Service", null],
    ["metadata.name", "Service", { metadata: { namespace: "default" }, spec: {} }],
    ["metadata.namespace", "Service", { metadata: { name: "a" }, spec: {} }],
    [
      "metadata.labels.app",
      "Service",
      { ...service("a"), metadata: { name: "a", namespace: "b", labels: { app: 1 } } },
    ],
    ["spec", "Service", { metadata: { name: "a", namespace: "b" } }],
    ["spec.type", "Service", service("a", { spec: { type: "Mesh" } })],
    ["spec.clusterIPs[0]", "Service", service("a", { spec: { clusterIPs: [1] } })],
    ["spec.ports", "Service", service("a", { spec: { ports: { port: 1 } } })],
    ["spec.ports[0].port", "Service", service("a", { spec: { ports: [{ name: "http" }] } })],
    ["spec.ports[0].port", "Service", service("a", { spec: { ports: [{ port: 65536 }] } })],
    ["spec.ports[0].nodePort", "Service", service("a", { spec: { ports: [{ port: 1, nodePort: "x" }] } })],
    ["spec.internalTrafficPolicy", "Service", service("a", { spec: { internalTrafficPolicy: "Near" } })],
    [
      "status.loadBalancer.ingress[0].ip",
      "Service",
      { ...service("a"), status: { loadBalancer: { ingress: [{ ip: 7 }] } } },
    ],
    ["status.addresses[0].address", "Node", { ...NODE, status: { addresses: [{ type: "InternalIP" }] } }],
    ["status.conditions", "Node", { ...NODE, status: { conditions: "Ready" } }],
    ["spec.podCIDRs[0]", "Node", { ...NODE, spec: { podCIDRs: [{}] } }],
    ["spec.taints", "Node", { ...NODE, spec: { taints: "none" } }],
    ["spec.cidrs", "ServiceCIDR", { metadata: { name: "kubernetes" }, spec: { cidrs: "10.96.0.0/16" } }],
  ])("with a wrong %s is refused by that field (%s)", (field, kind, object) => {
    expect(fieldsRefused(kind, object)).toContain(field);
  });
});
