// A JSON file that is always whole: written beside, flushed, renamed. What is in it survives a crash at any moment.
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { Failure } from "./errors.ts";

/** The file's text; undefined when there is none. */
export async function readStateText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new Failure("machine", path, `could not read ${path}: ${(cause as Error).message}`, { cause });
  }
}

/** The file's content; undefined when there is none. Throws a Failure that says what to do when it is no JSON. */
export async function readStateFile(path: string): Promise<unknown> {
  const text = await readStateText(path);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Failure(
      "machine",
      path,
      `could not read ${path}: it is damaged; restore it, or remove it to allocate all addresses anew`,
      { cause },
    );
  }
}

/** The content is on the disk, under its name, when this returns. */
export async function writeStateFile(path: string, content: string | Iterable<string>): Promise<void> {
  const directory = dirname(path);
  const beside = `${path}.tmp`;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const file = await open(beside, "w", 0o600);
    try {
      if (typeof content === "string") await file.writeFile(content);
      else for (const piece of content) await file.appendFile(piece);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
    const folder = await open(directory, "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (cause) {
    await rm(beside, { force: true }).catch(() => {});
    throw new Failure("machine", path, `could not write ${path}: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Replaces a small file by rename, at once: whole at any moment, but after a power failure it may be the one before. Makes its
 * directory. Throws what the file system does.
 */
export function replaceFile(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
