// More devices than the programs' map has room for: who is known, and what is said.
import { describe, expect, it } from "vitest";
import { decide } from "../../src/decide/decide.ts";
import { at, believed, device, ETH0, inputs, NETWORK, route } from "./inputs.ts";

const DUMMY = device("dummy0", 3);
const BRIDGE = device("br0", 4, { kind: "bridge" });
const PODS = [5, 6, 7].map((i) => device(`veth${i}`, i, { kind: "veth", master: "br0" }));
const ETH1 = device("eth1", 9, { addresses: at("10.1.0.11/24") });
const network = {
  ...NETWORK,
  devices: [device("lo", 1, { linkType: "loopback" }), ETH0, DUMMY, BRIDGE, ...PODS, ETH1],
  routes: [...NETWORK.routes, route("10.1.0.0/24", "eth1")],
};
const wishes = { devices: ["eth0", "eth1"] };

function of(mostDevices: number) {
  const { devices, notices } = decide(inputs({ mostDevices, network, wishes }), believed());
  return {
    names: devices.list.map(({ device: { name } }) => name),
    roles: [...devices.roles.keys()].sort(),
    forwarding: devices.forwarding.map((one) => one.device),
    notices: notices.map(({ object, reason, severity, message }) => [object, reason, severity, message.split(":")[0]]),
  };
}

describe("with room for fewer devices than there are", () => {
  it("all are known where there is room for all, loopback aside", () => {
    expect(of(7)).toMatchObject({ names: ["eth0", "dummy0", "br0", "veth5", "veth6", "veth7", "eth1"], notices: [] });
  });

  it.each([
    [6, ["eth0", "br0", "veth5", "veth6", "veth7", "eth1"], [2, 5, 6, 7, 9]],
    [5, ["eth0", "veth5", "veth6", "veth7", "eth1"], [2, 5, 6, 7, 9]],
    [3, ["eth0", "veth5", "eth1"], [2, 5, 9]],
    [1, ["eth0"], [2]],
  ])("of %i uplinks come first, then pods, then their bridges, and the rest is told", (most, names, roles) => {
    const found = of(most);
    expect(found).toMatchObject({ names, roles });
    expect(found.forwarding.every((name) => names.includes(name))).toBe(true);
    const said = `could serve only ${most} of 7 devices of this node`;
    expect(found.notices).toEqual([["Devices", "table-full", "error", said]]);
  });
});
