// Files of the state directory: written beside, flushed, renamed, and the directory flushed, so that a crash or a power cut at any
// moment leaves the whole old one or the whole new one. Most of them only spare work: those are read and written without a throw.
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { Failure } from "./errors.ts";

/** The file's text; undefined when there is none. For what cannot be made anew. @throws Failure "machine" when it cannot be read */
export async function readStateText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new Failure("machine", path, `could not read ${path}: ${(cause as Error).message}`, { cause });
  }
}

/** Of this process: why a file could not be written when that was tried last, by its path. */
const troubles = new Map<string, string>();

/** Files that only spare work and could not be written, with the reason. */
export function stateTroubles(): ReadonlyMap<string, string> {
  return troubles;
}

/** What a file that only spares work holds as JSON; undefined when it is absent, cannot be read or is damaged. */
export function recall(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
}

/** Keeps `value` for `recall`. False when that was not possible: see `stateTroubles`. */
export function remember(path: string, value: unknown): boolean {
  try {
    replaceFile(path, `${JSON.stringify(value)}\n`);
    troubles.delete(path);
    return true;
  } catch (error) {
    troubles.set(path, (error as Error).message);
    return false;
  }
}

/** The content is on the disk, under its name, when this returns. @throws Failure "machine" */
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

/** `writeStateFile` at once, for what is small. @throws Failure "machine" */
export function replaceFile(path: string, text: string): void {
  const beside = `${path}.new`;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    flushed(beside, "w", (file) => writeFileSync(file, text));
    renameSync(beside, path);
    flushed(dirname(path), "r", () => undefined);
  } catch (cause) {
    try {
      rmSync(beside, { force: true });
    } catch {
      // Whatever lies there, it was not written here.
    }
    throw new Failure("machine", path, `could not write ${path}: ${(cause as Error).message}`, { cause });
  }
}

function flushed(path: string, flags: string, use: (file: number) => void): void {
  const file = openSync(path, flags, 0o600);
  try {
    use(file);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
