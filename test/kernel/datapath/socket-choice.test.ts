// One UDP socket that asks several frontends of a Service gets a backend for each, however often backends stand in the slots, as
// answers of one backend could not be told apart.
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import type { Service } from "../../../src/model/objects.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { at, objects, portsOf, V4 } from "./conversation.ts";
import { createNamespace, type Namespace } from "./namespace.ts";
import { createTestNode, type TestNode } from "./test-node.ts";
import { createUdpClients } from "./udp-clients.ts";

const { port, target } = portsOf("UDP");
const SOCKETS = 20;

describeKernel("a UDP socket that asks several frontends", () => {
  let node: TestNode;
  let pod: Namespace;
  let cgroup: Disposable;
  const { open, closeAll } = createUdpClients(target);
  beforeAll(() => {
    node = createTestNode(1, { xdpRuns: false });
    pod = createNamespace();
    // Every backend is this namespace's own.
    pod.ip("route add local 10.244.0.0/16 dev lo");
    cgroup = joinCgroup(node.dataplane);
  });
  afterAll(() => {
    cgroup?.[Symbol.dispose]();
    pod?.[Symbol.dispose]();
    node?.[Symbol.dispose]();
  });
  beforeEach(() => node.clearFlows());
  afterEach(closeAll);

  const SECOND_LB = "192.168.122.112";
  const THIRD_LB = "192.168.122.113";

  /** Every socket asks each of the addresses; the names that the answers bore. */
  function namesOf(backends: readonly string[], frontends: readonly string[]): string[][] {
    const servers = backends.map((address) => open(pod, "IPv4", address));
    return Array.from({ length: SOCKETS }, () => {
      const client = open(pod, "IPv4");
      const names = frontends.map((address) => {
        expect(client.send(address, { address, port })).toBe("");
        for (const { socket } of servers) {
          // On loopback a datagram is there when send() returns.
          const asked = socket.receiveNow();
          if (asked !== undefined) socket.send("told", asked.from);
        }
        const answer = client.receive();
        return answer === undefined ? "no answer" : at(answer.from.address, answer.from.port);
      });
      client.socket.close();
      return names;
    });
  }

  const cases: readonly (readonly [string, Partial<Service>, string | undefined])[] = [
    ["once each", {}, undefined],
    ["by weight, 100 to 1", {}, `${V4.here}=100,${V4.hereToo}=1`],
    ["by weight, 1 to 9 to 90", {}, `${V4.here}=1,${V4.hereToo}=9,${V4.there}=90`],
    ["by Maglev", { loadBalancing: "maglev" }, undefined],
    ["by Maglev and weight, 9 to 1", { loadBalancing: "maglev" }, `${V4.here}=9,${V4.hereToo}=1`],
  ];

  it.each(cases)("backends stand in the slots %s: two frontends, two backends", async (_, given, weights) => {
    const { services, slices } = objects(["here", "hereToo"], given as object);
    await node.feed({ services, slices: slices.map((one) => (weights === undefined ? one : { ...one, weights })) });
    const names = namesOf([V4.here, V4.hereToo], [V4.vip, V4.lb]);
    expect(names).toEqual(Array.from({ length: SOCKETS }, () => [at(V4.vip, port), at(V4.lb, port)]));
  });

  it.each(cases)("backends stand in the slots %s: three frontends, three backends", async (_, given, weights) => {
    const lbs = [V4.lb, SECOND_LB].map((address) => ({ address, ipMode: "VIP", fromPool: true }) as const);
    const { services, slices } = objects(["here", "hereToo", "there"], {
      ...given,
      loadBalancerAddresses: lbs,
    } as object);
    await node.feed({ services, slices: slices.map((one) => (weights === undefined ? one : { ...one, weights })) });
    const asked = [V4.vip, V4.lb, SECOND_LB];
    const names = namesOf([V4.here, V4.hereToo, V4.there], asked);
    expect(names).toEqual(Array.from({ length: SOCKETS }, () => asked.map((address) => at(address, port))));
  });

  it("of which there are more than backends is still answered, under a name that it asked", async () => {
    const lbs = [V4.lb, SECOND_LB, THIRD_LB].map((address) => ({ address, ipMode: "VIP", fromPool: true }) as const);
    await node.feed(objects(["here", "hereToo"], { loadBalancing: "maglev", loadBalancerAddresses: lbs } as object));
    const asked = [V4.vip, ...lbs.map(({ address }) => address)];
    for (const names of namesOf([V4.here, V4.hereToo], asked)) {
      expect(names.slice(0, 2)).toEqual(asked.slice(0, 2).map((address) => at(address, port)));
      for (const name of names) expect(asked.map((address) => at(address, port))).toContain(name);
    }
  });
});
