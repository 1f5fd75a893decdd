// Network namespaces for tests of the datapath, and a way for this very process to stand in one: its sockets, sysctls,
// commands and BPF_PROG_TEST_RUN calls are then that namespace's. Only for processes that run tests one after another.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import koffi from "koffi";

const CLONE_NEWNET = 0x40000000;
const libc = koffi.load("libc.so.6");
const setns = libc.func("int setns(int fd, int type)") as (fd: number, type: number) => number;
/** 0 when there is none of this name. */
const ifindexOf = libc.func("unsigned int if_nametoindex(const char *name)") as (name: string) => number;
let serial = 0;

export interface Namespace extends Disposable {
  readonly name: string;
  /** The calling thread stands in this namespace while `body` runs; what `body` awaits too. */
  inside<T>(body: () => T): T;
  /** Runs ip(8) with these words, in this namespace. Several lines are run by one process; throws at the first that fails. */
  ip(...lines: readonly string[]): string;
  /** Runs a command; throws when it fails. */
  run(command: string, ...args: string[]): string;
  sysctl(name: string, value: string | number): void;
  ifindex(device: string): number;
  mac(device: string): string;
}

function enter(path: string): void {
  const fd = fs.openSync(path, "r");
  try {
    if (setns(fd, CLONE_NEWNET) !== 0) throw new Error(`could not enter ${path}`);
  } finally {
    fs.closeSync(fd);
  }
}

/** The calling thread stands in the namespace at this path while `body` runs; what `body` awaits too. */
export function insideNamespace<T>(file: string, body: () => T): T {
  const before = fs.openSync("/proc/thread-self/ns/net", "r");
  const back = (): void => {
    const result = setns(before, CLONE_NEWNET);
    fs.closeSync(before);
    if (result !== 0) throw new Error("could not leave the namespace");
  };
  let pending = false;
  try {
    enter(file);
    const result = body();
    if (result instanceof Promise) {
      pending = true;
      return result.finally(back) as T;
    }
    return result;
  } finally {
    if (!pending) back();
  }
}

/** No other tests' namespaces begin so. */
const PREFIX = "mldp";

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Takes away what a test process left that was killed: namespaces and pins bear the process's number. */
function removeLeftovers(): void {
  const left = (directory: string, pattern: RegExp): string[] =>
    fs.readdirSync(directory).filter((name) => {
      const pid = pattern.exec(name)?.[1];
      return pid !== undefined && !isAlive(Number.parseInt(pid, 36));
    });
  if (fs.existsSync("/run/netns")) {
    for (const name of left("/run/netns", /^mldp([0-9a-z]+)x[0-9a-z]+$/)) execFileSync("ip", ["netns", "del", name]);
  }
  for (const directory of ["/sys/fs/bpf", os.tmpdir()]) {
    if (!fs.existsSync(directory)) continue;
    for (const name of left(directory, /^millrace-datapath-([0-9a-z]+)-/)) {
      fs.rmSync(path.join(directory, name), { recursive: true, force: true });
    }
  }
}

/** A new namespace with its loopback up. */
export function createNamespace(): Namespace {
  if (serial === 0) removeLeftovers();
  const name = `${PREFIX}${process.pid.toString(36)}x${(serial++).toString(36)}`;
  execFileSync("ip", ["netns", "add", name]);
  const file = `/run/netns/${name}`;
  const home = fs.openSync("/proc/thread-self/ns/net", "r");
  const piped = { encoding: "utf8", stdio: "pipe" } as const;
  const leave = (): void => {
    if (setns(home, CLONE_NEWNET) !== 0) throw new Error("could not leave the namespace");
  };
  const inside = <T>(body: () => T): T => insideNamespace(file, body);
  const run = (command: string, ...args: string[]): string =>
    inside(() => execFileSync(command, args, { ...piped, stdio: ["ignore", "pipe", "pipe"] }));
  const link = (device: string): { address: string } =>
    (JSON.parse(run("ip", "-j", "link", "show", "dev", device)) as { address: string }[])[0]!;
  const namespace: Namespace = {
    name,
    inside,
    run,
    ip: (...lines) =>
      lines.length === 1
        ? run("ip", ...lines[0]!.split(" "))
        : inside(() => execFileSync("ip", ["-batch", "-"], { ...piped, input: `${lines.join("\n")}\n` })),
    sysctl: (key, value) => inside(() => fs.writeFileSync(`/proc/sys/${key.replaceAll(".", "/")}`, String(value))),
    ifindex(device) {
      const found = inside(() => ifindexOf(device));
      if (found === 0) throw new Error(`there is no device ${device} in ${name}`);
      return found;
    },
    mac: (device) => link(device).address,
    [Symbol.dispose]() {
      leave();
      fs.closeSync(home);
      execFileSync("ip", ["netns", "del", name]);
    },
  };
  namespace.ip("link set lo up");
  return namespace;
}
