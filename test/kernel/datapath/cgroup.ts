// A cgroup with the socket programs on it, and this process inside while it lasts. Only for processes that run tests.
import fs from "node:fs";
import path from "node:path";
import type { Dataplane } from "../../../src/datapath/dataplane.ts";
import { attachCgroup, isCgroup2 } from "../../../src/libbpf/mod.ts";

const PROGRAMS = ["connect", "sendmsg", "recvmsg", "peername"].flatMap((hook) => [`sock_${hook}4`, `sock_${hook}6`]);

/** Attaches the socket programs of `dataplane` for this process until disposed. */
export function joinCgroup(dataplane: Dataplane): Disposable {
  const root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].find(isCgroup2);
  if (root === undefined) throw new Error("no cgroup2 is mounted");
  const before = /^0::(.*)$/m.exec(fs.readFileSync("/proc/self/cgroup", "utf8"))?.[1] ?? "/";
  const directory = path.join(root, `millrace-datapath-${process.pid}`);
  fs.mkdirSync(directory);
  const links: Disposable[] = [];
  const dispose = (): void => {
    for (const link of links) link[Symbol.dispose]();
    fs.writeFileSync(path.join(root, before, "cgroup.procs"), String(process.pid));
    fs.rmdirSync(directory);
  };
  try {
    for (const program of PROGRAMS) links.push(attachCgroup(dataplane.program(program), directory));
    fs.writeFileSync(path.join(directory, "cgroup.procs"), String(process.pid));
  } catch (error) {
    dispose();
    throw error;
  }
  return { [Symbol.dispose]: dispose };
}
