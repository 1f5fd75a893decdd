// Who leads, and until when: two controllers over one Lease, one killed, stopped, cut off, or told to go.
import { expect, test } from "vitest";
import { leaseStep, writeTimeoutMs } from "../../src/controller/lease.ts";
import { controllerTroubles } from "../../src/http/controller-servers.ts";
import type { FakeClient } from "./fake-cluster.ts";
import { harness, OPTIONS, pool, service } from "./objects.ts";
import { pausable } from "./pausable.ts";

test.each([
  ["none", undefined, { do: "create" }],
  ["ours", { holder: "me" }, { do: "claim", version: "7", transitions: 2, isRenewal: true }],
  ["released", { holder: "" }, { do: "claim", version: "7", transitions: 3, isRenewal: false }],
  ["another's, renewed 14.9 s ago", { seenMs: 5_100 }, { do: "wait" }],
  [
    "another's, not renewed for 15 s",
    { seenMs: 5_000 },
    { do: "claim", version: "7", transitions: 3, isRenewal: false },
  ],
  ["another's, which says 60 s", { seenMs: 0, durationMs: 60_000 }, { do: "wait" }],
] as const)("a Lease that is %s", (_, seen, step) => {
  const lease = seen && { version: "7", holder: "other", transitions: 2, durationMs: 15_000, seenMs: 20_000, ...seen };
  expect(leaseStep(lease, "me", 20_000)).toEqual(step);
});

test("a write that begins while we lead ends before another may lead", () => {
  for (const [durationMs, renewDeadlineMs] of [
    [15_000, 10_000],
    [5_000, 4_000],
    [60_000, 40_000],
  ] as const) {
    const timeout = writeTimeoutMs({ durationMs, renewDeadlineMs, retryMs: 1_000 });
    expect(renewDeadlineMs + timeout).toBeLessThan(durationMs);
    expect(timeout).toBeGreaterThan(0);
  }
});

test("of two one leads; told to go it gives the Lease back, and the other leads at once", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.0/24"]));
  const first = start();
  await clock.advance(1_000);
  const second = start();
  await clock.advance(5_000);
  expect([first.controller.view().leads, second.controller.view().leads]).toEqual([true, false]);
  expect(second.controller.view().holder).toBe(first.controller.view().identity);
  first.stop();
  await clock.advance(500);
  await first.ended;
  expect(second.controller.view().leads).toBe(true);
  cluster.put("services", service("a"));
  await clock.advance(1_000);
  expect(addresses("default/a")).toEqual(["192.0.2.0"]);
  const { spec } = cluster.get("leases", "kube-system/millrace-controller")!;
  expect(spec).toMatchObject({
    holderIdentity: second.controller.view().identity,
    leaseTransitions: 1,
    leaseDurationSeconds: 15,
  });
});

test("a leader that is cut off stops before another begins", async () => {
  const { clock, cluster, start } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.0/24"]));
  const first = start();
  await clock.advance(1_000);
  const second = start();
  await clock.advance(3_000);
  first.client.fault = () => ({ status: 503 });
  let stoppedMs = 0;
  const cutMs = clock.now();
  for (; !second.controller.view().leads; await clock.advance(100)) {
    if (!first.controller.view().leads) stoppedMs ||= clock.now();
    expect(first.controller.view().leads && second.controller.view().leads).toBe(false);
  }
  expect(stoppedMs - cutMs).toBeLessThanOrEqual(OPTIONS.leaseRenewDeadlineMs);
  expect(clock.now() - stoppedMs).toBeGreaterThan(3_000);
  expect(clock.now() - cutMs).toBeLessThan(20_000);
});

test("a leader whose renewals hang begins no write after its deadline, whatever it waits for", async () => {
  const { clock, cluster, start } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.0/24"]));
  const { client, controller } = start();
  await clock.advance(3_000);
  const begunMs: number[] = [];
  client.fault = (_, path) => {
    if (path.includes("/leases")) return { beforeMs: 60_000 };
    if (path.includes("services/")) begunMs.push(clock.now());
    return {};
  };
  const hungMs = clock.now();
  for (let i = 0; i < 100; i++) {
    cluster.put("services", service(`s${i}`));
    await clock.advance(200);
  }
  expect(controller.view().leads).toBe(false);
  const last = Math.max(...begunMs) - hungMs;
  expect(last).toBeGreaterThan(OPTIONS.leaseRenewDeadlineMs - OPTIONS.leaseRetryMs - 500);
  expect(last).toBeLessThanOrEqual(OPTIONS.leaseRenewDeadlineMs);
});

