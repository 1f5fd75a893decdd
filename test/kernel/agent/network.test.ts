// The network as netlink tells it is the one that iproute2 tells; the groups and policies that netlink changes and tells, too.
import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, expect, it } from "vitest";
import { readNetwork } from "../../../src/agent/network.ts";
import type { Network } from "../../../src/decide/network.ts";
import { deviceNameIn, joinGroup, leaveGroup, outputPolicies } from "../../../src/libbpf/mod.ts";
import { createNamespace, type Namespace } from "../datapath/namespace.ts";
import { describeKernel } from "../require-kernel.ts";
import { networkByIproute2 } from "./iproute2.ts";

describeKernel("a reading of the network", () => {
  let here: Namespace;
  let there: Namespace;
  beforeAll(() => {
    here = createNamespace();
    there = createNamespace();
  });
  afterAll(() => {
    here?.[Symbol.dispose]();
    there?.[Symbol.dispose]();
  });

  const read = (): Promise<Network> => here.inside(readNetwork);
  async function expectAgreement(): Promise<Network> {
    const network = await read();
    expect(network).toEqual(here.inside(networkByIproute2));
    return network;
  }
  /** False when this kernel has no such thing. */
  function has(...commands: string[]): boolean {
    try {
      for (const words of commands) here.ip(words);
      return true;
    } catch {
      return false;
    }
  }

  it("is that of iproute2 where there is loopback alone", async () => {
    const { devices, routes, routesBySource } = await expectAgreement();
    expect(devices.map(({ name, linkType }) => [name, linkType])).toEqual([["lo", "loopback"]]);
    expect([routes, routesBySource]).toEqual([[], false]);
  });

  it("is that of iproute2 with devices of every kind", async () => {
    here.ip("link add br0 type bridge");
    here.ip("link add up0 mtu 1400 type veth peer name far0");
    here.ip(`link add pod0 master br0 type veth peer name eth0 netns ${there.name}`);
    const more = [
      "link add link up0 name up0.7 type vlan id 7",
      "link add vx0 type vxlan id 9 dstport 4789 dev up0",
      "link add vx1 type vxlan external dstport 4790",
      "link add vrf0 type vrf table 9",
      "link add bond0 type bond",
      "link add dummy0 type dummy",
      "link add gre0 type gre remote 192.0.2.9",
      "link add ipip0 type ipip external",
      "tuntap add dev tun0 mode tun",
      "link add link up0 name mac0 type macvlan",
    ].filter((words) => has(words));
    for (const name of ["br0", "up0", "pod0"]) here.ip(`link set ${name} up`);
    for (const name of ["up0.7", "vx0", "vx1", "bond0", "dummy0"]) has(`link set ${name} up`);
    const { devices } = await expectAgreement();
    const known = new Map(devices.map((device) => [device.name, device]));
    expect(known.get("pod0")).toMatchObject({ master: "br0", lower: "", kind: "veth", up: true, running: false });
    expect(known.get("pod0")?.farEnd).toEqual({ ifindex: there.ifindex("eth0"), netns: expect.any(Number) });
    expect(known.get("up0")).toMatchObject({ mtu: 1400, lower: "far0", farEnd: { netns: undefined } });
    expect(devices.length).toBeGreaterThanOrEqual(5 + more.length);
    if (known.has("up0.7")) expect(known.get("up0.7")).toMatchObject({ kind: "vlan", lower: "up0", linkType: "ether" });
  });

  it("is that of iproute2 with addresses of every scope, in order", async () => {
    here.ip("link set far0 up");
    here.ip("address add 192.0.2.1/24 dev up0");
    here.ip("address add 192.0.2.2/24 dev up0");
    here.ip("address add 198.51.100.1 peer 198.51.100.2/32 dev up0");
    here.ip("address add 169.254.1.1/16 scope link dev up0");
    here.ip("address add 2001:db8::1/64 dev up0 nodad");
    here.ip("address add 2001:db8::2/64 dev up0 nodad preferred_lft 0");
    here.ip("address add 2001:db8:0:1::/128 dev lo");
    const { devices } = await expectAgreement();
    expect(devices.find(({ name }) => name === "up0")?.addresses).toEqual([
      { address: "192.0.2.1", length: 24 },
      { address: "198.51.100.1", length: 32 },
      { address: "192.0.2.2", length: 24 },
      { address: "2001:db8::1", length: 64 },
    ]);
  });

  it("is that of iproute2 with routes of many ways, with encapsulations, and of other tables and types", async () => {
    here.ip("route add default via 192.0.2.254 dev up0 metric 100");
    here.ip("route add 10.1.0.0/16 dev up0 src 192.0.2.2");
    here.ip(
      "route add 10.2.0.0/16 nexthop via 192.0.2.10 dev up0 nexthop via 192.0.2.11 dev up0 weight 3 nexthop dev br0",
    );
    here.ip("route add 10.3.0.7 dev pod0");
    here.ip("route add blackhole 10.4.0.0/16");
    here.ip("route add 10.5.0.0/16 dev br0 table 77");
    here.ip("route add 10.6.0.0/16 via inet6 2001:db8::9 dev up0");
    const wraps = has("route add 10.7.0.0/16 encap ip id 4 dst 192.0.2.20 dev vx1");
    const seg6 = has("-6 route add fd00:4::/64 encap seg6 mode encap segs fd00:9::1 dev up0");
    here.ip("-6 route add default via 2001:db8::fe dev up0");
    here.ip("-6 route add fd00:1::/64 nexthop via 2001:db8::a dev up0 nexthop via 2001:db8::b dev up0");
    here.ip("-6 route add unreachable fd00:2::/64");
    here.ip("-6 route add fd00:3::/64 dev br0 metric 7 src 2001:db8::1");
    const { routes } = await expectAgreement();
    expect(routes.filter(({ address }) => address === "10.2.0.0")).toMatchObject([
      { device: "up0", viaGateway: true, length: 16 },
      { device: "up0", viaGateway: true },
      { device: "br0", viaGateway: false },
    ]);
    expect(routes.find(({ address }) => address === "10.6.0.0")).toMatchObject({ viaGateway: true });
    const wrapped = routes.filter(({ encapsulation }) => encapsulation !== "").map(({ device }) => device);
    expect(wrapped).toEqual([...(wraps ? ["vx1"] : []), ...(seg6 ? ["up0"] : [])]);
    expect(routes.filter(({ address }) => /^(10\.[45]\.|fd00:2:)/.test(address))).toEqual([]);
    expect(routes.filter(({ isDefault }) => isDefault)).toHaveLength(2);
  });

  it("follows next hop objects, also where the kernel does not tell their ways with the route", async () => {
    here.ip("nexthop add id 1 via 192.0.2.10 dev up0");
    here.ip("nexthop add id 2 dev far0");
    here.ip("nexthop add id 3 group 1/2");
    here.ip("route add 10.8.0.0/16 nhid 3");
    here.ip("route add 10.9.0.0/16 nhid 1");
    here.ip("nexthop add id 4 via 2001:db8::c dev up0");
    here.ip("-6 route add fd00:8::/64 nhid 4");
    const told = await expectAgreement();
    expect(told.routes.filter(({ address }) => address === "10.8.0.0")).toMatchObject([
      { device: "up0", viaGateway: true },
      { device: "far0", viaGateway: false },
    ]);
    here.sysctl("net.ipv4.nexthop_compat_mode", 0);
    const untold = await read();
    // iproute2 shows no ways then.
    here.sysctl("net.ipv4.nexthop_compat_mode", 1);
    expect(untold).toEqual(told);
  });

  it("knows rules that ask for a source", async () => {
    here.ip("rule add to 10.9.0.0/16 table 77");
    expect((await expectAgreement()).routesBySource).toBe(false);
    here.ip("-6 rule add from fd00:5::/64 table 77");
    expect((await expectAgreement()).routesBySource).toBe(true);
  });

  it("has no more of it than fits into many datagrams", async () => {
    const links = Array.from(
      { length: 100 },
      (_, i) => `link add many${i} type bridge\naddress add 10.200.${i}.1/24 dev many${i}`,
    );
    const routes = Array.from({ length: 2000 }, (_, i) => `route add 10.${201 + (i >> 8)}.${i & 255}.0/24 dev up0`);
    here.inside(() => execFileSync("ip", ["-batch", "-"], { input: [...links, ...routes].join("\n") }));
    expect((await expectAgreement()).routes.length).toBeGreaterThan(2000);
  });

  it("names devices of other namespaces", () => {
    const number = JSON.parse(here.ip("-json link show pod0"))[0].link_netnsid as number;
    const eth0 = there.ifindex("eth0");
    expect(here.inside(() => deviceNameIn(number, eth0))).toBe("eth0");
    expect(here.inside(() => deviceNameIn(number, 0x7fff_ffff))).toBeUndefined();
    expect(here.inside(() => deviceNameIn(4711, eth0))).toBeUndefined();
  });

  it("joins and leaves a group of a device once, and knows when there is none", () => {
    const group = "ff02::1:ff12:3456";
    const ifindex = here.ifindex("up0");
    const joined = (): boolean => here.ip("-6 maddress show dev up0").includes(group);
    const change = (deed: typeof joinGroup, index = ifindex): boolean => here.inside(() => deed(index, group));
    expect([joined(), change(leaveGroup)]).toEqual([false, false]);
    expect([change(joinGroup), joined()]).toEqual([true, true]);
    expect([change(joinGroup), joined()]).toEqual([false, true]);
    expect(here.ip("-6 address show dev up0")).toMatch(new RegExp(`${group}/128 .*autojoin`));
    expect([change(leaveGroup), joined()]).toEqual([true, false]);
    expect(change(leaveGroup, 0x7fff_ffff)).toBe(false);
    expect(() => change(joinGroup, 0x7fff_ffff)).toThrow(/group ff02::1:ff12:3456 on device 2147483647: ENODEV/);
    expect(() => joinGroup(ifindex, "2001:db8::1")).toThrow("'group' must be an IPv6 multicast address");
  });

  it("tells IPsec output policies as iproute2 does, none of input, none of a namespace without", async () => {
    const policies = () => here.inside(outputPolicies);
    expect(await policies()).toEqual([]);
    const template = "tmpl src 192.0.2.1 dst 192.0.2.9 proto esp mode tunnel";
    if (!has(`xfrm policy add src 10.244.1.0/24 dst 10.244.2.0/24 dir out ${template}`)) return;
    here.ip(`xfrm policy add src 10.244.1.0/24 dst 10.244.2.0/24 dir in ${template}`);
    here.ip("xfrm policy add src fd00::/16 dst fd01::5/128 dir out action block");
    here.ip("xfrm policy add src 10.9.0.0/16 dst 10.7.0.0/16 dir out priority 7");
    const found = await policies();
    expect(found).toHaveLength(3);
    expect(found).toEqual(
      expect.arrayContaining([
        { source: "10.244.1.0/24", destination: "10.244.2.0/24", action: "encrypt" },
        { source: "fd00::/16", destination: "fd01::5/128", action: "block" },
        { source: "10.9.0.0/16", destination: "10.7.0.0/16", action: "allow" },
      ]),
    );
  });
});
