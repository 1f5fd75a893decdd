// What operators are given is true: docs/api.md names every path of the API with every parameter. Rules, runbooks and dashboards are
// held in test/prometheus.
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "..");
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

describe("docs/api.md", () => {
  const source = read("src/http/api-server.ts");
  const page = read("docs/api.md");

  it("has a heading for each path", () => {
    const paths = [...source.matchAll(/app\.get\("(\/api\/v1\/[a-z]+)"/g)].map(([, path = ""]) => path);
    expect(paths.length).toBeGreaterThan(3);
    expect(paths.filter((path) => !page.includes(`\n## GET ${path}\n`))).toEqual([]);
  });

  it("names each parameter", () => {
    const lists = [...source.matchAll(/readQuery\(request, \[([^\]]*)\]/g)].map(([, list = ""]) => list);
    const parameters = new Set(
      lists.flatMap((list) => [...list.matchAll(/"([a-z-]+)"/g)].map(([, name = ""]) => name)),
    );
    expect(parameters.size).toBeGreaterThan(2);
    expect([...parameters].filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
  });

  it("names each field of the status", () => {
    const body = /export interface AgentStatus \{\n([\s\S]*?)^\}/m.exec(read("src/agent/view.ts"))?.[1] ?? "";
    const fields = [...body.matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, field = ""]) => field);
    expect(fields.length).toBeGreaterThan(10);
    expect(fields.filter((field) => !page.includes(`\`${field}\``))).toEqual([]);
  });
});
