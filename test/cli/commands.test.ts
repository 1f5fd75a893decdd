// Every command of the bundle, as people run it: its help, and its answer in every format.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FORMATS } from "../../src/cli/output.ts";
import { createApiServer } from "../../src/http/api-server.ts";
import { patience } from "../../src/lib/patience.ts";
import { agentView, serviceView, silentLog } from "../http/view-fixture.ts";
import { bundle, runBundle } from "./bundle.ts";

const directory = mkdtempSync(join(tmpdir(), "millrace-commands-"));
const socket = join(directory, "api.sock");
const open: { close(): Promise<void> }[] = [];

async function agent(path: string, view = agentView()): Promise<string> {
  const server = createApiServer({ view, socketPath: path, tcpAddress: "", log: silentLog, onNotice() {} });
  await server.listen();
  open.push(server);
  return path;
}

beforeAll(async () => {
  bundle();
  await agent(socket);
}, patience(120_000));
afterAll(async () => {
  for (const server of open) await server.close();
  rmSync(directory, { recursive: true, force: true });
});

/** "## millrace status" and what stands below it, of docs/cli.md. */
function documented(): readonly (readonly [path: string, help: string])[] {
  const page = readFileSync(resolve(import.meta.dirname, "../../docs/cli.md"), "utf8");
  return [...page.matchAll(/^## (millrace.*)\n\n~~~text\n([\s\S]*?)\n~~~$/gm)].map((match) => [match[1]!, match[2]!]);
}

describe("the help of the bundle", () => {
  it.each(documented())("%s --help is what docs/cli.md says", async (path, help) => {
    const { out, err, status } = await runBundle([...path.split(" ").slice(1), "--help"]);
    expect([out.trimEnd(), err, status]).toEqual([help, "", 0]);
  });

  it.each([
    [["--version"], 0, /^millrace \d+\.\d+\.\d+\n$/, ""],
    [["-V"], 0, /^millrace \d+\.\d+\.\d+\n$/, ""],
    [["version"], 0, /^millrace \d+\.\d+\.\d+, layout [0-9a-f]{16}, Node\.js /, ""],
    [["completion", "bash"], 0, /complete -o default -F _millrace millrace\n$/, ""],
    [["__complete", "--", "lab", "he"], 0, /^heal\nhelp\n$/, ""],
    [["help", "nope"], 2, /^$/, "unknown command 'nope'"],
    [["statu"], 2, /^$/, "(Did you mean status?)"],
    [["flows", "--limt", "3"], 2, /^$/, "See millrace flows --help."],
  ])("%j ends with status %i", async (args, expected, out, err) => {
    const answer = await runBundle(args);
    expect(answer.status).toBe(expected);
    expect(answer.out).toMatch(out);
    expect(answer.err).toContain(err);
  });
});

describe("the answers of the bundle", () => {
  const COMMANDS = ["status", "services", "backends", "flows", "drops"] as const;
  const ALL = COMMANDS.flatMap((command) => FORMATS.map((format) => [command, format] as const));

  it.each(ALL)("%s -o %s", async (command, format) => {
    const { out, err, status } = await runBundle([command, "-o", format, "--socket", socket]);
    expect([err, status]).toEqual(["", 0]);
    if (format === "json") expect(JSON.parse(out)).toBeTypeOf("object");
    else if (format === "yaml") expect(out).toMatch(/^(?:- )?[a-zA-Z]+: /);
    else if (format === "name") expect(out).toMatch(/^(?:node|service|backend|flow|drop)\/\S.*\n$/);
    else expect(out).toMatch(command === "status" ? /^Node: / : /^[A-Z][-A-Z()]+ +[A-Z]/);
  });

  it("have colour only when that is asked for", async () => {
    const asked = await runBundle(["services", "--color", "always", "--socket", socket], { NO_COLOR: "1" });
    const plain = await runBundle(["services", "--socket", socket]);
    expect(asked.out).toContain("\u001b[32m2/2\u001b[39m");
    expect(plain.out).not.toContain("\u001b");
  });

  it("go on with -w, in one process, by rows of what changed", async () => {
    let ready = 2;
    const ports = () => [{ ...serviceView().ports[0]!, ready }];
    const path = await agent(
      join(directory, "watched.sock"),
      agentView({ services: () => [serviceView({ ports: ports() })] }),
    );
    const child = spawn(bundle(), ["services", "-w", "--socket", path], { stdio: ["ignore", "pipe", "inherit"] });
    let out = "";
    for await (const piece of child.stdout) {
      out += String(piece);
      if (out.includes("MODIFIED")) break;
      ready = 1;
    }
    child.kill();
    expect(out.split("\n").map((line) => line.split(/ +/).slice(0, 3).join(" "))).toEqual([
      "EVENT NAMESPACE NAME",
      "ADDED default web",
      "MODIFIED default web",
      "",
    ]);
  });

  it("that nobody reads to their end are no error", () => {
    const script = '"$0" --help | head -n 1; echo $PIPESTATUS';
    const { stdout, stderr } = spawnSync("bash", ["-c", script, bundle()], { encoding: "utf8" });
    expect([stdout, stderr]).toEqual(["Usage: millrace [options] [command]\n0\n", ""]);
  });

  it("that cannot be written are told in one sentence", () => {
    const full = openSync("/dev/full", "w");
    const { stderr, status } = spawnSync(bundle(), ["--help"], { encoding: "utf8", stdio: ["ignore", full, "pipe"] });
    expect([stderr, status]).toEqual([
      "millrace: could not write to standard output: no space is left on the device\n",
      3,
    ]);
  });
});
