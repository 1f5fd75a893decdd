import { describe, expect, it } from "vitest";
import {
  acceptedMac,
  defaultRouteAddresses,
  deviceForAddress,
  deviceRoles,
  heldNetworks,
  isXdpDevice,
  podAddresses,
  snatSources,
  tunnelOfRoutes,
} from "../../src/decide/device-roles.ts";
import type { Device, Links, Route } from "../../src/decide/network.ts";
import { otherNodes } from "../../src/decide/node-addresses.ts";
import { at, device as deviceAt, route } from "./inputs.ts";

let nextIndex = 1;
const device = (name: string, given: Partial<Device> = {}): Device => deviceAt(name, nextIndex++, given);

interface Case {
  readonly name: string;
  readonly devices: readonly Device[];
  readonly routes: readonly Route[];
  readonly named?: readonly string[];
  readonly roles: Readonly<Record<string, "uplink" | "pod">>;
}

const NIC = device("eth0", { addresses: at("192.168.122.11/24") });
const LAN = route("192.168.122.0/24", "eth0");
const DEFAULT = route("0.0.0.0/0", "eth0", { viaGateway: true });

const CASES: readonly Case[] = [
  {
    name: "a macvlan above an uplink is one when it has an address, which frames reach by its own MAC alone",
    devices: [
      NIC,
      device("vrrp.51", { kind: "macvlan", lower: "eth0", addresses: at("192.168.122.100/32") }),
      device("idle", { kind: "macvlan", lower: "eth0" }),
      device("other", { kind: "macvlan", lower: "eth9", addresses: at("192.168.99.1/24") }),
    ],
    routes: [DEFAULT, LAN],
    roles: { eth0: "uplink", "vrrp.51": "uplink" },
  },
  {
    name: "a CNI's bridge with its own pods is no uplink, its ports are pod devices",
    devices: [
      NIC,
      device("cni0", { kind: "bridge", addresses: at("10.244.1.1/24") }),
      device("veth1", { kind: "veth", master: "cni0" }),
    ],
    routes: [DEFAULT, LAN, route("10.244.1.0/24", "cni0"), route("10.244.2.0/24", "eth0", { viaGateway: true })],
    roles: { eth0: "uplink", veth1: "pod" },
  },
  {
    name: "a veth with a host route is a pod device, and one without either is nobody's",
    devices: [NIC, device("cali1", { kind: "veth" }), device("other", { kind: "veth" })],
    routes: [DEFAULT, LAN, route("10.244.1.7/32", "cali1")],
    roles: { eth0: "uplink", cali1: "pod" },
  },
  {
    name: "an overlay that leads to another node's pods is an uplink, also when uplinks are named",
    devices: [NIC, device("flannel.1", { kind: "vxlan", addresses: at("10.244.1.0/32") })],
    routes: [DEFAULT, LAN, route("10.244.2.0/24", "flannel.1", { viaGateway: true })],
    named: ["eth0"],
    roles: { eth0: "uplink", "flannel.1": "uplink" },
  },
  {
    name: "a pod that has an address of another node's range does not make its device an uplink",
    devices: [NIC, device("veth1", { kind: "veth" })],
    routes: [DEFAULT, LAN, route("10.244.2.9/32", "veth1")],
    roles: { eth0: "uplink", veth1: "pod" },
  },
  {
    name: "the bond is the uplink, its members are nothing",
    devices: [
      device("eno1", { master: "bond0" }),
      device("eno2", { master: "bond0" }),
      device("bond0", { kind: "bond", addresses: at("192.168.122.11/24") }),
    ],
    routes: [route("0.0.0.0/0", "bond0", { viaGateway: true })],
    roles: { bond0: "uplink" },
  },
  {
    name: "with names given, other devices with node addresses are left alone",
    devices: [NIC, device("eth1", { addresses: at("192.168.122.99/24") })],
    routes: [DEFAULT, LAN],
    named: ["eth0"],
    roles: { eth0: "uplink" },
  },
  {
    name: "loopback is never anything, a tunnel without link header can be an uplink",
    devices: [device("lo", { linkType: "loopback" }), device("tun0", { kind: "tun", linkType: "none" })],
    routes: [route("0.0.0.0/0", "tun0")],
    roles: { tun0: "uplink" },
  },
];

describe("deviceRoles", () => {
  it.each(CASES)("$name", ({ devices, routes, named = [], roles }) => {
    const found = deviceRoles({
      network: { devices, routes },
      named,
      ownAddresses: ["192.168.122.11"],
      others: otherNodes({ others: ["192.168.122.12"], otherPodCIDRs: ["10.244.2.0/24"] }),
    });
    const byName = Object.fromEntries(
      [...found].map(([index, role]) => [devices.find((one) => one.ifindex === index)!.name, role]),
    );
    expect(byName).toEqual(roles);
  });
});

