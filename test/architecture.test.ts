// Holds the table of who may import whom, who may know which package, and that the catalogue of failures is alive.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { FAILURES } from "../src/lib/errors.ts";

const SRC = resolve(import.meta.dirname, "../src");
const BPF = resolve(import.meta.dirname, "../bpf");

/**
 * main -> cli, http, lab -> agent, controller, install -> decide, datapath, kube, standalone, l2 -> allocate, libbpf, wire -> model -> lib; layers
 * of one level never meet.
 */
const ADAPTERS = ["datapath", "kube", "standalone", "l2"];
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  main: ["cli", "http", "lab"],
  cli: ["agent", "controller", "install", "datapath", "model", "lib"],
  http: ["agent", "controller", "model", "lib"],
  lab: ["agent", ...ADAPTERS, "libbpf", "wire", "model", "lib"],
  agent: ["decide", ...ADAPTERS, "libbpf", "model", "lib"],
  controller: ["kube", "allocate", "wire", "model", "lib"],
  install: ["kube", "model", "lib"],
  decide: ["model", "lib"],
  datapath: ["libbpf", "model", "lib"],
  kube: ["wire", "model", "lib"],
  standalone: ["allocate", "wire", "model", "lib"],
  l2: ["model", "lib"],
  allocate: ["model", "lib"],
  libbpf: ["lib"],
  wire: ["model", "lib"],
  model: ["lib"],
  lib: [],
};

/** Packages that one layer hides from all others. */
const OWNERS: Readonly<Record<string, string>> = {
  koffi: "libbpf",
  "@kubernetes/client-node": "kube",
  fastify: "http",
  "prom-client": "http",
  pino: "lib",
};

/** Of the controller's files those that decide: as pure as the layers that are. */
const PURE_OF_CONTROLLER = [
  "allocation-events",
  "configuration",
  "gathered",
  "lease",
  "object-ref",
  "service-record",
].map((name) => `controller/${name}.ts`);

const files = readdirSync(SRC, { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".ts"))
  .map((path) => ({ path, layer: layerOf(path), text: readFileSync(join(SRC, path), "utf8") }));

function layerOf(path: string): string {
  return path === "main.ts" ? "main" : (path.split("/", 1)[0] ?? "");
}

/** What a file imports: static, dynamic, re-exported, or started as a worker. */
function imports(text: string): string[] {
  const patterns = [
    /\bfrom\s+"([^"]+)"/g,
    /\bimport\(\s*"([^"]+)"/g,
    /^import\s+"([^"]+)"/gm,
    // Starting the whole program anew (main.ts) depends on nothing of it.
    /new URL\(\s*"([^"]+(?<!\/main)\.ts)"/g,
  ];
  return patterns.flatMap((pattern) => [...text.matchAll(pattern)].map((match) => match[1] ?? ""));
}

/** "@scope/name/dist/file.js" is of "@scope/name". */
function packageOf(target: string): string {
  return /^(@[^/]+\/)?[^/]+/.exec(target)?.[0] ?? target;
}

const edges = files.flatMap(({ path, layer, text }) => imports(text).map((target) => ({ path, layer, target })));

