// What the binding's tests share: the compiled sample object, a bpffs, a cgroup and network namespaces of their own, and a
// count of open BPF descriptors. Everything made is a Disposable that takes it away.
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { isBpffs, isCgroup2, mountBpffs } from "../../../src/libbpf/mod.ts";

const here = path.dirname(fileURLToPath(import.meta.url));
let serial = 0;

/** A name that no other test process uses, 15 bytes at most. */
export function uniqueName(prefix: string): string {
  return `${prefix}${process.pid.toString(36)}x${(serial++).toString(36)}`.slice(0, 15);
}

export interface Directory extends Disposable {
  readonly path: string;
}

export function temporaryDirectory(): Directory {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "millrace-libbpf-"));
  return { path: directory, [Symbol.dispose]: () => fs.rmSync(directory, { recursive: true, force: true }) };
}

/** Compiles a C file beside this one to `directory` and returns the object's path. */
export function compile(source: string, directory: string): string {
  const object = path.join(directory, source.replace(/\.c$/, ".o"));
  const include = `/usr/include/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`;
  const flags = ["-target", "bpf", "-g", "-O2", "-Wall", "-Werror", `-I${include}`];
  execFileSync("clang-16", [...flags, "-c", path.join(here, source), "-o", object], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  return object;
}

/** A bpffs mounted on a directory of its own. */
export function temporaryBpffs(): Directory {
  const directory = temporaryDirectory();
  mountBpffs(directory.path);
  return {
    path: directory.path,
    [Symbol.dispose]() {
      if (isBpffs(directory.path)) execFileSync("umount", [directory.path]);
      directory[Symbol.dispose]();
    },
  };
}

/** An empty cgroup of its own. */
export function temporaryCgroup(): Directory {
  const root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].find(isCgroup2);
  if (root === undefined) throw new Error("no cgroup2 is mounted");
  const directory = path.join(root, uniqueName("millrace-"));
  fs.mkdirSync(directory);
  return {
    path: directory,
    [Symbol.dispose]() {
      if (fs.existsSync(directory)) fs.rmdirSync(directory);
    },
  };
}

export interface Namespace extends Disposable {
  readonly name: string;
  /** Runs a command inside; throws when it fails. */
  run(command: string, ...args: string[]): string;
  /** Runs a scenario of scenarios.ts inside and returns what it answered; throws what it threw. */
  scenario<T>(name: string, args: unknown, environment?: Record<string, string>): T;
}

/** A network namespace with a veth pair v0, v1, both up. */
export function temporaryNamespace(): Namespace {
  const name = uniqueName("mlr");
  execFileSync("ip", ["netns", "add", name]);
  // Not "ip netns exec": that mounts another /sys, without bpffs and cgroups.
  const enter = ["nsenter", `--net=/run/netns/${name}`, "--"] as const;
  const run = (command: string, ...args: string[]): string =>
    execFileSync(enter[0], [...enter.slice(1), command, ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  const dispose = (): void => void execFileSync("ip", ["netns", "del", name]);
  try {
    run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1");
    run("ip", "link", "set", "v0", "up");
    run("ip", "link", "set", "v1", "up");
  } catch (error) {
    dispose();
    throw error;
  }
  return {
    name,
    run,
    scenario(scenario, args, environment = {}) {
      const child = spawnSync(
        enter[0],
        [...enter.slice(1), process.execPath, path.join(here, "scenarios.ts"), scenario, JSON.stringify(args)],
        { encoding: "utf8", timeout: 60_000, env: { ...process.env, ...environment, NODE_OPTIONS: "" } },
      );
      if (child.status !== 0) throw new Error(`scenario ${scenario} ended with ${child.status}: ${child.stderr}`);
      return JSON.parse(child.stdout);
    },
    [Symbol.dispose]: dispose,
  };
}

/** Open descriptors of BPF objects, sockets of netlink not counted, as sorted text. */
export function bpfDescriptors(): string[] {
  const found: string[] = [];
  for (const fd of fs.readdirSync("/proc/self/fd")) {
    let target: string;
    try {
      target = fs.readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      continue;
    }
    if (target.startsWith("anon_inode:bpf") || target === "anon_inode:btf") found.push(`${fd} ${target}`);
  }
  return found.sort();
}

/** All open descriptors of this process, as sorted text. */
export function allDescriptors(): string[] {
  return fs
    .readdirSync("/proc/self/fd")
    .flatMap((fd) => {
      try {
        return [`${fd} ${fs.readlinkSync(`/proc/self/fd/${fd}`)}`];
      } catch {
        return [];
      }
    })
    .sort();
}

/** Sets environment variables until disposed. */
export function withEnvironment(values: Record<string, string>): Disposable {
  const before = Object.keys(values).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, values);
  return {
    [Symbol.dispose]() {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    },
  };
}
