// Manifests that come through a pipe (`-f -`, `-f <(…)`): the control process of the lab reads files alone, so that they become one.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** The path under which whoever else reads it finds what `path` means here. What a pipe held is gone when this process ends. */
export function manifestPath(path: string): string {
  if (path !== "-" && !/^\/(?:dev|proc\/self)\/fd\/\d+$/.test(path)) return resolve(path);
  const directory = mkdtempSync(join(tmpdir(), "millrace-"));
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, path === "-" ? "stdin.yaml" : "pipe.yaml");
  writeFileSync(file, readFileSync(path === "-" ? 0 : path));
  return file;
}
