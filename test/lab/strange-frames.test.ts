// A client whose neighbour entry for a node is wrong: its frames go to a MAC that nobody has, so the switch floods them to every
// machine. No node may serve or refuse what is not addressed to it, with its programs in tc or in XDP.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeKernel } from "../kernel/require-kernel.ts";
import { labName } from "./lab-fixture.ts";
import type { Flow } from "./traffic/client.ts";
import type { FlowReport } from "./traffic/numbered.ts";
import { type Program, TestLab, until } from "./traffic/test-lab.ts";

const NODE1 = ["192.168.122.11", "fd00:192:168:122::11"] as const;
const NOBODY = "02:77:77:77:77:77";

/** Pods, each behind a node port of its own; behind one more there is nobody. */
const NAMES = ["here", "there"] as const;
const PORTS = { here: 30101, there: 30102, none: 30103 } as const;
const SERVICES = ["here", "there", "none"] as const;

const pod = (name: string, node: string): string => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}, labels: {app: ${name}}}
spec: {nodeName: ${node}, containers: [{name: server}]}
---`;

const service = (name: (typeof SERVICES)[number]): string => `
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: ${name}}
  ports: [{port: 9001, targetPort: 9001, nodePort: ${PORTS[name]}}]
---`;

const MANIFESTS = [pod("here", "node1"), pod("there", "node2"), ...SERVICES.map(service)].join("");

describeKernel("frames to a MAC that nobody has", () => {
  describe.each(["off", "on"])("with XDP %s", (xdp) => {
    const lab = new TestLab(labName("frames"));
    const servers: Program[] = [];

    beforeAll(async () => {
      await lab.up(MANIFESTS, "--nodes", "2", "--ipv6", "--xdp", xdp);
      for (const name of NAMES)
        servers.push(await lab.program(name, "server.ts", { name, udp: 9000, stream: 9001, short: 9002, rate: 20 }));
    });
    afterAll(() => lab.down());

    const neighbour = async (verb: "replace" | "del", address: string): Promise<void> => {
      const entry = [address, ...(verb === "replace" ? ["lladdr", NOBODY, "nud", "permanent"] : []), "dev", "eth0"];
      const { status, stderr } = await lab.exec("client1", "ip", "neigh", verb, ...entry);
      expect(status, stderr).toBe(0);
    };

    /** How a connection went, in words of Bash and `timeout`. */
    async function connecting(address: string, port: number): Promise<"connected" | "refused" | "timed out"> {
      const { status } = await lab.exec("client1", "timeout", "1.5", "bash", "-c", `: </dev/tcp/${address}/${port}`);
      return status === 0 ? "connected" : status === 124 ? "timed out" : "refused";
    }
    const outcomes = async (address: string): Promise<Readonly<Record<string, string>>> =>
      Object.fromEntries(
        await Promise.all(SERVICES.map(async (name) => [name, await connecting(address, PORTS[name])] as const)),
      );

    const RIGHT = { here: "connected", there: "connected", none: "refused" };
    const LOST = { here: "timed out", there: "timed out", none: "timed out" };

    it.each(NODE1)("to %s they neither connect nor are refused, until the entry is right again", async (address) => {
      expect(await outcomes(address)).toEqual(RIGHT);
      await neighbour("replace", address);
      try {
        expect(await outcomes(address)).toEqual(LOST);
      } finally {
        await neighbour("del", address);
      }
      expect(await outcomes(address)).toEqual(RIGHT);
    });

    it.each(NODE1)("to %s they are no part of an established connection, which goes on later", async (host) => {
      const flows: Flow[] = NAMES.map((name) => ({
        name: `${name}-${host}`,
        kind: "tcp",
        host,
        port: PORTS[name],
        rate: 20,
      }));
      const client = await lab.program("client1", "client.ts", { flows });
      const ofClient = (): Promise<FlowReport[]> => client.report<FlowReport>().then(Object.values);
      const growing = async (what: string, count: "sent" | "received"): Promise<void> => {
        const before = await ofClient();
        await until(what, async () => {
          const now = await ofClient();
          return now.every((one, i) => one[count] > before[i]![count] + 5) || undefined;
        });
      };
      const arrived = (): Promise<number[]> =>
        Promise.all(servers.map(async (server, i) => (await server.report<FlowReport>())[flows[i]!.name]!.received));

      await growing("answers", "received");
      await neighbour("replace", host);
      try {
        const before = await arrived();
        await growing("lines to nobody", "sent");
        expect(await arrived()).toEqual(before);
      } finally {
        await neighbour("del", host);
      }
      await growing("answers again", "received");
      expect((await ofClient()).flatMap(({ errors, missing }) => [...errors, ...missing])).toEqual([]);
      await client.end();
    });
  });
});
