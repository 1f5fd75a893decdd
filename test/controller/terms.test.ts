// Terms of one process after each other, and what a term does while the cluster does not rest.
import { expect, test } from "vitest";
import { harness, pool, service } from "./objects.ts";

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
  let x = 12_345;
  const { clock, cluster, start } = harness(() => (x = (x * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31);
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
