// Every field of a Service and an EndpointSlice that Kubernetes knows (api-fields.gen.json) is served, or refused, or said not to
// be served, or somebody else's: each is changed in an object, and what a source then makes of it is compared with what is claimed.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { takeObject } from "../../src/kube/take-object.ts";
import type { KubernetesObject } from "../../src/wire/kubernetes.ts";
import { normaliseObject } from "../../src/wire/normalise.ts";

type Json = Record<string, unknown>;
type Kind = "Service" | "EndpointSlice";

const FIELDS: Readonly<Record<Kind, readonly string[]>> = JSON.parse(
  readFileSync(new URL("./api-fields.gen.json", import.meta.url), "utf8"),
);

interface Line {
  /** Another value than the base object has. */
  readonly value: unknown;
  /** served: another object for the model. Else why nothing follows from it here. */
  readonly is: "served" | { readonly elsewhere: string };
  /** From the API nothing follows from it. */
  readonly forNames?: true;
}

const served = (value: unknown): Line => ({ value, is: "served" });
const elsewhere = (why: string, value: unknown): Line => ({ value, is: { elsewhere: why } });
/** DNS needs it, where we serve DNS. */
const named = (value: unknown): Line => ({ value, is: "served", forNames: true });

const ALLOCATED = "who allocates acts on it; what comes of it stands in fields that are read";
const SLICED = "who makes EndpointSlices acts on it; what comes of it stands in those";
const TOLD = "it tells what others made of the object";
const ABOVE = "it is for protocols above TCP and UDP";
const HINTED = "what follows from it stands in the hints";
const IDENTITY = "it tells one Pod from another, and none is read";

const LINES: Readonly<Record<Kind, Readonly<Record<string, Line>>>> = {
  Service: {
    "spec.allocateLoadBalancerNodePorts": elsewhere(ALLOCATED, false),
    "spec.clusterIP": served("None"),
    "spec.clusterIPs[]": served("10.96.0.21"),
    "spec.externalIPs[]": served("192.0.2.7"),
    "spec.externalName": elsewhere("it counts for type ExternalName alone", "example.org"),
    "spec.externalTrafficPolicy": served("Local"),
    "spec.healthCheckNodePort": served(32000),
    "spec.internalTrafficPolicy": served("Local"),
    "spec.ipFamilies[]": elsewhere(ALLOCATED, "IPv6"),
    "spec.ipFamilyPolicy": elsewhere(ALLOCATED, "PreferDualStack"),
    "spec.loadBalancerClass": served("example.org/other"),
    "spec.loadBalancerIP": elsewhere(ALLOCATED, "192.0.2.7"),
    "spec.loadBalancerSourceRanges[]": served("192.0.2.0/24"),
    "spec.ports[].appProtocol": elsewhere(ABOVE, "kubernetes.io/h2c"),
    "spec.ports[].name": served("other"),
    "spec.ports[].nodePort": served(30081),
    "spec.ports[].port": served(81),
    "spec.ports[].protocol": served("UDP"),
    "spec.ports[].targetPort": served(8081),
    "spec.publishNotReadyAddresses": elsewhere(SLICED, true),
    "spec.selector": served({ app: "other" }),
    "spec.sessionAffinity": served("ClientIP"),
    "spec.sessionAffinityConfig.clientIP.timeoutSeconds": elsewhere("it counts only with spec.sessionAffinity", 60),
    "spec.trafficDistribution": elsewhere(SLICED, "PreferSameZone"),
    "spec.type": served("ClusterIP"),
    "status.conditions[].lastTransitionTime": elsewhere(TOLD, "2026-01-01T00:00:00Z"),
    "status.conditions[].message": elsewhere(TOLD, "x"),
    "status.conditions[].observedGeneration": elsewhere(TOLD, 7),
    "status.conditions[].reason": elsewhere(TOLD, "X"),
    "status.conditions[].status": elsewhere(TOLD, "True"),
    "status.conditions[].type": elsewhere(TOLD, "X"),
    "status.loadBalancer.ingress[].hostname": elsewhere("who resolves it reaches somebody else", "lb.example.org"),
    "status.loadBalancer.ingress[].ip": served("192.0.2.2"),
    "status.loadBalancer.ingress[].ipMode": served("Proxy"),
    "status.loadBalancer.ingress[].ports[].error": elsewhere(TOLD, "X"),
    "status.loadBalancer.ingress[].ports[].port": elsewhere(TOLD, 80),
    "status.loadBalancer.ingress[].ports[].protocol": elsewhere(TOLD, "TCP"),
  },
  EndpointSlice: {
    addressType: served("IPv6"),
    "endpoints[].addresses[]": served("10.244.1.6"),
    "endpoints[].conditions.ready": served(false),
    "endpoints[].conditions.serving": served(false),
    "endpoints[].conditions.terminating": served(true),
    "endpoints[].deprecatedTopology": elsewhere("fields took its place in discovery.k8s.io/v1", { zone: "a" }),
    "endpoints[].hints.forNodes[].name": served("node1"),
    "endpoints[].hints.forZones[].name": served("a"),
    "endpoints[].hostname": named("db-0"),
    "endpoints[].nodeName": served("node2"),
    "endpoints[].targetRef.apiVersion": elsewhere(IDENTITY, "v2"),
    "endpoints[].targetRef.fieldPath": elsewhere(IDENTITY, "spec"),
    "endpoints[].targetRef.kind": named("Node"),
    "endpoints[].targetRef.name": named("db-1"),
    "endpoints[].targetRef.namespace": named("other"),
    "endpoints[].targetRef.resourceVersion": elsewhere(IDENTITY, "7"),
    "endpoints[].targetRef.uid": elsewhere(IDENTITY, "7"),
    "endpoints[].zone": elsewhere(HINTED, "a"),
    "ports[].appProtocol": elsewhere(ABOVE, "kubernetes.io/h2c"),
    "ports[].name": served("other"),
    "ports[].port": served(8081),
    "ports[].protocol": served("UDP"),
  },
};

