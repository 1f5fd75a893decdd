// Two CPUs carry one client's first two connections at the same time: both end at one backend. Of clients whose two connections,
// to the cluster's address and to the LoadBalancer's, would be led to different backends, as either has a window of its own.
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, expect, it } from "vitest";
import { IS_THIN, tellLeftOut } from "../kernel-lacks.ts";
import { describeKernel } from "../require-kernel.ts";
import { FAMILIES, type Family, frame, objects, send, V4 } from "./conversation.ts";
import { parsePacket } from "./packet.ts";
import type { RacerOptions } from "./racer.ts";
import { createTestNode, type TestNode } from "./test-node.ts";

const CANDIDATES = 400;
const USUAL = 40;
const BATCHES = IS_THIN ? USUAL / 5 : USUAL;
const clientOf = (family: Family, i: number): string =>
  family === V4 ? `198.18.${i >> 8}.${i & 255}` : `2001:db8:1::${(i + 1).toString(16)}`;

/** CPUs that this process may use. */
function allowedCpus(): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(fs.readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  return list.split(",").flatMap((part) => {
    const [from = 0, to = from] = part.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  });
}
const cpus = allowedCpus();

describeKernel("two CPUs", () => {
  let node: TestNode;
  const racers: Worker[] = [];
  beforeAll(async () => {
    node = createTestNode(1, { xdpRuns: false, openings: 16_384 });
    // The cluster's address leads to this node's backends only, the LoadBalancer's to all.
    await node.feed(objects(["here", "hereToo", "there"], { affinitySeconds: 60, internalTrafficPolicy: "Local" }));
    const programPath = path.join(node.pinDir, "racing");
    node.dataplane.program("tc_uplink_ingress").pin(programPath);
    const begun = new SharedArrayBuffer(4);
    for (const cpu of cpus.slice(0, 2)) {
      const namespaceFile = `/run/netns/${node.namespace.name}`;
      const options: RacerOptions = { programPath, namespaceFile, ifindex: node.ifindex("up0"), cpu, begun };
      const racer = new Worker(new URL("./racer.ts", import.meta.url), { workerData: options, execArgv: [] });
      racers.push(racer);
      await once(racer, "message");
    }
  });
  afterAll(async () => {
    await Promise.all(racers.map((racer) => racer.terminate()));
    node?.[Symbol.dispose]();
  });

  let port = 1024;
  const opening = (family: Family, client: string, name: "vip" | "lb"): Uint8Array =>
    send(frame(), "TCP", { address: client, port: port++ }, { address: family[name], port: 80 });

  /** Clients whose first connection is led to one backend of this node by the one address, and to the other one by the other. */
  function dividedClients(family: Family): string[] {
    const clients = Array.from({ length: CANDIDATES }, (_, i) => clientOf(family, i));
    const [byVip = [], byLb = []] = (["vip", "lb"] as const).map((name) => {
      node.clearFlows();
      const found = clients.map((client) => node.run("tc_uplink_ingress", opening(family, client, name)).packet);
      return found.map((bytes) => parsePacket(bytes).destination);
    });
    return clients.filter((_, i) => byVip[i] !== byLb[i] && byLb[i] !== family.there);
  }

  tellLeftOut(FAMILIES.length * (USUAL - BATCHES), "races");
  it.skipIf(cpus.length < 2).each(FAMILIES.map((family) => [family.name, family] as const))(
    "%s: that open one client's first two connections at once lead both to one backend",
    { timeout: 300_000 },
    async (_, family) => {
      const clients = dividedClients(family);
      expect(clients.length).toBeGreaterThan(CANDIDATES / 10);
      const apart: string[] = [];
      const ends = new Map<string, number>();
      for (let batch = 0; batch < BATCHES; batch++) {
        node.clearFlows();
        port = 1024;
        const found = await Promise.all(
          racers.map(async (racer, i) => {
            racer.postMessage(clients.map((client) => opening(family, client, i === 0 ? "vip" : "lb")));
            return ((await once(racer, "message")) as [string[]])[0];
          }),
        );
        for (const [i, client] of clients.entries()) {
          const [one = "", other] = found.map((list) => list[i]);
          if (one !== other) apart.push(`${client}: ${one} and ${other}`);
          ends.set(one, (ends.get(one) ?? 0) + 1);
        }
      }
      expect(apart).toEqual([]);
      // Either was the first one, time and again.
      expect([...ends.keys()].sort()).toEqual([family.here, family.hereToo].sort());
      for (const count of ends.values()) expect(count).toBeGreaterThan(clients.length / 4);
    },
  );
});
