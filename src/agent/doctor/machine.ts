// What is said of the machine and of this process on it. Pure.
import type { Mount } from "../../lib/mountinfo.ts";
import { mountOf } from "../../lib/mountinfo.ts";
import { bytes } from "../../lib/text.ts";
import { error, type Finding, ok, someOf, warning } from "./finding.ts";

export interface MachineFacts {
  readonly isRoot: boolean;
  /** CapEff of proc_pid_status(5). */
  readonly capabilities: bigint;
  /** Of process.arch. */
  readonly architecture: string;
  /** That this process may use. */
  readonly memoryBytes: number;
  readonly cpus: number;
  /** What the flow tables take by the options: most of all maps. */
  readonly flowBytes: number;
  /** "1.1"; "" when it cannot be loaded. */
  readonly libbpf: string;
  /** Why it cannot be loaded, "" when it can. */
  readonly libbpfProblem: string;
  /** "24.1.0". */
  readonly node: string;
  /** Those of `PROGRAMS` that are there. */
  readonly programs: readonly string[];
  readonly kernel: readonly [major: number, minor: number];
  readonly pinDir: string;
  readonly isPinDirBpffs: boolean;
  readonly mounts: readonly Mount[];
  /** Of the machine's first process; undefined where they are not to be seen. */
  readonly machineMounts: readonly Mount[] | undefined;
  readonly inPod: boolean;
  /** Why an agent would not mount a bpffs itself, "" when it would. */
  readonly bpffsRefusal: string;
  readonly stateDir: string;
  /** Why it cannot be written, "": it can, or can be made. */
  readonly stateDirProblem: string;
  readonly canWriteSysctls: boolean;
  /** RLIMIT_MEMLOCK in bytes; Infinity: none. */
  readonly memlockBytes: number;
  /** fs.inotify.max_user_instances: inotify instances of each user, of all containers together; undefined where it does not say. */
  readonly inotifyInstances: number | undefined;
  /** A kubelet runs on this machine: in a pod one does. */
  readonly hasKubelet: boolean;
  /** Seconds by which this process's time namespace shifts the boot clock. */
  readonly bootOffsetSeconds: number;
  /** The chosen word of /sys/kernel/security/lockdown: "none", "integrity", "confidentiality"; "" when it does not say. */
  readonly lockdown: string;
  /** SELinux enforces. */
  readonly selinux: boolean;
  /** A seccomp filter is in force. */
  readonly seccomp: boolean;
}

/** Programs of others that an agent may call, with what for. */
export const PROGRAMS: Readonly<Record<string, string>> = {
  iptables: "firewall",
  ip6tables: "firewall",
  nft: "firewall",
  ethtool: "checksums",
  nsenter: "checksums",
};

/** Of linux/capability.h. */
const CAPABILITIES: readonly (readonly [name: string, bit: number])[] = [
  ["NET_ADMIN", 12],
  ["NET_RAW", 13],
  ["PERFMON", 38],
  ["BPF", 39],
];
const SYS_ADMIN = 21;

const has = (mask: bigint, bit: number): boolean => (mask & (1n << BigInt(bit))) !== 0n;
const isBefore = ([major, minor]: MachineFacts["kernel"], toMajor: number, toMinor: number): boolean =>
  major < toMajor || (major === toMajor && minor < toMinor);

/** Whether programs and maps can be looked at, and tried. */
export function mayUseBpf({ capabilities }: Pick<MachineFacts, "capabilities">): boolean {
  return has(capabilities, SYS_ADMIN) || (has(capabilities, 39) && has(capabilities, 38) && has(capabilities, 12));
}

export const isAdmin = ({ capabilities }: Pick<MachineFacts, "capabilities">): boolean => has(capabilities, SYS_ADMIN);

export function judgeMachine(facts: MachineFacts): Finding[] {
  return [
    rights(facts),
    architecture(facts),
    memory(facts),
    libbpf(facts),
    node(facts),
    programs(facts),
    bpffs(facts),
    // What this user may not write, an agent may.
    ...(facts.isRoot ? [state(facts), sysctls(facts)] : []),
    memlock(facts),
    ...inotify(facts),
    facts.bootOffsetSeconds === 0
      ? ok("machine.clock", "the boot clock is the kernel's own")
      : error(
          "machine.clock",
          `a time namespace shifts the boot clock by ${facts.bootOffsetSeconds} s: what is announced would seem stale to the kernel, or never end`,
          "run it in the machine's time namespace",
        ),
    security(facts),
  ];
}