test("a leader that was stopped and goes on writes nothing of what it had decided", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.0/31"]));
  const gate = pausable(clock);
  const first = start({}, (client) => gate.wrap(client), gate.clock);
  await clock.advance(3_000);
  expect(first.controller.view().leads).toBe(true);
  const second = start();
  await clock.advance(3_000);
  cluster.put("services", service("a"));
  gate.pause();
  await clock.advance(30_000);
  expect(second.controller.view().leads).toBe(true);
  expect(addresses("default/a")).toEqual(["192.0.2.0"]);
  cluster.put("services", service("b"));
  const before = cluster.writes.length;
  gate.resume();
  await clock.advance(30_000);
  expect(first.controller.view().leads).toBe(false);
  expect(addresses("default/a")).toEqual(["192.0.2.0"]);
  expect(addresses("default/b")).toEqual(["192.0.2.1"]);
  expect(cluster.writes.slice(before).filter((one) => one.endsWith("409"))).toEqual([]);
});

test("a claimant whose answer is lost finds out that it leads", async () => {
  const { clock, start } = harness();
  let lost = 3;
  const { controller } = start({}, (client) => {
    client.fault = (_, path) => (path.includes("/leases") && lost-- > 0 ? { isLost: true } : {});
  });
  await clock.advance(15_000);
  expect(controller.view().leads).toBe(true);
});

test("after etcd was restored from a backup, its revisions with it, the leader leads on or again", async () => {
  const { clock, cluster, start } = harness();
  const both = [start(), start()];
  await clock.advance(30_000);
  const backup = cluster.get("leases", "kube-system/millrace-controller")!;
  await clock.advance(600_000);
  cluster.restore("leases", backup);
  await clock.advance(30_000);
  for (let i = 0; i < 60; i++) {
    expect(both.filter(({ controller }) => controller.view().leads)).toHaveLength(1);
    await clock.advance(1_000);
  }
});

/** A proxy between: some answers are not the API server's. */
function answering(client: FakeClient, part: string, body: string, type: string): () => void {
  const { send } = client;
  client.send = async (demand, path, options) => {
    if (!path.includes(part) || demand.method === "GET") return send(demand, path, options);
    async function* page(): AsyncGenerator<Uint8Array> {
      yield Buffer.from(body);
    }
    return { status: 200, headers: { "content-type": type }, body: page() };
  };
  return () => {
    client.send = send;
  };
}

test.each([
  ["a page", "<html>log in</html>", "text/html"],
  ["a page that is said to be JSON", "<html>log in</html>", "application/json"],
  ["nothing", "", "application/json"],
  ["null", "null", "application/json"],
  ["another's Lease", '{"metadata":{"resourceVersion":"7"},"spec":{"holderIdentity":"x"}}', "application/json"],
])(
  "who is answered %s to its claim does not lead, says so, and leads once the server answers",
  async (_, body, type) => {
    const { clock, start } = harness();
    let heal = (): void => {};
    const { controller } = start({}, (client) => {
      heal = answering(client, "/leases", body, type);
    });
    await clock.advance(20_000);
    const view = controller.view();
    expect(view.leads).toBe(false);
    expect(view.problems.join()).toContain("could not renew or take the Lease: the answer");
    heal();
    await clock.advance(20_000);
    expect(controller.view()).toMatchObject({ leads: true, problems: [] });
  },
);

test("an answer that is no JSON to a write of a status is a fate unknown: it is written again", async () => {
  const { clock, cluster, start, addresses } = harness();
  cluster.put("ipaddresspools", pool("p", ["192.0.2.0/24"]));
  const { client, controller } = start();
  await clock.advance(3_000);
  const heal = answering(client, "services/", "<html>", "application/json");
  cluster.put("services", service("a"));
  await clock.advance(1_000);
  expect(controller.view().problems.join()).toContain("could not write the status of Service default/a: the answer is");
  heal();
  await clock.advance(10_000);
  expect(addresses("default/a")).toEqual(["192.0.2.0"]);
  expect(controller.view().problems.join()).not.toContain("could not");
});

test("a leader that may not renew is not healthy, and says why", async () => {
  const { clock, start } = harness();
  const { client, controller } = start();
  await clock.advance(3_000);
  expect(controllerTroubles(controller.view())).toEqual([]);
  client.fault = (_, path) => (path.includes("/leases") ? { status: 403 } : {});
  await clock.advance(120_000);
  expect(controller.view()).toMatchObject({ leads: false, holder: "" });
  expect(controllerTroubles(controller.view())).toEqual([
    "no controller is known to lead",
    expect.stringMatching(/could not renew or take the Lease: 403/),
  ]);
});
