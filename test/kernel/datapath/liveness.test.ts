// The question whether a node lives, as the program answers it: every byte of the answer, and everything that is no question of ours
// untouched. Then on the wire, asked by the agent's own link.
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { createLivenessLink, type LivenessAnswer } from "../../../src/agent/liveness-link.ts";
import { sweepFlows } from "../../../src/datapath/flow-sweep.ts";
import { LIVENESS_LIMIT_VALUES } from "../../../src/datapath/layout.gen.ts";
import {
  decodeMessage,
  encodeMessage,
  type LivenessMessage,
  nodeIdOf,
  question,
} from "../../../src/l2/liveness-message.ts";
import type { Address } from "../../../src/lib/address.ts";
import { sipHashKeyId } from "../../../src/lib/siphash.ts";
import { clockBoottimeNs, possibleCpus } from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import { FAMILIES, type Family, frame, objects, V4, V6 } from "./conversation.ts";
import { concat, type NetworkFields, packet, parsePacket, withPartialChecksum } from "./packet.ts";
import { sendFrame } from "./raw-sockets.ts";
import {
  ACTION,
  createTestNode,
  HZ,
  MARK_REDIRECTED,
  macOf,
  type Program,
  type Run,
  type TestNode,
} from "./test-node.ts";
import { checksumErrors, completeChecksums, createWires, type Wires } from "./wires.ts";

const PORT = 7948;
const key = (seed: number): Uint8Array => Uint8Array.from({ length: 16 }, (_, i) => (seed * 37 + i * 11) & 0xff);
const KEY = key(1);
const NONCE = "0123456789abcdef";
const ME = nodeIdOf("node1");
const ASKER = nodeIdOf("node2");
const MACS = ["02:00:00:00:00:0b", "02:08:00:00:00:01"];
const INCARNATION = 1_790_000_000_123;
const lan = (last: number): string => macOf("lan", last);

interface Asked {
  readonly source?: Address;
  readonly destination?: Address;
  readonly port?: number;
  readonly payload?: Uint8Array;
  readonly fields?: NetworkFields;
  readonly to?: string;
  readonly checksum?: boolean;
}

const asked = (family: Family, given: Asked = {}): Uint8Array =>
  frame(lan(51), given.to ?? lan(11))
    .ip(given.source ?? family.client, given.destination ?? family.node, given.fields)
    .udp(40_000, given.port ?? PORT, { checksum: given.checksum ?? true })
    .payload(given.payload ?? encodeMessage(question(NONCE, ASKER), KEY))
    .bytes();

