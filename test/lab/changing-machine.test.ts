// What an agent makes of a machine whose devices, settings and firewall others change while it runs.
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { AgentStatus } from "../../src/agent/view.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import { until } from "./traffic/test-lab.ts";
import { TestMachine } from "./traffic/test-machine.ts";

describeKernel("a machine that changes", () => {
  let machine: TestMachine;

  beforeEach(async () => {
    machine = await TestMachine.create();
  });

  afterEach(async () => {
    await machine.cleanup();
    await machine.close();
  });

  const statusWith = (what: string, holds: (status: AgentStatus) => boolean): Promise<AgentStatus> =>
    until(what, async () => {
      const status = await machine.status();
      return holds(status) ? status : undefined;
    });
  const FORWARDING = "net.ipv4.conf.up0.forwarding";
  const isForwardingOff = ({ notices }: AgentStatus): boolean =>
    notices.some(({ reason, field }) => reason === "forwarding-off" && field === FORWARDING);

  it("serves a device without a link header that comes later, though none was there at its start", async () => {
    const agent = machine.start({ flags: ["--devices", "up0,tun9"] });
    expect((await agent.healthy()).devices.map(({ name }) => name)).toEqual(["up0"]);
    machine.net.ip("tuntap add dev tun9 mode tun");
    machine.net.ip("link set tun9 up");
    const { devices, notices } = await statusWith("tun9 with programs", (status) =>
      status.devices.some(({ name, programs }) => name === "tun9" && programs.length > 0),
    );
    expect(devices.find(({ name }) => name === "tun9")).toMatchObject({
      role: "uplink",
      programs: expect.arrayContaining(["tc_uplink_in_l3", "tc_uplink_out_l3"]),
    });
    expect(notices.filter(({ reason }) => reason === "not-attached")).toEqual([]);
    await agent.stop();
  });

  it("says where forwarding was turned off, until it is on again", async () => {
    const agent = machine.start();
    expect(isForwardingOff(await agent.healthy())).toBe(false);
    machine.net.sysctl(FORWARDING, 0);
    // An address that comes makes it look at once.
    machine.net.ip("addr add 192.0.2.1/32 dev up0");
    const { notices } = await statusWith("the notice", isForwardingOff);
    expect(notices.find(({ field }) => field === FORWARDING)).toMatchObject({
      object: "Device up0",
      severity: "error",
    });
    machine.net.sysctl(FORWARDING, 1);
    machine.net.ip("addr del 192.0.2.1/32 dev up0");
    await statusWith("no notice", (status) => !isForwardingOff(status));
    await agent.stop();
  });

  it("is no place for new clients while its Node is about to be removed, and goes on serving", async () => {
    const agent = machine.start();
    await agent.healthy();
    const asked = (path: string): string =>
      machine.net.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", `http://192.168.122.11:10256${path}`);
    expect([asked("/healthz"), asked("/livez")]).toEqual(["200", "200"]);
    const file = join(machine.manifests, "node.yaml");
    const write = (taints: readonly object[]): void =>
      writeFileSync(
        file,
        JSON.stringify({
          apiVersion: "v1",
          kind: "Node",
          metadata: { name: "node1" },
          spec: { taints },
          status: { addresses: [{ type: "InternalIP", address: "192.168.122.11" }] },
        }),
      );
    write([{ key: "ToBeDeletedByClusterAutoscaler", effect: "NoSchedule" }]);
    await until("/healthz to answer 503", async () => asked("/healthz") === "503" || undefined);
    expect(asked("/livez")).toBe("200");
    expect((await machine.status()).notices.map(({ reason }) => reason)).toContain("going-away");
    write([]);
    await until("/healthz to answer 200", async () => asked("/healthz") === "200" || undefined);
    await agent.stop();
  });

  it("leaves sockets to the packet programs while a pod of this node wants it so", async () => {
    const agent = machine.start();
    expect((await agent.healthy()).sockets).toBe("all");
    const file = join(machine.manifests, "pod.yaml");
    const metadata = { name: "meshed", annotations: { "millrace.io/sockets": "bypass" } };
    const status = { phase: "Running", podIP: "10.244.1.9" };
    const pod = (nodeName: string): string =>
      JSON.stringify({
        apiVersion: "v1",
        kind: "Pod",
        metadata,
        spec: { nodeName, containers: [{ name: "app", image: "app" }] },
        status,
      });
    writeFileSync(file, pod("node1"));
    await statusWith("host-only", ({ sockets }) => sockets === "host-only");
    writeFileSync(file, pod("node2"));
    await statusWith("all again, as the pod is another node's", ({ sockets }) => sockets === "all");
    writeFileSync(file, pod("node1"));
    await statusWith("host-only once more", ({ sockets }) => sockets === "host-only");
    rmSync(file);
    await statusWith("all at the end", ({ sockets }) => sockets === "all");
    await agent.stop();
  });

  it("names an nftables chain that drops what is forwarded", async () => {
    const { net } = machine;
    net.run(
      "nft",
      "add table inet guard; add chain inet guard gate { type filter hook forward priority 0; policy drop; }",
    );
    const agent = machine.start();
    const { notices } = await agent.healthy();
    expect(notices.find(({ reason }) => reason === "forward-policy")?.message).toMatch(
      /nftables chain inet guard gate drops .*meta mark & 0x[0-9a-f]+ == 0x[0-9a-f]+/,
    );
    await agent.stop();
  });
});
