// A flood from a raw socket of an outside client: more SYNs and datagrams from random sources than openings have room for. Established
// flows go on, connections are opened all the while, and each packet of the flood is counted by name. MILLRACE_FLOOD is how many
// packets of each protocol it has in all (`make flood`: two million).
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeKernel } from "../kernel/require-kernel.ts";
import { labName } from "./lab-fixture.ts";
import type { Flow, NewReport } from "./traffic/client.ts";
import type { Flood } from "./traffic/flood.ts";
import type { FlowReport } from "./traffic/numbered.ts";
import { pause, show, TestLab, until } from "./traffic/test-lab.ts";

const NODE1 = { IPv4: "192.168.122.11", IPv6: "fd00:192:168:122::11" } as const;
const FAMILIES = ["IPv4", "IPv6"] as const;
const SINKS = ["sink", "sink-there"] as const;
/** Of each protocol, shared out among families and sinks. */
const FLOOD = Number(process.env["MILLRACE_FLOOD"] ?? 80_000);
/** Of each protocol that a flood of one family toward one sink has in a round. */
const COUNT = 20_000;
const ROUNDS = Math.ceil(FLOOD / (COUNT * FAMILIES.length * SINKS.length));
/** How many packets come in all. */
const ALL = 2 * COUNT * FAMILIES.length * SINKS.length * ROUNDS;
/** Of flows on trial: a tenth of what comes, or less. */
const OPENINGS = 8192;
/** Of flows: the client's own connections, eighty a second, are kept for a while when they have ended, and are to have their share. */
const FLOWS = OPENINGS * ROUNDS;
const PORTS = { "web-here": 30501, "web-there": 30502, sink: 30503, "sink-there": 30504 } as const;

const pod = (name: string, node: string): string => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}, labels: {app: ${name}}}
spec: {nodeName: ${node}, containers: [{name: server}]}
---`;

const service = (name: keyof typeof PORTS): string => `
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: ${name}}
  ports:
  - {name: stream, port: 9001, targetPort: 9001, nodePort: ${PORTS[name]}}
  - {name: short, port: 9002, targetPort: 9002, nodePort: ${PORTS[name] + 10}}
  - {name: udp, protocol: UDP, port: 9000, targetPort: 9000, nodePort: ${PORTS[name]}}
---`;

const MANIFESTS = [
  pod("web-here", "node1"),
  pod("web-there", "node2"),
  pod("sink", "node1"),
  pod("sink-there", "node2"),
  ...(["web-here", "web-there", "sink", "sink-there"] as const).map(service),
].join("");

describeKernel("a flood from a raw socket", () => {
  const lab = new TestLab(labName("flood"));
  beforeAll(async () => {
    await lab.up(
      MANIFESTS,
      "--nodes",
      "2",
      "--ipv6",
      ...[`--max-flows=${FLOWS}`, `--max-openings=${OPENINGS}`].flatMap((flag) => ["--agent-flag", flag]),
    );
    for (const name of ["web-here", "web-there"])
      await lab.program(name, "server.ts", { name, udp: 9000, stream: 9001, short: 9002, rate: 20 });
  }, 120_000);
  afterAll(() => lab.down());

  it("ends no established flow and fails no handshake, toward a backend here or elsewhere, and is counted by name", {
    timeout: 240_000 + ALL,
  }, async () => {
    const flows: Flow[] = FAMILIES.flatMap((family) =>
      (["web-here", "web-there"] as const).flatMap((to) => {
        const [name, host, port] = [`${to}-${family}`, NODE1[family], PORTS[to]];
        return [
          { name: `${name}-tcp`, kind: "tcp", host, port, rate: 20 } as const,
          { name: `${name}-udp`, kind: "udp-connected", host, port } as const,
          { name: `${name}-new`, kind: "new-tcp", host, port: port + 10, rate: 20 } as const,
        ];
      }),
    );
    const client = await lab.program("client1", "client.ts", { flows });
    const reports = (): Promise<Readonly<Record<string, FlowReport & NewReport>>> => client.report();
    await until("every flow to be established", async () => {
      const all = Object.values(await reports());
      return all.every((one) => (one.received ?? one.answered) > 5) ? true : undefined;
    });

    const [{ address: mac }] = JSON.parse((await lab.exec("node1", "ip", "-j", "link", "show", "dev", "eth0")).stdout);
    const before = lab.verdicts("node1", "HOOK_UPLINK_INGRESS");
    client.say("mark flood");
    const floods = SINKS.flatMap((name) => FAMILIES.map((family) => [NODE1[family], PORTS[name]] as const));
    for (const [i, [address, port]] of floods.entries()) {
      const flood: Flood = { count: COUNT, device: "eth0", mac, address, port, seed: i + 1 };
      const program = await lab.program("client2", "flood.ts", flood);
      for (let round = 0; round < ROUNDS; round++) {
        program.say("start");
        expect(await program.answer<{ flooded: number }>()).toEqual({ flooded: 2 * COUNT });
      }
    }
    client.say("mark after");
    await pause(1500);
    client.say("stop");
    await pause(1500);
    const counted = Object.entries(lab.verdicts("node1", "HOOK_UPLINK_INGRESS"))
      .map(([name, count]) => [name, count - (before[name] ?? 0)] as const)
      .filter(([, count]) => count > 0);
    const after = await reports();
    show(`\na flood of ${ALL.toLocaleString("en")} first packets, at the uplink`, {
      packets: Object.fromEntries(counted),
    });
    show(
      "\nthrough it",
      Object.fromEntries(
        Object.entries(after).map(([name, one]) => [
          name,
          { sent: one.sent ?? one.tried, came: one.received ?? one.answered, errors: one.errors.length },
        ]),
      ),
    );

    for (const [name, one] of Object.entries(after)) {
      expect.soft(one.errors, name).toEqual([]);
      if (name.endsWith("-new")) {
        expect.soft(one.answered, name).toBe(one.tried);
        expect.soft(one.byMark["flood"] ?? 0, `${name}, through the flood`).toBeGreaterThan(0);
      } else {
        // The server's stream has no hole either.
        if (name.endsWith("-tcp")) expect.soft(one.missing, name).toEqual([]);
        expect.soft(one.received, name).toBeGreaterThan(0.9 * one.highest);
      }
    }
    // Nothing else passes by us unnamed: each packet of the flood is in a verdict.
    const named = counted.reduce((sum, [name, count]) => sum + (name === "VERDICT_NEXT" ? 0 : count), 0);
    expect(named).toBeGreaterThanOrEqual(ALL);
    // More than fits was refused or gave way: nothing but these names.
    const allowed = /^(VERDICT_(NEXT|PASS|FORWARD|NEIGHBOUR|ICMP)|DROP_(NO_SOURCE_PORT|TABLE_FULL|CLIENT_SHARE))$/;
    expect(counted.map(([name]) => name).filter((name) => !allowed.test(name))).toEqual([]);
  });
});