describe("isXdpDevice", () => {
  const nic = device("eth0");
  const veth = device("eth0", { kind: "veth" });
  const vlan = (lower: string): Device => device("eth0.5", { kind: "vlan", lower });
  it.each([
    ["a NIC, with auto", nic, [], "auto", true],
    ["a NIC, with on", nic, [], "on", true],
    ["a NIC, with off", nic, [], "off", false],
    ["a NIC below a VLAN device", nic, [vlan("eth0")], "auto", false],
    ["a NIC below a VLAN device, with on", nic, [vlan("eth0")], "on", false],
    ["a NIC beside another with a VLAN device", nic, [device("eth1"), vlan("eth1")], "auto", true],
    [
      "a NIC below a device that is no VLAN's",
      nic,
      [device("macvlan0", { kind: "macvlan", lower: "eth0" })],
      "auto",
      true,
    ],
    ["a veth, with auto", veth, [], "auto", false],
    ["a veth, with on", veth, [], "on", true],
    ["a veth below a VLAN device, with on", veth, [vlan("eth0")], "on", false],
    ["a veth, with off", veth, [], "off", false],
    ["a bond, with on", device("bond0", { kind: "bond" }), [], "on", false],
    ["a tap device, with on", device("tap0", { kind: "tun" }), [], "on", false],
    ["a device without link header, with on", device("ppp0", { linkType: "none" }), [], "on", false],
  ] as const)("%s", (_name, asked, others, xdp, expected) => {
    expect(isXdpDevice(asked, { devices: [asked, ...others], routes: [] }, xdp)).toBe(expected);
  });
});

describe("snatSources", () => {
  const network = (devices: readonly Device[], routes: readonly Route[] = []): Links => ({ devices, routes });
  it("is the node's own address on a device that has it, whatever else it has", () => {
    const both = device("eth0", { addresses: at("10.9.9.9/24", "192.168.122.11/24", "fd00::11/64") });
    expect(snatSources(both, network([both]), ["192.168.122.11", "fd00::11"])).toEqual({
      IPv4: "192.168.122.11",
      IPv6: "fd00::11",
    });
  });
  it("is the bridge's address for a port, and the node's for a device without any", () => {
    const bridge = device("cni0", { kind: "bridge", addresses: at("10.244.1.1/24") });
    const port = device("veth1", { kind: "veth", master: "cni0" });
    expect(snatSources(port, network([bridge, port]), ["192.168.122.11"])).toEqual({ IPv4: "10.244.1.1", IPv6: "" });
    const bare = device("cali1", { kind: "veth" });
    expect(snatSources(bare, network([bare]), ["192.168.122.11"])).toEqual({ IPv4: "192.168.122.11", IPv6: "" });
  });
  it("is a route's preferred source where the device has no address", () => {
    const bare = device("wg0", { kind: "wireguard", linkType: "none" });
    const routes = [route("10.244.2.0/24", "wg0", { source: "10.244.1.0" })];
    expect(snatSources(bare, network([bare], routes), ["192.168.122.11"]).IPv4).toBe("10.244.1.0");
  });
});

describe("deviceForAddress", () => {
  const lan = device("eth0", { addresses: at("192.168.122.11/24", "10.1.0.1/8") });
  const narrow = device("eth1", { addresses: at("10.20.0.1/16") });
  const network: Links = { devices: [lan, narrow], routes: [{ ...DEFAULT, device: "eth1" }] };
  const roles = new Map([
    [lan.ifindex, "uplink" as const],
    [narrow.ifindex, "uplink" as const],
  ]);
  it.each([
    ["192.168.122.111", "eth0"],
    ["10.20.3.4", "eth1"],
    ["10.30.0.1", "eth0"],
    ["172.16.0.1", "eth1"],
  ])("puts %s on %s", (address, name) => {
    expect(deviceForAddress(address, network, roles)?.name).toBe(name);
  });
  it("never takes a pod device", () => {
    expect(deviceForAddress("192.168.122.111", network, new Map([[lan.ifindex, "pod" as const]]))).toBeUndefined();
  });
});

