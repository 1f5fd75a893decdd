// What is taken of Debian's packages, and that what is taken can run.
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { pathsBelow, takePackage } from "../../scripts/image/debian.ts";
import { missingLibraries, neededBy } from "../../scripts/image/libraries.ts";
import { INTERPRETER, LINKS, NODE, PACKAGES, PROGRAMS } from "../../scripts/image/recipe.ts";

const SRC = resolve(import.meta.dirname, "../../src");

let work: string;
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), "millrace-contents-"));
});
afterEach(() => rmSync(work, { recursive: true, force: true }));

/** A directory of files; a value that begins with "-> " is a link. */
function directory(name: string, files: Readonly<Record<string, string>>): string {
  for (const [path, text] of Object.entries(files)) {
    const file = join(work, name, path);
    mkdirSync(join(file, ".."), { recursive: true });
    if (text.startsWith("-> ")) symlinkSync(text.slice(3), file);
    else writeFileSync(file, text);
  }
  return join(work, name);
}

describe("takePackage()", () => {
  it("takes of a package the programs that are named, libraries, and who may copy it", () => {
    const unpacked = directory("package", {
      "bin/ip": "ip",
      "sbin/ip": "-> /bin/ip",
      "sbin/tc": "tc",
      "usr/bin/routel": "#!/bin/sh",
      "etc/iproute2/rt_tables": "254 main",
      "etc/init.d/iproute2": "#!/bin/sh",
      "lib/x86_64-linux-gnu/libone.so.1": "-> libone.so.1.2",
      "lib/x86_64-linux-gnu/libone.so.1.2": "one",
      "usr/lib/x86_64-linux-gnu/gconv/UTF-7.so": "conversion",
      "usr/share/doc/iproute2/copyright": "GPL",
      "usr/share/doc/iproute2/README.gz": "reading",
      "usr/share/man/man8/ip.8.gz": "reading",
      "var/lib/iproute2/state": "state",
    });
    const root = directory("root", {});
    takePackage("iproute2", unpacked, root);
    expect(pathsBelow(root)).toEqual([
      "etc/iproute2/rt_tables",
      "usr/bin/ip",
      "usr/lib/x86_64-linux-gnu/libone.so.1",
      "usr/lib/x86_64-linux-gnu/libone.so.1.2",
      "usr/sbin/tc",
      "usr/share/doc/iproute2/copyright",
    ]);
    expect(readlinkSync(join(root, "usr/lib/x86_64-linux-gnu/libone.so.1"))).toBe("libone.so.1.2");
    expect(lstatSync(join(root, "usr/bin/ip")).isFile()).toBe(true);
  });

  it("refuses a package that lacks a program that is named", () => {
    const unpacked = directory("package", { "sbin/tc": "tc" });
    expect(() => takePackage("iproute2", unpacked, directory("root", {}))).toThrow(
      "could not find usr/bin/ip in Debian's package iproute2",
    );
  });
});

describe("libraries", () => {
  it("of a program are read from its file", () => {
    expect(neededBy(readFileSync(process.execPath))).toEqual(
      expect.arrayContaining(["libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6"]),
    );
  });

  it("of a text are none", () => {
    expect(neededBy(Buffer.from("#!/bin/sh\n".repeat(100)))).toBeUndefined();
    expect(neededBy(Buffer.alloc(0))).toBeUndefined();
  });

  it("that no tree has are told with who needs them", () => {
    const program = neededBy(readFileSync(process.execPath))!;
    const [first, ...others] = program;
    const libraries = directory("libraries", Object.fromEntries(others.map((name) => [`usr/lib/${name}`, ""])));
    const programs = directory("programs", { "usr/bin/text": "no program" });
    symlinkSync(process.execPath, join(programs, "usr/bin/link"));
    expect(missingLibraries([programs, libraries])).toEqual([]);
    writeFileSync(join(programs, "usr/bin/program"), readFileSync(process.execPath));
    expect(missingLibraries([programs, libraries])).toEqual([`usr/bin/program needs ${first}`]);
  });
});

describe("the recipe", () => {
  const there = new Set([...Object.values(PROGRAMS).flat(), ...Object.keys(LINKS), NODE].map((path) => basename(path)));

  it("names each package once, and those that programs are taken of among them", () => {
    expect(new Set(PACKAGES).size).toBe(PACKAGES.length);
    expect(PACKAGES).toEqual(expect.arrayContaining(Object.keys(PROGRAMS)));
  });

  it("starts Node without a shell, in a line that every kernel takes whole", () => {
    const [, program] = /^#!(\S+) -S \//.exec(INTERPRETER)!;
    expect(there).toContain(basename(program!));
    // BINPRM_BUF_SIZE is 256 from Linux 5.1 on.
    expect(INTERPRETER.length).toBeLessThan(256);
    expect(INTERPRETER).toMatch(/^[^\n]+\n$/);
  });

  it("has every program that the agent runs", () => {
    const called =
      /\b(?:run|ask|execFile|execFileSync|spawn)\(\s*"([a-z0-9-]+)"|\[\s*"(nsenter|ethtool|ip6?tables[a-z-]*)"/g;
    const sources = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter(
      (path) => /\.ts$/.test(path) && !/^(lab|libbpf)\//.test(path),
    );
    const named = sources.flatMap((path) =>
      [...readFileSync(join(SRC, path), "utf8").matchAll(called)].map((match) => match[1] ?? match[2] ?? ""),
    );
    expect(named).toEqual(expect.arrayContaining(["nft", "iptables", "nsenter"]));
    expect(named.filter((name) => !there.has(name))).toEqual([]);
  });

  it("leads each link to something that is there", () => {
    const targets = Object.entries(LINKS).filter(([, target]) => !target.startsWith("/") && !target.startsWith("usr/"));
    for (const [, target] of targets) expect(there).toContain(target);
  });
});
