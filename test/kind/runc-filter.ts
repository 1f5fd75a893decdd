// A container runtime for Docker: runc, but capabilities that this machine has not are not asked for. A privileged container asks for
// all there are, and runc ends when one cannot be had, as on machines that are containers themselves. It becomes runc.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** The numbers of <linux/capability.h>, in order. */
const CAPABILITIES =
  "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    .split(" ")
    .map((name) => `CAP_${name}`);

interface Process {
  capabilities?: Record<string, string[]>;
}

function have(): Set<string> {
  const [, mask = "0"] = /^CapBnd:\s+([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  const bits = BigInt(`0x${mask}`);
  return new Set(CAPABILITIES.filter((_, number) => (bits >> BigInt(number)) & 1n));
}

function filter(file: string): void {
  const spec = JSON.parse(readFileSync(file, "utf8")) as Process & { process?: Process };
  const { capabilities } = spec.process ?? spec;
  if (capabilities === undefined) return;
  const there = have();
  for (const [set, names] of Object.entries(capabilities)) {
    // What is not known here is runc's to refuse.
    capabilities[set] = (names ?? []).filter((name) => there.has(name) || !CAPABILITIES.includes(name));
  }
  writeFileSync(file, JSON.stringify(spec));
}

const args = process.argv.slice(2);
const command = args.findIndex((argument) => ["create", "run", "exec"].includes(argument));
if (command >= 0) {
  for (const [i, argument] of args.entries()) {
    if (i < command) continue;
    if (["--bundle", "-b"].includes(argument)) filter(join(args[i + 1]!, "config.json"));
    if (["--process", "-p"].includes(argument)) filter(args[i + 1]!);
  }
}
process.execve!("/usr/sbin/runc", ["runc", ...args], process.env);
