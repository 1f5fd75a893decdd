// What netlink tells of devices and namespaces, by a pair of veths in a namespace of its own.
import { expect, it } from "vitest";
import { feature, netnsId, XDP_TRANSMIT, xdpFeatures } from "../../../src/libbpf/mod.ts";
import { describeKernel } from "../require-kernel.ts";
import { temporaryNamespace, withEnvironment } from "./fixture.ts";

describeKernel("what netlink tells", () => {
  const tells = feature("xdp_features").available;

  it.runIf(tells)("a veth transmits frames of XDP while its far end takes them", () => {
    using namespace = temporaryNamespace();
    const transmits = (device: string): boolean =>
      ((namespace.scenario("xdpFeatures", { device }) as number) & XDP_TRANSMIT) !== 0;
    expect([transmits("v0"), transmits("v1")]).toEqual([false, false]);
    namespace.run("ethtool", "-K", "v1", "gro", "on");
    expect([transmits("v0"), transmits("v1")]).toEqual([true, false]);
    namespace.run("ethtool", "-K", "v1", "gro", "off");
    expect([transmits("v0"), transmits("v1")]).toEqual([false, false]);
  });

  it("loopback has no XDP, and a device that is not there has no features", () => {
    expect(xdpFeatures(1)).toBe(tells ? 0 : undefined);
    expect(xdpFeatures(0x7fff_ffff)).toBeUndefined();
    using _ = withEnvironment({ MILLRACE_WITHOUT: "xdp_features" });
    expect(xdpFeatures(1)).toBeUndefined();
  });

  it("a namespace has a number once a device leads to it", () => {
    using here = temporaryNamespace();
    using there = temporaryNamespace();
    const path = `/run/netns/${there.name}`;
    expect(here.scenario("netnsId", { path })).toBeNull();
    here.run("ip", "link", "set", "v1", "netns", there.name, "name", "w1");
    const [link] = JSON.parse(here.run("ip", "-json", "link", "show", "v0")) as { link_netnsid: number }[];
    expect(here.scenario("netnsId", { path })).toBe(link?.link_netnsid);
    expect(netnsId("/nonexistent")).toBeUndefined();
  });
});
