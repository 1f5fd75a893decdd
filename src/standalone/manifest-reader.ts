// Directories and files of manifests to raw documents, again and again as the files change. The last good content of a
// file that cannot be used stays in force. It reads, and checks no object. A large directory keeps its thread busy.
import { createHash } from "node:crypto";
import { type FSWatcher, watch } from "node:fs";
import { open, opendir, stat } from "node:fs/promises";
import { basename, dirname, join, normalize } from "node:path";
import type { Notice } from "../model/objects.ts";
import type { RawDocument } from "../wire/kubernetes.ts";
import { notePlaces } from "./field-places.ts";
import { MAX_FILE_BYTES, type ParseResult, parseManifest } from "./manifest-parser.ts";
import { createParserThread } from "./parse-in-worker.ts";

export interface ManifestReaderOptions {
  /** Directories (their own files, not those of sub-directories) and single files. */
  readonly paths: readonly string[];
  /** Documents to go on with for files that turn out unusable at the start, by path: what `lastGood` told before. */
  readonly lastGood?: ReadonlyMap<string, readonly unknown[]>;
  /** @default 2000 */
  readonly rescanMs?: number;
  /** How long a burst of changes may gather. @default 4 */
  readonly settleMs?: number;
  /** Files from this size on are parsed in a thread of their own. @default 16384 */
  readonly threadBytes?: number;
  /** Time limit for parsing one file. @default 30000 */
  readonly parseLimitMs?: number;
}

export interface ManifestReader {
  /** Reads everything, then watches; `changed` is called after each later change, changes found together at once. */
  start(changed: () => void): Promise<void>;
  /** Of all files by name; documents of unchanged files stay the same objects. */
  documents(): readonly RawDocument[];
  notices(): readonly Notice[];
  /** As `digestOf` would give it for what `documents` was read from. */
  digest(): string;
  /** The documents that stand in for unusable files, by path. */
  lastGood(): ReadonlyMap<string, readonly unknown[]>;
  stop(): Promise<void>;
}

interface FileState {
  /** Size, times and inode when it was last looked at; "" when it is to be looked at again. */
  stamp: string;
  /** Hash of the content that was last looked at, good or not. */
  contentHash: string;
  documents: readonly RawDocument[];
  good: boolean;
  /** The last good text, to recognise a file that was cut off: only for YAML, which may still parse then. */
  text: string;
  notice: Notice | undefined;
  /** Raised with each look, so that a slow parse knows whether it still counts. */
  look: number;
  /** It was found empty after it had content: it may be about to be written. */
  emptied: boolean;
}

const EXTENSION = /\.(ya?ml|json)$/;
const MAX_TEXT_KEPT = 1024 * 1024;
const FILES_AT_ONCE = 32;
const ENTRIES_AT_ONCE = 256;
const EMPTY_GRACE_MS = 100;

/** sha256 (hex) over names and contents: what a reader reports of directories that hold exactly these manifest files. */
export function digestOf(files: readonly { readonly name: string; readonly content: string | Uint8Array }[]): string {
  return combine(files.map(({ name, content }) => [name, hashContent(content)]));
}

function hashContent(content: string | Uint8Array): string {
  const size = typeof content === "string" ? Buffer.byteLength(content) : content.byteLength;
  return size > MAX_FILE_BYTES ? `too-large:${size}` : createHash("sha256").update(content).digest("hex");
}

function combine(entries: readonly (readonly [name: string, contentHash: string])[]): string {
  const lines = entries.map(([name, content]) => `${name}\0${content}\n`).sort();
  return createHash("sha256").update(lines.join("")).digest("hex");
}

interface Listed {
  readonly files: string[];
  readonly directories: string[];
  /** Names of files that hold no manifests by their extension. */
  readonly others: string[];
}

