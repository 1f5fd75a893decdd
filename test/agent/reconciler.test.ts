// The loop of an agent over a node without a kernel: what is done in which order, what a failure keeps from being done, and what
// events do while something fails.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Failure, KernelError } from "../../src/lib/errors.ts";
import type { ObjectEvent, Service } from "../../src/model/objects.ts";
import { at, device, NETWORK, route } from "../decide/inputs.ts";
import { createFakeNode, type FakeNode, type FakeNodeOptions } from "../fakes/fake-node.ts";
import { advertisement, endpoint, eventsOf, node, pool, service, slice } from "../flows/builders.ts";

const FULL = new KernelError("update", "frontends", 7, "E2BIG");
let current: FakeNode | undefined;
beforeEach(() => void vi.useFakeTimers());
afterEach(async () => {
  await vi.advanceTimersByTimeAsync(10);
  current?.timers.stop();
  vi.useRealTimers();
  const broken = current?.broken();
  current = undefined;
  expect(broken).toBeUndefined();
});

function fake(options: FakeNodeOptions = {}): FakeNode {
  current = createFakeNode(options);
  return current;
}
const soon = (ms = 20) => vi.advanceTimersByTimeAsync(ms);

const web = service({ name: "web", clusterIPs: ["10.96.0.20"] });
const webSlice = slice({ service: "web", endpoints: [endpoint("10.244.1.2")] });
const START = eventsOf({ nodes: [node(1), node(2)], services: [web], slices: [webSlice] });
const local = service({
  name: "local",
  type: "LoadBalancer",
  clusterIPs: ["10.96.0.21"],
  externalTrafficPolicy: "Local",
  healthCheckNodePort: 32000,
});
const balanced = (name: string, address: string): Service =>
  service({ name, type: "LoadBalancer", loadBalancerAddresses: [{ address, ipMode: "VIP", fromPool: true }] });
const POOL: readonly ObjectEvent[] = [
  { kind: "AddressPool", key: "metallb-system/pool", object: pool() },
  { kind: "L2Advertisement", key: "metallb-system/all", object: advertisement() },
];

/** A node that has started and serves `START`. */
async function started(options: FakeNodeOptions = {}, events: readonly ObjectEvent[] = START): Promise<FakeNode> {
  const made = fake(options);
  made.reconciler.turn();
  made.take(events);
  await soon();
  return made;
}

describe("a first start", () => {
  it("fills the maps, then attaches, then announces", async () => {
    const made = fake();
    made.reconciler.turn();
    made.take(START.slice(0, 1), "d1", false);
    await soon();
    expect([made.steps, made.reconciler.desired().health.healthy]).toEqual([[], false]);
    made.take([...START.slice(1), ...POOL, ...eventsOf({ services: [balanced("a", "192.168.122.102")] })], "d2");
    await soon();
    expect(made.steps).toEqual(["maps", "eth0 uplink", "sockets", "announcer"]);
    expect(made.reconciler.desired().health).toMatchObject({ healthy: true, reasons: [], nodeEligible: true });
    expect(made.reconciler.maps.state).toMatchObject({ appliedDigest: "d2", applies: { total: 1, failed: 0 } });
  });

  it("is not held up by a firewall that never answers, nor by files that cannot be written", async () => {
    const made = fake();
    made.firewall = () => new Promise(() => undefined);
    made.fail("memory", new Failure("machine", "/state", "could not write /state: ENOSPC"));
    made.reconciler.lookAt("firewall");
    made.reconciler.lookAt("firewall");
    made.reconciler.turn();
    made.take(START);
    await soon();
    expect(made.steps).toContain("eth0 uplink");
    expect(made.reconciler.desired().health.healthy).toBe(true);
    const memory = made.reconciler.statuses().find(({ name }) => name === "memory");
    expect(memory).toMatchObject({ ok: false, error: "could not write /state: ENOSPC" });
    await soon(60_000);
    expect(made.attempts("firewall")).toBe(1);
  });
});

