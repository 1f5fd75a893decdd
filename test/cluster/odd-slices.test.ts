// EndpointSlices that the API takes and no controller writes: made by hand, for a Service without a selector. Each case says
// which pods serve then, what the agent has in its maps, and what it says of the rest.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { AgentStatus } from "../../src/agent/view.ts";
import { getJson } from "../../src/lab/lab-node.ts";
import { type Family, familyOf } from "../../src/lib/address.ts";
import type { EndpointSliceObject, ServiceObject } from "../../src/wire/kubernetes.ts";
import { KUBERNETES_ADDRESS } from "./addressing.ts";
import type { Cluster } from "./cluster.ts";
import { RealCluster } from "./examples/real-cluster.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";
import { serverContainer } from "./workloads.ts";

const SERVICE = "by-hand";
const OTHER = "by-hand-too";
const PODS = ["one", "two"] as const;
/** Its slice is written last: when it is in force, so is what was written before. */
const LAST = "by-hand-last";
const SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const PORTS = [{ name: "http", port: 80, protocol: "TCP" }] as const;

type Endpoint = EndpointSliceObject["endpoints"][number];

/** A slice as a test writes it: of `one` and `two` are the addresses of the two pods. */
interface Slice {
  readonly name: string;
  /** @default by-hand */
  readonly service?: string;
  readonly endpoints: readonly Endpoint[];
  /** @default http at 80 */
  readonly ports?: EndpointSliceObject["ports"];
}

interface Case {
  readonly name: string;
  readonly slices: (one: string, two: string) => readonly Slice[];
  /** The pods that serve, by their number; none: connections are refused. */
  readonly served: readonly (typeof PODS)[number][];
}

const CASES: readonly Case[] = [
  {
    name: "one endpoint in two slices is one backend",
    slices: (one, two) => [
      { name: "a", endpoints: [{ addresses: [one] }, { addresses: [two] }] },
      { name: "b", endpoints: [{ addresses: [one] }] },
    ],
    served: ["one", "two"],
  },
  {
    name: "an endpoint that is ready in one slice and not in another serves",
    slices: (one) => [
      { name: "a", endpoints: [{ addresses: [one], conditions: { ready: false, serving: false } }] },
      { name: "b", endpoints: [{ addresses: [one], conditions: { ready: true } }] },
    ],
    served: ["one"],
  },
  {
    name: "an endpoint twice in one slice is one backend",
    slices: (one, two) => [
      { name: "a", endpoints: [{ addresses: [one] }, { addresses: [one] }, { addresses: [two] }] },
    ],
    served: ["one", "two"],
  },
  {
    name: "of an endpoint with two addresses the first is used",
    slices: (one, two) => [{ name: "a", endpoints: [{ addresses: [one, two] }] }],
    served: ["one"],
  },
  {
    name: "an endpoint without conditions serves, and one that is not ready does not",
    slices: (one, two) => [
      { name: "a", endpoints: [{ addresses: [one] }, { addresses: [two], conditions: { ready: false } }] },
    ],
    served: ["one"],
  },
  {
    name: "while none is ready, one that terminates and still serves does",
    slices: (one, two) => [
      {
        name: "a",
        endpoints: [
          { addresses: [one], conditions: { ready: false, serving: true, terminating: true } },
          { addresses: [two], conditions: { ready: false, serving: false, terminating: true } },
        ],
      },
    ],
    served: ["one"],
  },
  {
    name: "slices of other port names, and of no port number, give none",
    slices: (one, two) => [
      { name: "a", endpoints: [{ addresses: [one] }], ports: [{ name: "web", port: 80, protocol: "TCP" }] },
      { name: "b", endpoints: [{ addresses: [two] }], ports: [{ name: "http", protocol: "TCP" }] },
    ],
    served: [],
  },
  {
    name: "a slice of another Service gives none",
    slices: (one, two) => [
      { name: "a", endpoints: [{ addresses: [one] }] },
      { name: "b", service: OTHER, endpoints: [{ addresses: [two] }] },
    ],
    served: ["one"],
  },
  { name: "without any slice connections are refused", slices: () => [], served: [] },
];

let cluster: Cluster;
let real: RealCluster;

beforeAll(async () => {
  cluster = await startCluster({ name: "odd-slices", proxy: "millrace", nodes: 2, replace: true });
  real = new RealCluster(cluster);
  const pods = PODS.map((name, i) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name },
    spec: { nodeName: `node${i + 1}`, containers: [serverContainer()] },
  }));
  expect(await real.apply(pods)).toEqual([]);
});

afterAll(() => cluster?.down());

