import { describe, expect, it } from "vitest";
import { portsLeft } from "../../src/agent/cleanup.ts";

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
