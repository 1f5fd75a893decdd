// Services, Nodes, ServiceCIDRs and MetalLB's objects from the API: what is taken, what is refused by which field, what counts as another content.
import { describe, expect, it } from "vitest";
import type { AgentResource } from "../../src/kube/resources.ts";
import { takeObject } from "../../src/kube/take-object.ts";
import type { ServiceObject } from "../../src/wire/kubernetes.ts";
import { grantsByAllocator } from "../../src/wire/normalise.ts";
import { advertisement, type Json, pool, service } from "./objects.ts";

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

type Kind = Exclude<AgentResource["kind"], "EndpointSlice">;

function fieldsRefused(kind: Kind, object: unknown): readonly string[] {
  const taken = takeObject(kind, object);
  return taken.outcome === "refused" ? taken.complaints.map(({ field }) => field) : [];
}

function content(kind: "Service" | "Node", object: unknown): unknown {
  const taken = takeObject(kind, object);
  return taken.outcome === "taken" ? taken.change.content : taken;
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

  it("grants what the API server vouches for alone: nobody writes himself older, or an address from a pool", () => {
    const object = {
      metadata: {
        name: "a",
        namespace: "b",
        creationTimestamp: "2026-01-01T00:00:00Z",
        annotations: { "millrace.io/age": "0", "metallb.io/ip-allocated-from-pool": "mine" },
      },
      spec: { type: "LoadBalancer", clusterIP: "10.96.0.20", ports: [{ port: 80 }] },
      status: { loadBalancer: { ingress: [{ ip: "192.0.2.1", ipMode: "Proxy" }, { hostname: "lb.example.org" }] } },
    };
    expect(content("Service", object)).toMatchObject({
      grants: { age: Date.UTC(2026, 0, 1), addresses: [{ address: "192.0.2.1", ipMode: "Proxy", by: "status" }] },
    });
    // The same object from our own allocator, who alone writes the age: the pool is for provenance.ts to find.
    expect(grantsByAllocator(object as unknown as ServiceObject)).toEqual({
      age: 0,
      addresses: [{ address: "192.0.2.1", ipMode: "Proxy", by: "status" }],
    });
  });

  it.each(["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"])(
    "with the label %s is another proxy's, and no frontend of ours",
    (label) => {
      const object = { ...service("a"), metadata: { name: "a", namespace: "b", labels: { [label]: "" } } };
      expect(takeObject("Service", object)).toMatchObject({ size: 0, change: { content: { isForeign: true } } });
    },
  );

  it("may hold addresses as an API server let them in long ago", () => {
    const object = service("a", { spec: { clusterIP: "10.96.011.012", clusterIPs: ["10.96.011.012"] } });
    expect(content("Service", object)).toMatchObject({ clusterIPs: ["10.96.11.12"] });
    const addresses = [{ type: "InternalIP", address: "10.099.000.001" }];
    expect(content("Node", { ...NODE, status: { addresses } })).toMatchObject({ internalAddresses: ["10.99.0.1"] });
  });

  it("that is a Node tells both kinds of addresses and its kubelet's port", () => {
    const status = {
      addresses: [
        { type: "ExternalIP", address: "203.0.113.9" },
        { type: "InternalIP", address: "192.168.122.11" },
        { type: "ExternalIP", address: "not-yet" },
        { type: "InternalDNS", address: "node1.example.org" },
      ],
      daemonEndpoints: { kubeletEndpoint: { Port: 10250 } },
    };
    const taken = takeObject("Node", { ...NODE, status });
    expect(taken).toMatchObject({
      size: 1,
      change: {
        content: {
          internalAddresses: ["192.168.122.11"],
          externalAddresses: ["203.0.113.9"],
          kubeletPort: 10250,
        },
      },
      complaints: [{ field: "status.addresses[2].address" }],
    });
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

  it("IPAddressPool gives its ranges and rules, and not its counters", () => {
    const object = pool("lan", {
      addresses: ["192.0.2.0/28", "2001:db8::1-2001:db8::9"],
      serviceAllocation: { priority: 5 },
    });
    const taken = takeObject("IPAddressPool", object);
    expect(taken).toMatchObject({
      ...{ outcome: "taken", size: 1 },
      change: {
        ...{ kind: "AddressPool", key: "metallb-system/lan" },
        content: { ranges: ["192.0.2.0/28", "2001:db8::1-2001:db8::9"], autoAssign: true, priority: 5 },
      },
    });
    const counted = takeObject("IPAddressPool", { ...object, status: { assignedIPv4: 7 } });
    expect(counted).toMatchObject({ hash: (taken as { hash: number }).hash });
  });

  it("L2Advertisement gives every selector, and the weights of preferred nodes", () => {
    const matchLabels = { zone: "a" };
    const spec = {
      ipAddressPools: ["lan"],
      ipAddressPoolSelectors: [{ matchLabels }],
      nodeSelectors: [{ matchLabels }],
      serviceSelectors: [{ matchExpressions: [{ key: "app", operator: "In", values: ["web"] }] }],
      preferredNodeSelectors: [{ weight: 10, preference: { matchLabels } }],
      interfaces: ["eth0"],
    };
    const selector = { matchLabels, matchExpressions: [] };
    expect(takeObject("L2Advertisement", advertisement("all", spec))).toMatchObject({
      change: {
        ...{ kind: "L2Advertisement", key: "metallb-system/all" },
        content: {
          ...{ pools: ["lan"], poolSelectors: [selector], nodeSelectors: [selector], interfaces: ["eth0"] },
          serviceSelectors: [{ matchLabels: {}, matchExpressions: [{ key: "app", operator: "In", values: ["web"] }] }],
          preferredNodeSelectors: [{ weight: 10, preference: selector }],
        },
      },
    });
    expect(takeObject("L2Advertisement", { ...advertisement("all"), spec: undefined })).toMatchObject({
      change: { content: { pools: [], serviceSelectors: [], preferredNodeSelectors: [] } },
    });
  });

  it.each<[string, Kind, unknown]>([
    ["", "Service", "text"],
    ["metadata.namespace", "IPAddressPool", { metadata: { name: "lan" }, spec: { addresses: ["192.0.2.0/24"] } }],
    ["spec", "IPAddressPool", { ...pool("lan"), spec: undefined }],
    ["spec.addresses", "IPAddressPool", pool("lan", { addresses: [] })],
    ["spec.addresses[1]", "IPAddressPool", pool("lan", { addresses: ["192.0.2.0/24", "192.0.2.9-192.0.2.1"] })],
    ["spec.autoAssign", "IPAddressPool", pool("lan", { autoAssign: "yes" })],
    ["spec.ipAddressPools", "L2Advertisement", advertisement("all", { ipAddressPools: "lan" })],
    [
      "spec.serviceSelectors[0].matchExpressions[0].operator",
      "L2Advertisement",
      advertisement("all", { serviceSelectors: [{ matchExpressions: [{ key: "app", operator: "Near" }] }] }),
    ],
    [
      "spec.preferredNodeSelectors[0].weight",
      "L2Advertisement",
      advertisement("all", { preferredNodeSelectors: [{ weight: 101, preference: {} }] }),
    ],
    [
      "spec.preferredNodeSelectors[0].weight",
      "L2Advertisement",
      advertisement("all", { preferredNodeSelectors: [{ preference: {} }] }),
    ],
    [
      "spec.preferredNodeSelectors[0].preference",
      "L2Advertisement",
      advertisement("all", { preferredNodeSelectors: [{ weight: 1 }] }),
    ],
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
    ["spec.clusterIPs[0]", "Service", service("a", { spec: { clusterIPs: ["10.96.0.300"] } })],
    ["spec.clusterIP", "Service", service("a", { spec: { clusterIP: "ten" } })],
    ["spec.loadBalancerSourceRanges", "Service", service("a", { spec: { loadBalancerSourceRanges: "10.0.0.0/8" } })],
    [
      "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
      "Service",
      service("a", { spec: { sessionAffinityConfig: { clientIP: { timeoutSeconds: 86_401 } } } }),
    ],
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
    [
      "status.loadBalancer.ingress[0].ip",
      "Service",
      { ...service("a"), status: { loadBalancer: { ingress: [{ ip: "lb.example.org" }] } } },
    ],
    ["spec.taints", "Node", { ...NODE, spec: { taints: "none" } }],
    [
      "status.daemonEndpoints.kubeletEndpoint.Port",
      "Node",
      { ...NODE, status: { daemonEndpoints: { kubeletEndpoint: { Port: -1 } } } },
    ],
    ["status.conditions", "Node", { ...NODE, status: { conditions: "Ready" } }],
    ["spec.podCIDRs[0]", "Node", { ...NODE, spec: { podCIDRs: [{}] } }],
    ["spec.taints", "Node", { ...NODE, spec: { taints: "none" } }],
    ["spec.cidrs", "ServiceCIDR", { metadata: { name: "kubernetes" }, spec: { cidrs: "10.96.0.0/16" } }],
  ])("with a wrong %s is refused by that field (%s)", (field, kind, object) => {
    expect(fieldsRefused(kind, object)).toContain(field);
  });
});
