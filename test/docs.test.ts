// Holds the documentation to the sources: links lead somewhere, every verdict, path and map is explained, words of the
// glossary and paths that are named exist, commands and flags are those of the Makefile and the command line.
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import type { Command } from "commander";
import { beforeAll, describe, expect, it } from "vitest";
import { createProgram } from "../src/cli/program.ts";
import { registerLabCommands } from "../src/lab/commands.ts";

const ROOT = resolve(import.meta.dirname, "..");
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

const inDocs = readdirSync(join(ROOT, "docs"), { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".md"))
  .map((path) => join("docs", path));
const PAGES = ["README.md", "CHANGELOG.md", ...inDocs].sort().map((path) => ({ path, text: read(path) }));
const DECISIONS = PAGES.filter(({ path }) => path.startsWith("docs/decisions/"));
/** Their text is made from the commands themselves, and of libbpf-ts alone. */
const written = PAGES.filter(({ path }) => !["docs/cli.md", "docs/metrics.md", "docs/libbpf.md"].includes(path));
const page = (path: string): string => PAGES.find((one) => one.path === path)!.text;

const headers = readdirSync(join(ROOT, "bpf"))
  .filter((name) => name.endsWith(".h") || name.endsWith(".c"))
  .map((name) => read(join("bpf", name)))
  .join("\n");
const types = ["types.h", "announce_types.h"].map((name) => read(join("bpf", name))).join("\n");

