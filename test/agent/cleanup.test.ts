import { describe, expect, it } from "vitest";
import { portsLeft, releaseReserved } from "../../src/agent/cleanup.ts";

const snat = { first: 49_152, last: 65_535 };

describe("ports that stay reserved after cleanup", () => {
  it.each([
    ["are none when none are reserved", snat, "\n", []],
    ["are none when only a part of an agent's is", snat, "8080,50000-50100\n", []],
    ["are none when no agent's pins tell its ports", undefined, "49152-65535\n", []],
    [
      "are told, with what takes them out and leaves others alone",
      snat,
      "8080,49152-65535\n",
      [
        "ports 49152-65535 in net.ipv4.ip_local_reserved_ports: /var/lib/millrace has no record that Millrace reserved them; name the agent's --state-dir, or: sysctl -w net.ipv4.ip_local_reserved_ports=8080",
      ],
    ],
    ["are told when there are no others", snat, "49152-65535\n", [expect.stringMatching(/reserved_ports=''$/)]],
  ])("%s", (_, range, reserved, left) => {
    expect(portsLeft(range, reserved, "/var/lib/millrace")).toEqual(left);
  });
});

describe("ports that were reserved", () => {
  const refuse = (code: string) => () => {
    throw Object.assign(new Error(`${code}: no`), { code });
  };

  it("are given up, or told of where nobody knows whose they are", () => {
    const told = () => ["told"];
    expect(releaseReserved(() => true, told)).toEqual({
      removed: [expect.stringMatching(/^ports reserved/)],
      left: [],
    });
    expect(releaseReserved(() => false, told)).toEqual({ removed: [], left: ["told"] });
  });

  it("stay where /proc/sys is read-only, which is said; another error is one", () => {
    const { removed, left } = releaseReserved(refuse("EROFS"), () => []);
    expect([removed, left]).toEqual([[], [expect.stringMatching(/\(EROFS\): run millrace cleanup once more/)]]);
    expect(() => releaseReserved(refuse("EIO"), () => [])).toThrow("EIO");
  });
});
