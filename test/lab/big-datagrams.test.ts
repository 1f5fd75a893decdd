// Datagrams that fit the client's network, but not the VXLAN to the node that has the backend. At most the first is lost: the client
// is told, cuts the others itself, and its pieces are served, whether it had forbidden routers to cut them or not.
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeKernel } from "../kernel/require-kernel.ts";
import { labName } from "./lab-fixture.ts";
import { TestLab } from "./traffic/test-lab.ts";

const MANIFESTS = `
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: far}}
spec: {nodeName: node2, containers: [{name: server, ports: [{containerPort: 53, protocol: UDP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: far}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: far}
  ports: [{protocol: UDP, port: 53, nodePort: 30053}]
`;

/** Bytes that fit 1500 and not the VXLAN's 1450, with the headers of either family. */
const SIZE = 1440;
const COUNT = 8;

const SENDERS = [
  { name: "IPv4, cut by routers", host: "192.168.122.11", noDiscovery: 1 },
  { name: "IPv4, cut by its sender only", host: "192.168.122.11", noDiscovery: 0 },
  { name: "IPv6", host: "fd00:192:168:122::11", noDiscovery: 0 },
];

describeKernel("datagrams too big for a VXLAN", () => {
  describe.each(["off", "on"])("with XDP %s", (xdp) => {
    const lab = new TestLab(labName("big"));
    beforeAll(() => lab.up(MANIFESTS, "--nodes", "2", "--cni", "vxlan", "--ipv6", "--xdp", xdp));
    afterAll(() => lab.down());

    it.each(SENDERS)("$name: at most the first is lost", async ({ host, noDiscovery }) => {
      const on = async (...command: readonly string[]): Promise<string> => {
        const { status, stdout, stderr } = await lab.exec("client1", ...command);
        expect(status, stderr).toBe(0);
        return stdout;
      };
      await on("sysctl", "-qw", `net.ipv4.ip_no_pmtu_disc=${noDiscovery}`);
      // What was learned for another sender.
      await on("ip", "route", "flush", "cache");
      const order = JSON.stringify({ host, port: 30053, size: SIZE, count: COUNT });
      const before = lab.verdicts("node1").VERDICT_TOO_BIG ?? 0;
      const script = join(import.meta.dirname, "traffic/big-datagrams.ts");
      const { answered } = JSON.parse(await on(process.execPath, "--no-warnings", script, order)) as {
        answered: number[];
      };
      expect(answered.filter((turn) => turn > 0)).toEqual([1, 2, 3, 4, 5, 6, 7]);
      expect(lab.verdicts("node1").VERDICT_TOO_BIG).toBeGreaterThan(before);
    });
  });
});
