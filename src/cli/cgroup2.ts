// Where this machine has cgroup2 mounted. Never mounts anything.
import { readFile } from "node:fs/promises";
import { unescapePath } from "../lib/mountinfo.ts";
import { HOST_CGROUP } from "../lib/paths.ts";

/** The cgroup2 mount of /proc/mounts that holds most, "" when there is none. */
export async function findCgroup2(): Promise<string> {
  return cgroup2Mount(await readFile("/proc/mounts", "utf8"));
}

/**
 * A cgroup2 mount in the text of /proc/mounts (fstab(5)), "" when there is none: the host's, which a pod has mounted at
 * /host/sys/fs/cgroup, or below it where the host has version 1 beside (unified); else the first one.
 */
export function cgroup2Mount(mounts: string): string {
  const directories = mounts.split("\n").flatMap((line) => {
    const [, directory, type] = line.split(" ");
    return type === "cgroup2" && directory !== undefined ? unescapePath(directory) : [];
  });
  const ofHost = directories.filter((one) => one === HOST_CGROUP || one.startsWith(`${HOST_CGROUP}/`)).sort();
  return ofHost[0] ?? directories[0] ?? "";
}
