// Which process listens on a TCP port of this network namespace, as far as its process is in ours: in a container one sees its own alone.
import { readdir, readFile, readlink } from "node:fs/promises";
import { basename } from "node:path";
import { listeningInodes } from "../libbpf/mod.ts";

/** "kube-proxy (process 4711)", "" when that cannot be told. Never rejects. Looks through the descriptors of all processes: not to be asked often. */
export async function portHolder(port: number): Promise<string> {
  const links = new Set((await listeningInodes(port).catch(() => [])).map((inode) => `socket:[${inode}]`));
  if (links.size === 0) return "";
  for (const pid of await namesIn("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    for (const descriptor of await namesIn(`/proc/${pid}/fd`)) {
      if (!links.has(await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => ""))) continue;
      // Not its first thread's name (comm), which a program may set: Node's is called MainThread.
      const [program = ""] = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
      return `${basename(program) || "a process"} (process ${pid})`;
    }
  }
  return "";
}

/** Empty for a process that has ended, or is not ours to look into. */
function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}
