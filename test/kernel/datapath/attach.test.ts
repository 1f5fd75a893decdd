// Programs on real devices that others meddle with: what somebody takes off comes back, what is pushed aside returns to its
// place. The devices' programs are told by name in the order in which they run.
import fs from "node:fs";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { createFarEnds } from "../../../src/agent/far-end.ts";
import { readNetwork } from "../../../src/agent/network.ts";
import { createNodeNetwork, type NodeNetwork } from "../../../src/agent/node-network.ts";
import { type Attachments, createAttachments, type TcPrograms } from "../../../src/datapath/attach.ts";
import { type DesiredDevices, decide } from "../../../src/decide/decide.ts";
import type { Device, Network } from "../../../src/decide/network.ts";
import { NO_ADDRESSES } from "../../../src/decide/node-addresses.ts";
import {
  attachClsact,
  attachTcx,
  type BpfProgram,
  type Direction,
  openPinnedLink,
  queryCgroup,
  queryTcx,
  removeClsact,
  resetFeatures,
} from "../../../src/libbpf/mod.ts";
import { believed, inputs } from "../../decide/inputs.ts";
import { bpfDescriptors, temporaryCgroup, withEnvironment } from "../libbpf/fixture.ts";
import { describeKernelWith } from "../require-kernel.ts";
import { createTestNode, type Program, type TestNode } from "./test-node.ts";

const MODES = [
  { mode: "tcx", without: "", needs: ["tcx"] },
  { mode: "clsact", without: "tcx", needs: [] },
] as const;
const BACK = { restored: ["egress", "ingress"], error: undefined };
/** What is decided of devices when no other node is known and up0 is named. */
function devicesOf(network: Network): DesiredDevices {
  const wishes = { devices: ["up0"], xdp: "on", forwardMark: 0 } as const;
  return decide(inputs({ wishes, objects: { addresses: NO_ADDRESSES }, network }), believed()).devices;
}