describe("a restart", () => {
  const network = {
    ...NETWORK,
    devices: [...NETWORK.devices, device("eth1", 3, { kind: "veth", addresses: at("10.1.0.11/24") })],
    routes: [...NETWORK.routes, route("10.1.0.0/24", "eth1"), route("10.244.2.0/24", "eth1", { viaGateway: true })],
  };
  const own = node(1, { internalAddresses: ["10.1.0.11"] });
  const remembered = { own: ["10.1.0.11"], others: ["10.1.0.12"], otherPodCIDRs: ["10.244.2.0/24"] };
  const programs = { eth0: "uplink", eth1: "uplink" };

  async function restarted(given: FakeNodeOptions = {}): Promise<FakeNode> {
    const first = await started({ network }, eventsOf({ nodes: [own], services: [web], slices: [webSlice] }));
    first.timers.stop();
    const made = fake({ network, remembered, before: { maps: first.maps, programs }, ...given });
    made.reconciler.turn();
    return made;
  }

  it("takes no program off while Nodes come one by one, its own last", async () => {
    const made = await restarted();
    expect(made.programs()).toEqual(programs);
    for (const one of [node(7), node(8), own]) {
      made.take(eventsOf({ nodes: [one] }), "d", false);
      made.reconciler.takeNetwork({ ...network, routes: [...network.routes] });
      await soon();
      expect(made.programs()).toEqual(programs);
    }
    made.take(eventsOf({ services: [web], slices: [webSlice] }));
    await soon();
    expect([made.programs(), made.steps.filter((step) => step.startsWith("eth"))]).toEqual([programs, []]);
  });

  it("takes nothing off before it knows, also where nothing was remembered, and then what has no role", async () => {
    const made = await restarted({ remembered: undefined as never });
    const other = node(2, { internalAddresses: ["172.16.0.2"], podCIDRs: [] });
    made.take(eventsOf({ nodes: [other] }), "d", false);
    await soon();
    expect(made.programs()).toEqual(programs);
    made.take(eventsOf({ nodes: [node(1)] }));
    await soon();
    expect(made.programs()).toEqual({ eth0: "uplink" });
  });

  it("remembers the nodes of the objects once all have come", async () => {
    const made = await restarted();
    expect(made.remembered()).toBeUndefined();
    made.take(eventsOf({ nodes: [own] }));
    await soon();
    expect(made.remembered()).toEqual({ own: ["10.1.0.11"], others: [], otherPodCIDRs: [] });
  });

  it("without this node's object goes on at the addresses that were remembered", async () => {
    const made = await restarted();
    made.take(eventsOf({ services: [service({ name: "web", type: "NodePort" })] }));
    await soon();
    expect(made.maps.addresses.get("10.1.0.11")?.node).toBe(true);
    expect(made.programs()["eth1"]).toBe("uplink");
  });
});

describe("a change of a Node", () => {
  it("is acted on at once, also when no row is another", async () => {
    const network = {
      ...NETWORK,
      devices: [...NETWORK.devices, device("vxlan0", 9, { kind: "vxlan" })],
      routes: [...NETWORK.routes, route("10.244.2.0/24", "vxlan0", { viaGateway: true })],
    };
    const made = await started({ network }, eventsOf({ nodes: [node(1), node(2, { podCIDRs: [] })] }));
    expect(made.programs()).toEqual({ eth0: "uplink" });
    made.take(eventsOf({ nodes: [node(2)] }));
    await soon(5);
    expect(made.programs()).toEqual({ eth0: "uplink", vxlan0: "uplink" });
  });

  it("that takes this node's object or its addresses away takes nothing that is served", async () => {
    const made = await started();
    const roles = (): unknown => made.maps.addresses.get("192.168.122.11");
    expect(roles()).toMatchObject({ node: true });
    made.take(eventsOf({ nodes: [node(1, { internalAddresses: [] })] }));
    await soon();
    expect(roles()).toMatchObject({ node: true });
    made.take([{ kind: "Node", key: "node1", object: undefined }]);
    await soon();
    expect(roles()).toMatchObject({ node: true });
    made.take(eventsOf({ nodes: [node(1, { internalAddresses: ["192.168.122.99"] })] }));
    await soon();
    expect([roles(), made.maps.addresses.get("192.168.122.99")]).toMatchObject([undefined, { node: true }]);
  });

  it("that is going away makes it no place for new clients, and spares it again", async () => {
    const made = await started({}, [...START, ...eventsOf({ services: [local] })]);
    const eligible = (): boolean => made.reconciler.desired().health.nodeEligible;
    made.take(eventsOf({ nodes: [node(1, { goingAway: true })] }));
    await soon();
    expect([eligible(), made.healthPorts()]).toEqual([false, "healthy 32000:0"]);
    made.take(eventsOf({ nodes: [node(1)] }));
    await soon();
    expect(eligible()).toBe(true);
  });
});

