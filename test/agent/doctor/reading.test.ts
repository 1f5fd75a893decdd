// What is read of /proc, from texts as kernels write them.
import { expect, it } from "vitest";
import { findProgram, kernelVersion, runsKubelet, sysctlNumber } from "../../../src/agent/doctor/machine-reading.ts";
import { forwardPolicies, portsIn } from "../../../src/agent/doctor/neighbours-reading.ts";

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

it("policies of legacy FORWARD chains are read too, and hide no chain of nftables'", async () => {
  const answers: Record<string, string> = {
    iptables: "-P FORWARD ACCEPT\n",
    "iptables-legacy": '-P FORWARD DROP\n-A FORWARD -m comment --comment "millrace: translated packets" -j ACCEPT\n',
  };
  const ask = async (command: string) => {
    const text = answers[command];
    return { ok: text !== undefined, text: text ?? "ENOENT", timedOut: false };
  };
  expect(await forwardPolicies(ask, () => ["filter"])).toEqual([
    { command: "iptables", chain: "ip filter FORWARD", policy: "ACCEPT", hasOurs: false },
    { command: "iptables-legacy", chain: "", policy: "DROP", hasOurs: true },
  ]);
});

it.each([
  ["/usr/bin/kubelet --config=x", true],
  ["/var/lib/rancher/k3s/data/current/bin/k3s agent", true],
  ["kubelet", true],
  ["/usr/bin/kubelet-wrapper", false],
  ["vi /etc/kubelet", false],
])("%s is a kubelet: %s", (line, is) => expect(runsKubelet(["/sbin/init", line])).toBe(is));

it("a sysctl that is no number, or not there, is unknown", () => {
  expect(sysctlNumber("/proc/sys/kernel/pid_max")).toBeGreaterThan(0);
  expect(sysctlNumber("/proc/sys/kernel/ostype")).toBeUndefined();
  expect(sysctlNumber("/proc/sys/fs/no-such-thing")).toBeUndefined();
});