async function listFiles(path: string): Promise<Listed> {
  if (!(await stat(path)).isDirectory()) return { files: [path], directories: [], others: [] };
  const files: string[] = [];
  const directories: string[] = [];
  const others: string[] = [];
  for await (const entry of await opendir(path, { bufferSize: ENTRIES_AT_ONCE })) {
    if (entry.name.startsWith(".")) continue;
    if (entry.isDirectory()) directories.push(join(path, entry.name));
    else if (EXTENSION.test(entry.name)) files.push(join(path, entry.name));
    else others.push(entry.name);
  }
  return { files, directories: directories.sort(), others: others.sort() };
}

async function readLimited(path: string): Promise<Buffer | undefined> {
  const handle = await open(path, "r");
  try {
    const { size } = await handle.stat();
    if (size > MAX_FILE_BYTES) return undefined;
    const buffer = Buffer.alloc(size + 1);
    let length = 0;
    while (length < buffer.length) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    // It grew meanwhile: the change that this is will be seen and read on its own.
    return buffer.subarray(0, Math.min(length, size));
  } finally {
    await handle.close();
  }
}

// A text that is the beginning of the one before, broken off within a line, or within a document while later ones went too,
// was not edited but cut off.
function isCutOff(text: string, before: string, documents: number, documentsBefore: number): boolean {
  if (text === "" || text.length >= before.length || !before.startsWith(text)) return false;
  if (!text.endsWith("\n") && !before.slice(text.length).startsWith("\n")) return true;
  const insideDocument = !/^\s*(---|$)/.test(before.slice(text.length)) && !/(^|\n)---\s*$/.test(text);
  return insideDocument && documents < documentsBefore;
}

