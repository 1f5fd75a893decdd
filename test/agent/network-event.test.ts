// What one event of the network costs in a large cluster, from the reading to the effects: the decision, the election's claims and
// what the reconciler hands out.
import { afterEach, expect, test } from "vitest";
import type { ObjectEvent } from "../../src/model/objects.ts";
import { costOf } from "../cost.ts";
import { device, NETWORK } from "../decide/inputs.ts";
import { createFakeNode, type FakeNode } from "../fakes/fake-node.ts";
import { eventsOf, node, service } from "../flows/builders.ts";

let current: FakeNode | undefined;
afterEach(() => current?.timers.stop());

const NODES = 5000;
const ADDRESSES = 500;

const POOL: ObjectEvent = {
  kind: "AddressPool",
  key: "metallb-system/pool",
  object: {
    ...{ namespace: "metallb-system", name: "pool", labels: {}, ranges: ["10.0.0.0/16"], priority: 0 },
    ...{ autoAssign: true, avoidBuggyIPs: false, namespaces: [], namespaceSelectors: [], serviceSelectors: [] },
  },
};
const ADVERTISEMENT: ObjectEvent = {
  kind: "L2Advertisement",
  key: "metallb-system/all",
  object: {
    ...{ namespace: "metallb-system", name: "all", interfaces: [] },
    ...{ pools: [], poolSelectors: [], nodeSelectors: [], preferredNodeSelectors: [], serviceSelectors: [] },
  },
};

const others = Array.from({ length: NODES - 1 }, (_, i) =>
  node(2, {
    ...{ name: `worker-${i}`, excludeFromLoadBalancers: true },
    internalAddresses: [`10.1.${i >> 8}.${i & 255}`],
    podCIDRs: [`10.${128 + (i >> 8)}.${i & 255}.0/24`],
  }),
);
const services = Array.from({ length: ADDRESSES }, (_, i) =>
  service({
    ...{ name: `s${i}`, type: "LoadBalancer", clusterIPs: [`10.96.${i >> 8}.${i & 255}`] },
    loadBalancerAddresses: [{ address: `10.0.${i >> 8}.${i & 255}`, ipMode: "VIP", fromPool: true }],
  }),
);

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let turns = 0; !holds(); turns++) {
    expect(turns, what).toBeLessThan(2000);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test(`one network event with ${NODES} nodes and ${ADDRESSES} announced addresses costs under 5 ms`, async () => {
  const made = createFakeNode();
  current = made;
  const { reconciler, announced, programs } = made;
  reconciler.turn();
  made.take([POOL, ADVERTISEMENT, ...eventsOf({ nodes: [node(1), ...others], services })]);
  await until("all is announced", () => announced().length === ADDRESSES);
  expect(reconciler.desired().maps).toBe(true);
  const [lo, eth0] = NETWORK.devices;
  const event = (what: string, devices: readonly (typeof NETWORK.devices)[number][]): void => {
    const before = made.attempts("devices");
    const ms = costOf(`${NODES} nodes, ${ADDRESSES} addresses: ${what}`, () =>
      reconciler.takeNetwork({ ...NETWORK, devices }),
    );
    // Under 5 ms once the code is compiled; the bound is for a busy machine.
    expect(ms, what).toBeLessThan(50);
    expect(made.attempts("devices"), what).toBeGreaterThan(before);
  };
  for (const code of ["cold code", "warm code"]) {
    event(`the same once more, ${code}`, NETWORK.devices);
    event(`a pod's device, ${code}`, [...NETWORK.devices, device("veth9", 9, { kind: "veth" })]);
    expect(announced()).toHaveLength(ADDRESSES);
    event(`a new MAC, ${code}`, [lo!, { ...eth0!, mac: Uint8Array.of(2, 0, 0, 0, 0, 2) }]);
    expect(announced()).toHaveLength(ADDRESSES);
    event(`the uplink goes, ${code}`, [lo!]);
    expect([announced().length, programs()]).toEqual([0, {}]);
    event(`the uplink comes, ${code}`, NETWORK.devices);
    expect(announced()).toHaveLength(ADDRESSES);
  }
  expect(made.broken()).toBeUndefined();
});