describe("an apply that fails", () => {
  it("is tried after 0.1, 0.5, 2 and each 10 s, however many events come", async () => {
    const made = await started();
    const before = made.attempts("apply");
    made.fail("apply", FULL);
    for (let i = 0; i < 60; i++) {
      made.take(eventsOf({ services: [service({ name: `edit${i % 3}`, clusterIPs: [`10.96.1.${i + 1}`] })] }));
      await soon(150);
    }
    expect(made.attempts("apply") - before).toBe(4);
    made.fail("apply", undefined);
    await soon(10_000);
    expect(made.reconciler.maps.state.lastApply.error).toBe("");
    expect([...made.maps.frontends.keys()].filter((key) => key.includes("10.96.1."))).toHaveLength(3);
  });

  it("is told to load balancers and probes, and that it is over", async () => {
    const made = await started({}, [...START, ...eventsOf({ services: [local] })]);
    expect(made.healthPorts()).toBe("healthy 32000:0");
    made.fail("apply", FULL);
    made.take(eventsOf({ services: [service({ name: "more", clusterIPs: ["10.96.0.30"] })] }));
    await soon();
    expect(made.reconciler.desired().health).toMatchObject({
      healthy: false,
      reasons: ["a change could not be brought in force"],
    });
    expect(made.healthPorts()).toBe("unhealthy 32000:0");
    made.fail("apply", undefined);
    await soon(700);
    expect([made.reconciler.desired().health.healthy, made.healthPorts()]).toEqual([true, "healthy 32000:0"]);
  });

  it("compares everything anew, in parts", async () => {
    const many = Array.from({ length: 2000 }, (_, i) =>
      service({ name: `s${i}`, clusterIPs: [`10.97.${i >> 8}.${i & 255}`] }),
    );
    const made = await started({}, eventsOf({ nodes: [node(1)], services: many }));
    await soon(100);
    const dump = made.maps.dump();
    const before = made.attempts("apply");
    made.fail("apply", FULL);
    made.take(eventsOf({ services: [web] }));
    await soon(50);
    made.fail("apply", undefined);
    await soon(1_000);
    expect(made.attempts("apply") - before).toBeGreaterThan(3);
    expect(made.maps.dump().split("\n").length).toBeGreaterThan(dump.split("\n").length);
    expect(made.reconciler.works("maps")).toBe(true);
  });

  it("is tried again also when the kernel cannot be read then", async () => {
    const made = await started();
    made.fail("apply", FULL);
    made.fail("readState", FULL);
    made.take(eventsOf({ services: [service({ name: "more", clusterIPs: ["10.96.0.30"] })] }));
    await soon(5_000);
    expect(made.attempts("readState")).toBeGreaterThan(1);
    made.fail("apply", undefined);
    made.fail("readState", undefined);
    await soon(11_000);
    expect([made.reconciler.works("maps"), made.maps.dump().includes("10.96.0.30")]).toEqual([true, true]);
  });

  it("by a broken invariant ends the agent", async () => {
    const made = await started();
    made.fail("apply", new Failure("internal", "rows", "could not happen"));
    made.take(eventsOf({ services: [service({ name: "more", clusterIPs: ["10.96.0.30"] })] }));
    await soon();
    expect(made.broken()).toMatchObject({ code: "internal" });
    current = undefined;
    made.timers.stop();
  });
});