export function createManifestReader(options: ManifestReaderOptions): ManifestReader {
  const { lastGood = new Map(), rescanMs = 2_000, settleMs = 4, threadBytes = 16_384, parseLimitMs = 30_000 } = options;
  const paths = [...new Set(options.paths.map((path) => normalize(path).replace(/(.)\/+$/, "$1")))];
  const parser = createParserThread(parseLimitMs);
  const files = new Map<string, FileState>();
  const pathNotices = new Map<string, Notice[]>();
  const dirty = new Set<string>();
  const slow = new Set<Promise<void>>();
  const watchers = new Map<string, { readonly watcher: FSWatcher; readonly ino: number }>();
  let changed: () => void = () => {};
  let everything = false;
  let timer: NodeJS.Timeout | undefined;
  let rescan: NodeJS.Timeout | undefined;
  let scanning: Promise<void> | undefined;
  let stopped = false;
  let started = false;
  /** Names in their order; undefined when there are others now. */
  let order: readonly string[] | undefined;

  function fileNotice(file: string, reason: string, message: string, severity: Notice["severity"] = "error"): Notice {
    return { object: file, file, field: "", reason, message, severity };
  }

  function enter(file: string, stamp: string): FileState {
    const documents = (lastGood.get(file) ?? []).map((object: unknown, index: number) => ({ file, index, object }));
    const empty = { contentHash: "", good: false, text: "", notice: undefined, look: 0, emptied: false };
    const state: FileState = { ...empty, stamp, documents };
    files.set(file, state);
    order = undefined;
    return state;
  }

  function leave(file: string): boolean {
    order = undefined;
    return files.delete(file);
  }

  function refuse(state: FileState, file: string, reason: string, problem: string): void {
    state.good = false;
    const kept = state.documents.length > 0 ? "; its last good content stays in force" : "";
    state.notice = fileNotice(file, reason, `${problem}${kept}`);
  }

  function settle(state: FileState, file: string, result: ParseResult, text: string, isJson: boolean): void {
    if ("problem" in result) {
      const at = result.place === undefined ? file : `${file}:${result.place.join(":")}`;
      refuse(state, at, "malformed", `malformed ${isJson ? "JSON" : "YAML"}: ${result.problem}`);
    } else if (!isJson && isCutOff(text, state.text, result.objects.length, state.documents.length)) {
      refuse(state, file, "malformed", "it was cut off in the middle");
    } else {
      state.good = true;
      state.notice =
        result.objects.length === 0 ? fileNotice(file, "empty-file", "it holds no object", "info") : undefined;
      state.text = isJson || text.length > MAX_TEXT_KEPT ? "" : text;
      state.documents = result.objects.map((object, index) => {
        notePlaces(object, result.places.get(index));
        return { file, index, object };
      });
    }
  }

  // Looks at one file; true when something changed. A large one is parsed in the background and reports by itself.
  async function look(file: string): Promise<boolean> {
    let state = files.get(file);
    try {
      const info = await stat(file);
      const stamp = `${info.size} ${info.mtimeMs} ${info.ctimeMs} ${info.ino}`;
      if (state?.stamp === stamp) return false;
      state ??= enter(file, stamp);
      state.stamp = stamp;
      const turn = ++state.look;
      if (!info.isFile()) {
        state.contentHash = "no-file";
        refuse(state, file, "unreadable", "it is no regular file");
        return true;
      }
      const content = info.size > MAX_FILE_BYTES ? undefined : await readLimited(file);
      if (content === undefined) {
        state.contentHash = `too-large:${info.size}`;
        const most = `more than the ${MAX_FILE_BYTES} that a manifest may have`;
        refuse(state, file, "too-large", `it has ${info.size} bytes, ${most}`);
        return true;
      }
      const contentHash = hashContent(content);
      if (contentHash === state.contentHash) return false;
      if (content.length === 0 && state.documents.length > 0 && !state.emptied) {
        state.emptied = true;
        state.stamp = "";
        setTimeout(() => {
          dirty.add(file);
          request(false);
        }, EMPTY_GRACE_MS).unref();
        return false;
      }
      state.emptied = false;
      const current = state;
      const text = content.toString("utf8").replace(/^\uFEFF/, "");
      const isJson = file.endsWith(".json");
      const isDone = (result: ParseResult): boolean => {
        if (stopped || current.look !== turn || files.get(file) !== current) return false;
        current.contentHash = contentHash;
        settle(current, file, result, text, isJson);
        return true;
      };
      if (content.length < threadBytes) return isDone(parseManifest(text, isJson));
      const parse = parser.parse(text, isJson).then((result) => {
        if (isDone(result) && started) changed();
      });
      slow.add(parse);
      void parse.finally(() => slow.delete(parse));
      return false;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === "ENOENT") return leave(file);
      if (state === undefined) {
        state = enter(file, "");
        state.contentHash = "unreadable";
      }
      state.stamp = "";
      const first = state.notice?.reason !== "unreadable";
      refuse(state, file, "unreadable", `it could not be read: ${code ?? message}`);
      return first;
    }
  }

  async function lookAtAll(list: readonly string[]): Promise<boolean> {
    let any = false;
    for (let i = 0; i < list.length && !stopped; i += FILES_AT_ONCE) {
      const results = await Promise.all(list.slice(i, i + FILES_AT_ONCE).map(look));
      any = results.includes(true) || any;
    }
    return any;
  }

  async function scanEverything(): Promise<boolean> {
    let any = false;
    for (const path of paths) {
      const notices: Notice[] = [];
      try {
        await watchPath(path);
        const found = await listFiles(path);
        const present = new Set(found.files);
        for (const file of files.keys())
          if (!present.has(file) && file !== path && dirname(file) === path) any = leave(file) || any;
        any = (await lookAtAll(found.files)) || any;
        for (const directory of found.directories) {
          notices.push(fileNotice(directory, "ignored-directory", "sub-directories are not read", "info"));
        }
        if (found.others.length > 0) {
          const names = `${found.others.slice(0, 5).join(", ")}${found.others.length > 5 ? " and more" : ""}`;
          const message = `files that do not end in .yaml, .yml or .json are not read: ${names}`;
          notices.push(fileNotice(path, "ignored-file", message, "info"));
        }
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        if (code === "ENOENT" && leave(path)) any = true;
        const kept = [...files.keys()].some((file) => dirname(file) === path)
          ? "; what was last read there stays in force"
          : "";
        notices.push(fileNotice(path, "unreadable", `it could not be read: ${code ?? message}${kept}`));
      }
      if (JSON.stringify(pathNotices.get(path) ?? []) !== JSON.stringify(notices)) any = true;
      pathNotices.set(path, notices);
    }
    return any;
  }

  async function scan(): Promise<void> {
    const began = performance.now();
    let any: boolean;
    if (everything) {
      everything = false;
      dirty.clear();
      any = await scanEverything();
    } else {
      const list = [...dirty];
      dirty.clear();
      any = await lookAtAll(list);
    }
    if (stopped) return;
    if (any && started) changed();
    clearTimeout(rescan);
    // A large directory is looked through less often, so that looking never takes more than a fiftieth of the time.
    const pause = Math.max(rescanMs, 50 * (performance.now() - began));
    rescan = setTimeout(() => request(true), pause);
    rescan.unref();
  }

  function request(all: boolean): void {
    if (stopped) return;
    everything ||= all;
    timer ??= setTimeout(() => {
      timer = undefined;
      const after = scanning ?? Promise.resolve();
      scanning = after.then(() => (stopped ? undefined : scan()));
    }, settleMs);
  }

  // A single file is watched through its directory: one that is replaced by rename is another file afterwards. A directory
  // that was replaced is watched anew.
  async function watchPath(path: string): Promise<void> {
    const own = await stat(path).catch(() => undefined);
    const isFile = own === undefined ? EXTENSION.test(path) : !own.isDirectory();
    const directory = isFile ? dirname(path) : path;
    const ino = isFile ? ((await stat(directory).catch(() => undefined))?.ino ?? -1) : (own?.ino ?? -1);
    const before = watchers.get(path);
    if (stopped || before?.ino === ino) return;
    before?.watcher.close();
    watchers.delete(path);
    if (ino === -1) return;
    try {
      const watcher = watch(directory, { persistent: false }, (_event, name) => {
        if (name === null) request(true);
        else if (isFile ? name === basename(path) : EXTENSION.test(name) && !name.startsWith(".")) {
          dirty.add(isFile ? path : join(path, name));
          request(false);
        } else if (!isFile && name === basename(path)) request(true);
      });
      watcher.on("error", () => {
        watcher.close();
        if (watchers.get(path)?.watcher === watcher) watchers.delete(path);
      });
      watchers.set(path, { watcher, ino });
    } catch {
      // inotify watches may be used up: the rescan goes on without.
    }
  }

  function inOrder(): readonly string[] {
    if (order !== undefined) return order;
    const named = [...files.keys()].map((file) => ({ file, name: basename(file) }));
    const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
    order = named.sort((a, b) => compare(a.name, b.name) || compare(a.file, b.file)).map((one) => one.file);
    return order;
  }

  return {
    async start(onChange) {
      changed = onChange;
      everything = true;
      scanning = scan();
      await scanning;
      while (slow.size > 0) await Promise.all(slow);
      started = true;
    },
    documents: () => inOrder().flatMap((file) => files.get(file)?.documents ?? []),
    notices: () => [...[...pathNotices.values()].flat(), ...inOrder().flatMap((file) => files.get(file)?.notice ?? [])],
    digest: () => combine([...files].map(([file, { contentHash }]) => [basename(file), contentHash])),
    lastGood: () =>
      new Map(
        inOrder().flatMap((file) => {
          const { good = true, documents = [] } = files.get(file) ?? {};
          return good || documents.length === 0 ? [] : [[file, documents.map((one) => one.object)]];
        }),
      ),
    async stop() {
      stopped = true;
      clearTimeout(timer);
      clearTimeout(rescan);
      for (const { watcher } of watchers.values()) watcher.close();
      await parser.stop();
      await scanning;
      await Promise.allSettled(slow);
    },
  };
}

/** Reads `paths` once. Files that cannot be used have a notice and no documents. */
export async function readManifests(paths: readonly string[]): Promise<{
  readonly documents: readonly RawDocument[];
  readonly notices: readonly Notice[];
  readonly digest: string;
}> {
  const reader = createManifestReader({ paths });
  try {
    await reader.start(() => {});
    return { documents: reader.documents(), notices: reader.notices(), digest: reader.digest() };
  } finally {
    await reader.stop();
  }
}