function base(kind: Kind): Json {
  if (kind === "Service") {
    return {
      kind,
      metadata: { name: "web", namespace: "default" },
      spec: {
        type: "LoadBalancer",
        clusterIP: "10.96.0.20",
        ports: [{ name: "http", port: 80, protocol: "TCP", nodePort: 30080, targetPort: 8080 }],
      },
      status: { loadBalancer: { ingress: [{ ip: "192.0.2.1" }] } },
    };
  }
  return {
    kind,
    metadata: { name: "web-1", namespace: "default", labels: { "kubernetes.io/service-name": "web" } },
    addressType: "IPv4",
    endpoints: [{ addresses: ["10.244.1.5"], nodeName: "node1", targetRef: { kind: "Pod", name: "db-0" } }],
    ports: [{ name: "http", port: 8080, protocol: "TCP" }],
  };
}

/** The base object with `value` at `path`; lists have one member. */
function changed(kind: Kind, path: string, value: unknown): Json {
  const object = base(kind);
  let at: Json | unknown[] = object;
  const steps = path.split(".").flatMap((step) => (step.endsWith("[]") ? [step.slice(0, -2), 0] : [step]));
  for (const [i, step] of steps.entries()) {
    const holder = at as Record<string | number, unknown>;
    const next = steps[i + 1];
    if (next === undefined) holder[step] = value;
    else holder[step] ??= typeof next === "number" ? [] : {};
    at = holder[step] as Json | unknown[];
  }
  return object;
}

const SOURCES: Readonly<Record<string, (kind: Kind, object: Json) => unknown>> = {
  "the API": (kind, object) => {
    const taken = takeObject(kind, object);
    return taken.outcome === "taken" ? taken.change.content : taken;
  },
  manifests: (_kind, object) => normaliseObject(object as unknown as KubernetesObject)?.event.object,
};

function outcome(read: (object: Json) => unknown, kind: Kind, path: string, value: unknown): string {
  const [before, after] = [read(base(kind)), read(changed(kind, path, value))].map((one) => JSON.stringify(one ?? {}));
  return before === after ? "elsewhere" : "served";
}

for (const kind of ["Service", "EndpointSlice"] as const) {
  test(`each field of ${kind} that Kubernetes has is known, and no other`, () => {
    expect(Object.keys(LINES[kind]).sort()).toEqual(FIELDS[kind]);
  });

  for (const [source, read] of Object.entries(SOURCES)) {
    test.each(Object.entries(LINES[kind]))(`${kind} from ${source}: what follows from %s`, (path, line) => {
      const wanted = typeof line.is === "string" ? line.is : "elsewhere";
      const found = outcome((object) => read(kind, object), kind, path, line.value);
      expect(found).toBe(line.forNames === true && source === "the API" ? "elsewhere" : wanted);
    });
  }
}

test("an external name counts", () => {
  const read = (externalName: string) => {
    const object = changed("Service", "spec.type", "ExternalName");
    return SOURCES["the API"]!("Service", { ...object, spec: { ...(object["spec"] as Json), externalName } });
  };
  expect(read("Example.org.")).toMatchObject({ externalName: "example.org", clusterIPs: [] });
});

test("zeros and empty strings of a typed client are as good as absent", () => {
  const zeros = changed("Service", "spec", {
    type: "",
    clusterIP: "10.96.0.20",
    sessionAffinity: "",
    externalTrafficPolicy: "",
    internalTrafficPolicy: "",
    externalName: "",
    loadBalancerIP: "",
    loadBalancerClass: "",
    trafficDistribution: "",
    healthCheckNodePort: 0,
    externalIPs: [],
    loadBalancerSourceRanges: [],
    ports: [{ name: "", port: 80, protocol: "", nodePort: 0, targetPort: 0 }],
  });
  const plain = changed("Service", "spec", { clusterIP: "10.96.0.20", ports: [{ port: 80 }] });
  for (const read of Object.values(SOURCES)) expect(read("Service", zeros)).toEqual(read("Service", plain));
});
