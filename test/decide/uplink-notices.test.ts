import { describe, expect, it } from "vitest";
import type { DeviceRole } from "../../src/decide/device-roles.ts";
import type { Device } from "../../src/decide/network.ts";
import { uplinkNotices } from "../../src/decide/uplink-notices.ts";

const device = (name: string, ifindex: number, linkType = "ether") => ({ name, ifindex, linkType }) as Device;
const LO = device("lo", 1, "loopback");
const ETH0 = device("eth0", 2);
const VETH = device("veth1", 3);
const roles = (...list: [number, DeviceRole][]) => new Map(list);

const told = (devices: readonly Device[], named: readonly string[], found: ReadonlyMap<number, DeviceRole>) =>
  uplinkNotices({ devices }, named, found).map(({ severity, reason, object, message }) => ({
    what: `${severity} ${reason} ${object}`,
    message,
  }));

describe("notices about uplinks", () => {
  it("are none where one is found, or the named ones are there", () => {
    expect(told([LO, ETH0], [], roles([2, "uplink"]))).toEqual([]);
    expect(told([LO, ETH0], ["eth0"], roles([2, "uplink"]))).toEqual([]);
  });

  it("say which name no device has, and which was meant", () => {
    const found = told([LO, ETH0, VETH], ["eth9", "eth0"], roles([2, "uplink"], [3, "pod"]));
    expect(found).toEqual([
      {
        what: "error no-such-device Device eth9",
        message: "no device is called eth9; there are eth0; did you mean eth0?",
      },
    ]);
  });

  it("say that there is no uplink, with what to do", () => {
    expect(told([LO], [], roles())).toEqual([
      {
        what: "error no-uplink Devices",
        message: expect.stringMatching(/nothing from outside.*name it with --devices; there is none but loopback$/),
      },
    ]);
    expect(told([LO, VETH], [], roles([3, "pod"])).map(({ what }) => what)).toEqual(["error no-uplink Devices"]);
  });

  it("say both when only a wrong name was given", () => {
    const found = told([LO, ETH0], ["eth9"], roles());
    expect(found.map(({ what }) => what)).toEqual(["error no-such-device Device eth9", "error no-uplink Devices"]);
    expect(found[1]?.message).toContain("correct --devices");
  });

  it("list some devices, not hundreds", () => {
    const many = Array.from({ length: 300 }, (_, i) => device(`dummy${i}`, 10 + i));
    expect(told(many, [], roles())[0]?.message).toMatch(/dummy0, .*dummy7 and 292 more$/);
  });
});
