// The ledger by itself, with plain objects: what was given and is asked for unchanged is not looked at again, and that
// comes to the same as looking at everything.
import { expect, test } from "vitest";
import { parseServiceRanges } from "../../src/allocate/service-addresses.ts";
import {
  type AllocatedService,
  allocateServices,
  type Ledger,
  type ServiceHolding,
} from "../../src/allocate/service-ledger.ts";
import type { ServiceRequest } from "../../src/allocate/service-request.ts";
import { createRandom } from "../model/random.ts";

const ranges = parseServiceRanges(["10.96.0.0/28", "fd00:10:96::/124"]);
const nodePortRange = { first: 30000, last: 30009 };

function allocate(
  services: ReadonlyMap<string, ServiceRequest>,
  held: ReadonlyMap<string, ServiceHolding> = new Map(),
  before: ReadonlyMap<string, Pick<AllocatedService, "source"> & Partial<AllocatedService>> = new Map(),
): Ledger<ServiceRequest> {
  return allocateServices({ services, held, before, ranges, nodePortRange });
}

const service = (name: string, spec: ServiceRequest["spec"] = {}): [string, ServiceRequest] => [
  `default/${name}`,
  { metadata: { name, namespace: "default" }, spec: { ports: [{ port: 80 }], ...spec } },
];
const holdings = ({ services }: Ledger<ServiceRequest>): Map<string, ServiceHolding> =>
  new Map([...services].map(([key, { holding }]) => [key, holding]));

test("who asks for nothing else is the same object again; who is edited is another", () => {
  const asked = new Map([service("a", { type: "NodePort" }), service("b"), service("c")]);
  const first = allocate(asked);
  expect(allocate(asked, holdings(first), first.services).services).toBe(first.services);
  const edited = new Map([...asked, service("b", { type: "NodePort" })]);
  const second = allocate(edited, holdings(first), first.services);
  expect(second.services.get("default/a")).toBe(first.services.get("default/a"));
  expect(second.services.get("default/b")?.holding).toMatchObject({
    clusterIPs: first.services.get("default/b")?.holding.clusterIPs,
    nodePorts: [{ port: 80 }],
  });
});

test.each([1, 2, 3, 4, 5, 6])(
  "looking at what changed comes to what looking at everything comes to (seed %i)",
  (seed) => {
    const { below } = createRandom(seed);
    const asked = new Map<string, ServiceRequest>();
    let last: Ledger<ServiceRequest> = { services: new Map(), refused: [] };
    for (let step = 0; step < 80; step++) {
      for (let i = below(3); i >= 0; i--) {
        const [key, one] = service(`s${below(9)}`, {
          type: ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"][below(4)]!,
          ports: [{ port: 80, ...(below(2) === 0 ? { nodePort: 30000 + below(12) } : {}) }],
          ...(below(3) === 0 ? { clusterIP: ["None", "10.96.0.3", "10.96.0.4", "10.97.0.1"][below(4)]! } : {}),
          ...(below(3) === 0 ? { ipFamilyPolicy: "PreferDualStack" } : {}),
          ...(below(3) === 0 ? { externalTrafficPolicy: "Local" } : {}),
        });
        asked.delete(key);
        if (below(4) > 0) asked.set(key, one);
      }
      const held = holdings(last);
      const versions = new Map([...last.services].map(([key, { source }]) => [key, { source }]));
      const everything = allocate(asked, held, versions);
      const changes = allocate(asked, held, last.services);
      const plain = ({ services, refused }: Ledger<ServiceRequest>): unknown => [[...services], refused];
      expect(plain(changes), `step ${step}`).toEqual(plain(everything));
      const all = [...changes.services.values()].map((one) => one.holding);
      const addresses = all.flatMap((one) => one.clusterIPs.filter((ip) => ip !== "None"));
      const ports = all.flatMap((one) => [
        ...new Set(one.nodePorts.map((port) => port.nodePort)),
        one.healthCheckNodePort,
      ]);
      expect(new Set(addresses).size).toBe(addresses.length);
      expect(new Set(ports.filter((port) => port > 0)).size).toBe(ports.filter((port) => port > 0).length);
      last = changes;
    }
  },
);
