import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { logText } from "../../src/lib/log.ts";

const text = (fields: object, colour = false) =>
  logText(
    JSON.stringify({ level: "warn", time: "2026-01-02T03:04:05.678Z", component: "agent", msg: "said", ...fields }),
    colour,
  );

describe("a line of the log as text", () => {
  it.each([
    ["time, level, component and message", {}, "2026-01-02T03:04:05.678Z WARN  agent: said\n"],
    [
      "fields behind it",
      { ms: 7, devices: ["eth0", "eth1"] },
      "2026-01-02T03:04:05.678Z WARN  agent: said ms=7 devices=eth0,eth1\n",
    ],
    ["nothing twice", { object: "sai", field: "spec" }, "2026-01-02T03:04:05.678Z WARN  agent: said field=spec\n"],
    ["no empty field", { file: "" }, "2026-01-02T03:04:05.678Z WARN  agent: said\n"],
    [
      "quotes where a value has spaces",
      { object: "Service a/b" },
      '2026-01-02T03:04:05.678Z WARN  agent: said object="Service a/b"\n',
    ],
    [
      "the message of an error, without its stack",
      { err: { message: "why", stack: "x" } },
      "2026-01-02T03:04:05.678Z WARN  agent: said: why\n",
    ],
    ["further lines indented", { msg: "one\ntwo" }, "2026-01-02T03:04:05.678Z WARN  agent: one\n  two\n"],
    ["nothing that moves the cursor", { msg: "a\u001b[2Jb" }, "2026-01-02T03:04:05.678Z WARN  agent: a?[2Jb\n"],
  ])("has %s", (_what, fields, expected) => {
    expect(text(fields)).toBe(expected);
  });

  it("colours the level alone, and only warnings and errors", () => {
    expect(text({}, true)).toBe("2026-01-02T03:04:05.678Z \u001b[33mWARN \u001b[0m agent: said\n");
    expect(text({ level: "info" }, true)).toBe("2026-01-02T03:04:05.678Z INFO  agent: said\n");
  });
});

describe("the log on standard error", () => {
  const log = resolve(import.meta.dirname, "../../src/lib/log.ts");
  const run = (script: string, env: Record<string, string> = {}) => {
    const code = `const { createLog, configureLog } = await import(${JSON.stringify(log)}); ${script}`;
    const { stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", code], { encoding: "utf8", env });
    return stderr;
  };

  it("is JSON away from a terminal, with a level's name and an ISO time", () => {
    const line = JSON.parse(run('createLog("agent").warn({ a: 1 }, "said")'));
    expect(line).toEqual({
      level: "warn",
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]{12}Z$/),
      component: "agent",
      a: 1,
      msg: "said",
    });
  });

  it("is text when that is chosen, from the level that is chosen on", () => {
    const script =
      'configureLog({ logLevel: "warn", logFormat: "text" }); const l = createLog("a"); l.info("no"); l.warn("yes")';
    expect(run(script)).toMatch(/^\S+Z WARN {2}a: yes\n$/);
  });

  it("takes level and format from the environment, and passes over words that are none", () => {
    const script = 'createLog("a").debug("deep"); createLog("a").info("flat")';
    expect(run(script, { MILLRACE_LOG_LEVEL: "debug", MILLRACE_LOG_FORMAT: "text" })).toMatch(/deep\n.*flat\n$/);
    const other = run(script, { MILLRACE_LOG_LEVEL: "verbose", MILLRACE_LOG_FORMAT: "xml" });
    expect(JSON.parse(other)).toMatchObject({ level: "info", msg: "flat" });
  });
});
