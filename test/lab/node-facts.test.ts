// What an agent finds out about its machine and tells the programs by the pinned maps: rules by source, whom frames are for, the pod
// behind a device, and that XDP stays off a veth whose far end leaves checksums to be completed.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { AgentStatus } from "../../src/agent/view.ts";
import {
  type Device,
  readDevice,
  readSettings,
  SETTING_FLAG_VALUES,
  type Settings,
} from "../../src/datapath/layout.gen.ts";
import { openPinnedMap } from "../../src/libbpf/mod.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import { until } from "./traffic/test-lab.ts";
import { TestMachine } from "./traffic/test-machine.ts";

const { SETTING_SOURCE_ROUTES, SETTING_CLUSTER_IPS_INSIDE, SETTING_OTHER_PROXY } = SETTING_FLAG_VALUES;
const BOTH = SETTING_CLUSTER_IPS_INSIDE + SETTING_SOURCE_ROUTES;

describeKernel("what an agent finds out about its machine", () => {
  let machine: TestMachine;
  beforeEach(async () => {
    machine = await TestMachine.create();
  });
  afterEach(() => machine.close());

  function pinned<T>(name: string, read: (entries: Iterable<[Uint8Array, Uint8Array]>) => T): T {
    const directory = readdirSync(machine.pinDir).find((one) => one.startsWith("maps-")) ?? "";
    const map = openPinnedMap(join(machine.pinDir, directory, name));
    try {
      return read(map.entries());
    } finally {
      map.close();
    }
  }
  /** Whether there is another proxy is a matter of its own: until that is known there may be one. */
  const settings = (): Settings => {
    const found = pinned("settings", (entries) => readSettings([...entries][0]![1], 0));
    return { ...found, flags: found.flags & ~SETTING_OTHER_PROXY };
  };
  const deviceRow = (name: string): Device => {
    const ifindex = machine.net.ifindex(name);
    return pinned("devices", (entries) => {
      for (const [key, value] of entries) {
        if (new DataView(key.buffer, key.byteOffset).getUint32(0, true) === ifindex) return readDevice(value, 0);
      }
      throw new Error(`there is no row of ${name}`);
    });
  };
  const macText = (device: Device["mac"]): string =>
    Buffer.from(device)
      .toString("hex")
      .replace(/..(?=.)/g, "$&:");

  it("tells by settings what the options and the rules say", async () => {
    const agent = machine.start({ flags: ["--external-cluster-ips", "off", "--reply-limit", "7"] });
    await agent.healthy();
    expect(settings()).toMatchObject({ flags: SETTING_CLUSTER_IPS_INSIDE, replies: 7, bypass: 0n });
    machine.net.ip("-6 rule add from fd00:10:244::/48 lookup 100 priority 1000");
    await until("the rule by source", () => settings().flags === BOTH || undefined);
    machine.net.ip("-6 rule del priority 1000");
    await until("the rule to be gone", () => settings().flags === SETTING_CLUSTER_IPS_INSIDE || undefined);
  });

  it("tells whom frames are for, and which pod is alone behind a device", async () => {
    const { net } = machine;
    net.ip("link add cni0 address 02:00:00:00:00:01 type bridge");
    for (const name of ["port", "alone"]) {
      net.ip(`link add ${name} type veth peer name in-${name}`);
      net.ip(`link set in-${name} up`);
    }
    net.ip("link set port master cni0");
    for (const name of ["cni0", "port", "alone"]) net.ip(`link set ${name} up`);
    net.ip("-6 addr add fd00:10:244:1::1/128 dev alone nodad");
    net.ip("route add 10.244.1.7/32 dev alone");
    net.ip("-6 route add fd00:10:244:1::7/128 dev alone");
    const agent = machine.start();
    await agent.healthy();
    expect(macText(deviceRow("port").accepts)).toBe("02:00:00:00:00:01");
    expect(macText(deviceRow("alone").accepts)).toBe(net.mac("alone"));
    expect(deviceRow("alone")).toMatchObject({ pod4: "10.244.1.7", pod6: "fd00:10:244:1::7" });
    expect(deviceRow("port")).toMatchObject({ pod4: "::", pod6: "::" });
    net.ip("route add 10.244.1.8/32 dev alone");
    await until("the second pod", () => deviceRow("alone").pod4 === "::" || undefined);
    expect(deviceRow("alone").pod6).toBe("fd00:10:244:1::7");
  });

  it("keeps XDP off a veth until its far end completes checksums", async () => {
    const agent = machine.start({ flags: ["--xdp", "on"] });
    const reasons = (status: AgentStatus): string[] => status.notices.map(({ reason }) => reason);
    expect((await agent.healthy()).xdp).toBe("off");
    // The far end is asked beside all else.
    const before = await until("the notice", async () => {
      const status = await machine.status();
      return reasons(status).includes("no-xdp") ? status : undefined;
    });
    expect(before.xdp).toBe("off");
    machine.net.run("ethtool", "-K", "far0", "tx", "off");
    const after = await until("XDP", async () => {
      const status = await machine.status();
      return status.xdp === "on" ? status : undefined;
    });
    expect(reasons(after)).not.toContain("no-xdp");
  });
});
