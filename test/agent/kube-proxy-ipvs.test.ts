// What is taken out of a network namespace that kube-proxy served in its IPVS mode, of a kernel that the test makes up. A real one is met
// in test/kernel/agent/kube-proxy-cleanup.test.ts.
import os from "node:os";
import { expect, it } from "vitest";
import { type IpvsKernel, removeIpvs } from "../../src/agent/kube-proxy-ipvs.ts";
import type { LinkRecord, VirtualServer } from "../../src/libbpf/mod.ts";

const { ENOENT, EBUSY } = os.constants.errno;
const server = (address: string, port: number): VirtualServer => ({
  proto: 6,
  address,
  port,
  handle: new Uint8Array(),
});
const link = (ifindex: number, name: string): LinkRecord => ({ ifindex, name }) as LinkRecord;
const address = (ifindex: number, text: string) => ({ ifindex, address: text, length: 32, flags: 0, scope: 0 });
const textOf = ({ address, port }: VirtualServer): string => `${address} ${port}`;

function kernel(servers: readonly VirtualServer[], given: Partial<IpvsKernel> = {}) {
  const done: string[] = [];
  const made: IpvsKernel = {
    hasDevice: () => true,
    readNetwork: async () => ({
      links: [link(2, "eth0"), link(7, "kube-ipvs0")],
      addresses: [
        address(2, "192.0.2.11"),
        address(7, "10.96.0.10"),
        address(7, "203.0.113.5"),
        address(7, "fd00:10:96::a"),
      ],
    }),
    virtualServers: async () => [...servers],
    removeVirtualServer: (one) => done.push(textOf(one)) > 0,
    deleteDevice: (name) => done.push(name) > 0,
    destroySet: () => ENOENT,
    wait: async () => done.push("wait"),
    ...given,
  };
  return { made, done };
}

it("virtual servers of others stay, and are told", async () => {
  const { made, done } = kernel([
    server("10.96.0.10", 53),
    server("192.0.2.100", 443),
    server("203.0.113.5", 80),
    server("192.0.2.11", 31_080),
    server("192.0.2.11", 443),
    server("fd00:10:96::a", 53),
    server("2001:db8::1", 443),
    server("192.0.2.100", 31_080),
  ]);
  const { removed, left } = await removeIpvs(made);
  expect(done).toEqual(["10.96.0.10 53", "203.0.113.5 80", "192.0.2.11 31080", "fd00:10:96::a 53", "kube-ipvs0"]);
  expect(removed).toEqual(["4 IPVS virtual servers", "device kube-ipvs0"]);
  expect(left).toEqual([
    "4 IPVS virtual servers that are not kube-proxy's, as their addresses are not on kube-ipvs0: 192.0.2.100:443, 192.0.2.11:443, [2001:db8::1]:443, 192.0.2.100:31080",
  ]);
});

it("without the device nothing of IPVS is looked at", async () => {
  const unasked = async (): Promise<never> => {
    throw new Error("this is not to be asked");
  };
  const { made, done } = kernel([], { hasDevice: () => false, virtualServers: unasked, readNetwork: unasked });
  expect(await removeIpvs(made)).toEqual({ removed: [], left: [] });
  expect(done).toEqual([]);
});

it("many of others are told by their number, and sets in use stay", async () => {
  const others = Array.from({ length: 7 }, (_, i) => server("192.0.2.100", 1000 + i));
  const destroySet = (name: string): number =>
    ({ "KUBE-CLUSTER-IP": 0, "KUBE-6-CLUSTER-IP": 0, "KUBE-LOOP-BACK": EBUSY })[name] ?? ENOENT;
  const { removed, left } = await removeIpvs(kernel(others, { destroySet }).made);
  expect(removed).toEqual(["device kube-ipvs0", "set KUBE-CLUSTER-IP", "set KUBE-6-CLUSTER-IP"]);
  expect(left).toEqual([
    expect.stringMatching(/^7 IPVS virtual servers .*: 192\.0\.2\.100:1000, .*:1004, 2 more$/),
    "set KUBE-LOOP-BACK: a rule or a set of somebody else's names it",
  ]);
});

it("a set that the kernel lets go later is removed all the same", async () => {
  let busy = 2;
  const asked: string[] = [];
  const destroySet = (name: string): number => {
    asked.push(name);
    if (name !== "KUBE-LOOP-BACK") return ENOENT;
    return busy-- > 0 ? EBUSY : 0;
  };
  const { made, done } = kernel([], { destroySet });
  expect(await removeIpvs(made)).toEqual({ removed: ["device kube-ipvs0", "set KUBE-LOOP-BACK"], left: [] });
  expect(done).toEqual(["kube-ipvs0", "wait", "wait"]);
  // The others are asked for once.
  expect(asked.filter((name) => name === "KUBE-CLUSTER-IP")).toHaveLength(1);
});