describe("the sources", () => {
  it("lie in layers that the table knows", () => {
    expect(files.filter(({ layer }) => MAY_IMPORT[layer] === undefined).map(({ path }) => path)).toEqual([]);
  });

  it("import only downwards", () => {
    const wrong = edges
      .filter(({ target }) => target.startsWith("."))
      .map(({ path, layer, target }) => {
        const found = layerOf(relative(SRC, resolve(dirname(join(SRC, path)), target)));
        return found === layer || MAY_IMPORT[layer]?.includes(found) ? "" : `${path} imports ${target}`;
      });
    expect(wrong.filter((line) => line !== "")).toEqual([]);
  });

  it("lie as docs/architecture.md draws them: each arrow is allowed, and what is allowed is reached by arrows", () => {
    const page = readFileSync(resolve(SRC, "../docs/architecture.md"), "utf8");
    const arrows = [...page.matchAll(/^ {2}(\w+) --> (\w+)$/gm)].map(([, from = "", to = ""]) => ({ from, to }));
    expect(arrows.filter(({ from, to }) => !MAY_IMPORT[from]?.includes(to))).toEqual([]);
    const below = (layer: string): string[] =>
      arrows.filter(({ from }) => from === layer).flatMap(({ to }) => [to, ...below(to)]);
    const missing = Object.entries(MAY_IMPORT).flatMap(([layer, allowed]) =>
      allowed.filter((one) => !below(layer).includes(one)).map((one) => `${layer} --> ${one}`),
    );
    expect(missing).toEqual([]);
  });

  it("keep each package in its layer", () => {
    const strangers = edges.filter(({ target, layer }) => (OWNERS[packageOf(target)] ?? layer) !== layer);
    expect(strangers.map(({ path, target }) => `${path} imports ${target}`)).toEqual([]);
  });

  it("are imported where they are written: libbpf alone has a file that hands others' on", () => {
    const handing = files.filter(
      ({ path, text }) => path !== "libbpf/mod.ts" && /^export (?:type )?(?:\*|\{)[^;]*? from "/m.test(text),
    );
    expect(handing.map(({ path }) => path)).toEqual([]);
  });

  it("load packages by import statements: import() of a bundled CommonJS package gives its default export alone", () => {
    const calls = files.flatMap(({ path, text }) =>
      [...text.matchAll(/\bimport\("([^".][^"]*)"\)/g)].map(([call]) => `${path}: ${call}`),
    );
    expect(calls).toEqual([]);
  });

  it("write nothing to the terminal outside cli and lab", () => {
    const writers = files.filter(
      ({ layer, text }) => !["cli", "lab"].includes(layer) && /\bprocess\.stdout\b/.test(text),
    );
    expect([...writers, ...files.filter(({ text }) => /\bconsole\./.test(text))].map(({ path }) => path)).toEqual([]);
  });

  it("keep clock, chance, process and file system out of model, decisions and allocation", () => {
    const impure = /\bDate\b|\bperformance\.|\bprocess\.|\bset(Timeout|Interval|Immediate)\b|Math\.random|from "node:/;
    const pure = files.filter(
      ({ layer, path }) => ["model", "decide", "allocate"].includes(layer) || PURE_OF_CONTROLLER.includes(path),
    );
    expect(pure.filter(({ text }) => impure.test(text)).map(({ path }) => path)).toEqual([]);
  });

  it("of the agent leave timers to timers.ts, which catches what they throw", () => {
    const bare = files.filter(
      ({ layer, path, text }) =>
        layer === "agent" && path !== "agent/timers.ts" && /\bset(Timeout|Interval)\(/.test(text),
    );
    expect(bare.map(({ path }) => path)).toEqual([]);
  });

  it("are short enough to be read: 450 lines a file, and 200 for the one that puts the agent together", () => {
    const programs = readdirSync(BPF).map((name) => ({ path: name, text: readFileSync(join(BPF, name), "utf8") }));
    const most = (path: string): number => (path === "agent/agent.ts" ? 200 : 450);
    const long = [...files, ...programs]
      .filter(({ path }) => !path.endsWith(".gen.ts"))
      .map(({ path, text }) => ({ path, lines: text.split("\n").length - 1 }))
      .filter(({ path, lines }) => lines > most(path));
    expect(long).toEqual([]);
  });

  it("open with a comment that says what the file answers", () => {
    expect(files.filter(({ text }) => !text.startsWith("//")).map(({ path }) => path)).toEqual([]);
  });

  it.each(Object.keys(FAILURES))("raise the failure %s somewhere", (code) => {
    const raised = new RegExp(`(?:new Failure|super)\\(\\s*"${code}"`);
    expect(files.filter(({ text }) => raised.test(text)).map(({ path }) => path)).not.toEqual([]);
  });
});
