// Two Services scale against each other between one pod and six while clients connect to both as fast as they can: a hundred
// times by IPv4 and socket programs, twenty times by IPv6 with pods on the packet path. Nobody is refused, reset, left without
// an answer, or answered by the other's pod.
import { isIPv6 } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeKernel } from "../kernel/require-kernel.ts";
import type { HammerReport, Target } from "./traffic/hammer.ts";
import { pause, show, TestLab } from "./traffic/test-lab.ts";

/** A step takes 0.7 s on a quiet machine with two processors. */
const STEP_LIMIT_MS = 10_000;

const workload = (name: string, replicas: number, nodePort: number, families: string): string => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: ${name}}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: ${name}}}
  template:
    metadata: {labels: {app: ${name}}}
    spec:
      # So far a node may be behind on a machine that others use too.
      terminationGracePeriodSeconds: 6
      containers: [{name: server, image: any, ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec:
  type: NodePort
  ipFamilyPolicy: ${families}
  selector: {app: ${name}}
  ports:
  - {name: web, port: 80, nodePort: ${nodePort}}
  - {name: datagrams, protocol: UDP, port: 80, nodePort: ${nodePort}}
---`;

const manifests = (families: "SingleStack" | "RequireDualStack"): string => `${workload("alpha", 1, 30300, families)}
${workload("beta", 6, 30400, families)}
apiVersion: v1
kind: Pod
metadata: {name: caller}
spec: {nodeName: node1, containers: [{name: server, image: any}]}
`;

/** One goes up in one step and down in five, the other the other way round. */
const sizeOf = (step: number): number => 1 + ((step * 5) % 6);

interface Case {
  readonly name: string;
  readonly lab: string;
  readonly flags: readonly string[];
  readonly steps: number;
  readonly byIPv6: boolean;
}

const CASES: readonly Case[] = [
  { name: "a hundred times", lab: "rs-load", flags: [], steps: 100, byIPv6: false },
  {
    name: "twenty times, by IPv6, pods on the packet path",
    lab: "rs-load6",
    flags: ["--ipv6", "--sockets", "host-only"],
    steps: 20,
    byIPv6: true,
  },
];

for (const { name: title, lab: labName, flags, steps, byIPv6 } of CASES) {
  describeKernel(`connections at full speed while Services scale ${title}`, () => {
    const lab = new TestLab(labName);
    const reports: Record<string, HammerReport> = {};
    let seconds = 0;
    let slowestMs = 0;
    let dropped: Readonly<Record<string, number>> = {};

    /** Packets that the programs of both nodes dropped so far, by reason. */
    function drops(): Record<string, number> {
      const found: Record<string, number> = {};
      for (const node of ["node1", "node2"]) {
        for (const [name, count] of Object.entries(lab.verdicts(node))) {
          if (name.startsWith("DROP_")) found[name] = (found[name] ?? 0) + count;
        }
      }
      return found;
    }

    beforeAll(
      async () => {
        await lab.up(
          manifests(byIPv6 ? "RequireDualStack" : "SingleStack"),
          "--nodes",
          "2",
          "--cni",
          "bridge",
          ...flags,
        );
        const services = await lab.services("node1");
        const clusterIP = (name: string): string =>
          services.find((service) => service.name === name)?.clusterIPs.find((address) => isIPv6(address) === byIPv6) ??
          "";
        const lan = byIPv6 ? "fd00:192:168:122::" : "192.168.122.";
        const load = { tcp: 2, udp: 1, heldUdp: 1 };
        const inside: Target[] = ["alpha", "beta"].map((name) => ({
          name: `pod to ${name}`,
          host: clusterIP(name),
          port: 80,
          expected: `${name}-`,
          ...load,
        }));
        const outside: Target[] = [
          { name: "outside to alpha by node1", host: `${lan}11`, port: 30300, expected: "alpha-", ...load },
          { name: "outside to beta by node2", host: `${lan}12`, port: 30400, expected: "beta-", ...load },
        ];
        const programs = [
          await lab.program("caller", "hammer.ts", { targets: inside }),
          await lab.program("client1", "hammer.ts", { targets: outside }),
        ];
        const before = drops();
        const began = Date.now();
        for (let step = 1; step <= steps; step++) {
          const alpha = sizeOf(step);
          const stepBegan = Date.now();
          await Promise.all([
            lab.order("scale", { target: "deployment/alpha", replicas: alpha }),
            lab.order("scale", { target: "deployment/beta", replicas: 7 - alpha }),
          ]);
          slowestMs = Math.max(slowestMs, Date.now() - stepBegan);
        }
        seconds = (Date.now() - began) / 1000;
        for (const program of programs) program.say("stop");
        await pause(2500);
        for (const program of programs) Object.assign(reports, await program.report<HammerReport>());
        dropped = Object.fromEntries(
          Object.entries(drops())
            .map(([name, count]) => [name, count - (before[name] ?? 0)])
            .filter(([, count]) => count !== 0),
        );
        show(
          `\nboth Services scaled ${title}, in ${seconds.toFixed(1)} s, ${slowestMs} ms at most for a step`,
          Object.fromEntries(
            Object.entries(reports).map(([name, { asked, pods, errorCount, strangers, slowestMs }]) => [
              name,
              {
                asked,
                "a second": Math.round(asked / seconds),
                pods,
                errors: errorCount,
                strangers: strangers.length,
                "slowest ms": slowestMs,
              },
            ]),
          ),
        );
        show("\npackets dropped by our programs", { all: dropped });
      },
      60_000 + steps * STEP_LIMIT_MS,
    );

    afterAll(() => lab.down());

    it("scales so often that it means something", () => {
      for (const [name, { asked, pods }] of Object.entries(reports)) {
        expect.soft(asked, name).toBeGreaterThan(5 * steps);
        expect
          .soft(pods, `${name}: pods that answered`)
          .toBeGreaterThan(steps * (name.endsWith("held udp") ? 0.05 : 0.5));
      }
    });

    it("nobody is refused, reset or left without an answer", () => {
      for (const [name, { asked, errors, errorCount }] of Object.entries(reports)) {
        // Nobody sends a lost datagram again, and a machine this busy loses one in tens of thousands. A refusal is none of these.
        const lost = name.endsWith("udp") ? errors.filter((text) => text.includes("no answer for 2 s")) : [];
        if (lost.length <= asked / 10_000) {
          expect.soft({ errors: errors.filter((text) => !lost.includes(text)) }, name).toEqual({ errors: [] });
          expect.soft(errorCount, name).toBeLessThanOrEqual(lost.length);
        } else expect.soft({ errors, errorCount }, name).toEqual({ errors: [], errorCount: 0 });
      }
    });

    it("no packet is dropped on the way", () => {
      expect(dropped).toEqual({});
    });

    it("nobody is answered by a pod of the other Service", () => {
      for (const [name, { strangers }] of Object.entries(reports)) expect.soft(strangers, name).toEqual([]);
    });
  });
}