describeKernel("a node that is asked whether it lives", () => {
  let node: TestNode;
  beforeAll(async () => {
    node = createTestNode(1);
    await node.feed(objects(["here"]));
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => {
    const { liveness } = node.dataplane;
    liveness.identify({ nodeId: ME, incarnation: INCARNATION });
    liveness.listen(PORT, [KEY]);
    liveness.setMacs(MACS);
    liveness.renew(clockBoottimeNs(), { isSound: true, isLeaving: false });
  });

  const ask = (bytes: Uint8Array, program: Program = "tc_uplink_ingress"): Run => node.run(program, bytes);
  const read = (run: Run, keys = [KEY], link = true): LivenessMessage => {
    expect(run).toMatchObject({ action: ACTION.redirect, verdict: "VERDICT_LIVENESS", mark: MARK_REDIRECTED });
    const parsed = parsePacket(run.packet, { link });
    expect(parsed.problems).toEqual([]);
    return decodeMessage(parsed.payload, keys)!;
  };
  /** Untouched, to whoever is next. */
  const passes = (bytes: Uint8Array, what = ""): void => {
    const run = ask(bytes);
    expect(run, what).toMatchObject({ action: ACTION.next, packet: bytes });
    expect(["VERDICT_NEXT", "none"], what).toContain(run.verdict);
  };

  for (const family of FAMILIES) {
    it(`${family.name}: answers with who it is, how old its renewal is and the nonce, the way the question came`, () => {
      const run = ask(asked(family, { fields: { ttl: 3 } }));
      const answer = read(run);
      expect(answer).toMatchObject({
        ...{ kind: "answer", nonce: NONCE, nodeId: ME, incarnation: INCARNATION, isSound: true, isLeaving: false },
        macs: MACS,
      });
      expect(answer.ageMs).toBeLessThan(5_000);
      const parsed = parsePacket(run.packet);
      expect(parsed).toMatchObject({
        ...{ source: family.node, destination: family.client, sourcePort: PORT, destinationPort: 40_000, ttl: 64 },
        eth: { source: lan(11), destination: lan(51) },
      });
      expect(parsed.checksum).not.toBe(0);
      expect(run.packet).toHaveLength(asked(family).length);
      // Nothing of it became a flow.
      expect(node.flows()).toEqual([]);
    });

    it(`${family.name}: a device without a link header is answered by the same`, () => {
      // A test run takes bytes 12 and 13 for the Ethernet type; here they are the source address, chosen to say the same.
      const source = family === V4 ? "8.0.0.51" : "fd00:192:86dd:122::51";
      const plain = packet()
        .ip(source, family.node)
        .udp(40_000, PORT)
        .payload(encodeMessage(question(NONCE, ASKER), KEY))
        .bytes();
      const answer = read(ask(plain, "tc_uplink_in_l3"), [KEY], false);
      expect(answer.nonce).toBe(NONCE);
    });

    it(`${family.name}: a checksum that waits for a device goes on waiting`, () => {
      const run = ask(withPartialChecksum(asked(family)));
      expect(run.verdict).toBe("VERDICT_LIVENESS");
      const { payload } = parsePacket(run.packet);
      expect(decodeMessage(payload, [KEY])?.nonce).toBe(NONCE);
      const full = ask(asked(family)).packet;
      expect(run.packet.slice(0, 34)).toEqual(full.slice(0, 34));
      expect(parsePacket(run.packet).checksum).toBe(parsePacket(withPartialChecksum(full)).checksum);
    });

    it(`${family.name}: what is not addressed to this node and its port, or is no plain datagram, goes by`, () => {
      const strangers: Readonly<Record<string, Asked>> = {
        "another port": { port: PORT + 1 },
        "another node": { destination: family.otherNode },
        "an announced address": { destination: family.lb, port: PORT },
        "a pod": { destination: family.pod },
        "another MAC": { to: lan(12) },
        "all MACs": { to: "ff:ff:ff:ff:ff:ff" },
        "a first fragment": { fields: { moreFragments: true } },
        "a later fragment": { fields: { fragmentOffset: 80 } },
        "from this node itself": { source: family.node },
        "from nowhere": { source: family === V4 ? "0.0.0.0" : "::" },
        "from loopback": { source: family === V4 ? "127.0.0.1" : "::1" },
        "from a group": { source: family === V4 ? "224.0.0.1" : "ff02::1" },
        "from all": family === V4 ? { source: "255.255.255.255" } : { source: "ff0e::1" },
        "with options": { fields: family === V4 ? { options: new Uint8Array(4).fill(1) } : { extension: true } },
      };
      for (const [what, given] of Object.entries(strangers)) {
        const bytes = asked(family, given);
        const run = ask(bytes);
        expect(run.verdict, what).not.toBe("VERDICT_LIVENESS");
        // A port that nobody defined is refused on a LoadBalancer's address, as without us.
        if (what !== "an announced address" && what !== "another node") passes(bytes, what);
      }
    });

    it(`${family.name}: only tc ingress of uplinks answers`, () => {
      for (const program of ["tc_uplink_egress", "tc_pod_ingress", "tc_pod_egress", "xdp_uplink"] as const)
        expect(ask(asked(family), program).verdict, program).not.toBe("VERDICT_LIVENESS");
    });

    it(`${family.name}: no answer to whom nobody could tell from a stranger, whatever bit of it is wrong`, () => {
      const right = encodeMessage(question(NONCE, ASKER), KEY);
      for (let at = 0; at < right.length; at++) {
        const payload = right.slice();
        payload[at]! ^= 1 << (at & 7);
        passes(asked(family, { payload }), `byte ${at}`);
      }
      passes(asked(family, { payload: right.subarray(0, 71) }), "short");
      passes(asked(family, { payload: new Uint8Array(0) }), "empty");
      passes(asked(family, { payload: concat(right, Uint8Array.of(0)) }), "long");
      passes(asked(family, { payload: encodeMessage(question(NONCE, ASKER), key(9)) }), "an unknown key");
      const answer: LivenessMessage = { ...question(NONCE, ASKER), kind: "answer" };
      passes(asked(family, { payload: encodeMessage(answer, KEY) }), "an answer");
    });
  }

  it.each(FAMILIES.map((family) => [family.name, family] as const))(
    "%s: whatever bit of its headers is wrong, a question is answered rightly or goes by",
    (_, family) => {
      let answered = 0;
      for (let bit = 0; bit < (14 + family.header + 8) * 8; bit++) {
        const bytes = asked(family);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        // It judges the checksums of what changed.
        const run = ask(bytes);
        // One bit from the node's address lies that of a Service, whose other ports are refused.
        if (run.verdict === "VERDICT_REFUSE") {
          expect(parsePacket(bytes).destination, `bit ${bit}`).toBe(family.lb);
          continue;
        }
        if (run.verdict !== "VERDICT_LIVENESS") {
          expect(run, `bit ${bit}`).toMatchObject({ action: ACTION.next, packet: bytes });
          continue;
        }
        answered++;
        const parsed = parsePacket(run.packet);
        expect(parsed.problems, `bit ${bit}`).toEqual([]);
        expect(decodeMessage(parsed.payload, [KEY])?.nonce, `bit ${bit}`).toBe(NONCE);
      }
      expect(answered).toBeGreaterThan(100);
    },
  );

  it("IPv4: a question without a checksum is answered with one", () => {
    const run = ask(asked(V4, { checksum: false }));
    read(run);
    expect(parsePacket(run.packet).checksum).not.toBe(0);
  });

  it("a length that the UDP header lies about, or bytes behind the datagram, are not taken for a question", () => {
    const lying = asked(V4);
    lying[14 + 20 + 5]! -= 1;
    passes(lying);
    // Bytes behind the end, as short frames are filled up with, are no part of it.
    expect(ask(concat(asked(V4), new Uint8Array(6))).verdict).toBe("VERDICT_LIVENESS");
  });

  it("answers by every key that it has, with the one that was asked by", () => {
    const keys = [1, 2, 3, 4].map(key);
    // Two of them share their id.
    const twin = Array.from({ length: 100_000 }, (_, i) =>
      Uint8Array.from({ length: 16 }, (_, at) => (at < 4 ? i >> (at * 8) : at)),
    );
    keys[3] = twin.find((one) => sipHashKeyId(one) === sipHashKeyId(keys[0]!))!;
    node.dataplane.liveness.listen(PORT, keys);
    for (const [i, one] of keys.entries()) {
      const run = ask(asked(V4, { payload: encodeMessage(question(NONCE, ASKER), one) }));
      expect(read(run, [one]).nodeId, `key ${i}`).toBe(ME);
    }
    node.dataplane.liveness.listen(PORT, keys.slice(1));
    passes(asked(V4, { payload: encodeMessage(question(NONCE, ASKER), keys[0]!) }));
    expect(read(ask(asked(V4, { payload: encodeMessage(question(NONCE, ASKER), keys[3]!) })), [keys[3]!]).nodeId).toBe(
      ME,
    );
    expect(LIVENESS_LIMIT_VALUES.LIVENESS_KEYS).toBe(4);
  });

  it("tells the age of the last renewal, that there was none, and what the node thinks of itself", () => {
    const { liveness } = node.dataplane;
    liveness.renew(clockBoottimeNs() - 5_000_000_000n, { isSound: true, isLeaving: true });
    const old = read(ask(asked(V4)));
    expect(old).toMatchObject({ isSound: true, isLeaving: true });
    expect(old.ageMs).toBeGreaterThanOrEqual(5_000);
    expect(old.ageMs).toBeLessThan(9_000);
    // One that is not sound renews nothing: the age goes on growing.
    liveness.renew(clockBoottimeNs(), { isSound: false, isLeaving: false });
    const unsound = read(ask(asked(V4)));
    expect(unsound).toMatchObject({ isSound: false, isLeaving: false });
    expect(unsound.ageMs).toBeGreaterThanOrEqual(5_000);
    liveness.renew(0n, { isSound: true, isLeaving: false });
    expect(read(ask(asked(V4))).ageMs).toBe(Number.POSITIVE_INFINITY);
    // Of a clock that another machine's picture brought, not yet: no age below zero.
    liveness.renew(clockBoottimeNs() + 60_000_000_000n, { isSound: true, isLeaving: false });
    expect(read(ask(asked(V4))).ageMs).toBe(0);
  });

  it("answers nobody without a key, on port 0, or while translation is off", () => {
    const { dataplane } = node;
    dataplane.liveness.listen(PORT, []);
    passes(asked(V4));
    dataplane.liveness.listen(0, [KEY]);
    passes(asked(V4));
    passes(asked(V4, { port: 0 }));
    dataplane.liveness.listen(PORT, [KEY]);
    node.settings({ bypass: 1n });
    passes(asked(V4));
    node.settings({ bypass: 0n });
    expect(ask(asked(V4)).verdict).toBe("VERDICT_LIVENESS");
  });

  it("goes on answering when the filter of what is near was gathered anew, and on another port at once", async () => {
    node.dataplane.near.goes.address(new DataView(new ArrayBuffer(16)), 0, { node: true, refuse: false });
    await sweepFlows(node.dataplane, HZ);
    expect(ask(asked(V6)).verdict).toBe("VERDICT_LIVENESS");
    node.dataplane.liveness.listen(9_999, [KEY]);
    passes(asked(V6));
    expect(ask(asked(V6, { port: 9_999 })).verdict).toBe("VERDICT_LIVENESS");
    // And with what an agent that starts finds.
    node.dataplane.readState();
    expect(ask(asked(V6, { port: 9_999 })).verdict).toBe("VERDICT_LIVENESS");
  });

  it("a CPU answers some thousands a second, and others are dropped by name", () => {
    const program = node.dataplane.program("tc_uplink_ingress");
    const context = new Uint8Array(192);
    new DataView(context.buffer).setUint32(40, node.ifindex("up0"), true);
    const data = asked(V4);
    const counted = (verdict: string): number => node.verdicts().get(`UPLINK_INGRESS ${verdict}`) ?? 0;
    const before = { answered: counted("VERDICT_LIVENESS"), dropped: counted("DROP_REPLY_LIMIT") };
    const limit = 8_192;
    // A second has as many jiffies as the programs are told: none ends here.
    node.settings({ hz: 1_000_000 });
    // More than all CPUs answer together, on whichever of them this process is.
    const runs = limit * possibleCpus() + 1;
    const actions = node.namespace.inside(() =>
      Array.from({ length: runs }, () => program.testRun({ data, context }).retval),
    );
    node.settings({ hz: HZ });
    const answered = counted("VERDICT_LIVENESS") - before.answered;
    const dropped = counted("DROP_REPLY_LIMIT") - before.dropped;
    expect([answered + dropped, actions.filter((one) => one === ACTION.shot).length]).toEqual([runs, dropped]);
    expect(dropped).toBeGreaterThan(0);
    // What the tests before had of this CPU's second is missing.
    expect(answered).toBeGreaterThan(limit / 2);
  });

  it("a node that was never told who it is answers nobody", () => {
    using fresh = createTestNode(2);
    const bytes = asked(V4, { destination: "192.168.122.12", to: lan(12) });
    expect(fresh.run("tc_uplink_ingress", bytes)).toMatchObject({ action: ACTION.next, packet: bytes });
  });
});

describeKernel("liveness on the wire", () => {
  let wires: Wires;
  beforeAll(async () => {
    wires = createWires();
    await wires.node.feed(objects(["here"]));
    const { liveness } = wires.node.dataplane;
    liveness.identify({ nodeId: ME, incarnation: INCARNATION });
    liveness.setMacs([lan(11)]);
    liveness.listen(PORT, [KEY]);
    liveness.renew(clockBoottimeNs(), { isSound: true, isLeaving: false });
  });
  afterAll(() => wires?.[Symbol.dispose]());

  /** Asks once from a host of the LAN, by the link that agents use; undefined: no answer in a second. */
  const askFrom = (from: Wires["client"], address: Address, keys = [KEY]): Promise<LivenessAnswer | undefined> =>
    from.inside(async () => {
      const link = createLivenessLink({ port: PORT, nodeId: ASKER, keys: () => keys, clock: () => performance.now() });
      try {
        return await new Promise<LivenessAnswer | undefined>((resolve) => {
          link.onAnswer(resolve);
          link.ask(address);
          setTimeout(() => resolve(undefined), 1_000);
        });
      } finally {
        link.stop();
      }
    });

  for (const family of FAMILIES) {
    it(`${family.name}: a node answers though nobody listens there, and a stranger hears only what the stack says`, async () => {
      const answer = await askFrom(wires.remote, family.node);
      expect(answer).toMatchObject({ from: family.node, nodeId: ME, incarnation: INCARNATION, macs: [lan(11)] });
      expect(await askFrom(wires.client, family.node, [key(5)])).toBeUndefined();
      expect(await askFrom(wires.client, family.otherNode)).toBeUndefined();
    });
  }

  it("with checksums left to devices, and without, both ends find them right", async () => {
    for (const family of FAMILIES) expect(await askFrom(wires.remote, family.node)).toBeDefined();
    for (const [namespace, device] of wires.behind) namespace.run("ethtool", "-K", device, "tx", "off");
    for (const family of FAMILIES) expect(await askFrom(wires.remote, family.node)).toBeDefined();
    completeChecksums(wires);
    for (const family of FAMILIES) expect(await askFrom(wires.remote, family.node)).toBeDefined();
    expect([...checksumErrors(wires.remote), ...checksumErrors(wires.node.namespace)]).toEqual([]);
  });

  it("a node whose firewall lets nothing in answers, as it is answered before that", async () => {
    const { namespace } = wires.node;
    namespace.run(
      "nft",
      "add table inet closed; add chain inet closed in { type filter hook input priority 0; policy drop; }",
    );
    try {
      for (const family of FAMILIES) expect(await askFrom(wires.remote, family.node)).toBeDefined();
    } finally {
      namespace.run("nft", "delete table inet closed");
    }
  });

  it("frames with a priority are answered, those of a VLAN are that VLAN's", async () => {
    const count = (): number => wires.node.verdicts().get("UPLINK_INGRESS VERDICT_LIVENESS") ?? 0;
    const put = async (vlan: number | undefined): Promise<number> => {
      const before = count();
      const bytes = asked(V4);
      const tag = vlan === undefined ? new Uint8Array(0) : Uint8Array.of(0x81, 0, 0x60 | (vlan >> 8), vlan & 0xff);
      const tagged = concat(bytes.slice(0, 12), tag, bytes.slice(12));
      wires.client.inside(() => sendFrame(wires.client.ifindex("eth0"), tagged));
      for (const until = performance.now() + 400; performance.now() < until && count() === before; )
        await new Promise((resolve) => setTimeout(resolve, 10));
      return count() - before;
    };
    expect([await put(undefined), await put(0), await put(5)]).toEqual([1, 1, 0]);
  });
});
