import { describe, expect, it } from "vitest";
import { portEndpoints } from "../../src/agent/endpoint-view.ts";
import type { EndpointSlice, Service } from "../../src/model/objects.ts";
import { ending, endpoint, notReady, service, slice } from "../flows/builders.ts";

interface Case {
  readonly name: string;
  readonly service?: Parameters<typeof service>[0];
  readonly slices: readonly EndpointSlice[];
  /** What the kernel was given; absent: as many as are ready. */
  readonly backends?: number;
  readonly seen: string;
  readonly why: string;
}

const web = { selector: { app: "web", tier: "front" } };
const ready = endpoint("10.244.1.5", "node1");
const elsewhere = endpoint("10.244.2.5", "node2");
const gone = endpoint("10.244.1.9", "node1", { ready: false, serving: false, terminating: true });

function view(of: Case): { readonly seen: string; readonly why: string } {
  const wanted: Service = service(of.service ?? web);
  const serving = of.slices
    .flatMap(({ endpoints }) => [...endpoints])
    .filter((one) => one.ready || (one.serving && one.terminating)).length;
  const {
    endpoints,
    ready: count,
    why,
  } = portEndpoints(wanted, wanted.ports[0]!, of.slices, of.backends ?? serving, ({ node }) => node === "node1");
  return { seen: `${count}/${endpoints.length}`, why };
}

const CASES: readonly Case[] = [
  { name: "two ready pods", slices: [slice({ endpoints: [ready, elsewhere] })], seen: "2/2", why: "" },
  {
    name: "one of two is not ready",
    slices: [slice({ endpoints: [ready, notReady("10.244.2.5")] })],
    seen: "1/2",
    why: "",
  },
  {
    name: "an endpoint in two slices is one, the ready one",
    slices: [slice({ endpoints: [notReady("10.244.1.5")] }), slice({ name: "web-2", endpoints: [ready] })],
    seen: "1/1",
    why: "",
  },
  { name: "no slice at all", slices: [], seen: "0/0", why: "no pods match selector app=web,tier=front" },
  {
    name: "a slice without endpoints",
    slices: [slice({ endpoints: [] })],
    seen: "0/0",
    why: "no pods match selector app=web,tier=front",
  },
  {
    name: "a Service without a selector",
    service: {},
    slices: [],
    seen: "0/0",
    why: "it has no selector, and no EndpointSlice with endpoints",
  },
  {
    name: "both pods are not ready",
    slices: [slice({ endpoints: [notReady("10.244.1.5"), notReady("10.244.2.5")] })],
    seen: "0/2",
    why: "2 pods not ready",
  },
  {
    name: "one endpoint of a Service without selector is not ready",
    service: {},
    slices: [slice({ endpoints: [notReady("10.244.1.5")] })],
    seen: "0/1",
    why: "1 endpoint not ready",
  },
  {
    name: "only terminating ones, which serve",
    slices: [slice({ endpoints: [ending("10.244.1.5")] })],
    seen: "0/1",
    why: "",
  },
  { name: "one that is gone", slices: [slice({ endpoints: [gone] })], seen: "0/1", why: "1 pod not ready" },
  {
    name: "no container has a port of this name",
    service: { ...web, ports: [{ targetPort: "htpp" }] },
    slices: [slice({ endpoints: [ready], ports: [{ name: "other", protocol: "TCP", port: 1 }] })],
    backends: 0,
    seen: "0/0",
    why: "no pod has a port named htpp",
  },
  {
    name: "slices of another port name",
    service: { ...web, ports: [{ name: "http", port: 80 }] },
    slices: [slice({ endpoints: [ready] })],
    backends: 0,
    seen: "0/0",
    why: "no endpoint serves the port http",
  },
  {
    name: "a ready one that may be no backend",
    slices: [slice({ endpoints: [ready] })],
    backends: 0,
    seen: "1/1",
    why: "none of 1 ready pods may be a backend: millrace status says why",
  },
  {
    name: "external policy Local with endpoints elsewhere only",
    service: { ...web, type: "NodePort", externalTrafficPolicy: "Local", ports: [{ nodePort: 30_001 }] },
    slices: [slice({ endpoints: [elsewhere] })],
    seen: "1/1",
    why: "externalTrafficPolicy Local, and no ready endpoint on this node",
  },
  {
    name: "external policy Local of a ClusterIP Service with external IPs, and endpoints elsewhere only",
    service: { ...web, externalIPs: ["203.0.113.20"], externalTrafficPolicy: "Local" },
    slices: [slice({ endpoints: [elsewhere] })],
    seen: "1/1",
    why: "externalTrafficPolicy Local, and no ready endpoint on this node",
  },
  {
    name: "both policies Local, with a local endpoint",
    service: { ...web, type: "LoadBalancer", externalTrafficPolicy: "Local", internalTrafficPolicy: "Local" },
    slices: [slice({ endpoints: [ready, elsewhere] })],
    seen: "2/2",
    why: "",
  },
  {
    name: "internal policy Local with endpoints elsewhere only",
    service: { ...web, internalTrafficPolicy: "Local" },
    slices: [slice({ endpoints: [elsewhere] })],
    seen: "1/1",
    why: "internalTrafficPolicy Local, and no ready endpoint on this node",
  },
  {
    name: "external policy Local of a ClusterIP, which asks nothing",
    service: { ...web, externalTrafficPolicy: "Local" },
    slices: [slice({ endpoints: [elsewhere] })],
    seen: "1/1",
    why: "",
  },
  {
    name: "a headless Service without pods",
    service: { ...web, headless: true, clusterIPs: [] },
    slices: [],
    seen: "0/0",
    why: "",
  },
  {
    name: "one of two is drained",
    slices: [slice({ endpoints: [ready, elsewhere], weights: "10.244.2.5=0" })],
    seen: "1/2",
    why: "",
  },
  {
    name: "all are drained",
    slices: [slice({ endpoints: [ready], weights: "10.244.1.5=0" })],
    backends: 0,
    seen: "0/1",
    why: "1 ready endpoint drained (weight 0)",
  },
  {
    name: "another proxy's",
    service: { ...web, isForeign: true },
    slices: [slice({ endpoints: [ready] })],
    backends: 0,
    seen: "1/1",
    why: "it is left to another proxy",
  },
];

describe("the endpoints of a Service port", () => {
  it.each(CASES)("$name: $seen, '$why'", (one) => {
    expect(view(one)).toEqual({ seen: one.seen, why: one.why });
  });

  it("are in order, each with its condition", () => {
    const of = service(web);
    const endpoints = [gone, elsewhere, notReady("10.244.1.7"), ending("10.244.1.8"), ready];
    const found = portEndpoints(of, of.ports[0]!, [slice({ endpoints })], 3, () => true).endpoints;
    expect(found.map(({ address, condition }) => `${address} ${condition}`)).toEqual([
      "10.244.1.5 ready",
      "10.244.1.7 not-ready",
      "10.244.1.8 terminating",
      "10.244.1.9 gone",
      "10.244.2.5 ready",
    ]);
  });
});
