// Addresses of endpoints as they stand in objects: the quick way decides as the careful one does.
import { describe, expect, it } from "vitest";
import { addressBytes, readAddress, storedAddress, unusableReason } from "../../src/lib/address.ts";
import { endpointAddress } from "../../src/lib/endpoint-address.ts";

describe("an endpoint's address", () => {
  const random = (() => {
    let state = 12345;
    return (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
  })();
  const edges = [
    ...["0.0.0.0", "1.2.3.4", "01.2.3.4", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1..2.3", "1.2.3.", ".1.2.3", "127.0.0.1"],
    ...[
      "169.253.1.1",
      "169.254.1.1",
      "223.255.255.255",
      "224.0.0.1",
      "255.255.255.255",
      " 1.2.3.4",
      "1.2.3.4 ",
      "1.2.3.0x4",
    ],
    ...[
      "",
      "::",
      "::1",
      "::2",
      "fd00::1",
      "FD00::1",
      "fd00:0::1",
      "fd00::1::2",
      "fe80::1",
      "febf::1",
      "fec0::1",
      "ff02::1",
    ],
    ...[
      "2001:db8::1%eth0",
      "::ffff:1.2.3.4",
      "::ffff:102:304",
      "2001:db8:0:0:1::1",
      "2001:db8:0:1:1:1:1:1",
      "1:2:3:4:5:6:7:8",
    ],
    ...[
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4:5:6:7",
      "g::1",
      "2001:db8::zz",
      "12345::1",
      "2001::",
      ":1",
      "1:",
      "x".repeat(500),
    ],
  ];
  const drawn = Array.from({ length: 2000 }, (_, i) => {
    const bytes = addressBytes("::");
    if (i % 2 === 0) {
      bytes[10] = 0xff;
      bytes[11] = 0xff;
      for (let at = 12; at < 16; at++) bytes[at] = random(256);
    } else for (let at = 0; at < 16; at++) bytes[at] = random(3) === 0 ? 0 : random(256);
    return readAddress(bytes);
  });

  it("is what address.ts makes of it", () => {
    const wrong = [...edges, ...drawn].filter((text) => {
      const stored = storedAddress(text);
      const usable = stored !== undefined && unusableReason(stored) === undefined ? stored : undefined;
      const found = endpointAddress(text);
      return (typeof found === "string" ? found : undefined) !== usable;
    });
    expect(wrong).toEqual([]);
  });

  it.each([
    ["010.099.000.001", "10.99.0.1"],
    ["::ffff:10.99.0.1", "10.99.0.1"],
    ["::FFFF:a63:1", "10.99.0.1"],
    ["FD00:0::1", "fd00::1"],
  ])("%s, as it was stored long ago, is %s", (text, address) => {
    expect(endpointAddress(text)).toBe(address);
  });

  it.each([
    ["0127.0.0.1", "may not be a loopback address"],
    ["::", "may not be unspecified"],
    ["fe80::1%eth0", "must be a valid IP address"],
    ["10.0.0.0400", "must be a valid IP address"],
  ])("%s is refused: %s", (text, why) => {
    expect(endpointAddress(text)).toEqual({ why });
  });
});
