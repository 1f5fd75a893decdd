// Session affinity by the programs: how long a client keeps its backend, and when it gets another one. Time passes by rewriting what
// the entries remember.
import fs from "node:fs";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { AFFINITY, CLIENT_KIND_VALUES, readAffinity, readAffinityKey } from "../../../src/datapath/layout.gen.ts";
import type { Service } from "../../../src/model/objects.ts";
import { describeKernel } from "../require-kernel.ts";
import { again, answer, FAMILIES, type Family, frame, objects, podFrame, send, V4 } from "./conversation.ts";
import { loadDataplane } from "./load-dataplane.ts";
import { parsePacket } from "./packet.ts";
import { createTestNode, HZ, type Run, type TestNode } from "./test-node.ts";

const SECONDS = 60;
const BOTH = ["here", "hereToo"] as const;
const KEPT = { affinitySeconds: SECONDS } as const;

describeKernel("session affinity", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1, { xdpRuns: false });
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  const feed = (names: Parameters<typeof objects>[0], given: Partial<Service> = KEPT): Promise<void> =>
    node.feed(objects(names, given as typeof KEPT));
  let port = 20_000;
  const opening = (family: Family, client: string, frontend = family.lb): Uint8Array =>
    send(frame(), "TCP", { address: client, port: port++ }, { address: frontend, port: 80 });
  const reached = (run: Run): string => parsePacket(run.packet).destination;
  /** The backend of a new connection. */
  const ask = (family: Family, client: string): string =>
    reached(node.run("tc_uplink_ingress", opening(family, client)));
  const askAsPod = (family: Family): string =>
    reached(
      node.run(
        "tc_pod_ingress",
        send(podFrame(), "TCP", { address: family.pod, port: port++ }, { address: family.lb, port: 80 }),
        { device: "pod99" },
      ),
    );
  const entries = () =>
    [...node.dataplane.map("affinity").entries()].map(([key, value]) => ({
      key: readAffinityKey(key),
      ...readAffinity(value),
    }));
  /** As if so many seconds had passed since each client's last new connection. */
  const wait = (seconds: number): void => {
    const map = node.dataplane.map("affinity");
    for (const [key, value] of map.entries()) {
      const view = new DataView(value.buffer, value.byteOffset);
      const used = view.getBigUint64(AFFINITY.used, true);
      view.setBigUint64(AFFINITY.used, used - BigInt(seconds * HZ), true);
      map.update(key, value);
    }
  };
  /** A client outside that the hash leads to `family[which]`. */
  async function clientOf(
    family: Family,
    which: "here" | "hereToo" | "there",
    names = BOTH as Parameters<typeof objects>[0],
  ) {
    await feed(names, { affinitySeconds: 0 });
    await feed(names);
    const prefix = family.client.slice(0, -2);
    for (let last = 10; last < 90; last++) {
      if (ask(family, `${prefix}${last}`) !== family[which]) continue;
      node.clearFlows();
      return `${prefix}${last}`;
    }
    throw new Error(`no client of ${which}`);
  }

  it.each(FAMILIES.map((family) => [family.name, family] as const))(
    "%s: ends when the time since the last new connection is over, and then the client is dealt out anew",
    async (_, family) => {
      const client = await clientOf(family, "hereToo");
      await feed(["here"]);
      expect(ask(family, client)).toBe(family.here);
      await feed(BOTH);
      expect(ask(family, client), "a known client").toBe(family.here);
      wait(SECONDS - 5);
      expect(ask(family, client), "just before its time").toBe(family.here);
      wait(SECONDS - 5);
      expect(ask(family, client), "its time began anew").toBe(family.here);
      const later = Array.from({ length: 24 }, (_, i) => {
        wait(SECONDS + i);
        return ask(family, client);
      });
      expect([...new Set(later)].sort(), "after its time").toEqual([family.here, family.hereToo].sort());
    },
  );

  it("is not prolonged by the packets of connections that go on", async () => {
    await feed(["here"]);
    const first = opening(V4, V4.client);
    const { packet } = node.run("tc_uplink_ingress", first);
    node.run("tc_uplink_egress", answer(packet), { ingressIfindex: node.ifindex("cni0") });
    wait(20);
    const [before] = entries();
    for (let i = 0; i < 3; i++) expect(node.run("tc_uplink_ingress", again(first)).verdict).toBe("VERDICT_PASS");
    expect(entries()).toEqual([before]);
  });

  it.each(FAMILIES.map((family) => [family.name, family] as const))(
    "%s: moves on when the backend is gone",
    async (_, family) => {
      const client = await clientOf(family, "hereToo");
      expect(ask(family, client)).toBe(family.hereToo);
      await feed(["here"]);
      expect(ask(family, client)).toBe(family.here);
      await feed(BOTH);
      expect(ask(family, client), "it stays where it went").toBe(family.here);
    },
  );

  it.each(FAMILIES.map((family) => [family.name, family] as const))(
    "%s: moves on when the backend leaves the window in use, for the clients of that window",
    async (_, family) => {
      const policy = (externalTrafficPolicy: "Cluster" | "Local") => ({ ...KEPT, externalTrafficPolicy });
      await feed(["there"]);
      const remote = node.run("tc_uplink_ingress", opening(family, family.client));
      expect(remote.verdict).toBe("VERDICT_FORWARD");
      expect([reached(remote), askAsPod(family)]).toEqual([family.there, family.there]);
      await feed(["there", "here"], policy("Local"));
      expect([ask(family, family.client), askAsPod(family)]).toEqual([family.here, family.there]);
      await feed(["there", "here"], policy("Cluster"));
      expect([ask(family, family.client), askAsPod(family)]).toEqual([family.here, family.there]);
    },
  );

  it("is kept for each client and Service port", async () => {
    await feed(["here"]);
    for (const client of [V4.client, V4.client, V4.otherClient]) ask(V4, client);
    node.run(
      "tc_uplink_ingress",
      send(frame(), "UDP", { address: V4.client, port: 20_000 }, { address: V4.lb, port: 53 }),
    );
    const kept = entries();
    expect(kept.map(({ key }) => key.client).sort()).toEqual([V4.client, V4.client, V4.otherClient]);
    expect(new Set(kept.map(({ key }) => key.service)).size).toBe(2);
    expect(kept.every(({ key }) => key.kind === CLIENT_KIND_VALUES.CLIENT_ADDRESS)).toBe(true);
  });

  it("is begun and ended on live rows, and none is remembered without it", async () => {
    await feed(["here"], { affinitySeconds: 0 });
    ask(V4, V4.client);
    expect(entries()).toEqual([]);
    await feed(["here"]);
    ask(V4, V4.client);
    expect(entries()).toHaveLength(1);
    await feed(BOTH, { affinitySeconds: 0 });
    expect(new Set(Array.from({ length: 32 }, () => ask(V4, V4.client))).size).toBe(2);
  });

  it("is chosen the same when its entry was evicted", async () => {
    await feed(BOTH);
    const before = ask(V4, V4.client);
    for (let i = 0; i < 8; i++) {
      node.clearFlows();
      expect(ask(V4, V4.client)).toBe(before);
    }
  });

  it("outlives the process that loaded the programs", async () => {
    const client = await clientOf(V4, "hereToo");
    await feed(["here"]);
    ask(V4, client);
    const { capacity } = node.dataplane;
    const sizes = { ...capacity, flows: 4096, openings: 4096 };
    const next = loadDataplane({ pinDir: node.pinDir, stateDir: node.stateDir, mapSizes: sizes, l3: true, xdp: true });
    try {
      expect(next.adopted).toBe(true);
      await feed(BOTH);
      const sent = opening(V4, client);
      const run = node.namespace.inside(() => {
        const context = new Uint8Array(192);
        new DataView(context.buffer).setUint32(40, node.ifindex("up0"), true);
        return next.dataplane.program("tc_uplink_ingress").testRun({ data: sent, context });
      });
      expect(parsePacket(run.data).destination).toBe(V4.here);
    } finally {
      next.close();
    }
    expect(fs.existsSync(node.pinDir)).toBe(true);
  });
});
