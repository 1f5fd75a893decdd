// kube-proxy, by rules as it writes them, hands over and takes back: connections that it translates go on beside our programs, new ones
// are ours, whoever goes first; and while frontends are drained it is the other way round.
import { existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { drain } from "../../../src/agent/drain.ts";
import { keepNatHooks, NAT_TABLE, releaseNatHooks } from "../../../src/agent/nat-hooks.ts";
import { createOtherProxy } from "../../../src/agent/other-proxy.ts";
import { FINGERPRINT, FLOW_PATH_VALUES, SETTING_FLAG_VALUES } from "../../../src/datapath/layout.gen.ts";
import type { LiveFlows } from "../../../src/datapath/live-flows.ts";
import type { OtherProxyFacts } from "../../../src/decide/decide.ts";
import { forgetConnection, hasNftTable, translatedConnections } from "../../../src/libbpf/mod.ts";
import { lackOf } from "../kernel-lacks.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { FAMILIES, type Family, frame, objects, podFrame, portsOf, send, V4 } from "./conversation.ts";
import { echoServer, type Kind, kubeProxyTables, type Talk, talk } from "./other-proxy-rules.ts";
import { openSocket } from "./raw-sockets.ts";
import { flowText } from "./test-node.ts";
import { createWires, type Wires } from "./wires.ts";

const { SETTING_OTHER_PROXY, SETTING_DRAINING } = SETTING_FLAG_VALUES;
const KINDS: readonly Kind[] = ["TCP", "UDP"];

/** Who asks what: each of the ways that packets come by. */
const CLIENTS = {
  "outside, node port": ({ client }: Wires, family: Family) => [client, family.node, "nodePort"] as const,
  "outside, LoadBalancer address": ({ client }: Wires, family: Family) => [client, family.lb, "port"] as const,
  "pod, cluster address": ({ pod }: Wires, family: Family) => [pod, family.vip, "port"] as const,
  "host, cluster address": ({ node }: Wires, family: Family) => [node.namespace, family.vip, "port"] as const,
} as const;
type Client = keyof typeof CLIENTS;

interface Conversation {
  readonly name: string;
  readonly client: Client;
  readonly kind: Kind;
  readonly talk: Talk;
}

describeKernel("another proxy", () => {
  const lack = lackOf(["ct_lookup"]);
  for (const where of ["ptp", "there"] as const) {
    const place = where === "ptp" ? "on this node" : "on another node";
    describe.skipIf(lack !== undefined)(`with its backend ${place}${lack === undefined ? "" : ` (${lack})`}`, () => {
      let wires: Wires;
      const undo = new AsyncDisposableStack();
      const open: Conversation[] = [];

      beforeAll(async () => {
        wires = undo.use(createWires());
        const { node, client, remote, ptp } = wires;
        for (const { lb, node: via } of FAMILIES) client.ip(`route add ${lb} via ${via}`);
        // Where nobody translates, the node would send the client straight to an address that is nobody's.
        for (const name of ["ipv4.conf.all", "ipv4.conf.eth0", "ipv6.conf.eth0"])
          client.sysctl(`net.${name}.accept_redirects`, 0);
        undo.use(await echoServer(where === "ptp" ? ptp : remote, where));
        await node.feed(objects([where]));
      });
      afterAll(() => undo.disposeAsync());

      const begin = async (only = (_: Client) => true): Promise<Conversation[]> => {
        const made: Conversation[] = [];
        for (const family of FAMILIES) {
          for (const kind of KINDS) {
            for (const client of Object.keys(CLIENTS) as Client[]) {
              if (!only(client)) continue;
              const [from, address, port] = CLIENTS[client](wires, family);
              const opened = undo.use(await talk(from, kind, family, address, portsOf(kind)[port]));
              const name = `${family.name} ${kind} ${client}`;
              made.push({ name, client, kind, talk: opened });
            }
          }
        }
        return made;
      };
      const say = async (list: readonly Conversation[], text: string): Promise<string[]> => {
        const broken: string[] = [];
        for (const one of list) {
          for (const round of [1, 2, 3]) {
            const failed = await one.talk.say(`${text} ${round}`).then(
              () => "",
              (error: Error) => `${one.name}: ${error.message}`,
            );
            if (failed !== "") {
              broken.push(failed);
              break;
            }
          }
        }
        return broken;
      };
      const count = (verdict: string): number => wires.node.verdicts().get(verdict) ?? 0;
      /** What was opened, but for pairs of ports that connections of others claimed. */
      const opened = (): string[] =>
        wires.node.flows().flatMap((row) => (row.flow.path === FLOW_PATH_VALUES.PATH_PORT_CHANGE ? [] : flowText(row)));
      /** The last packets of what was just closed would open flows in their middle. */
      const closed = (): Promise<void> => delay(500);
      const isHost = (client: Client): boolean => client.startsWith("host");

      it("connections that it translates go on when our programs come, and open no flow", async () => {
        const { node } = wires;
        node.settings({ bypass: 1n });
        node.namespace.run("nft", kubeProxyTables(where));
        open.push(...(await begin()));
        expect(await say(open, "by the other proxy")).toEqual([]);
        node.settings({ bypass: 0n, flags: SETTING_OTHER_PROXY });
        expect(await say(open, "beside it")).toEqual([]);
        // Three rounds of each, and TCP's own acknowledgements.
        expect(count("UPLINK_INGRESS VERDICT_OTHER_PROXY")).toBeGreaterThanOrEqual(FAMILIES.length * 2 * 2 * 3);
        expect(count("POD_INGRESS VERDICT_OTHER_PROXY")).toBeGreaterThanOrEqual(FAMILIES.length * 2 * 3);
        expect(opened()).toEqual([]);
      });

      it("new connections are ours beside its rules", async () => {
        const fresh = await begin((client) => !isHost(client));
        expect(await say(fresh, "new")).toEqual([]);
        expect(opened().length).toBeGreaterThanOrEqual(fresh.length * 2);
        const known = await wires.node.namespace.inside(() => translatedConnections());
        expect(known).toHaveLength(open.length);
        for (const { talk: one } of fresh) one[Symbol.dispose]();
      });

      it("its rules go, and its connections live on while the kernel is kept translating", async () => {
        const { node } = wires;
        await node.namespace.inside(() => keepNatHooks());
        for (const family of ["ip", "ip6"]) node.namespace.run("nft", `delete table ${family} kube-proxy`);
        expect(await say(open, "without its rules")).toEqual([]);
        const fresh = await begin((client) => !isHost(client));
        expect(await say(fresh, "new")).toEqual([]);
        for (const { talk: one } of fresh) one[Symbol.dispose]();
      });

      /** What the agent's look at the other proxy finds, where every Service has these backends. */
      const look = async (backends: readonly { address: string; port: number }[]): Promise<OtherProxyFacts> => {
        const { node } = wires;
        const seen: OtherProxyFacts[] = [];
        const other = createOtherProxy({
          dataplane: node.dataplane,
          model: { serviceById: () => ({ backends }) as never },
          serviceRanges: [],
          isInForce: () => true,
          log: { info: () => undefined } as never,
          signal: new AbortController().signal,
        });
        await node.namespace.inside(() => other.look((facts) => void seen.push(facts)));
        return seen[0]!;
      };
      const keeps = (): boolean[] =>
        wires.node.namespace.inside(() => (["ip", "ip6"] as const).map((family) => hasNftTable(family, NAT_TABLE)));
      const ways = FAMILIES.length * Object.keys(CLIENTS).length;

      it("the agent finds its connections, and forgets UDP conversations whose backend left: they are ours then", async () => {
        const known = FAMILIES.map((family) => ({ address: family[where], port: portsOf("UDP").target }));
        expect(await look(known)).toMatchObject({ rules: [], connections: 2 * ways });
        expect(await look([])).toMatchObject({ rules: [], connections: ways });
        const udp = open.filter(({ kind, client }) => kind === "UDP" && !isHost(client));
        const before = count("UPLINK_INGRESS VERDICT_OTHER_PROXY");
        expect(await say(udp, "on by us")).toEqual([]);
        expect(count("UPLINK_INGRESS VERDICT_OTHER_PROXY")).toBe(before);
        expect(keeps()).toEqual([true, true]);
      });

      it("without what keeps it, the kernel translates no more, and they break", async () => {
        const { node } = wires;
        const tcp = open.filter(({ kind }) => kind === "TCP");
        expect(await say(tcp, "still")).toEqual([]);
        const removed = await node.namespace.inside(() => releaseNatHooks());
        expect(removed).toEqual(["ip", "ip6"].map((family) => `nftables table ${family} ${NAT_TABLE}`));
        for (const family of FAMILIES)
          expect(await say(tcp.filter(({ name }) => name.startsWith(family.name)).slice(0, 1), "over")).toHaveLength(1);
      });

      it("the agent keeps it while there is a rule or a connection, and no longer", async () => {
        const { node } = wires;
        expect((await look([])).connections).toBeGreaterThan(0);
        expect(keeps()).toEqual([true, true]);
        await node.namespace.inside(async () => (await translatedConnections()).map(forgetConnection));
        expect(await look([])).toMatchObject({ rules: [], connections: 0 });
        expect(keeps()).toEqual([false, false]);
        node.namespace.run("nft", "add table ip6 kube-proxy");
        expect(await look([])).toMatchObject({ rules: ["nftables"], connections: 0 });
        expect(keeps()).toEqual([true, true]);
        node.namespace.run("nft", "delete table ip6 kube-proxy");
        await look([]);
        expect(keeps()).toEqual([false, false]);
      });

      it("while frontends are drained known flows are ours, and new ones the other proxy's", async () => {
        const { node } = wires;
        for (const { talk: one } of open.splice(0)) one[Symbol.dispose]();
        node.settings({ flags: 0 });
        node.clearFlows();
        const ours = await begin((client) => !isHost(client));
        expect(await say(ours, "ours")).toEqual([]);
        node.namespace.run("nft", kubeProxyTables(where));
        expect(await say(ours, "beside it")).toEqual([]);
        node.settings({ flags: SETTING_DRAINING | SETTING_OTHER_PROXY });
        const before = opened().length;
        expect(await say(ours, "drained")).toEqual([]);
        const theirs = await begin();
        expect(await say(theirs, "theirs")).toEqual([]);
        expect(await say(ours, "drained still")).toEqual([]);
        expect(opened().length).toBe(before);
        for (const { talk: one } of [...ours, ...theirs]) one[Symbol.dispose]();
        await closed();
        node.settings({ flags: 0 });
      });

      it("a drain waits until known flows have ended, and then removes everything", async () => {
        const { node } = wires;
        node.clearFlows();
        const ours = (await begin((client) => !isHost(client))).filter(({ kind }) => kind === "TCP");
        expect(await say(ours, "ours")).toEqual([]);
        const places = { pinDir: node.pinDir, stateDir: node.stateDir };
        const seen: number[] = [];
        let alone = 0;
        const options = {
          timeoutMs: 60_000,
          alone: () => void alone++,
          progress: ({ TCP }: LiveFlows) => void seen.push(TCP),
        };
        const drained = (signal: AbortSignal, timeoutMs = 60_000) =>
          node.namespace.inside(() => drain(places, { ...options, timeoutMs, signal }));

        // Cut short, it leaves frontends closed and flows alive.
        await expect(drained(AbortSignal.timeout(1500))).rejects.toMatchObject({ code: "conflict" });
        expect(node.dataplane.readSettings().flags & SETTING_DRAINING).toBe(SETTING_DRAINING);
        expect(await say(ours, "after that")).toEqual([]);
        // An agent that starts writes its own settings, and so takes it back.
        node.settings({ flags: 0 });
        const again = await begin((client) => client.startsWith("pod"));
        expect(opened().length).toBeGreaterThan(ours.length * 2);
        for (const { talk: one } of again) one[Symbol.dispose]();
        await closed();
        // Conversations of UDP end by time alone.
        for (const row of node.flows()) if (row.key.proto === 17) node.deleteFlow(row);

        const ended = drained(AbortSignal.timeout(60_000));
        await expect.poll(() => seen.at(-1), { timeout: 30_000 }).toBe(ours.length);
        expect(await say(ours, "while it waits")).toEqual([]);
        for (const { talk: one } of ours) one[Symbol.dispose]();
        const { cut, removed } = await ended;
        expect(cut).toEqual({ TCP: 0, UDP: 0, SCTP: 0 });
        expect(removed).toContain(`${places.pinDir}/maps-${FINGERPRINT}/settings`);
        expect(existsSync(node.pinDir)).toBe(false);
        expect(alone).toBe(0);
        // Nothing of ours is in the way of the other proxy.
        const theirs = await begin();
        expect(await say(theirs, "theirs")).toEqual([]);
      }, 60_000);
    });
  }

  describe("by packet", () => {
    let wires: Wires;
    beforeAll(async () => {
      wires = createWires();
      await wires.node.feed(objects(["here"]));
    });
    afterAll(() => wires?.[Symbol.dispose]());
    const from = { address: V4.client, port: 41000 };

    it("nothing that we refuse, drop or echo is while frontends are drained", () => {
      const { node } = wires;
      const asks = [
        send(frame(), "TCP", from, { address: V4.vip, port: 9 }),
        send(frame(), "TCP", from, { address: V4.free, port: 80 }),
        send(frame(), "UDP", from, { address: V4.lb, port: 9 }),
        send(frame(), "TCP", from, { address: V4.node, port: 30080 }),
        frame().ip(V4.client, V4.vip).icmp(8, 0).payload(8).bytes(),
      ];
      const verdicts = (): string[] => asks.map((packet) => node.run("tc_uplink_ingress", packet).verdict);
      expect(verdicts()).toEqual([
        "VERDICT_REFUSE",
        "DROP_FREE_SERVICE_ADDRESS",
        "VERDICT_REFUSE",
        "VERDICT_PASS",
        "VERDICT_ECHO",
      ]);
      node.clearFlows();
      node.settings({ flags: SETTING_DRAINING });
      expect(verdicts()).toEqual(asks.map(() => "VERDICT_NEXT"));
      expect(node.flows()).toEqual([]);
      const pod = { address: V4.pod, port: 41000 };
      expect(node.run("tc_pod_ingress", send(podFrame(), "TCP", pod, { address: V4.vip, port: 80 })).verdict).toBe(
        "VERDICT_NEXT",
      );
      node.settings({ flags: 0 });
      expect(verdicts()[3]).toBe("VERDICT_PASS");
      node.clearFlows();
    });

    it("sockets that send to a frontend go on with its backend while it is drained; none is pointed anew", () => {
      const { node } = wires;
      const pointed = (): number[] =>
        ["SENDMSG", "CONNECT"].map((hook) => node.verdicts().get(`${hook} VERDICT_CONNECT`) ?? 0);
      const udp = { address: V4.vip, port: portsOf("UDP").port };
      using _ = joinCgroup(node.dataplane);
      node.namespace.inside(() => {
        using known = openSocket("UDP");
        using fresh = openSocket("UDP");
        using connected = openSocket("UDP");
        using late = openSocket("UDP");
        const [sent = 0, connects = 0] = pointed();
        expect(known.send("a", udp)).toBe("");
        expect(connected.connect(udp)).toBe("");
        expect(pointed()).toEqual([sent + 1, connects + 1]);
        node.settings({ flags: SETTING_DRAINING });
        expect(known.send("b", udp)).toBe("");
        expect(connected.send("b", udp)).toBe("");
        expect(pointed()).toEqual([sent + 3, connects + 1]);
        expect(fresh.send("b", udp)).toBe("");
        expect(late.connect(udp)).toBe("");
        // Neither refused nor pointed: what nobody defined either.
        expect(late.connect({ address: V4.vip, port: 9 })).toBe("");
        expect(pointed()).toEqual([sent + 3, connects + 1]);
        node.settings({ flags: 0 });
        expect(fresh.send("c", udp)).toBe("");
        expect(pointed()).toEqual([sent + 4, connects + 1]);
      });
    });
  });
});
