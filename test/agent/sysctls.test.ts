// What the kernel's settings have to do with: forwarding that is off is told, ports are reserved, and a sysctl that cannot be
// written is told too.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { NO_CONNTRACK } from "../../src/agent/conntrack-sysctls.ts";
import { createSysctls } from "../../src/agent/sysctls.ts";

let root = "";
const ports = (): string => join(root, "proc/sys/net/ipv4/ip_local_reserved_ports");
function forwarding(device: string, value: string): void {
  mkdirSync(join(root, "proc/sys/net/ipv4/conf", device), { recursive: true });
  writeFileSync(join(root, "proc/sys/net/ipv4/conf", device, "forwarding"), `${value}\n`);
}
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "sysctls-"));
  forwarding("eth0", "1");
  forwarding("eth1", "0");
  writeFileSync(ports(), "\n");
});
afterEach(() => rmSync(root, { recursive: true }));

const made = (conntrack = NO_CONNTRACK) =>
  createSysctls({
    ports: { first: 49152, last: 65535 },
    stateDir: join(root, "state"),
    conntrack,
    root: `${root}/`,
  });
const EVERYWHERE = ["eth0", "eth1", "gone"].map((device) => ({ device, family: "ipv4" as const }));

it("forwarding that is off is told for the device that needs it, until it is on", () => {
  const sysctls = made();
  sysctls.apply(EVERYWHERE);
  expect(sysctls.notices()).toMatchObject([
    { object: "Device eth1", field: "net.ipv4.conf.eth1.forwarding", reason: "forwarding-off", severity: "error" },
  ]);
  forwarding("eth1", "1");
  sysctls.apply(EVERYWHERE);
  expect(sysctls.notices()).toEqual([]);
});

it("ports that somebody overwrote are reserved again", () => {
  const sysctls = made();
  sysctls.apply([]);
  writeFileSync(ports(), "8080\n");
  sysctls.apply([]);
  expect(readFileSync(ports(), "utf8").trim()).toBe("8080,49152-65535");
});

it("ports that cannot be reserved are told, and forwarding all the same", () => {
  const sysctls = made();
  rmSync(ports());
  mkdirSync(ports());
  expect(() => sysctls.apply(EVERYWHERE)).toThrow();
  expect(sysctls.notices().map(({ reason }) => reason)).toEqual(["forwarding-off", "ports-not-reserved"]);
});

it("what is asked of netfilter is set along with them", () => {
  mkdirSync(join(root, "proc/sys/net/netfilter"), { recursive: true });
  const path = join(root, "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait");
  writeFileSync(path, "60\n");
  const sysctls = made({ ...NO_CONNTRACK, closeWaitSeconds: 3600 });
  sysctls.apply([]);
  expect(readFileSync(path, "utf8")).toBe("3600");
});

it("ports that somebody reserved before are left as they are: nothing is written, nothing is said", () => {
  writeFileSync(ports(), "8080,49152-65535\n");
  const sysctls = made();
  sysctls.apply([]);
  expect(sysctls.notices()).toEqual([]);
  expect(readFileSync(ports(), "utf8")).toBe("8080,49152-65535\n");
  expect(existsSync(join(root, "state"))).toBe(false);
});
