// What is read of /proc, from texts as kernels write them.
import { expect, it } from "vitest";
import { findProgram, kernelVersion } from "../../../src/agent/doctor/machine-reading.ts";
import { portsIn } from "../../../src/agent/doctor/neighbours-reading.ts";

const TCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2809 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0200A8C0:0016 0100A8C0:C350 01 00000000:00000000 02:00000000 00000000     0        0 2 2 0 20 4 1 10 -1
`;
const TCP6 = `  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:2810 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
`;

it("ports that somebody listens on are those of listeners alone", () => {
  expect(portsIn(TCP, ["0A"])).toEqual([10249]);
  expect(portsIn(TCP6, ["0A"])).toEqual([10256]);
  expect(portsIn("", ["0A"])).toEqual([]);
});

it.each([
  ["6.18.44-fc", [6, 18]],
  ["5.10.0-28-amd64", [5, 10]],
  ["strange", [0, 0]],
] as const)("the version of %s", (text, version) => expect(kernelVersion(text)).toEqual(version));

it("programs are found on the path, and where administrators' are", () => {
  expect(findProgram("sh", { PATH: "/nowhere:/bin" })).toBe("/bin/sh");
  expect(findProgram("no-such-program", { PATH: "/bin" })).toBeUndefined();
});