for (const { mode, without, needs } of MODES)
  describeKernelWith(needs, `programs on devices, with ${mode}`, () => {
    let node: TestNode;
    let attachments: Attachments;
    let environment: Disposable;
    beforeAll(() => {
      environment = withEnvironment({ MILLRACE_WITHOUT: without });
      resetFeatures();
      node = createTestNode(1, { xdpRuns: false });
      // Without, XDP would leave a veth alone: frames of its far end may bear partial checksums.
      node.namespace.run("ethtool", "-K", "lan0", "tx", "off");
    });
    afterAll(() => {
      environment[Symbol.dispose]();
      resetFeatures();
      node?.[Symbol.dispose]();
    });

    beforeEach(() => {
      attachments = start();
      attach("up0");
      attach("pod2");
    });
    afterEach(() => {
      sweep();
      node.namespace.inside(() => {
        for (const { name, ifindex } of attachments.devices()) attachments.detachDevice(name, ifindex);
      });
      attachments.close();
    });

    const program = (name: Program): BpfProgram => node.dataplane.program(name);
    const programs = (device: string): TcPrograms =>
      device.startsWith("pod")
        ? { ingress: program("tc_pod_ingress"), egress: program("tc_pod_egress") }
        : { ingress: program("tc_uplink_ingress"), egress: program("tc_uplink_egress") };
    const start = (): Attachments =>
      node.namespace.inside(() => createAttachments({ pinDir: node.pinDir, stateDir: node.stateDir }));
    const attach = (device: string): void =>
      node.namespace.inside(() => attachments.attachDevice(device, node.namespace.ifindex(device), programs(device)));
    const reassert = (): ReturnType<Attachments["reassert"]> => node.namespace.inside(() => attachments.reassert());
    const sweep = (): void => {
      const links = JSON.parse(node.namespace.run("ip", "-j", "link", "show")) as { ifindex: number }[];
      attachments.sweep(new Set(links.map(({ ifindex }) => ifindex)));
    };
    const pins = (): string[] => fs.readdirSync(path.join(node.pinDir, "links")).sort();
    const pinOf = (device: string, direction: Direction): string =>
      path.join(node.pinDir, "links", `tcx-${device}-${node.namespace.ifindex(device)}-${direction}`);

    /** Names of the programs at one direction of a device. */
    function order(device: string, direction: Direction): string[] {
      const all = (["tc_uplink_ingress", "tc_uplink_egress", "tc_pod_ingress", "tc_pod_egress"] as const).map(program);
      const filters = (): number[] =>
        [...node.namespace.run("tc", "filter", "show", "dev", device, direction).matchAll(/ id (\d+)/g)].map(([, id]) =>
          Number(id),
        );
      const ids =
        mode === "clsact"
          ? filters()
          : node.namespace.inside(() => queryTcx(node.namespace.ifindex(device), direction));
      return ids.map((id) => all.find((one) => one.id === id)?.name ?? `program ${id}`);
    }
    const both = (device: string): string[][] => [order(device, "ingress"), order(device, "egress")];
    const ours = (device: string): string[][] => {
      const { ingress, egress } = programs(device);
      return [[ingress.name], [egress.name]];
    };

    function takeOff(device: string): void {
      if (mode === "clsact") {
        node.namespace.run("tc", "qdisc", "del", "dev", device, "clsact");
        return;
      }
      for (const direction of ["ingress", "egress"] as const) {
        using link = openPinnedLink(pinOf(device, direction));
        link.detach();
      }
    }

    /** Something of others that keeps our program from its place. */
    function obstacleAt(device: string): { readonly error: string; put(): void; remove(): void } {
      if (mode === "clsact") {
        const qdisc = (verb: string): void => void node.namespace.run("tc", "qdisc", verb, "dev", device, "ingress");
        return { error: "IngressQdiscError", put: () => qdisc("add"), remove: () => qdisc("del") };
      }
      const pin = pinOf(device, "egress");
      return {
        error: "KernelError",
        put() {
          fs.unlinkSync(pin);
          fs.mkdirSync(pin);
        },
        remove: () => fs.rmdirSync(pin),
      };
    }

    it("what somebody took off a device is back, once, and stays when the agent ends", () => {
      expect(attachments.mode).toBe(mode);
      expect(reassert()).toEqual([]);
      takeOff("up0");
      expect(both("up0")).toEqual([[], []]);
      expect(reassert()).toEqual([{ device: "up0", ...BACK }]);
      expect(both("up0")).toEqual(ours("up0"));
      expect(reassert()).toEqual([]);
      attachments.close();
      expect(both("up0")).toEqual(ours("up0"));
      attachments = start();
      attach("up0");
      attach("pod2");
      expect(both("up0")).toEqual(ours("up0"));
    });

    it("what cannot be brought back at one device is told, and the next device is served", () => {
      takeOff("up0");
      takeOff("pod2");
      const obstacle = obstacleAt("up0");
      obstacle.put();
      expect(reassert()).toEqual([
        { device: "up0", restored: [], error: expect.objectContaining({ name: obstacle.error }) },
        { device: "pod2", ...BACK },
      ]);
      expect(both("pod2")).toEqual(ours("pod2"));
      obstacle.remove();
      expect(reassert()).toEqual([{ device: "up0", ...BACK }]);
      expect(both("up0")).toEqual(ours("up0"));
    });

    it("a device that just went is no trouble, and the others are served", () => {
      node.namespace.ip("link add gone type veth peer name gone-peer");
      attach("gone");
      node.namespace.inside(() => attachments.detachDevice("pod2", node.ifindex("pod2")));
      attach("pod2");
      node.namespace.ip("link del gone");
      takeOff("pod2");
      expect(reassert()).toEqual([{ device: "pod2", ...BACK }]);
    });

    const linkDescriptors = (): number => bpfDescriptors().filter((line) => line.endsWith("bpf_link")).length;

    it.each([
      ["another number", false],
      ["the same number", true],
    ])("a device made anew with %s gets its programs, and nothing of the old one stays", (_name, isSame) => {
      const make = (index: string): void =>
        void node.namespace.ip(`link add again.1 ${index}type veth peer name again-peer`);
      const pinned = pins();
      const open = linkDescriptors();
      make("");
      const number = node.namespace.ifindex("again.1");
      attach("again.1");
      expect(both("again.1")).toEqual(ours("again.1"));
      node.namespace.ip("link del again.1");
      make(isSame ? `index ${number} ` : "");
      expect(node.namespace.ifindex("again.1") === number).toBe(isSame);
      sweep();
      if (!isSame) expect([pins(), linkDescriptors()]).toEqual([pinned, open]);
      expect(reassert()).toEqual(isSame ? [{ device: "again.1", ...BACK }] : []);
      attach("again.1");
      expect(both("again.1")).toEqual(ours("again.1"));
      expect(pins().length - pinned.length).toBe(mode === "tcx" ? 2 : 0);
      node.namespace.ip("link del again.1");
      sweep();
      expect([pins(), linkDescriptors()]).toEqual([pinned, open]);
    });

    it("programs of sockets that somebody took off a cgroup are back", () => {
      using cgroup = temporaryCgroup();
      const sockets = ["sock_recvmsg4", "sock_connect4"].map((name) => node.dataplane.program(name));
      attachments.attachSockets(cgroup.path, sockets);
      expect(reassert()).toEqual([]);
      using link = openPinnedLink(path.join(node.pinDir, "links", "sock_connect4"));
      link.detach();
      expect(queryCgroup(cgroup.path, "cgroup_inet4_connect")).toEqual([]);
      expect(reassert()).toEqual([{ device: "", restored: ["sock_connect4"], error: undefined }]);
      expect(queryCgroup(cgroup.path, "cgroup_inet4_connect")).toEqual([sockets[1]!.id]);
      expect(reassert()).toEqual([]);
    });

    it("XDP that somebody took off a device is back", () => {
      const ifindex = node.namespace.ifindex("up0");
      const isThere = (): boolean => node.namespace.run("ip", "-j", "link", "show", "dev", "up0").includes('"xdp"');
      node.namespace.inside(() => attachments.attachXdp("up0", ifindex, node.dataplane.program("xdp_uplink")));
      expect([isThere(), reassert()]).toEqual([true, []]);
      using link = openPinnedLink(path.join(node.pinDir, "links", `xdp-up0-${ifindex}`));
      link.detach();
      expect(isThere()).toBe(false);
      expect(reassert()).toEqual([{ device: "up0", restored: ["xdp"], error: undefined }]);
      expect([isThere(), reassert()]).toEqual([true, []]);
    });

    if (mode === "clsact") {
      it.each([
        ["goes with our filters", false],
        ["stays while others have filters there", true],
      ])("the qdisc that we made %s", (_name, isShared) => {
        const ifindex = node.ifindex("up0");
        const isLeft = node.namespace.inside(() => {
          if (isShared) attachClsact(program("tc_pod_egress"), ifindex, "egress", { handle: 9, priority: 9 });
          attachments.detachDevice("up0", ifindex);
          return removeClsact(ifindex);
        });
        expect(isLeft).toBe(isShared);
      });
    }

    if (mode === "tcx") {
      it.each([
        ["pushed aside", false],
        ["taken off", true],
      ])("ours, %s, is first at ingress and last at egress again", (_name, isGone) => {
        using _first = node.namespace.inside(() =>
          attachTcx(program("tc_pod_ingress"), node.ifindex("up0"), "ingress", { position: "head" }),
        );
        using _last = node.namespace.inside(() =>
          attachTcx(program("tc_pod_egress"), node.ifindex("up0"), "egress", { position: "tail" }),
        );
        if (isGone) takeOff("up0");
        expect(both("up0")).toEqual([
          ["tc_pod_ingress", ...(isGone ? [] : ["tc_uplink_ingress"])],
          [...(isGone ? [] : ["tc_uplink_egress"]), "tc_pod_egress"],
        ]);
        expect(reassert()).toEqual(isGone ? [{ device: "up0", ...BACK }] : []);
        expect(both("up0")).toEqual([
          ["tc_uplink_ingress", "tc_pod_ingress"],
          ["tc_pod_egress", "tc_uplink_egress"],
        ]);
        using link = openPinnedLink(pinOf("up0", "ingress"));
        expect(link.info().programId).toBe(program("tc_uplink_ingress").id);
        expect(reassert()).toEqual([]);
      });
    }

    const log = { debug: vi.fn(), info: vi.fn(), warn: vi.fn(), error: vi.fn() };
    const farEnds = createFarEnds(new AbortController().signal);
    farEnds.look = () => "whole";
    const network = (): NodeNetwork => createNodeNetwork(node.dataplane, attachments, { xdp: "on", farEnds }, log);
    const see = (at: NodeNetwork, read: Network): void => at.apply({ devices: devicesOf(read), attach: true });
    const look = (at: NodeNetwork): Promise<void> => node.namespace.inside(async () => see(at, await readNetwork()));

    it("the node's look at its network says once what was taken off, and what cannot come back", async () => {
      vi.clearAllMocks();
      const looking = network();
      await look(looking);
      expect([log.warn.mock.calls, log.error.mock.calls, looking.notices()]).toEqual([[], [], []]);

      takeOff("up0");
      await look(looking);
      await look(looking);
      expect(log.warn.mock.calls).toEqual([
        [{ device: "up0", programs: ["egress", "ingress"] }, "somebody took programs off: they are back"],
      ]);

      takeOff("up0");
      const obstacle = obstacleAt("up0");
      obstacle.put();
      await look(looking);
      await look(looking);
      expect(log.error).toHaveBeenCalledExactlyOnceWith(
        { device: "up0", err: expect.objectContaining({ name: obstacle.error }) },
        "somebody took programs off: they cannot be put back",
      );
      expect(looking.notices()).toMatchObject([{ object: "Device up0", reason: "not-attached" }]);
      expect(looking.isAttached(node.ifindex("up0"))).toBe(false);

      obstacle.remove();
      await look(looking);
      expect(looking.notices()).toEqual([]);
      expect(looking.isAttached(node.ifindex("up0"))).toBe(true);
      expect(both("up0")).toEqual(ours("up0"));
    });

    it("XDP leaves a device when a VLAN device is made above it, and comes back when that goes", async () => {
      const xdp = (): boolean =>
        "xdp" in (JSON.parse(node.namespace.run("ip", "-j", "link", "show", "dev", "up0")) as object[])[0]!;
      const found = await node.namespace.inside(readNetwork);
      const up0 = found.devices.find(({ name }) => name === "up0")!;
      const vlan = { ...up0, name: "up0.5", ifindex: 9999, kind: "vlan", lower: "up0", addresses: [] };
      const looking = network();
      const seen = (devices: readonly Device[]): void =>
        node.namespace.inside(() => see(looking, { ...found, devices }));
      seen(found.devices);
      expect(xdp()).toBe(true);
      seen([...found.devices, vlan]);
      expect(xdp()).toBe(false);
      expect(both("up0")).toEqual(ours("up0"));
      expect(looking.isAttached(up0.ifindex)).toBe(true);
      seen(found.devices);
      expect(xdp()).toBe(true);
    });
  });
