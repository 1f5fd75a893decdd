import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";

const module = resolve(import.meta.dirname, "../../src/lab/manifest-path.ts");
/** What is printed of the path that `path` becomes: the path, and what is there. */
const script = (path: string): string => `const { readFileSync } = await import("node:fs");
const { manifestPath } = await import(${JSON.stringify(module)});
const path = manifestPath(${JSON.stringify(path)});
console.log(JSON.stringify({ path, text: readFileSync(path, "utf8") }));`;

function ask(path: string, shell = ""): { path: string; text: string } {
  const node = `"${process.execPath}" --input-type=module -e '${script(path).replaceAll("\n", " ")}'`;
  return JSON.parse(execFileSync("bash", ["-c", `${node} ${shell}`], { encoding: "utf8" }));
}

describe("the path of a manifest", () => {
  it("is absolute for a file", () => {
    expect(ask(resolve(module, "../../../package.json")).path).toBe(resolve(module, "../../../package.json"));
  });

  it.each([
    ["-", "<<< 'kind: A'"],
    ["/dev/fd/7", "7< <(echo 'kind: A')"],
  ])("%s becomes a file with what the pipe held, which goes with the process", (path, shell) => {
    const found = ask(path, shell);
    expect(found.text).toBe("kind: A\n");
    expect(found.path).toMatch(/\.yaml$/);
    expect(existsSync(found.path)).toBe(false);
  });
});
