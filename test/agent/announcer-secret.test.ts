// The directory of keys as a kubelet and as a person write it: what is right counts at the next look, what is wrong is named and changes
// nothing.
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createAnnouncerSecret } from "../../src/agent/announcer-secret.ts";

const A = "000102030405060708090a0b0c0d0e0f";
const B = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";
const C = "11111111111111111111111111111111";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "millrace-secret-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const write = (name: string, text: string): void => writeFileSync(join(directory, name), text);
const texts = (secret: ReturnType<typeof createAnnouncerSecret>): string[] =>
  secret.keys().map((key) => Buffer.from(key).toString("hex"));

describe("the announcer's secret", () => {
  test("sends by the key named current and accepts every other", async () => {
    write("another", `${B}\n`);
    write("current", A.toUpperCase());
    const secret = createAnnouncerSecret(directory);
    expect(secret.keys()).toEqual([]);
    expect(await secret.read()).toBe(true);
    expect(texts(secret)).toEqual([A, B]);
    expect(secret.notices()).toEqual([]);
    expect(await secret.read()).toBe(false);
  });

  test("is rotated as a kubelet writes it: by links that it swaps at once", async () => {
    const version = (name: string, files: Readonly<Record<string, string>>): void => {
      mkdirSync(join(directory, name));
      for (const [file, text] of Object.entries(files)) write(join(name, file), text);
      symlinkSync(name, join(directory, "..new"));
      renameSync(join(directory, "..new"), join(directory, "..data"));
    };
    version("..2026_1", { current: A });
    symlinkSync(join("..data", "current"), join(directory, "current"));
    const secret = createAnnouncerSecret(directory);
    await secret.read();
    expect(texts(secret)).toEqual([A]);
    version("..2026_2", { current: B, previous: A });
    symlinkSync(join("..data", "previous"), join(directory, "previous"));
    expect(await secret.read()).toBe(true);
    expect(texts(secret)).toEqual([B, A]);
    rmSync(join(directory, "previous"));
    expect(await secret.read()).toBe(true);
    expect(texts(secret)).toEqual([B]);
    expect(secret.notices()).toEqual([]);
  });

  test.each([
    ["short", "0011"],
    ["empty", ""],
    ["no hex", "z".repeat(32)],
    ["two keys", `${A}\n${B}`],
  ])("names a file that is %s, and goes on with the key that it had before", async (_, text) => {
    write("current", A);
    const secret = createAnnouncerSecret(directory);
    await secret.read();
    write("current", text);
    write("next", B);
    expect(await secret.read()).toBe(true);
    expect(texts(secret)).toEqual([A, B]);
    expect(secret.notices()).toMatchObject([{ object: join(directory, "current"), reason: "announcer-secret" }]);
    expect(secret.notices()[0]?.message).toContain("32 hex digits");
    write("current", C);
    await secret.read();
    expect(texts(secret)).toEqual([C, B]);
    expect(secret.notices()).toEqual([]);
  });

  test("keeps its keys when the directory, or everything in it, is gone", async () => {
    write("current", A);
    write("previous", B);
    const secret = createAnnouncerSecret(directory);
    await secret.read();
    for (const name of ["current", "previous"]) rmSync(join(directory, name));
    await secret.read();
    expect(texts(secret)[0]).toBe(A);
    expect(secret.notices()[0]?.message).toContain("there is no such file");
    rmSync(directory, { recursive: true });
    await secret.read();
    expect(texts(secret)[0]).toBe(A);
    expect(secret.notices()).toMatchObject([{ object: directory }]);
    expect(secret.notices()[0]?.message).toContain("ENOENT; the last keys are kept");
  });

  test("without a file current sends by the first of the others, and says so", async () => {
    write("b", B);
    write("a", A);
    const secret = createAnnouncerSecret(directory);
    await secret.read();
    expect(texts(secret)).toEqual([A, B]);
    expect(secret.notices()[0]?.message).toContain("the first other file is sent by");
  });

  test("takes four keys, the same one once, and says what it leaves out", async () => {
    write("current", A);
    write("copy", A);
    for (const [i, digit] of ["1", "2", "3", "4"].entries()) write(`key${i}`, digit.repeat(32));
    const secret = createAnnouncerSecret(directory);
    await secret.read();
    expect(texts(secret)).toEqual([A, ...["1", "2", "3"].map((digit) => digit.repeat(32))]);
    expect(secret.notices()[0]?.message).toContain("5 keys, of which 4 are used");
  });

  test("that is not given, or empty, has no key and throws nothing", async () => {
    expect(await createAnnouncerSecret("").read()).toBe(false);
    const secret = createAnnouncerSecret(directory);
    expect(await secret.read()).toBe(false);
    expect(secret.keys()).toEqual([]);
    expect(secret.notices()).toHaveLength(1);
  });
});
