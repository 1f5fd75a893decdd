// Files that come, change, go and break while they are watched. No case waits for a time: each waits for the event.
import { mkdir, open, rename, rm, symlink, truncate, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as yieldToLoop } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import {
  createManifestReader,
  digestOf,
  type ManifestReader,
  readManifests,
} from "../../src/standalone/manifest-reader.ts";
import { createParserThread } from "../../src/standalone/parse-in-worker.ts";
import { directoryDigest, temporaryDirectory } from "./build.ts";

interface Watched {
  readonly reader: ManifestReader;
  /** Resolves once `test` holds, now or after a change. */
  until(test: () => boolean): Promise<void>;
  names(): string[];
}

async function watched(paths: readonly string[], options: object = {}): Promise<Watched> {
  const reader = createManifestReader({ paths, ...options });
  onTestFinished(() => reader.stop());
  let wake: () => void = () => {};
  await reader.start(() => wake());
  return {
    reader,
    until: (holds) =>
      new Promise((resolve) => {
        wake = () => {
          if (holds()) resolve();
        };
        wake();
      }),
    names: () => reader.documents().map((one) => String((one.object as { name?: unknown }).name)),
  };
}

test("files are read by name, hidden ones are not, other files and sub-directories are told", async () => {
  const directory = await temporaryDirectory();
  await mkdir(join(directory, "sub.yaml"));
  for (const [name, text] of [
    ["b.yml", "name: b"],
    ["a.yaml", "name: a1\n---\nname: a2"],
    ["c.json", '{"name":"c"}'],
    [".hidden.yaml", "name: h"],
    ["notes.txt", "name: n"],
  ] as const) {
    await writeFile(join(directory, name), text);
  }
  const { documents, notices } = await readManifests([directory]);
  expect(documents.map((one) => [one.file, one.index, (one.object as { name: string }).name])).toEqual([
    [join(directory, "a.yaml"), 0, "a1"],
    [join(directory, "a.yaml"), 1, "a2"],
    [join(directory, "b.yml"), 0, "b"],
    [join(directory, "c.json"), 0, "c"],
  ]);
  expect(notices).toMatchObject([
    { file: join(directory, "sub.yaml"), reason: "ignored-directory", severity: "info" },
    { file: directory, reason: "ignored-file", severity: "info", message: expect.stringMatching(/: notes\.txt$/) },
  ]);
});

test("a file that holds nothing is told, and one that comes to hold something no more", async () => {
  const directory = await temporaryDirectory();
  await writeFile(join(directory, "a.yaml"), "# to be written\n");
  const { reader, until, names } = await watched([directory]);
  expect(reader.notices()).toMatchObject([
    { file: join(directory, "a.yaml"), reason: "empty-file", severity: "info", message: "it holds no object" },
  ]);
  await writeFile(join(directory, "a.yaml"), "name: a");
  await until(() => names().join() === "a");
  expect(reader.notices()).toEqual([]);
});

test("files that come, change, are replaced by rename and go are seen, long before the slow rescan", async () => {
  const directory = await temporaryDirectory();
  await writeFile(join(directory, "a.yaml"), "name: a");
  const { until, names } = await watched([directory], { rescanMs: 3_600_000 });
  expect(names()).toEqual(["a"]);
  await writeFile(join(directory, "b.yaml"), "name: b");
  await until(() => names().join() === "a,b");
  await writeFile(join(directory, "a.yaml"), "name: changed");
  await until(() => names().join() === "changed,b");
  await writeFile(join(directory, "c.tmp"), "name: renamed");
  await rename(join(directory, "c.tmp"), join(directory, "b.yaml"));
  await until(() => names().join() === "changed,renamed");
  await unlink(join(directory, "a.yaml"));
  await until(() => names().join() === "renamed");
});