function rights({ isRoot, capabilities, kernel }: MachineFacts): Finding {
  const lacking = CAPABILITIES.filter(([, bit]) => !has(capabilities, bit)).map(([name]) => name);
  if (lacking.length === 0 && !isBefore(kernel, 5, 8)) {
    return ok("machine.rights", `${isRoot ? "root" : "not root"}, with every capability that an agent needs`);
  }
  if (has(capabilities, SYS_ADMIN)) {
    // It stands for BPF and PERFMON on every kernel.
    const left = lacking.filter((name) => name.startsWith("NET_"));
    if (left.length === 0)
      return ok("machine.rights", `${isRoot ? "root" : "not root"}, with SYS_ADMIN, NET_ADMIN and NET_RAW`);
    return error("machine.rights", `${someOf(left)} is lacking`, `grant it (securityContext.capabilities.add)`);
  }
  const why = isBefore(kernel, 5, 8)
    ? "SYS_ADMIN is lacking, which this kernel asks for (BPF and PERFMON came with 5.8)"
    : `the capabilities ${someOf(lacking)} are lacking`;
  return isRoot
    ? error(
        "machine.rights",
        `${why}: no program can be loaded or looked at`,
        "grant them (securityContext.capabilities.add)",
      )
    : warning(
        "machine.rights",
        "not root: programs, maps, rules and some processes cannot be looked at, nor whether an agent may write where it must",
        "run it as root (sudo) to see the rest",
      );
}

function architecture({ architecture: name }: MachineFacts): Finding {
  return ["x64", "arm64"].includes(name)
    ? ok("machine.architecture", name === "x64" ? "x86-64" : "ARM, 64 bits")
    : error(
        "machine.architecture",
        `the architecture ${name} is not supported`,
        "use a machine of x86-64 or 64-bit ARM",
      );
}

/** All maps but the flow tables, by their default sizes. */
const OTHER_MAPS = 41 * 2 ** 20;
/** An agent with its threads, beside the maps. */
const AGENT_BYTES = 160 * 2 ** 20;

function memory({ memoryBytes, cpus, flowBytes }: MachineFacts): Finding {
  const says = `${bytes(memoryBytes)} of memory, ${cpus} processor${cpus === 1 ? "" : "s"}; flow tables take ${bytes(flowBytes)}`;
  return memoryBytes >= 2 * (flowBytes + OTHER_MAPS + AGENT_BYTES)
    ? ok("machine.memory", says)
    : warning("machine.memory", `${says} of it`, "give it more, or smaller maps (--max-flows, --max-openings)");
}

function libbpf({ libbpf: version, libbpfProblem }: MachineFacts): Finding {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (libbpfProblem !== "") {
    return error("machine.libbpf", libbpfProblem, "install libbpf 1.1 or later (Debian: apt-get install libbpf1)");
  }
  return major > 1 || (major === 1 && minor >= 1)
    ? ok("machine.libbpf", `libbpf ${version}`)
    : error(
        "machine.libbpf",
        `libbpf ${version} is too old`,
        "install libbpf 1.1 or later (Debian: apt-get install libbpf1)",
      );
}

function node({ node: version }: MachineFacts): Finding {
  return Number.parseInt(version, 10) >= 24
    ? ok("machine.node", `Node.js ${version}`)
    : error("machine.node", `Node.js ${version} is too old`, "use Node.js 24 or later");
}

function programs({ programs: found }: MachineFacts): Finding {
  const lacks = (name: string): boolean => !found.includes(name);
  const missing: string[] = [];
  if (lacks("iptables") && lacks("nft"))
    missing.push("iptables and nft: a firewall that drops what is forwarded is not noticed");
  if (lacks("ethtool")) missing.push("ethtool: --xdp=on leaves every veth to tc");
  const what = `found ${someOf([...found].sort(), 10) || "none"}`;
  return missing.length === 0
    ? ok("machine.programs", what)
    : warning(
        "machine.programs",
        `${what}; there is no ${missing.join("; no ")}`,
        "install what you need of them, beside the agent",
      );
}

