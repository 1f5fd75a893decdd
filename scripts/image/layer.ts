// A layer: a directory as a tar archive, compressed, and the digests of both. The same files give the same bytes, whoever made
// them, when, and in which order.
import { createHash } from "node:crypto";
import {
  chmodSync,
  createReadStream,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { runChecked } from "../../src/lab/shell.ts";
import { MODES } from "./recipe.ts";

export interface Layer {
  /** What is in it, for people. */
  readonly title: string;
  /** The compressed archive. */
  readonly file: string;
  /** Of the compressed archive, as `sha256:…`. */
  readonly digest: string;
  /** Of the archive itself. */
  readonly diffId: string;
  /** Bytes, compressed and not. */
  readonly size: number;
  readonly unpacked: number;
}

/** What GNU tar is told so that nothing but names, modes and contents counts. */
export const SAME_BYTES: readonly string[] = [
  ...["--format=ustar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"],
  "--hard-dereference",
];

/**
 * Packs a directory. Compressing is what takes time: the result is kept in `cache` by the archive's digest. By gzip, which every
 * Docker and containerd reads.
 */
export async function packLayer(title: string, directory: string, cache: string): Promise<Layer> {
  mkdirSync(cache, { recursive: true });
  setModes(directory);
  const tar = join(cache, `${process.pid}.tar`);
  try {
    await runChecked("tar", ["-C", directory, ...SAME_BYTES, "-cf", tar, ...readdirSync(directory).sort()], {
      env: { ...process.env, LC_ALL: "C" },
    });
    const diffId = await digestOf(tar);
    const file = join(cache, `${diffId.slice("sha256:".length)}.tar.gz`);
    const unpacked = statSync(tar).size;
    if (!existsSync(file)) {
      await runChecked("gzip", ["-9", "--no-name", "--keep", tar]);
      renameSync(`${tar}.gz`, file);
    }
    return { title, file, digest: await digestOf(file), diffId, size: statSync(file).size, unpacked };
  } finally {
    rmSync(tar, { force: true });
    rmSync(`${tar}.gz`, { force: true });
  }
}

/** Whoever builds has another umask than others: what may be run stays so, nothing is set-user-ID. */
export function setModes(directory: string, path = ""): void {
  const entry = lstatSync(join(directory, path));
  if (entry.isSymbolicLink()) return;
  const usual = entry.isDirectory() || (entry.mode & 0o100) !== 0 ? 0o755 : 0o644;
  chmodSync(join(directory, path), MODES[path] ?? usual);
  if (!entry.isDirectory()) return;
  for (const name of readdirSync(join(directory, path))) setModes(directory, path === "" ? name : `${path}/${name}`);
}

export async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const part of createReadStream(path)) hash.update(part as Buffer);
  return `sha256:${hash.digest("hex")}`;
}