test("a change among a hundred files is told at once, and the other documents stay the same objects", async () => {
  const directory = await temporaryDirectory();
  for (let i = 0; i < 100; i++) await writeFile(join(directory, `f${i}.yaml`), `name: n${i}`);
  const { reader, until, names } = await watched([directory], { rescanMs: 3_600_000 });
  const before = new Map(reader.documents().map((one) => [one.file, one.object]));
  const times: number[] = [];
  for (let i = 0; i < 9; i++) {
    const began = performance.now();
    await writeFile(join(directory, "f50.yaml"), `name: other${i}`);
    await until(() => names().includes(`other${i}`));
    times.push(performance.now() - began);
  }
  // The median, about 10 ms: others use this machine too.
  expect(times.sort((a, b) => a - b)[4]).toBeLessThan(500);
  for (const one of reader.documents())
    if (!one.file.endsWith("f50.yaml")) expect(one.object).toBe(before.get(one.file));
});

test("what the watch misses the rescan finds", async () => {
  const directory = await temporaryDirectory();
  const target = await temporaryDirectory();
  await writeFile(join(target, "real.yaml"), "name: one");
  await symlink(join(target, "real.yaml"), join(directory, "link.yaml"));
  const { until, names } = await watched([directory], { rescanMs: 10 });
  expect(names()).toEqual(["one"]);
  // Nothing happens in the watched directory itself.
  await writeFile(join(target, "real.yaml"), "name: another");
  await until(() => names().join() === "another");
});

test("a single file is watched like a directory", async () => {
  const directory = await temporaryDirectory();
  const file = join(directory, "only.yaml");
  await writeFile(file, "name: a");
  await writeFile(join(directory, "neighbour.yaml"), "name: n");
  const { until, names } = await watched([file], { rescanMs: 3_600_000 });
  expect(names()).toEqual(["a"]);
  await writeFile(join(directory, "new.tmp"), "name: b");
  await rename(join(directory, "new.tmp"), file);
  await until(() => names().join() === "b");
  await unlink(file);
  await until(() => names().length === 0);
});

test("a directory that is not there yet is told, and read once it comes", async () => {
  const directory = join(await temporaryDirectory(), "later");
  const { reader, until, names } = await watched([directory], { rescanMs: 10 });
  expect(reader.notices()).toMatchObject([{ file: directory, reason: "unreadable", severity: "error" }]);
  await mkdir(directory);
  await writeFile(join(directory, "a.yaml"), "name: a");
  await until(() => names().join() === "a");
  expect(reader.notices()).toEqual([]);
  // A directory that vanishes (a mount that is gone) takes nothing with it.
  await rename(directory, `${directory}.away`);
  await until(() => reader.notices().length > 0);
  expect(names()).toEqual(["a"]);
  expect(reader.notices()[0]?.message).toContain("stays in force");
});

const BROKEN: { name: string; content: string; reason: string; message: RegExp }[] = [
  { name: "malformed", content: "name: [a", reason: "malformed", message: /malformed YAML: / },
  {
    name: "an alias bomb",
    content: `a: &a [1,1,1,1,1,1,1,1,1]\n${"bcdefgh"
      .split("")
      .map((c, i) => `${c}: &${c} [${`*${"abcdefg"[i]},`.repeat(9)}]`)
      .join("\n")}`,
    reason: "malformed",
    message: /alias/i,
  },
  { name: "cut within a line", content: "name: a\nspec:\n  ports:\n  - po", reason: "malformed", message: /cut off/ },
  {
    name: "cut within a document, later ones gone",
    content: "name: a\nspec:\n",
    reason: "malformed",
    message: /cut off/,
  },
];
const WHOLE = "name: a\nspec:\n  ports:\n  - port: 80\n---\nname: b\n";