/** Without fenced blocks. */
const prose = (text: string): string => text.replace(/^(```|~~~)[\s\S]*?^\1$/gm, "");
const codeSpans = (text: string): string[] => [...prose(text).matchAll(/`([^`\n]+)`/g)].map((match) => match[1]!);
const fences = (text: string, language: string): string[] =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map((match) => match[1]!);

/** Names of the enum's values. */
function enumNames(name: string): string[] {
  const body = new RegExp(`^enum ${name} \\{\\n([\\s\\S]*?)^\\};`, "m").exec(types)?.[1] ?? "";
  return [...body.matchAll(/^\t([A-Z0-9_]+)/gm)].map((match) => match[1]!).filter((one) => !one.endsWith("_MAX"));
}

/** Rows of the page's tables: the cells, with the code spans of the first one taken apart. */
function tableRows(text: string): { readonly names: string[]; readonly cells: string[] }[] {
  return [...prose(text).matchAll(/^\|(.*)\|$/gm)].map((match) => {
    const cells = match[1]!.split("|").map((cell) => cell.trim());
    return { names: [...cells[0]!.matchAll(/`([^`]+)`/g)].map((name) => name[1]!), cells };
  });
}

/** GitHub's anchor of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll("`", "")
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");
const anchors = (text: string): string[] =>
  [...prose(text).matchAll(/^#+ (.+)$/gm)].map((match) => anchorOf(match[1]!));

describe("links", () => {
  it.each(PAGES)("of $path lead to files and headings that exist", ({ path, text }) => {
    const broken = [...prose(text).matchAll(/\]\(([^)\s]+)\)/g)]
      .map((match) => match[1]!)
      .filter((target) => !/^[a-z]+:/.test(target))
      .filter((target) => {
        const [file = "", anchor] = target.split("#");
        const at = file === "" ? path : join(dirname(path), file);
        if (relative(ROOT, resolve(ROOT, at)).startsWith("..") || !existsSync(join(ROOT, at))) return true;
        if (anchor === undefined) return false;
        return statSync(join(ROOT, at)).isDirectory() || !anchors(read(at)).includes(anchor);
      });
    expect(broken).toEqual([]);
  });

  it("lead from the README to every page", () => {
    const reached = new Set([...page("README.md").matchAll(/\]\(([^)#\s]+)/g)].map((match) => match[1]!));
    const missing = inDocs.filter((path) => !reached.has(path) && !reached.has(dirname(path)));
    expect(missing).toEqual([]);
  });
});

describe("packet-paths.md", () => {
  const rows = tableRows(page("docs/packet-paths.md"));

  it.each(["verdict", "flow_path"])("explains each value of enum %s in one row, and no other", (name) => {
    const wanted = enumNames(name);
    expect(wanted.length).toBeGreaterThan(5);
    const prefixes = new Set(wanted.map((one) => one.slice(0, one.indexOf("_") + 1)));
    const found = rows.filter(({ names }) => names.length === 1 && [...prefixes].some((p) => names[0]!.startsWith(p)));
    expect(found.map(({ names }) => names[0]).sort()).toEqual([...wanted].sort());
    expect(found.filter(({ cells }) => cells.slice(1).join("").length < 8).map(({ names }) => names[0])).toEqual([]);
  });

  it("tells what runs at each hook", () => {
    const told = new Set(rows.flatMap(({ names }) => names).filter((name) => name.startsWith("HOOK_")));
    expect([...told].sort()).toEqual(
      enumNames("hook")
        .filter((name) => name !== "HOOK_NONE")
        .sort(),
    );
  });

  it("names the mark that the programs set", () => {
    const mark = /MARK_REDIRECTED (0x[0-9a-f]+)U/.exec(headers)?.[1];
    expect(mark).toBeDefined();
    expect(page("docs/packet-paths.md")).toContain(mark);
  });
});

describe("architecture.md", () => {
  const text = page("docs/architecture.md");
  const maps = [...read("bpf/maps.h").matchAll(/^\} (\w+) SEC\("\.maps"\);/gm)].map((match) => match[1]!);

  it("has a row for each map, with kind, key, value, writer and change", () => {
    expect(maps.length).toBeGreaterThan(10);
    const rows = tableRows(text).filter(
      ({ cells }) => cells.length === 6 && cells[0] !== "map" && !/^-/.test(cells[0]!),
    );
    expect(rows.map(({ names }) => names[0]).sort()).toEqual([...maps].sort());
    expect(rows.filter(({ cells }) => cells.includes("")).map(({ names }) => names[0])).toEqual([]);
  });

  it("says of each map whether it is a hash, an array or a trie, per CPU or LRU, as it is", () => {
    const kinds: Readonly<Record<string, string>> = {
      HASH: "hash",
      ARRAY: "mapped array",
      LRU_HASH: "LRU hash",
      PERCPU_ARRAY: "per-CPU array",
      PERCPU_HASH: "per-CPU hash",
      LPM_TRIE: "LPM trie",
      SK_STORAGE: "socket storage",
    };
    const wrong = [...read("bpf/maps.h").matchAll(/BPF_MAP_TYPE_(\w+)\);[\s\S]*?^\} (\w+) SEC/gm)].filter(
      ([, type, name]) => {
        const row = tableRows(text).find(({ names, cells }) => cells.length === 6 && names[0] === name);
        return !row?.cells[1]?.startsWith(kinds[type!] ?? "unknown");
      },
    );
    expect(wrong.map(([, , name]) => name)).toEqual([]);
  });

  it("draws the dependencies that the sources have", () => {
    const drawn = fences(text, "mermaid").flatMap((block) =>
      [...block.matchAll(/^ *(\w+) --> (\w+)$/gm)].map((match) => [match[1]!, match[2]!] as const),
    );
    expect(drawn.length).toBeGreaterThan(10);
    const imports = layerImports();
    expect(drawn.filter(([from, to]) => !imports.has(`${from} ${to}`))).toEqual([]);
    const reach = (from: string, to: string): boolean =>
      drawn.some(([a, b]) => a === from && (b === to || reach(b, to)));
    expect([...imports].filter((edge) => !reach(...(edge.split(" ") as [string, string])))).toEqual([]);
  });
});

/** "layer layer" for each import from one layer of src/ into another. */
function layerImports(): Set<string> {
  const src = join(ROOT, "src");
  const layer = (path: string): string => (path === "main.ts" ? "main" : path.split("/", 1)[0]!);
  const found = new Set<string>();
  for (const path of readdirSync(src, { recursive: true, encoding: "utf8" }).filter((one) => one.endsWith(".ts"))) {
    for (const match of read(join("src", path)).matchAll(/(?:\bfrom |\bimport\()\s*"(\.[^"]+)"/g)) {
      const to = layer(relative(src, resolve(dirname(join(src, path)), match[1]!)));
      if (to !== layer(path)) found.add(`${layer(path)} ${to}`);
    }
  }
  return found;
}

describe("glossary.md", () => {
  const entries = tableRows(page("docs/glossary.md")).filter(
    ({ cells }) => cells[0] !== "word" && !/^-/.test(cells[0]!),
  );
  const references = entries.flatMap(({ cells }) =>
    [...(cells[2] ?? "").matchAll(/`([^`]+)`/g)].map((match) => [cells[0]!, match[1]!] as const),
  );

  it("says of each word what it means and where it is in the code", () => {
    expect(entries.length).toBeGreaterThan(20);
    expect(
      entries.filter(({ cells }) => cells.length !== 3 || cells.includes("")).map(({ cells }) => cells[0]),
    ).toEqual([]);
    expect(
      entries.filter(({ cells }) => !references.some(([word]) => word === cells[0])).map(({ cells }) => cells[0]),
    ).toEqual([]);
  });

  it.each(references)("%s is %s in the sources", (_word, where) => {
    const [path = "", name] = where.split("#");
    if (name === undefined) {
      expect(where).toMatch(/^(struct|enum) \w+$/);
      expect(types).toMatch(new RegExp(`^${where} \\{`, "m"));
    } else expect(read(path)).toMatch(new RegExp(`^export (?:interface|type|const|function|class) ${name}\\b`, "m"));
  });
});

describe("decisions", () => {
  it("are numbered without a gap", () => {
    const numbers = DECISIONS.map(({ path }) => Number(/\/(\d{4})-[a-z0-9-]+\.md$/.exec(path)?.[1]));
    expect(numbers).toEqual(DECISIONS.map((_, i) => i + 1));
  });

  it.each(DECISIONS)("$path says context, choice and what was given up, in 40 lines", ({ path, text }) => {
    expect(text.split("\n").length).toBeLessThanOrEqual(41);
    expect(text).toMatch(new RegExp(`^# ${Number(path.slice(15, 19))}\\. `));
    for (const part of ["**Context.**", "**Choice.**", "**Given up.**"]) expect(text).toContain(`\n${part}`);
  });
});

describe("what pages name", () => {
  const NAMED = /^(?:src|bpf|docs|test|deploy|scripts)\/[\w./*-]*$/;
  const CONSTANT =
    /^(?:VERDICT|DROP|PATH|HOOK|ADDRESS|STATE|EMPTY|KIND|WINDOW|BACKEND|DEVICE|SOCKETS|PEER)_[A-Z0-9_]+$/;

  it.each(PAGES)("$path: files exist", ({ text }) => {
    expect(codeSpans(text).filter((span) => NAMED.test(span) && !existsSync(join(ROOT, span)))).toEqual([]);
  });

  it.each(written)("$path: constants and structs exist", ({ text }) => {
    const strange = codeSpans(text).filter((span) => {
      if (CONSTANT.test(span)) return !new RegExp(`\\b${span}\\b`).test(types);
      return /^(?:struct|enum) \w+$/.test(span) && !new RegExp(`^${span} \\{`, "m").test(headers);
    });
    expect(strange).toEqual([]);
  });
});

describe("commands", () => {
  const targets = new Set([...read("Makefile").matchAll(/^([a-z-]+):/gm)].map((match) => match[1]!));
  let program: Command;
  const flags = new Set<string>();

  beforeAll(async () => {
    const createServers = () => Promise.reject(new Error("documentation starts no servers"));
    const stopSignal = () => new AbortController().signal;
    const createControllerServers = createServers;
    program = await createProgram({ stopSignal, registerLabCommands, createServers, createControllerServers }, true);
    const collect = (command: Command): void => {
      for (const { long } of command.options) if (typeof long === "string") flags.add(long);
      command.commands.forEach(collect);
    };
    collect(program);
  });

  /** What is wrong with one command line, "" when nothing is. */
  function problem(line: string): string {
    const words = line.trim().split(/\s+/);
    if (words[0] === "make") {
      const strange = words.slice(1).filter((word) => !/^[A-Z]+=/.test(word) && !targets.has(word));
      return strange.length === 0 ? "" : `${line}: there is no target ${strange.join(" ")}`;
    }
    let command = program;
    const rest = words.slice(1);
    while (rest.length > 0 && command.commands.length > 0) {
      const next = command.commands.find((one) => one.name() === rest[0]);
      if (next === undefined) return rest[0]!.startsWith("-") ? "" : `${line}: there is no command ${rest[0]}`;
      command = next;
      rest.shift();
    }
    const own = rest.includes("--") ? rest.slice(0, rest.indexOf("--")) : rest;
    const known = new Set(command.options.flatMap(({ short, long }) => [short, long]));
    const strange = own.filter((word) => /^--?[a-z]/.test(word) && !known.has(word.split("=")[0]!));
    return strange.length === 0 ? "" : `${line}: it has no ${strange.join(" ")}`;
  }

  const isCommand = (line: string): boolean => /^\s*(?:make|(?:dist\/)?millrace) [a-z-]/.test(line);

  it.each(written)("$path: are those of the Makefile and the command line", ({ text }) => {
    const lines = [...fences(text, "sh").flatMap((block) => block.split("\n")), ...codeSpans(text)].filter(isCommand);
    expect(lines.map(problem).filter((found) => found !== "")).toEqual([]);
  });

  it("README.md: every line of a shell block is one that was checked", () => {
    const lines = fences(page("README.md"), "sh").flatMap((block) => block.trim().split("\n"));
    // Run by `make kind`.
    const tried = fences(page("docs/install/kind.md"), "sh").flatMap((block) => block.split("\n"));
    expect(lines.filter((line) => !isCommand(line) && !tried.includes(line))).toEqual([]);
    expect(lines).toEqual(expect.arrayContaining(["make demo", "make test", "dist/millrace run --manifests DIR"]));
  });

  it("README.md: fits into 130 columns", () => {
    expect(
      page("README.md")
        .split("\n")
        .filter((line) => [...line].length > 130),
    ).toEqual([]);
  });

  it("README.md: begins with the lab, kind as its guide does it, and every test", () => {
    const blocks = fences(page("README.md"), "sh").map((block) => block.trim());
    const [kind = ""] = fences(page("docs/install/kind.md"), "sh");
    expect(blocks.slice(0, 3)).toEqual(["make demo", kind.trim(), "make test"]);
  });

  it.each(written)("$path: flags exist", ({ text }) => {
    const ENGINE = ["--max-semi-space-size", "--no-parallel-scavenge", "--heap-growing-percent"];
    const OTHERS = [
      "--skip-phases",
      "--pdeathsig",
      "--nodeport-addresses",
      "--cleanup",
      "--net",
      "--target",
      ...ENGINE,
    ]; // of setpriv, kubectl, kube-proxy, nsenter and Node
    const named = codeSpans(text).flatMap((span) => (isCommand(span) ? [] : (span.match(/--[a-z][a-z0-9-]*/g) ?? [])));
    expect(named.filter((flag) => !flags.has(flag) && !OTHERS.includes(flag))).toEqual([]);
  });

  it.each(PAGES)("$path: manifests that are named exist", ({ text }) => {
    const named = text.match(/deploy\/examples\/[\w.-]+\.yaml/g) ?? [];
    expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });
});
