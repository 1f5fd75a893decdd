// A node on which IPv6 is turned off: the agent starts, serves IPv4, and has nothing to say about it.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { describeKernel } from "../kernel/require-kernel.ts";
import { TestMachine } from "./traffic/test-machine.ts";

/** The agent's own health server is the endpoint. */
const OBJECTS = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.77, clusterIPs: [10.96.0.77], ports: [{name: http, port: 80, targetPort: 10256}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 10256, protocol: TCP}]
endpoints: [{addresses: [192.168.122.11], conditions: {ready: true}, nodeName: node1}]
---
apiVersion: v1
kind: Node
metadata: {name: node1}
status: {addresses: [{type: InternalIP, address: 192.168.122.11}]}
`;

describeKernel("an agent without IPv6", () => {
  let machine: TestMachine | undefined;

  afterEach(() => machine?.close());

  const SEEN_WITHOUT = [process.execPath, join(import.meta.dirname, "traffic/without-inet6.ts")];

  it.each([
    ["it is turned off", []],
    ["the kernel has none: no socket of it can be made", SEEN_WITHOUT],
  ] as const)("serves IPv4, listens on what [::] is there, and says nothing wrong: %s", async (_name, within) => {
    machine = await TestMachine.create(OBJECTS);
    machine.net.sysctl("net.ipv6.conf.all.disable_ipv6", 1);
    machine.net.sysctl("net.ipv6.conf.default.disable_ipv6", 1);
    const agent = machine.start({
      flags: ["--healthz-bind-address", "[::]:10256", "--metrics-bind-address", ":10249"],
      within,
    });
    const status = await agent.healthy();
    expect(status.notices).toEqual([]);
    expect(status.effects.filter(({ ok }) => !ok)).toEqual([]);
    const { net, cgroup } = machine;
    const ask = (url: string): string => {
      const script = `echo $$ > ${cgroup}/cgroup.procs && exec nsenter --net=/run/netns/${net.name} -- curl -s -m 5 ${url}`;
      return execFileSync("sh", ["-c", script], { encoding: "utf8" });
    };
    expect(JSON.parse(ask("http://10.96.0.77/healthz"))).toMatchObject({ healthy: true });
    expect(ask("http://127.0.0.1:10249/proxyMode")).toBe("millrace");
    // Whatever was worth a warning is a notice, or should be.
    const warnings = agent.stderr.split("\n").filter((line) => /"level":"(warn|error)"|WARN|ERROR/.test(line));
    expect(warnings).toEqual([]);
    expect((await agent.stop()).status).toBe(0);
    expect((await machine.cleanup()).status).toBe(0);
  });
});