describe("defaultRouteAddresses", () => {
  it("takes the first address of each family on the device of the best default route", () => {
    const first = device("eth0", { addresses: at("10.0.0.1/8", "10.0.0.2/8", "fd00::1/64") });
    const second = device("eth1", { addresses: at("10.9.0.1/16") });
    const routes = [route("0.0.0.0/0", "eth1", { metric: 200 }), route("0.0.0.0/0", "eth0", { metric: 100 })];
    expect(defaultRouteAddresses({ devices: [first, second], routes })).toEqual({
      device: "eth0",
      addresses: ["10.0.0.1", "fd00::1"],
    });
  });
  it("knows nothing without a default route", () => {
    expect(defaultRouteAddresses({ devices: [NIC], routes: [LAN] })).toEqual({ device: "", addresses: [] });
  });
});

describe("the tunnel of routes with an encapsulation of their own", () => {
  const [one, other] = [device("vx0", { kind: "vxlan" }), device("vx1", { kind: "vxlan" })];
  const encap = (through: string, encapsulation: string): Route =>
    route("10.244.2.0/24", through, { viaGateway: true, encapsulation });

  it.each([
    ["none: none is needed", [LAN], 0, /^$/],
    ["the device of them all", [LAN, encap("vx0", "ip"), encap("vx0", "ip6")], one.ifindex, /^$/],
    ["none of several", [encap("vx1", "ip"), encap("vx0", "ip")], 0, /dropped .*several devices \(vx0, vx1\)/],
    ["none for what only the stack applies", [encap("eth0", "seg6")], 0, /dropped .*'seg6' of a route by eth0/],
  ] as const)("is %s", (_name, routes, ifindex, problem) => {
    expect(tunnelOfRoutes({ devices: [NIC, one, other], routes })).toEqual({
      ifindex,
      problem: expect.stringMatching(problem),
    });
  });
});

describe("what frames for this machine are addressed to", () => {
  const mac = (last: number): Uint8Array => Uint8Array.from([2, 0, 0, 0, 0, last]);
  const bridge = device("cni0", { kind: "bridge", mac: mac(1) });
  const bond = device("bond0", { kind: "bond", mac: mac(2) });
  it.each([
    ["the bridge's MAC at a port of it", device("veth1", { master: "cni0", mac: mac(9) }), 1],
    ["the device's own MAC elsewhere", device("eth0", { mac: mac(9) }), 9],
    ["the device's own MAC below a bond", device("eno1", { master: "bond0", mac: mac(9) }), 9],
    ["the bridge's own MAC at the bridge", bridge, 1],
  ])("is %s", (_name, asked, last) => {
    expect([...acceptedMac(asked, { devices: [bridge, bond, asked], routes: [] })]).toEqual([...mac(last)]);
  });
});

describe("the only pod behind a device", () => {
  const veth = device("cali1", { kind: "veth", addresses: at("10.244.1.1/32", "fd00:10:244:1::1/128") });
  const port = device("veth1", { kind: "veth", master: "cni0" });
  const pod4 = route("10.244.1.7/32", "cali1");
  const pod6 = route("fd00:10:244:1::7/128", "cali1");
  const unasked = [route("fe80::/64", "cali1"), route("fd00:10:244:1::1/128", "cali1"), LAN, DEFAULT];
  it.each([
    ["has the address of its one host route, in each family", veth, [pod4, pod6], "10.244.1.7", "fd00:10:244:1::7"],
    ["is known in one family alone", veth, [pod4], "10.244.1.7", ""],
    ["is unknown with two host routes", veth, [pod4, route("10.244.1.8/32", "cali1"), pod6], "", "fd00:10:244:1::7"],
    ["is unknown with a network behind it", veth, [pod4, route("10.9.0.0/16", "cali1")], "", ""],
    ["is unknown where it is a router", veth, [route("10.244.1.7/32", "cali1", { viaGateway: true })], "", ""],
    ["is unknown with a default route over it", veth, [pod4, route("0.0.0.0/0", "cali1")], "", ""],
    ["is unknown behind a bridge's port", port, [route("10.244.1.7/32", "veth1")], "", ""],
    ["is unknown without a route", veth, [], "", ""],
  ] as const)("%s", (_name, asked, routes, IPv4, IPv6) => {
    expect(podAddresses(asked, { devices: [NIC, asked], routes: [...routes, ...unasked] })).toEqual({ IPv4, IPv6 });
  });
});

describe("the networks that this node's devices have", () => {
  it("are those of every device but the ones that hold Services' addresses for another proxy", () => {
    const dummy = (name: string): Device => device(name, { kind: "dummy", addresses: at("10.96.0.10/32") });
    const devices = [NIC, dummy("nodelocaldns"), dummy("kube-ipvs0"), dummy("kube-dummy-if")];
    expect(heldNetworks({ devices, routes: [] })).toEqual(at("192.168.122.11/24", "10.96.0.10/32"));
  });
});