test.each(BROKEN)("a file that is $name keeps its last good content, by file", async ({ content, reason, message }) => {
  const directory = await temporaryDirectory();
  const file = join(directory, "a.yaml");
  await writeFile(file, WHOLE);
  const { reader, until, names } = await watched([directory]);
  await writeFile(file, content);
  await until(() => reader.notices().length > 0);
  expect(reader.notices()).toMatchObject([
    { file: expect.stringContaining(file), reason, message: expect.stringMatching(message), severity: "error" },
  ]);
  expect(reader.notices()[0]?.message).toContain("last good content stays in force");
  expect(names()).toEqual(["a", "b"]);
  expect([...reader.lastGood()]).toEqual([[file, [{ name: "a", spec: { ports: [{ port: 80 }] } }, { name: "b" }]]]);
  await writeFile(file, "name: mended\n");
  await until(() => names().join() === "mended");
  expect(reader.notices()).toEqual([]);
  expect(reader.lastGood().size).toBe(0);
});

test.each([
  ["a document is taken away at its end", "name: a\nspec:\n  ports:\n  - port: 80\n"],
  ["a document is taken away with its marker left", "name: a\nspec:\n  ports:\n  - port: 80\n---\n"],
  [
    "the last line of the last document is taken away",
    "name: a\nspec:\n  ports:\n  - port: 80\n---\nname: b\nextra: 1\n",
  ],
])("an edit that shortens a file is an edit: %s", async (_name, shorter) => {
  const directory = await temporaryDirectory();
  const file = join(directory, "a.yaml");
  await writeFile(file, shorter.includes("extra") ? `${shorter}more: 2\n` : WHOLE);
  const { reader, until } = await watched([directory]);
  const first = reader.digest();
  await writeFile(file, shorter);
  await until(() => reader.digest() !== first && reader.notices().length === 0);
  expect(reader.digest()).toBe(digestOf([{ name: "a.yaml", content: shorter }]));
});

test("a file over 8 MiB is refused by its size, unread, and costs nobody anything", async () => {
  const directory = await temporaryDirectory();
  const file = join(directory, "huge.yaml");
  await (await open(file, "w")).close();
  // Sparse: reading it would take no disk, but a gigabyte of memory.
  await truncate(file, 1024 * 1024 * 1024);
  await writeFile(join(directory, "small.yaml"), "name: s");
  const { documents, notices } = await readManifests([directory]);
  expect(documents.map((one) => one.object)).toEqual([{ name: "s" }]);
  expect(notices).toMatchObject([{ file, reason: "too-large", message: expect.stringContaining("8388608") }]);
});

test("a pipe, a device or a dangling link in the directory stops nothing", async () => {
  const directory = await temporaryDirectory();
  await symlink("/dev/zero", join(directory, "zero.yaml"));
  await symlink("/nowhere/at/all", join(directory, "dangling.yaml"));
  await writeFile(join(directory, "small.yaml"), "name: s");
  const { documents, notices } = await readManifests([directory]);
  expect(documents.map((one) => one.object)).toEqual([{ name: "s" }]);
  expect(notices).toMatchObject([{ file: join(directory, "zero.yaml"), reason: "unreadable" }]);
});

test("a file that is emptied to be written anew does not take its objects away in between", async () => {
  const directory = await temporaryDirectory();
  const file = join(directory, "a.yaml");
  await writeFile(file, "name: a");
  const { until, names } = await watched([directory], { settleMs: 0, rescanMs: 3_600_000 });
  const handle = await open(file, "w");
  onTestFinished(() => handle.close());
  for (let i = 0; i < 20; i++) await yieldToLoop();
  expect(names()).toEqual(["a"]);
  await handle.writeFile("name: b");
  await until(() => names().join() === "b");
});

test("a file that stays empty is empty", async () => {
  const directory = await temporaryDirectory();
  await writeFile(join(directory, "a.yaml"), "name: a");
  const { until, names } = await watched([directory]);
  await writeFile(join(directory, "a.yaml"), "");
  await until(() => names().length === 0);
});