describe("one effect that fails", () => {
  it.each(["sysctls", "announcer", "healthPorts", "memory", "firewall", "otherProxy", "network"] as const)(
    "%s: the others go on, and it is tried again",
    async (what) => {
      const made = fake();
      made.fail(what, new Error("refused"));
      made.reconciler.turn();
      made.reconciler.lookAt("firewall");
      made.reconciler.lookAt("otherProxy");
      made.reconciler.lookAt("network");
      made.take([...START, ...POOL, ...eventsOf({ services: [balanced("a", "192.168.122.102"), local] })]);
      await soon();
      const { statuses, maps, desired } = made.reconciler;
      expect(statuses().filter(({ ok }) => !ok)).toMatchObject([{ error: "refused" }]);
      expect([maps.state.applies, desired().health.healthy]).toMatchObject([{ total: 1, failed: 0 }, true]);
      expect(made.programs()).toEqual({ eth0: "uplink" });
      made.fail(what, undefined);
      await soon(700);
      expect(statuses().filter(({ ok }) => !ok)).toEqual([]);
      expect(made.announced()).toEqual(["192.168.122.102 eth0"]);
    },
  );

  it("settings or sockets: the node is not healthy until it works", async () => {
    for (const what of ["settings", "sockets"] as const) {
      const made = await started();
      made.timers.stop();
      const other = fake();
      other.fail(what, FULL);
      other.reconciler.turn();
      other.take(START);
      await soon();
      expect(other.reconciler.desired().health.healthy).toBe(false);
      other.fail(what, undefined);
      await soon(3_000);
      expect(other.reconciler.desired().health.healthy).toBe(true);
      other.timers.stop();
    }
  });
});

describe("a reading of the network", () => {
  it("that differs has sysctls looked at at once, at most once a second, and else each ten seconds", async () => {
    const made = await started();
    await soon(2_000);
    const before = made.attempts("sysctls");
    for (let mtu = 1400; mtu < 1410; mtu++)
      made.reconciler.takeNetwork({ ...NETWORK, devices: [{ ...NETWORK.devices[1]!, mtu }] });
    expect(made.attempts("sysctls") - before).toBe(1);
    await soon(1_000);
    for (let i = 0; i < 5; i++) made.reconciler.turn();
    expect(made.attempts("sysctls") - before).toBe(2);
    await soon(10_000);
    made.reconciler.turn();
    expect(made.attempts("sysctls") - before).toBe(3);
  });

  it("that is the same puts back what somebody took off, and decides nothing anew", async () => {
    const made = await started();
    const { devices } = made.reconciler.desired();
    const before = made.attempts("devices");
    made.reconciler.takeNetwork(structuredClone(NETWORK));
    expect([made.attempts("devices") - before, made.reconciler.desired().devices === devices]).toEqual([1, true]);
    made.reconciler.turn();
    expect(made.attempts("devices") - before).toBe(1);
  });

  it("comes one at a time: what changed meanwhile is read after it", async () => {
    const made = await started();
    const ends: (() => void)[] = [];
    made.network = () => new Promise((resolve) => ends.push(() => resolve(NETWORK)));
    for (let i = 0; i < 5; i++) made.reconciler.lookAt("network");
    expect(ends).toHaveLength(1);
    ends[0]!();
    await soon();
    expect(ends).toHaveLength(2);
    ends[1]!();
    await soon(30_000);
    expect(ends).toHaveLength(2);
  });
});

it("what comes and changes no row is in force already", async () => {
  const made = await started();
  made.take([], "d9");
  await soon();
  expect([made.reconciler.maps.state.appliedDigest, made.reconciler.maps.state.applies.total]).toEqual(["d9", 1]);
});

it("translates packets instead of sockets as soon as a pod asks for it", async () => {
  let bypasses = false;
  const made = await started({ wishes: { sockets: "auto" }, bypassesSockets: () => bypasses });
  expect(made.reconciler.desired().settings.sockets).toBe("all");
  bypasses = true;
  made.take([]);
  await soon();
  expect(made.reconciler.desired().settings.sockets).toBe("host-only");
});
