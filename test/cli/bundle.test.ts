import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { patience } from "../../src/lib/patience.ts";
import { bundle, dist } from "./bundle.ts";

const directory = mkdtempSync(join(tmpdir(), "millrace-dist-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

beforeAll(() => void bundle(), patience(120_000));

function run(program: string, args: readonly string[], path: string) {
  return spawnSync(program, args, { encoding: "utf8", env: { PATH: path } });
}

describe("the bundle in dist/", () => {
  it("starts by its launcher, also through a link, with the project's own Node", () => {
    const link = join(directory, "millrace");
    symlinkSync(join(dist, "millrace"), link);
    for (const program of [join(dist, "millrace"), link]) {
      const { stdout, stderr, status } = run(program, ["version", "-o", "json"], "/usr/bin:/bin");
      expect([stderr, status]).toEqual(["", 0]);
      expect(JSON.parse(stdout)).toMatchObject({ version: "0.1.0", layout: expect.stringMatching(/^[0-9a-f]+$/) });
    }
  });

  it("works away from the project with a Node of version 24 on PATH, and says what it lacks without", () => {
    const copy = join(directory, "copy");
    cpSync(dist, copy, { recursive: true });
    const path = `${resolve(process.execPath, "..")}:/usr/bin:/bin`;
    const { stdout, status } = run(join(copy, "millrace"), ["version"], path);
    expect([stdout.startsWith("millrace 0.1.0, layout "), status]).toEqual([true, 0]);
    const tools = join(directory, "tools");
    mkdirSync(tools);
    for (const tool of ["dirname", "readlink"]) symlinkSync(`/usr/bin/${tool}`, join(tools, tool));
    const none = run(join(copy, "millrace"), ["version"], tools);
    expect([none.stdout, none.status]).toEqual(["", 3]);
    expect(none.stderr).toMatch(/^millrace: it needs Node\.js 24 or later.*\n$/);
  });

  it("holds every module that one of its modules starts", () => {
    const text = readFileSync(join(dist, "millrace.mjs"), "utf8");
    expect(text.length).toBeGreaterThan(1000);
    const modules = spawnSync("grep", ["-rhoE", 'new URL\\("\\./[a-z-]+\\.mjs"', dist], { encoding: "utf8" }).stdout;
    const names = [...modules.matchAll(/\.\/([a-z-]+\.mjs)/g)].map((match) => match[1] ?? "");
    expect(names).toContain("millrace.mjs");
    expect(names.filter((name) => !existsSync(join(dist, name)))).toEqual([]);
  });

  it("keeps its modules compiled beside itself, and the agent does without", () => {
    const copy = join(directory, "compiled");
    cpSync(dist, copy, { recursive: true, filter: (path) => !path.endsWith(".cache") });
    const path = `${resolve(process.execPath, "..")}:/usr/bin:/bin`;
    const cache = join(copy, ".cache");
    expect(run(join(copy, "millrace"), ["run", "--xdp", "x"], path).status).toBe(2);
    expect(existsSync(cache)).toBe(false);
    expect(run(join(copy, "millrace"), ["version"], path).status).toBe(0);
    expect(readdirSync(cache, { recursive: true }).length).toBeGreaterThan(5);
  });

  it.each(["tc", "tc_conntrack", "xdp", "sock"])("holds the object %s, without this machine's paths in it", (name) => {
    const object = readFileSync(join(dist, `bpf/${name}.bpf.o`));
    expect(object.subarray(1, 4).toString()).toBe("ELF");
    expect(object.includes(resolve(dist, ".."))).toBe(false);
  });
});