describe.sequential.each(["IPv4", "IPv6"] as const)("a Service without a selector, %s", (family) => {
  const services = [SERVICE, OTHER, LAST].map((name) => service(name, family));
  /** The pods' addresses. */
  const address = { one: "", two: "" };
  let to: string;

  beforeAll(async () => {
    expect(await real.apply(services)).toEqual([]);
    for (const name of PODS) {
      const { status } = await cluster.pod("default", name);
      address[name] = status.podIPs!.map(({ ip }) => ip).find((ip) => familyOf(ip) === family)!;
    }
    to = (await real.service(SERVICE)).spec.clusterIP!;
  });

  afterAll(() => real.delete(services));

  beforeEach(async () => {
    await cluster.api.ask({ method: "DELETE", path: `${SLICES}?labelSelector=by-hand` });
    for (const name of [SERVICE, OTHER, LAST]) await inForce([], name);
  });

  async function make(slice: Slice): Promise<void> {
    await cluster.api.ask({ method: "POST", path: SLICES, body: sliceObject(slice, family) });
  }

  /** Addresses that the agent of a node has as backends of a Service. */
  async function backendsOn(node: string, service: string): Promise<readonly string[]> {
    const backends = (await real.agentBackends(node)).filter((backend) => backend.service === `default/${service}`);
    return backends.map((backend) => backend.address).sort();
  }

  async function inForce(served: readonly string[], service = SERVICE): Promise<void> {
    const expected = [...served].sort().join();
    for (const { name } of cluster.nodes) {
      await waitUntil(`${expected || "no backend"} on ${name}`, async () => {
        const found = (await backendsOn(name, service)).join();
        if (found !== expected) throw new Error(`it has ${found || "none"}`);
        return true;
      });
    }
  }

  /** Names of those who answer on each node, over more connections than it takes to hear everybody. */
  async function expectServed(pods: readonly string[]): Promise<void> {
    for (const { name: from } of cluster.nodes) {
      const probe = await real.probe(from, { via: "tcp", host: to, port: 80, count: pods.length === 0 ? 2 : 40 });
      expect({ from, pods: probe.pods, errors: probe.errors }).toEqual({
        from,
        pods,
        errors: pods.length === 0 ? ["ECONNREFUSED"] : [],
      });
    }
  }

  it.each(CASES)("$name", async ({ slices, served }) => {
    for (const slice of slices(address.one, address.two)) await make(slice);
    await make({ name: "last", service: LAST, endpoints: [{ addresses: [address.one] }] });
    await inForce([address.one], LAST);
    await inForce(served.map((name) => address[name]));
    await expectServed(served);
  });

  it("an endpoint in two slices stays until it is in neither", async () => {
    const endpoints = [{ addresses: [address.one] }];
    await make({ name: "a", endpoints: [...endpoints, { addresses: [address.two] }] });
    await make({ name: "b", endpoints });
    await inForce([address.one, address.two]);
    await cluster.api.ask({ method: "DELETE", path: `${SLICES}/a` });
    await inForce([address.one]);
    await expectServed(["one"]);
    await cluster.api.ask({ method: "DELETE", path: `${SLICES}/b` });
    await inForce([]);
    await expectServed([]);
  });

  it("a slice that is given to another Service serves that one", async () => {
    await make({ name: "a", endpoints: [{ addresses: [address.one] }] });
    await inForce([address.one]);
    const labels = { "kubernetes.io/service-name": OTHER };
    await cluster.api.ask({ method: "PATCH", path: `${SLICES}/a`, body: { metadata: { labels } } });
    await inForce([]);
    await expectServed([]);
  });

  it("an endpoint at a Service's own address is refused by name, and the others serve", async () => {
    const ofService = family === "IPv4" ? KUBERNETES_ADDRESS : (await real.service(OTHER)).spec.clusterIP!;
    await make({ name: "a", endpoints: [{ addresses: [ofService] }, { addresses: [address.two] }] });
    await inForce([address.two]);
    await expectServed(["two"]);
    for (const { name } of cluster.nodes) {
      const said = (await noticesOn(name)).filter(({ reason }) => reason === "endpoint-refused");
      expect({ name, said: said.map(({ message }) => message) }).toEqual({
        name,
        said: [expect.stringContaining(ofService)],
      });
    }
    await cluster.api.ask({ method: "DELETE", path: `${SLICES}/a` });
    await inForce([]);
    for (const { name } of cluster.nodes) expect(await noticesOn(name)).toEqual([]);
  });

  async function noticesOn(node: string): Promise<AgentStatus["notices"]> {
    return ((await getJson(cluster.agentSocket(node), "/api/v1/status", 5000)) as AgentStatus).notices;
  }
});

function service(name: string, family: Family): ServiceObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name },
    spec: { ipFamilies: [family], ipFamilyPolicy: "SingleStack", ports: [{ name: "http", port: 80, targetPort: 80 }] },
  };
}

function sliceObject({ name, service = SERVICE, endpoints, ports = [...PORTS] }: Slice, family: Family): object {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name, labels: { "kubernetes.io/service-name": service, "by-hand": "" } },
    addressType: family,
    endpoints,
    ports,
  };
}
