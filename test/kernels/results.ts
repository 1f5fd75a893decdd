// What was found on a kernel, kept per kernel, question and hash of everything that the answer depends on, so that a run that was
// cut short resumes. An answer with something wrong in it is asked for again.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import type { TestFileReport } from "./guest/file-reporter.ts";
import type { LoadsReport } from "./guest/loads.ts";
import type { SmokeCheck } from "./guest/smoke.ts";
import type { KernelFiles } from "./kernel-files.ts";
import { objectDigest } from "./object-digest.ts";
import { OBJECTS_DIRECTORY, REPOSITORY, RESULTS } from "./paths.ts";

export interface KernelResults {
  readonly files: KernelFiles;
  loads?: LoadsReport;
  smoke?: readonly SmokeCheck[];
  nic?: readonly SmokeCheck[];
  readonly tests: Map<string, TestFileReport>;
  /** What the kernel itself complained of, while it was asked anything. */
  readonly complaints: string[];
  /** Questions that were not answered, and why. */
  readonly problems: string[];
}

/** Sources whose change may change how the kernel is met; the rest of src/ decides what is asked of it, not how. */
const COUNTED = ["test/", "src/libbpf/", "src/datapath/"];

/** Relative imports of a source, as paths from the project's folder. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(REPOSITORY, file), "utf8");
  return [...text.matchAll(/\b(?:from|import)\s*\(?\s*"(\.[^"]+\.ts)"/g)]
    .map((match) => relative(REPOSITORY, resolve(REPOSITORY, dirname(file), match[1]!)))
    .filter((path) => COUNTED.some((prefix) => path.startsWith(prefix)) && existsSync(join(REPOSITORY, path)));
}

/** A source and those of COUNTED that it stands on. */
function sourcesOf(entry: string): string[] {
  const found = new Set([entry]);
  for (const file of found) for (const imported of importsOf(file)) found.add(imported);
  return [...found].sort();
}

function filesUnder(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8", withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

function hashOf(paths: readonly string[]): string {
  const hash = createHash("sha256");
  for (const path of paths) {
    const bytes = readFileSync(path);
    hash.update(`${relative(REPOSITORY, path)}\0`);
    hash.update(path.endsWith(".bpf.o") ? objectDigest(bytes) : bytes);
  }
  return hash.digest("hex").slice(0, 16);
}

/** Every object that was built, and the types of its maps. */
const built = (): string[] => [...filesUnder(OBJECTS_DIRECTORY), join(REPOSITORY, "src/datapath/layout.gen.ts")];

/** Of every object that was built, as object-digest.ts has it. */
export function objectsHash(): string {
  return hashOf(built());
}

/** As people compare it. */
export function shortHash(hash: string): string {
  return hash.slice(0, 8);
}

/** Of what an answer depends on: the objects, and the sources of `entry`. With `bundle`, of the built program too. */
export function questionHash(entry: string, bundle = false): string {
  const sources = sourcesOf(entry).map((file) => join(REPOSITORY, file));
  return hashOf([...built(), ...sources, ...(bundle ? filesUnder(join(REPOSITORY, "dist")) : [])]);
}

function resultFile(files: KernelFiles, question: string, hash: string): string {
  return join(RESULTS, `${files.name}-${files.version}`, `${question.replaceAll("/", "_")}-${hash}.json`);
}

/** The kept answer; undefined when there is none for this hash. */
export function keptResult<T>(files: KernelFiles, question: string, hash: string): T | undefined {
  const file = resultFile(files, question, hash);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as T) : undefined;
}

export function keepResult(files: KernelFiles, question: string, hash: string, answer: unknown): void {
  const file = resultFile(files, question, hash);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, JSON.stringify(answer));
  renameSync(`${file}.new`, file);
}
