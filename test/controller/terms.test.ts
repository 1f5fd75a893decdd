// Terms of one process after each other, and what a term does while the cluster does not rest.
import { expect, test } from "vitest";
import { createGathered } from "../../src/controller/gathered.ts";
import type { FedObject } from "../../src/kube/object-feed.ts";
import { createRandom } from "../model/random.ts";
import type { Stored } from "./fake-cluster.ts";
import { harness, node, pool, service } from "./objects.ts";

test("what a term still meant to write is not written in the next term of the same process", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.1-192.0.2.2"]));
  const { client, controller } = start();
  await clock.advance(3_000);
  let isLeaseRefused = false;
  client.fault = (_, path) => {
    if (path.includes("/leases")) return isLeaseRefused ? { status: 503 } : {};
    return path.includes("services/a/") ? { status: 500 } : {};
  };
  cluster.put("services", service("a"));
  // Its attempts are far apart by now, so that one waits at the end of the term.
  await clock.advance(40_000);
  isLeaseRefused = true;
  while (controller.view().leads) await clock.advance(100);
  await clock.advance(500);
  expect(controller.view().term).toBeUndefined();
  cluster.put("services", service("c", { loadBalancerIP: "192.0.2.1" }));
  isLeaseRefused = false;
  while (!controller.view().leads) await clock.advance(50);
  const said: string[] = [];
  client.fault = ({ body = "{}" }, path) => {
    if (!path.includes("services/a/")) return {};
    const ip = JSON.parse(body).status.loadBalancer.ingress[0].ip;
    said.push(ip);
    // The old address would be let in.
    return ip === "192.0.2.2" ? { status: 500 } : {};
  };
  await clock.advance(60_000);
  expect(new Set(said)).toEqual(new Set(["192.0.2.2"]));
  expect([addresses("default/a"), addresses("default/c")]).toEqual([[], ["192.0.2.1"]]);
  client.fault = () => ({});
  await clock.advance(60_000);
  expect(addresses("default/a")).toEqual(["192.0.2.2"]);
});

test("after an outage that ended a term nothing is written again and again", async () => {
  const random = createRandom(12_345);
  const { clock, cluster, start } = harness(() => random.below(1_000) / 1_000);
  cluster.put("ipaddresspools", pool("p", ["192.0.2.0/24"]));
  const { client } = start();
  await clock.advance(3_000);
  client.fault = () => ({ status: 500 });
  for (let i = 0; i < 20; i++) cluster.put("services", service(`s${i}`));
  await clock.advance(20_000);
  client.fault = () => ({});
  await clock.advance(60_000);
  const wellAt = cluster.writes.length;
  await clock.advance(600_000);
  expect(cluster.writes.slice(wellAt).filter((one) => one.includes("services/status"))).toEqual([]);
});

test("objects that change more often than changes are gathered keep nobody waiting", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.1-192.0.2.9"]));
  start();
  await clock.advance(3_000);
  cluster.put("services", service("a"));
  for (let i = 0; i < 20; i++) {
    const busy = service("busy", { type: "ClusterIP" }, { labels: { round: String(i) } });
    cluster.put("services", busy);
    await clock.advance(15);
  }
  expect(addresses("default/a")).toEqual(["192.0.2.1"]);
});

test("a Node's heartbeat and a pool's counters let nothing be decided", async () => {
  const gathered = createGathered();
  const ref = { apiVersion: "v1", kind: "Node", namespace: "", name: "n", uid: "u" };
  const put = (resource: "nodes" | "pools" | "namespaces", object: Stored): boolean =>
    gathered.put(resource, object.metadata.name, ref, object as unknown as FedObject);
  expect(put("nodes", node("n", "10.0.0.1"))).toBe(true);
  const beats = node("n", "10.0.0.1");
  beats["status"].heartbeat = 1;
  expect(put("nodes", beats)).toBe(false);
  expect(put("nodes", node("n", "10.0.0.2"))).toBe(true);
  expect(put("pools", pool("p", ["192.0.2.0/24"]))).toBe(true);
  expect(put("pools", { ...pool("p", ["192.0.2.0/24"]), status: { assignedIPv4: 1 } })).toBe(false);
  expect(gathered.pool("n")?.object["status"]).toEqual({ assignedIPv4: 1 });
  expect(put("pools", pool("p", ["192.0.2.0/25"]))).toBe(true);
});

test.each(["nothing", "an edit"])(
  "a write whose answer is lost is no problem any more once it is seen, and is told; with %s beside",
  async (beside) => {
    const { clock, cluster, start, addresses, events } = harness();
    cluster.put("ipaddresspools", pool("p", ["192.0.2.1-192.0.2.9"]));
    const { client, controller } = start();
    await clock.advance(3_000);
    client.lagMs = () => 200;
    let isFirst = true;
    client.fault = (_, path) => {
      if (!path.includes("services/") || !isFirst) return {};
      isFirst = false;
      return { isLost: true };
    };
    cluster.put("services", service("a"));
    await clock.advance(300);
    expect(addresses("default/a")).toEqual(["192.0.2.1"]);
    expect(controller.view().term?.problems.join()).toContain("Service default/a");
    const a = cluster.get("services", "default/a")!;
    if (beside !== "nothing")
      cluster.put("services", { ...a, metadata: { ...a.metadata, labels: { touched: "yes" } } });
    await clock.advance(60_000);
    expect(controller.view().term?.problems.join()).not.toContain("Service default/a");
    expect(events("a")).toEqual(['IPAllocated Assigned IP ["192.0.2.1"]']);
  },
);

test("counters that the server does not keep are written when they change, and no more", async () => {
  const { clock, cluster, start } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.1-192.0.2.9"]));
  const sent: string[] = [];
  start({}, (client) => {
    client.fault = ({ body = "" }, path) => {
      if (!path.includes("ipaddresspools")) return {};
      sent.push(body);
      return {};
    };
    const { send } = client;
    client.send = (demand, path, options) =>
      // As with a CRD whose schema does not have them: the server takes the write, and drops the fields.
      send(path.includes("ipaddresspools") ? { ...demand, body: "{}" } : demand, path, options);
  });
  await clock.advance(60_000);
  expect(sent).toHaveLength(1);
  cluster.put("services", service("a"));
  await clock.advance(60_000);
  expect(sent).toHaveLength(2);
});
