// In which families something is served, by the objects that come.
import { expect, it } from "vitest";
import { servedFamilies } from "../../src/decide/served-families.ts";
import type { HostPort, ObjectEvent, Service } from "../../src/model/objects.ts";

type Given = { clusterIPs?: readonly string[]; externalIPs?: readonly string[]; addresses?: readonly string[] };

function service({ clusterIPs = [], externalIPs = [], addresses = [] }: Given): ObjectEvent {
  const grants = { age: 0, addresses: addresses.map((address) => ({ address, ipMode: "VIP", by: "status" })) };
  const object = { clusterIPs, externalIPs, grants } as unknown as Service;
  return { kind: "Service", key: "shop/web", object };
}
const hostPort = (podAddress: string): ObjectEvent => {
  return { kind: "HostPorts", key: "shop/pod", object: [{ podAddress } as HostPort] };
};

it.each([
  ["a cluster address", service({ clusterIPs: ["10.96.0.1"] }), ["ipv4"]],
  ["cluster addresses of both", service({ clusterIPs: ["fd00::1", "10.96.0.1"] }), ["ipv4", "ipv6"]],
  ["a LoadBalancer address", service({ addresses: ["2001:db8::1"] }), ["ipv6"]],
  ["an external IP", service({ externalIPs: ["192.0.2.1"] }), ["ipv4"]],
  ["a host port", hostPort("fd00:10:244::5"), ["ipv6"]],
  ["a Service without an address", service({}), []],
  ["a Service that goes", { kind: "Service", key: "shop/web", object: undefined } as const, []],
])("%s tells", (_name, event, families) => expect(servedFamilies([], [event])).toEqual(families));

it("what is known stays, and is the same array while nothing is new", () => {
  const before = servedFamilies([], [service({ clusterIPs: ["10.96.0.1"] })]);
  expect(servedFamilies(before, [service({ clusterIPs: ["10.96.0.2"] })])).toBe(before);
  expect(servedFamilies(before, [service({ clusterIPs: ["fd00::1"] })])).toEqual(["ipv4", "ipv6"]);
});