function bpffs(facts: MachineFacts): Finding {
  const { pinDir, mounts, machineMounts, inPod, isPinDirBpffs, bpffsRefusal } = facts;
  const check = "machine.bpffs";
  if (!isPinDirBpffs) {
    if (!pinDir.startsWith("/sys/fs/bpf/")) {
      return error(check, `${pinDir} is on no bpffs`, "mount one there, or use a directory below /sys/fs/bpf");
    }
    if (bpffsRefusal === "") return ok(check, "no bpffs is mounted at /sys/fs/bpf: an agent mounts one");
    return error(
      check,
      `no bpffs is mounted at /sys/fs/bpf, and an agent would not mount one: ${reason(bpffsRefusal)}`,
      remedy(bpffsRefusal),
    );
  }
  const mount = mountOf(pinDir, mounts);
  if (mount === undefined) return ok(check, `${pinDir} is on a bpffs`);
  const theirs = machineMounts?.some(({ type, device }) => type === "bpf" && device === mount.device);
  if (theirs === false) {
    return error(
      check,
      `the bpffs at ${mount.path} is not the host's: pins end with this container, and Services with them`,
      "mount the host's /sys/fs/bpf (hostPath, mountPropagation HostToContainer) behind an init container that runs 'millrace prepare'",
    );
  }
  const whose = theirs === true ? "the machine's" : inPod ? "mounted into this pod" : "mounted";
  return ok(check, `the bpffs at ${mount.path} is ${whose}`);
}

const reason = (refusal: string): string => refusal.split("; ", 1)[0] ?? "";
const remedy = (refusal: string): string => refusal.slice(reason(refusal).length + 2);

function state({ stateDir, stateDirProblem, mounts, inPod }: MachineFacts): Finding {
  const check = "machine.state";
  if (stateDirProblem !== "") {
    return warning(
      check,
      `${stateDir} cannot be written: ${stateDirProblem}`,
      "make it writable: ids, and with manifests addresses, are kept there over a restart",
    );
  }
  const type = mountOf(stateDir, mounts)?.type ?? "";
  return ["overlay", "tmpfs"].includes(type) && (inPod || type === "tmpfs")
    ? warning(
        check,
        `${stateDir} is on ${type}: what is kept there goes with this ${inPod ? "pod" : "boot"}`,
        "use a directory of the host (hostPath)",
      )
    : ok(check, `${stateDir} can be written`);
}

function sysctls({ canWriteSysctls }: MachineFacts): Finding {
  return canWriteSysctls
    ? ok("machine.sysctls", "/proc/sys can be written")
    : warning(
        "machine.sysctls",
        "/proc/sys is read-only here: an agent cannot reserve its source ports, nor set netfilter's limits",
        "have 'millrace prepare' set them in a privileged init container, or set them on the machine",
      );
}

/** CAP_SYS_RESOURCE: the limit can be raised, and libbpf does. */
const SYS_RESOURCE = 24;

function memlock({ kernel, memlockBytes, flowBytes, capabilities }: MachineFacts): Finding {
  const check = "machine.memlock";
  if (!isBefore(kernel, 5, 11))
    return ok(check, "maps are charged to the memory cgroup: no limit of locked memory counts");
  if (memlockBytes >= flowBytes + OTHER_MAPS || has(capabilities, SYS_RESOURCE))
    return ok(check, "the limit of locked memory is no obstacle");
  return error(
    check,
    `the limit of locked memory is ${bytes(memlockBytes)}, and maps take ${bytes(flowBytes + OTHER_MAPS)}`,
    "raise it (ulimit -l unlimited, LimitMEMLOCK=infinity), or grant SYS_RESOURCE",
  );
}

/** Linux' default of 128 is used up by a few dozen containers whose programs watch files. */
const ENOUGH_INSTANCES = 512;

function inotify({ inotifyInstances, hasKubelet }: MachineFacts): Finding[] {
  const check = "machine.inotify";
  if (!hasKubelet || inotifyInstances === undefined) return [];
  return inotifyInstances >= ENOUGH_INSTANCES
    ? [ok(check, `each user may have ${inotifyInstances} inotify instances`)]
    : [
        warning(
          check,
          `each user may have ${inotifyInstances} inotify instances (fs.inotify.max_user_instances), all containers together: with none left kubelet, containerd and kube-proxy fail with "too many open files"`,
          `sysctl -w fs.inotify.max_user_instances=${ENOUGH_INSTANCES} on the machine, and a line in /etc/sysctl.d that keeps it`,
        ),
      ];
}

function security({ lockdown, selinux, seccomp }: MachineFacts): Finding {
  const check = "machine.security";
  const there = [
    ...(selinux ? ["SELinux enforces"] : []),
    ...(seccomp ? ["a seccomp filter is in force"] : []),
    ...(lockdown === "" || lockdown === "none" ? [] : [`the kernel is locked down (${lockdown})`]),
  ];
  if (there.length === 0) return ok(check, "no lockdown, SELinux or seccomp filter is in the way");
  // What they forbid shows where programs are loaded.
  return ok(check, `${someOf(there)}: whether programs load all the same is said below`);
}