test("the main loop keeps its turn while a hostile file is parsed, and other files go on", async () => {
  const directory = await temporaryDirectory();
  const { reader, until, names } = await watched([directory], { parseLimitMs: 1_500 });
  // Seven megabytes of small maps: seconds of work for a YAML parser.
  await writeFile(join(directory, "slow.yaml"), `items:\n${"- {a: [1, 2, {b: c}]}\n".repeat(330_000)}`);
  // By this thread's own time, which runs on no faster on a machine that is busy elsewhere.
  const now = (): number => (process.threadCpuUsage().user + process.threadCpuUsage().system) / 1000;
  let worst = 0;
  let last = now();
  const pulse = setInterval(() => {
    const at = now();
    worst = Math.max(worst, at - last);
    last = at;
  }, 5);
  onTestFinished(() => clearInterval(pulse));
  await writeFile(join(directory, "small.yaml"), "name: small");
  await until(() => names().includes("small"));
  expect(reader.notices()).toEqual([]);
  await until(() => reader.notices().length > 0);
  expect(reader.notices()).toMatchObject([
    { file: join(directory, "slow.yaml"), reason: "malformed", message: expect.stringContaining("longer than 1.5 s") },
  ]);
  expect(worst).toBeLessThan(200);
  await rm(join(directory, "slow.yaml"));
  await until(() => reader.notices().length === 0);
});

test("a large good file is read in a thread of its own, in portions", async () => {
  const directory = await temporaryDirectory();
  const items = Array.from({ length: 5000 }, (_, i) => ({ name: `n${i}` }));
  await writeFile(join(directory, "a.json"), JSON.stringify({ kind: "List", items }));
  const { documents } = await readManifests([directory]);
  expect(documents).toHaveLength(5000);
  expect(documents[4999]).toEqual({ file: join(directory, "a.json"), index: 4999, object: { name: "n4999" } });
});

test("one thread parses one file after another", async () => {
  const parser = createParserThread(10_000);
  onTestFinished(() => parser.stop());
  const results = await Promise.all([
    parser.parse("name: a", false),
    parser.parse("name: [", false),
    parser.parse('{"name":"c"}', true),
  ]);
  expect(results).toMatchObject([
    { objects: [{ name: "a" }] },
    { problem: expect.any(String), place: [1, 8] },
    { objects: [{ name: "c" }] },
  ]);
});

test("a thread that is lost is replaced, and stopping breaks off what it does", async () => {
  const parser = createParserThread(100);
  onTestFinished(() => parser.stop());
  const slow = `- ${"[".repeat(50)}${"]".repeat(50)}\n`.repeat(20_000);
  expect(await parser.parse(slow, false)).toEqual({ problem: "parsing took longer than 0.1 s" });
  // The next one starts a thread anew, which may take longer than this limit on a busy machine: what counts is that it ends.
  expect(Object.keys(await parser.parse("a: 1", false))[0]).toMatch(/^(objects|problem)$/);
  await parser.stop();
  expect(await parser.parse("a: 1", false)).toEqual({ problem: "parsing was broken off" });
});

test("the digest of a directory is the same for whoever wrote it and whoever reads it, and another after each change", async () => {
  const directory = await temporaryDirectory();
  const files = [
    { name: "b.yaml", content: "name: b" },
    { name: "a.json", content: '{"name":"a"}' },
  ];
  for (const { name, content } of files) await writeFile(join(directory, name), content);
  const { digest } = await readManifests([directory]);
  expect(digest).toMatch(/^[0-9a-f]{64}$/);
  expect(await directoryDigest(directory)).toBe(digest);
  expect(digestOf(files)).toBe(digest);
  expect(digestOf([...files].reverse())).toBe(digest);
  await writeFile(join(directory, "b.yaml"), "name: [");
  expect(await directoryDigest(directory)).not.toBe(digest);
  expect((await readManifests([directory])).digest).toBe(await directoryDigest(directory));
});
