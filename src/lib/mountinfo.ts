// The mounts of a process as /proc/PID/mountinfo tells them (proc_pid_mountinfo(5)). Pure.

export interface Mount {
  readonly id: number;
  readonly parent: number;
  /** "major:minor" of what is mounted: equal for two mounts of one file system. */
  readonly device: string;
  /** The directory of that file system that is seen here. */
  readonly root: string;
  readonly path: string;
  /** What is mounted below it here is seen where it is shared, too. */
  readonly isShared: boolean;
  /** What is mounted below it elsewhere is seen here, too. */
  readonly isFollower: boolean;
  readonly type: string;
  readonly readOnly: boolean;
}

/** Spaces, tabs, line breaks and backslashes are octal in these files. */
export function unescapePath(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** In the file's order; lines that are none are left out. */
export function parseMounts(text: string): Mount[] {
  return text.split("\n").flatMap((line) => {
    const words = line.split(" ");
    const end = words.indexOf("-");
    const [id, parent, device, root, path, options] = words;
    const [type] = words.slice(end + 1);
    if (end < 6 || id === undefined || parent === undefined || device === undefined) return [];
    if (root === undefined || path === undefined || options === undefined || type === undefined) return [];
    const tags = words.slice(6, end);
    return {
      id: Number(id),
      parent: Number(parent),
      device,
      root: unescapePath(root),
      path: unescapePath(path),
      isShared: tags.some((tag) => tag.startsWith("shared:")),
      isFollower: tags.some((tag) => tag.startsWith("master:")),
      type,
      readOnly: options.split(",").includes("ro"),
    };
  });
}

/** The mount that `path` (absolute, without symbolic links) lies in: of the longest that hold it the last, which covers those before. */
export function mountOf(path: string, mounts: readonly Mount[]): Mount | undefined {
  const holds = ({ path: top }: Mount): boolean => top === "/" || path === top || path.startsWith(`${top}/`);
  let best: Mount | undefined;
  for (const mount of mounts) {
    if (holds(mount) && mount.path.length >= (best?.path.length ?? 0)) best = mount;
  }
  return best;
}
