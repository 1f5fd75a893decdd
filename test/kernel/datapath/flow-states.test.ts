// The life of a flow in the tables: when it is opened, established, kept, chosen anew, rebuilt, and whom it may not collide
// with. Each case ends in the text of the tables or of the packets.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { endpoint, service, slice } from "../../flows/builders.ts";
import { describeKernel } from "../require-kernel.ts";
import {
  again,
  answer,
  at,
  CONVERSATIONS,
  FAMILIES,
  type Family,
  frame,
  objects,
  podFrame,
  portsOf,
  send,
  type Transport,
  V4,
  words,
} from "./conversation.ts";
import { parsePacket } from "./packet.ts";
import {
  ACTION,
  createTestNode,
  type FlowRow,
  HZ,
  MARK_REDIRECTED,
  macOf,
  type Run,
  SNAT_FIRST,
  type TestNode,
  XDP_ACTION,
} from "./test-node.ts";

const CLIENT_PORT = 40000;

describeKernel("flows", () => {
  let node: TestNode;
  beforeAll(() => {
    node = createTestNode(1);
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => node.clearFlows());

  /** The tables that hold something, each once: "openings", "tcp_flows". */
  const tables = (): string => [...new Set(node.flows().map(({ table }) => table))].sort().join(" ");
  const states = (): string[] => node.flowTexts().map((text) => text.split(" => ")[1]!.split(" ").slice(3).join(" "));
  const forwardRow = (): FlowRow => node.flows().find(({ flow }) => flow.answer === 0)!;
  const reverseRow = (): FlowRow => node.flows().find(({ flow }) => flow.answer === 1)!;

  /** A conversation from outside with a backend of this or another node. */
  function outside(family: Family, transport: Transport, where: "here" | "there") {
    const { nodePort } = portsOf(transport);
    const first = send(
      frame(),
      transport,
      { address: family.client, port: CLIENT_PORT },
      { address: family.node, port: nodePort },
    );
    let last: Run | undefined;
    return {
      first,
      client(fields: Parameters<typeof again>[1] | "again" = "again"): Run {
        last = node.run("tc_uplink_ingress", fields === "again" ? first : again(first, fields));
        return last;
      },
      backend(fields: Parameters<typeof answer>[1] = {}): Run {
        const reply = answer(last!.packet, fields);
        return where === "here"
          ? node.run("tc_uplink_egress", reply, { ingressIfindex: node.ifindex("cni0") })
          : node.run("tc_uplink_ingress", reply);
      },
    };
  }

  const establish = (talk: ReturnType<typeof outside>, transport: Transport): void => {
    talk.client();
    talk.backend();
    if (transport === "TCP") talk.client({ flags: "A", ack: 7001 });
    else talk.client();
    expect(tables()).toBe(transport === "TCP" ? "tcp_flows" : "udp_flows");
  };

  const places = CONVERSATIONS.flatMap(([family, transport]) =>
    (["here", "there"] as const).map((where) => [family.name, transport, where, family] as const),
  );

  it.each(places)(
    "%s %s, backend %s: has two entries, each the other's reverse",
    async (_n, transport, where, family) => {
      await node.feed(objects([where]));
      const talk = outside(family, transport, where);
      talk.client();
      const [forward, reverse] = [forwardRow(), reverseRow()];
      expect(node.flows()).toHaveLength(2);
      const turned = ({ source, destination, sourcePort, destinationPort, proto, hook }: FlowRow["key"]) => ({
        source: destination,
        destination: source,
        sourcePort: destinationPort,
        destinationPort: sourcePort,
        proto,
        hook,
      });
      expect(reverse.key).toEqual(turned(forward.flow.write));
      expect(reverse.flow.write).toEqual(turned(forward.key));
      expect(forward.flow.backend).toBe(reverse.flow.backend);
      const path = where === "here" ? "OUTSIDE_LOCAL" : "OUTSIDE_REMOTE";
      expect(states().sort()).toEqual([path, `${path} answer`]);
    },
  );

  for (const where of ["here", "there"] as const) {
    it(`TCP, backend ${where}: moves to its table on SYN-ACK and the ACK of it, not before`, async () => {
      await node.feed(objects([where]));
      const talk = outside(V4, "TCP", where);
      talk.client();
      expect(tables()).toBe("openings");
      // An ACK before any answer, as a flood would send it.
      talk.client({ flags: "A", ack: 7001 });
      expect(tables()).toBe("openings");
      talk.backend({ flags: "SA", seq: 7000 });
      expect(tables()).toBe("openings");
      // ACKs of something else, and a SYN with the right number.
      for (const ack of [7000, 0, 7001 + 0x60000000]) talk.client({ flags: "A", ack });
      talk.client({ flags: "SA", ack: 7001 });
      expect(tables()).toBe("openings");
      talk.client({ flags: "A", ack: 7001 });
      expect(tables()).toBe("tcp_flows");
      expect(node.flows()).toHaveLength(2);
      expect(states().every((state) => state.endsWith("ANSWERED ESTABLISHED"))).toBe(true);
    });

    it(`TCP, backend ${where}: an answer that is no SYN-ACK answers no opening`, async () => {
      await node.feed(objects([where]));
      const talk = outside(V4, "TCP", where);
      talk.client();
      talk.backend({ flags: "A", seq: 7000 });
      talk.client({ flags: "A", ack: 7001 });
      expect(tables()).toBe("openings");
      talk.backend({ flags: "SA", seq: 9000 });
      talk.client({ flags: "PA", ack: 9001, payload: 5 });
      expect(tables()).toBe("tcp_flows");
    });

    it(`UDP, backend ${where}: moves on an answer and another request`, async () => {
      await node.feed(objects([where]));
      const talk = outside(V4, "UDP", where);
      talk.client();
      talk.client();
      talk.client();
      expect(tables()).toBe("openings");
      talk.backend();
      talk.backend();
      expect(tables()).toBe("openings");
      talk.client();
      expect(tables()).toBe("udp_flows");
      expect(node.flows()).toHaveLength(2);
    });
  }

  it.each(FAMILIES.map((family) => [family.name, family] as const))(
    "%s: a retransmitted SYN keeps its backend, port and entries",
    async (_, family) => {
      await node.feed(objects(["here", "there"]));
      for (let port = 41000; port < 41032; port++) {
        const syn = send(frame(), "TCP", { address: family.client, port }, { address: family.node, port: 30080 });
        const first = node.run("tc_uplink_ingress", syn);
        const count = node.flows().length;
        const second = node.run("tc_uplink_ingress", syn);
        expect(second.packet).toEqual(first.packet);
        expect(node.flows()).toHaveLength(count);
      }
    },
  );

  it("a SYN on an established connection uses its entry and changes nothing", async () => {
    await node.feed(objects(["here", "there"]));
    const talk = outside(V4, "TCP", "here");
    const { destination } = parsePacket(talk.client().packet);
    const where = destination === V4.here ? "here" : "there";
    node.clearFlows();
    const known = outside(V4, "TCP", where);
    establish(known, "TCP");
    const before = node.flowTexts();
    const spoofed = known.client({ flags: "S", seq: 123456 });
    expect(parsePacket(spoofed.packet).destination).toBe(destination);
    expect(node.flowTexts()).toEqual(before);
  });

  it.each([
    ["a reset by the client", [["client", "R"]]],
    ["a reset by the backend", [["backend", "RA"]]],
    [
      "FINs of both",
      [
        ["client", "FA"],
        ["backend", "FA"],
      ],
    ],
  ] as const)("a SYN after %s is chosen anew", async (_, ends) => {
    for (const where of ["here", "there"] as const) {
      node.clearFlows();
      await node.feed(objects([where]));
      const talk = outside(V4, "TCP", where);
      establish(talk, "TCP");
      for (const [who, flags] of ends) talk[who]({ flags });
      // Nothing but a SYN opens: the last ACK still goes its way.
      talk.client({ flags: "A", ack: 7002 });
      expect(tables()).toBe("tcp_flows");
      talk.client("again");
      expect(node.flows().filter(({ flow }) => flow.answer === 0)).toHaveLength(1);
      expect(forwardRow()).toMatchObject({ table: "openings", flow: { state: 0 } });
      // The new connection gets established in its turn, whatever the old one left.
      talk.backend({ flags: "SA", seq: 5000 });
      talk.client({ flags: "A", ack: 5001 });
      expect(forwardRow().table).toBe("tcp_flows");
      expect(talk.backend({ flags: "PA", payload: 3 }).verdict).toMatch(/VERDICT_(PASS|FORWARD)/);
    }
  });

  it("one FIN does not end a connection", async () => {
    await node.feed(objects(["here"]));
    const talk = outside(V4, "TCP", "here");
    establish(talk, "TCP");
    talk.client({ flags: "FA" });
    expect(states().every((state) => state.includes("FIN_CLIENT"))).toBe(true);
    talk.client("again");
    expect(tables()).toBe("tcp_flows");
  });

  it("a refused opening may be tried again from the same port and get established", async () => {
    for (const where of ["here", "there"] as const) {
      node.clearFlows();
      await node.feed(objects([where]));
      const talk = outside(V4, "TCP", where);
      talk.client();
      talk.backend({ flags: "RA" });
      expect(states().every((state) => state.includes("RESET"))).toBe(true);
      talk.client();
      talk.backend({ flags: "SA", seq: 100 });
      talk.client({ flags: "A", ack: 101 });
      expect(forwardRow()).toMatchObject({ table: "tcp_flows" });
    }
  });

  it("an opening that the client gave up after the answer may be tried again from the same port", async () => {
    for (const where of ["here", "there"] as const) {
      node.clearFlows();
      await node.feed(objects([where]));
      const talk = outside(V4, "TCP", where);
      talk.client();
      talk.backend({ flags: "SA", seq: 7000 });
      talk.client({ flags: "R" });
      talk.client("again");
      expect(node.flows()).toHaveLength(2);
      talk.backend({ flags: "SA", seq: 100 });
      talk.client({ flags: "A", ack: 101 });
      expect(forwardRow()).toMatchObject({ table: "tcp_flows" });
    }
  });

  it("the middle of an established connection that lost its forward half takes the other half's word", async () => {
    for (const where of ["here", "there"] as const) {
      node.clearFlows();
      await node.feed(objects([where]));
      const talk = outside(V4, "TCP", where);
      establish(talk, "TCP");
      const before = node.flowTexts();
      node.deleteFlow(forwardRow());
      talk.client({ flags: "A" });
      expect(node.flowTexts()).toEqual(before);
    }
  });

  it("an answered opening that lost its forward half is rebuilt and gets established", async () => {
    for (const [transport, where] of [
      ["TCP", "here"],
      ["TCP", "there"],
      ["UDP", "here"],
      ["UDP", "there"],
    ] as const) {
      node.clearFlows();
      await node.feed(objects([where]));
      const talk = outside(V4, transport, where);
      const first = parsePacket(talk.client().packet);
      talk.backend();
      node.deleteFlow(forwardRow());
      // Three rounds suffice whatever was lost.
      let last: Run | undefined;
      for (let i = 0; i < 3; i++) {
        last = talk.client({ flags: "PA", ack: 7001, payload: 1 });
        talk.backend({ flags: "PA", payload: 1 });
      }
      expect(parsePacket(last!.packet)).toMatchObject({ sourcePort: first.sourcePort, destination: first.destination });
      expect(forwardRow().table).toBe(transport === "TCP" ? "tcp_flows" : "udp_flows");
      expect(node.flows()).toHaveLength(2);
    }
  });

  it.each(places)("%s %s, backend %s: a lost half is rebuilt from the other", async (_n, transport, where, family) => {
    await node.feed(objects([where]));
    const talk = outside(family, transport, where);
    establish(talk, transport);
    const before = node.flowTexts();

    // Within the same second nothing is looked up, let alone rebuilt.
    node.deleteFlow(reverseRow());
    talk.client({ flags: "A" });
    expect(node.flows()).toHaveLength(1);
    // Once it is a second old the partner is.
    const age = (row: FlowRow): void => node.putFlow(row, { seen: (row.flow.seen - 5000) >>> 0 });
    age(forwardRow());
    const sent = talk.client({ flags: "A" });
    expect(node.flowTexts()).toEqual(before);
    expect(forwardRow().flow.seen).toBeGreaterThan(0);
    expect(talk.backend({ flags: "A" }).text).toContain(`> ${at(family.client, CLIENT_PORT)}`);

    // And the forward half from an answer.
    node.deleteFlow(forwardRow());
    age(reverseRow());
    talk.backend({ flags: "A" });
    expect(node.flowTexts()).toEqual(before);
    expect(talk.client({ flags: "A" }).text).toBe(sent.text);
  });

  it("a packet refreshes both halves, once a second at most", async () => {
    await node.feed(objects(["here"]));
    const talk = outside(V4, "UDP", "here");
    establish(talk, "UDP");
    const seen = forwardRow().flow.seen;
    node.putFlow(forwardRow(), { seen: (seen - 500) >>> 0 });
    talk.client();
    expect(forwardRow().flow.seen).toBe((seen - 500) >>> 0);
    for (const row of [forwardRow(), reverseRow()]) node.putFlow(row, { seen: (seen - 5000) >>> 0 });
    talk.client();
    for (const row of [forwardRow(), reverseRow()]) expect((row.flow.seen - seen) >>> 0).toBeLessThan(100_000);
  });

  it.each(places)(
    "%s %s, backend %s: a packet in the middle of a lost conversation goes to the same backend by the same port",
    async (_n, transport, where, family) => {
      const both = where === "here" ? (["here", "hereToo"] as const) : (["there", "far"] as const);
      await node.feed(objects(both));
      for (let port = 42000; port < 42016; port++) {
        node.clearFlows();
        const { nodePort } = portsOf(transport);
        const client = { address: family.client, port };
        const first = send(frame(), transport, client, { address: family.node, port: nodePort });
        const before = parsePacket(node.run("tc_uplink_ingress", first).packet);
        node.clearFlows();
        const later = node.run("tc_uplink_ingress", again(first, { flags: "PA", payload: 20 }));
        expect(parsePacket(later.packet)).toMatchObject({
          source: before.source,
          sourcePort: before.sourcePort,
          destination: before.destination,
          destinationPort: before.destinationPort,
          problems: [],
        });
      }
    },
  );

  it("the middle of a lost conversation gets established again by answer and packet, and a reset opens nothing", async () => {
    await node.feed(objects(["there"]));
    const talk = outside(V4, "TCP", "there");
    talk.client({ flags: "A", payload: 4 });
    expect(states().every((state) => state.includes("MIDSTREAM"))).toBe(true);
    talk.backend({ flags: "PA", payload: 4 });
    talk.client({ flags: "A" });
    expect(tables()).toBe("tcp_flows");
    node.clearFlows();
    expect(talk.client({ flags: "R" })).toMatchObject({ verdict: "DROP_PORT_UNKNOWN", action: ACTION.shot });
    expect(node.flows()).toEqual([]);
  });

  it("a UDP flow whose backend retired is chosen anew at its next packet", async () => {
    await node.feed(objects(["here", "hereToo"]));
    const talk = outside(V4, "UDP", "here");
    establish(talk, "UDP");
    const { destination } = parsePacket(talk.client().packet);
    const rest = destination === V4.here ? "hereToo" : "here";
    await node.feed(objects([rest]));
    const moved = talk.client();
    expect(parsePacket(moved.packet)).toMatchObject({ destination: V4[rest], problems: [] });
    expect(talk.backend().text).toBe(`${at(V4.node, 30053)} > ${at(V4.client, CLIENT_PORT)} udp`);
    expect(node.flows().filter(({ flow }) => flow.answer === 0)).toHaveLength(1);
  });

  it("a TCP flow whose backend retired goes on until it ends; a SYN after a silence is chosen anew", async () => {
    for (const where of ["here", "there"] as const) {
      node.clearFlows();
      await node.feed(objects([where]));
      const talk = outside(V4, "TCP", where);
      establish(talk, "TCP");
      await node.feed(objects(["hereToo"]));
      expect(parsePacket(talk.client({ flags: "PA", payload: 2 }).packet).destination).toBe(V4[where]);
      expect(talk.backend({ flags: "A" }).verdict).toMatch(/VERDICT_(PASS|FORWARD)/);
      for (const row of node.flows()) node.putFlow(row, { seen: (row.flow.seen - 5 * HZ) >>> 0 });
      expect(parsePacket(talk.client("again").packet).destination).toBe(V4.hereToo);
    }
  });

  it("a backend's index that is used again is another backend", async () => {
    await node.feed(objects(["here"]));
    const talk = outside(V4, "UDP", "here");
    establish(talk, "UDP");
    await node.feed({});
    const other = service({
      name: "other",
      clusterIPs: ["10.96.0.50"],
      ports: [{ name: "u", protocol: "UDP", port: 53 }],
    });
    await node.feed({
      services: [other],
      slices: [
        slice({
          service: "other",
          ports: [{ name: "u", protocol: "UDP", port: 5353 }],
          endpoints: [endpoint(V4.hereToo)],
        }),
      ],
    });
    // The Service is gone: its conversation must not end up with the other's backend.
    expect(talk.client()).toMatchObject({ verdict: "VERDICT_NEXT", packet: talk.first });
  });

  const collisions: readonly [string, Transport][] = [
    ["TCP", "TCP"],
    ["UDP", "UDP"],
  ];

  it.each(collisions)(
    "%s: one client port to two frontends of one backend: the second gets another port",
    async (_, transport) => {
      const { nodePort, port } = portsOf(transport);
      for (const family of FAMILIES) {
        node.clearFlows();
        await node.feed(objects(["here"]));
        const client = { address: family.client, port: CLIENT_PORT };
        const one = node.run(
          "tc_uplink_ingress",
          send(frame(), transport, client, { address: family.node, port: nodePort }),
        );
        const two = node.run("tc_uplink_ingress", send(frame(), transport, client, { address: family.lb, port }));
        expect(parsePacket(one.packet).sourcePort).toBe(CLIENT_PORT);
        const changed = parsePacket(two.packet);
        expect(changed).toMatchObject({ source: family.client, destination: family.here, problems: [] });
        expect(changed.sourcePort).toBeGreaterThanOrEqual(SNAT_FIRST);
        const back = (run: Run): string =>
          node.run("tc_uplink_egress", answer(run.packet), { ingressIfindex: node.ifindex("cni0") }).text;
        expect(back(one)).toBe(
          `${at(family.node, nodePort)} > ${at(family.client, CLIENT_PORT)} ${words(transport, "SA")}`,
        );
        expect(back(two)).toBe(`${at(family.lb, port)} > ${at(family.client, CLIENT_PORT)} ${words(transport, "SA")}`);
        // Deterministic: lost, it gets the same port again.
        node.deleteFlow(node.flows().find(({ key }) => key.destination === family.lb)!);
        const anew = node.run("tc_uplink_ingress", send(frame(), transport, client, { address: family.lb, port }));
        expect(parsePacket(anew.packet).sourcePort).toBe(changed.sourcePort);
        expect(node.flows()).toHaveLength(4);
      }
    },
  );

  it.each(collisions)(
    "%s: one client port to a frontend and straight to the backend behind it: the latter gets another port",
    async (_, transport) => {
      const { nodePort, port, target } = portsOf(transport);
      for (const family of FAMILIES) {
        const ways = [
          {
            start: frame(),
            request: (packet: Uint8Array): Run => node.run("tc_uplink_ingress", packet),
            reply: (packet: Uint8Array): Run =>
              node.run("tc_uplink_egress", packet, { ingressIfindex: node.ifindex("cni0") }),
            client: { address: family.client, port: CLIENT_PORT },
            frontend: { address: family.node, port: nodePort },
          },
          {
            start: podFrame(),
            request: (packet: Uint8Array): Run => node.run("tc_pod_ingress", packet, { device: "pod99" }),
            reply: (packet: Uint8Array): Run => node.run("tc_pod_egress", packet, { device: "pod99" }),
            client: { address: family.pod, port: CLIENT_PORT },
            frontend: { address: family.vip, port },
          },
        ];
        for (const { start, request, reply, client, frontend } of ways) {
          node.clearFlows();
          await node.feed(objects(["here"]));
          const backend = { address: family.here, port: target };
          const straight = send(start, transport, client, backend);
          expect(request(straight).verdict, "no flow: nothing to tell apart").toBe("VERDICT_NEXT");
          const one = request(send(start, transport, client, frontend));
          const two = request(straight);
          const changed = parsePacket(two.packet);
          expect(changed).toMatchObject({ source: client.address, destination: family.here, problems: [] });
          expect(changed.sourcePort).toBeGreaterThanOrEqual(SNAT_FIRST);
          const toClient = `${at(client.address, CLIENT_PORT)} ${words(transport, "SA")}`;
          expect(reply(answer(one.packet)).text).toBe(`${at(frontend.address, frontend.port)} > ${toClient}`);
          expect(reply(answer(two.packet)).text).toBe(`${at(family.here, target)} > ${toClient}`);
          // Another client's packets to that backend go by.
          const other = send(start, transport, { ...client, port: CLIENT_PORT + 1 }, backend);
          expect(request(other).verdict).toBe("VERDICT_NEXT");
        }
      }
    },
  );

  it.each(["TCP", "UDP"] as const)(
    "behind the programs of the build before, a %s packet that these have translated keeps its port",
    async (transport) => {
      const { nodePort, target } = portsOf(transport);
      for (const family of FAMILIES) {
        node.clearFlows();
        await node.feed(objects(["here"]));
        const client = { address: family.client, port: CLIENT_PORT };
        node.run("tc_uplink_ingress", send(frame(), transport, client, { address: family.node, port: nodePort }));
        const translated = send(frame(), transport, client, { address: family.here, port: target });
        node.settings({ handover: 1 });
        expect(node.run("tc_uplink_ingress", translated).verdict).toBe("VERDICT_NEXT");
        node.settings({ handover: 0 });
        expect(parsePacket(node.run("tc_uplink_ingress", translated).packet).sourcePort).not.toBe(CLIENT_PORT);
      }
    },
  );

  it("a client goes straight to the backend from the port of a connection that ended: it gets another port", async () => {
    for (const family of FAMILIES) {
      node.clearFlows();
      await node.feed(objects(["here"]));
      const talk = outside(family, "TCP", "here");
      establish(talk, "TCP");
      talk.client({ flags: "FA" });
      talk.backend({ flags: "FA" });
      const client = { address: family.client, port: CLIENT_PORT };
      const syn = send(frame(), "TCP", client, { address: family.here, port: 8080 });
      const { packet } = node.run("tc_uplink_ingress", syn);
      expect(parsePacket(packet).sourcePort).toBeGreaterThanOrEqual(SNAT_FIRST);
      const back = node.run("tc_uplink_egress", answer(packet), { ingressIfindex: node.ifindex("cni0") });
      expect(back.text).toBe(`${at(family.here, 8080)} > ${at(family.client, CLIENT_PORT)} tcp SA`);
    }
  });

  it("one port of this node to a frontend past the sockets and straight to the backend: the latter gets another port", async () => {
    for (const family of FAMILIES) {
      node.clearFlows();
      await node.feed(objects(["there"]));
      const own = { address: family.node, port: CLIENT_PORT };
      const one = node.run(
        "tc_uplink_egress",
        send(frame(macOf("lan", 11), macOf("lan", 12)), "TCP", own, { address: family.vip, port: 80 }),
      );
      const two = node.run(
        "tc_uplink_egress",
        send(frame(macOf("lan", 11), macOf("lan", 12)), "TCP", own, { address: family.there, port: 8080 }),
      );
      expect(two.verdict).toBe("VERDICT_PASS");
      expect(parsePacket(two.packet).sourcePort).toBeGreaterThanOrEqual(SNAT_FIRST);
      const back = (run: Run): string => node.run("tc_uplink_ingress", answer(run.packet)).text;
      expect(back(one)).toBe(`${at(family.vip, 80)} > ${at(family.node, CLIENT_PORT)} tcp SA`);
      expect(back(two)).toBe(`${at(family.there, 8080)} > ${at(family.node, CLIENT_PORT)} tcp SA`);
    }
  });

  it.each(collisions)("%s: clients whose hashes meet at one port get ports of their own", async (_, transport) => {
    await node.feed(objects(["there"]));
    const { nodePort } = portsOf(transport);
    node.settings({ snatCount: 4 });
    try {
      const asked = Array.from({ length: 5 }, (__, i) =>
        send(frame(), transport, { address: V4.client, port: CLIENT_PORT + i }, { address: V4.node, port: nodePort }),
      );
      const runs = asked.map((bytes) => node.run("tc_uplink_ingress", bytes));
      const ports = runs.slice(0, 4).map((run) => parsePacket(run.packet).sourcePort);
      expect([...ports].sort()).toEqual([0, 1, 2, 3].map((i) => SNAT_FIRST + i));
      expect(runs[4]).toMatchObject({ action: ACTION.shot, verdict: "DROP_NO_SOURCE_PORT" });
      // Each answer finds its own client.
      runs.slice(0, 4).forEach((run, i) => {
        const back = node.run("tc_uplink_ingress", answer(run.packet));
        expect(back.text).toContain(`> ${at(V4.client, CLIENT_PORT + i)}`);
      });
      // A lost forward half finds its reverse and takes it up again, though the range is full.
      const lost = node.flows().find(({ key }) => key.sourcePort === CLIENT_PORT + 2)!;
      node.deleteFlow(lost);
      const anew = node.run("tc_uplink_ingress", asked[2]!);
      expect(parsePacket(anew.packet).sourcePort).toBe(ports[2]);
      expect(node.flows()).toHaveLength(8);
    } finally {
      node.settings({ snatCount: 8192 });
    }
  });

  it("a table that may not take more drops by name, what it has goes on", async () => {
    await node.feed(objects(["here", "there"]));
    for (const [transport, until] of [
      ["TCP", "tcpFullUntil"],
      ["UDP", "udpFullUntil"],
    ] as const) {
      node.clearFlows();
      const talk = outside(V4, transport, "here");
      talk.client();
      node.settings({ [until]: node.jiffies() + 1_000_000n });
      try {
        const { nodePort } = portsOf(transport);
        const fresh = send(
          frame(),
          transport,
          { address: V4.client, port: 1234 },
          { address: V4.node, port: nodePort },
        );
        expect(node.run("tc_uplink_ingress", fresh)).toMatchObject({ action: ACTION.shot, verdict: "DROP_TABLE_FULL" });
        expect(talk.client().verdict).toMatch(/VERDICT_(PASS|FORWARD)/);
        const other: Transport = transport === "TCP" ? "UDP" : "TCP";
        const free = send(
          frame(),
          other,
          { address: V4.client, port: 1234 },
          {
            address: V4.node,
            port: portsOf(other).nodePort,
          },
        );
        expect(node.run("tc_uplink_ingress", free).verdict).toMatch(/VERDICT_(PASS|FORWARD)/);
        // Nobody has to say when it is over.
        node.settings({ [until]: node.jiffies() });
        expect(node.run("tc_uplink_ingress", fresh).verdict).toMatch(/VERDICT_(PASS|FORWARD)/);
      } finally {
        node.settings({ [until]: 0n });
      }
    }
  });

  it("an answer at our source ports that no flow knows is not ours: a masquerade uses those ports too", async () => {
    await node.feed(objects(["there"]));
    for (const family of FAMILIES) {
      for (const transport of ["TCP", "UDP"] as const) {
        const stray = send(
          frame(macOf("lan", 12), macOf("lan", 11)),
          transport,
          { address: family.there, port: 8080 },
          { address: family.node, port: SNAT_FIRST + 17 },
          { flags: "SA" },
        );
        expect(node.run("tc_uplink_ingress", stray)).toMatchObject({ verdict: "VERDICT_NEXT", packet: stray });
      }
    }
  });

  it("an entry whose element was reused under the reader counts as missing", async () => {
    await node.feed(objects(["here"]));
    const talk = outside(V4, "UDP", "here");
    establish(talk, "UDP");
    node.putFlow(forwardRow(), { backend: 9 });
    // The check word does not fit: chosen anew instead of being trusted.
    const run = talk.client();
    expect(parsePacket(run.packet).destination).toBe(V4.here);
    expect(forwardRow().flow.backend).not.toBe(9);
  });

  it("a known flow asks for its next hop once a second", async () => {
    await node.feed(objects(["there"]));
    const first = send(frame(), "UDP", { address: V4.client, port: CLIENT_PORT }, { address: V4.node, port: 30053 });
    const macOfNext = (): string | undefined =>
      parsePacket(node.run("tc_uplink_ingress", first).packet).eth?.destination;
    macOfNext();
    expect([macOfNext(), macOfNext()]).toEqual([macOf("lan", 12), macOf("lan", 12)]);
    node.namespace.ip(`neigh replace ${V4.otherNode} lladdr ${macOf("lan", 99)} dev up0 nud permanent`);
    try {
      // A second that lasts, and one that is over at once: then the kernel's own neighbour code sends, and writes the MACs.
      node.settings({ hz: 1_000_000 });
      expect(macOfNext()).toBe(macOf("lan", 12));
      node.settings({ hz: 0 });
      expect(node.run("tc_uplink_ingress", first)).toMatchObject({
        action: ACTION.redirect,
        verdict: "VERDICT_FORWARD",
        mark: MARK_REDIRECTED,
      });
      node.settings({ hz: 1_000_000 });
      expect(macOfNext()).toBe(macOf("lan", 99));
    } finally {
      node.settings({ hz: HZ });
      node.namespace.ip(`neigh replace ${V4.otherNode} lladdr ${macOf("lan", 12)} dev up0 nud permanent`);
    }
  });

  it("XDP leaves one packet a second to tc, which keeps the neighbour alive, and goes on with the next hop that tc found", async () => {
    await node.feed(objects(["there"]));
    const first = send(frame(), "UDP", { address: V4.client, port: CLIENT_PORT }, { address: V4.node, port: 30053 });
    for (const _ of [1, 2]) node.run("tc_uplink_ingress", first);
    node.settings({ hz: 1_000_000 });
    try {
      const known = node.run("xdp_uplink", first);
      expect(known).toMatchObject({ action: XDP_ACTION.tx, verdict: "VERDICT_FORWARD" });
      expect(parsePacket(known.packet).eth?.destination).toBe(macOf("lan", 12));
      node.namespace.ip(`neigh replace ${V4.otherNode} lladdr ${macOf("lan", 99)} dev up0 nud permanent`);
      node.settings({ hz: 0 });
      expect(node.run("xdp_uplink", first)).toMatchObject({
        action: XDP_ACTION.pass,
        verdict: "VERDICT_NEXT",
        packet: first,
      });
      expect(node.run("tc_uplink_ingress", first).verdict).toBe("VERDICT_FORWARD");
      node.settings({ hz: 1_000_000 });
      const anew = node.run("xdp_uplink", first);
      expect(anew).toMatchObject({ action: XDP_ACTION.tx, verdict: "VERDICT_FORWARD" });
      expect(parsePacket(anew.packet).eth?.destination).toBe(macOf("lan", 99));
    } finally {
      node.settings({ hz: HZ });
      node.namespace.ip(`neigh replace ${V4.otherNode} lladdr ${macOf("lan", 12)} dev up0 nud permanent`);
    }
  });

  it("two hundred established connections outlive a flood of ten thousand openings", async () => {
    await node.feed(objects(["here", "there"]));
    const kept: Uint8Array[] = [];
    for (let i = 0; i < 200; i++) {
      const first = send(frame(), "TCP", { address: V4.client, port: 20000 + i }, { address: V4.node, port: 30080 });
      const run = node.run("tc_uplink_ingress", first);
      const reply = answer(run.packet);
      if (run.action === ACTION.redirect) node.run("tc_uplink_ingress", reply);
      else node.run("tc_uplink_egress", reply, { ingressIfindex: 1 });
      node.run("tc_uplink_ingress", again(first, { flags: "A", ack: 7001 }));
      kept.push(run.packet);
    }
    expect(node.flows().filter(({ table }) => table === "tcp_flows")).toHaveLength(400);
    const program = node.dataplane.program("tc_uplink_ingress");
    const context = new Uint8Array(192);
    new DataView(context.buffer).setUint32(40, node.ifindex("up0"), true);
    node.namespace.inside(() => {
      for (let i = 0; i < 10_000; i++) {
        const spoofed = send(
          frame(),
          "TCP",
          { address: `198.51.${i >> 8}.${i & 255}`, port: 1000 + i },
          { address: V4.node, port: 30080 },
        );
        program.testRun({ data: spoofed, context });
      }
    });
    expect(node.flows().filter(({ table }) => table === "tcp_flows")).toHaveLength(400);
    for (const [i, packet] of kept.entries()) {
      const first = send(frame(), "TCP", { address: V4.client, port: 20000 + i }, { address: V4.node, port: 30080 });
      const run = node.run("tc_uplink_ingress", again(first, { flags: "A" }));
      expect(parsePacket(run.packet).destination).toBe(parsePacket(packet).destination);
    }
  });
});
