// Where this machine has cgroup2 mounted. Never mounts anything.
import { readFile } from "node:fs/promises";

/** The first cgroup2 mount of /proc/mounts, "" when there is none. */
export async function findCgroup2(): Promise<string> {
  return cgroup2Mount(await readFile("/proc/mounts", "utf8"));
}

/** The first cgroup2 mount in the text of /proc/mounts (fstab(5): spaces and the like are octal there), "" when there is none. */
export function cgroup2Mount(mounts: string): string {
  for (const line of mounts.split("\n")) {
    const [, directory, type] = line.split(" ");
    if (type !== "cgroup2" || directory === undefined) continue;
    return directory.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  }
  return "";
}
