import { describe, expect, it } from "vitest";
import { createNoticeLog } from "../../src/agent/notice-log.ts";
import type { Log } from "../../src/lib/log.ts";
import type { Notice } from "../../src/model/objects.ts";

const notice = (over: Partial<Notice> = {}): Notice => ({
  object: "Device eth0",
  file: "",
  field: "",
  reason: "forwarding-off",
  message: "forwarding is off",
  severity: "error",
  ...over,
});

/** A notice log with a clock of its own, and what it wrote: "level reason object: message". */
function recorded() {
  const lines: string[] = [];
  const clock = { ms: 0 };
  const write = (level: string) => (fields: { reason?: string; object?: string }, message: string) =>
    lines.push(`${level} ${fields.reason ?? ""} ${fields.object ?? ""}: ${message}`);
  const log = { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
  return { lines, clock, noticeLog: createNoticeLog(log as unknown as Log, () => clock.ms) };
}

describe("the log of notices", () => {
  it("tells a notice when it begins, once, and when it ends", () => {
    const { lines, noticeLog } = recorded();
    noticeLog.note([notice()]);
    noticeLog.note([notice()]);
    expect(lines).toEqual(["error forwarding-off Device eth0: forwarding is off"]);
    noticeLog.note([]);
    noticeLog.note([]);
    expect(lines.slice(1)).toEqual(["info forwarding-off Device eth0: over: forwarding is off"]);
  });

  it.each(["info", "warning", "error"] as const)("has the level of the severity %s", (severity) => {
    const { lines, noticeLog } = recorded();
    noticeLog.note([notice({ severity })]);
    expect(lines[0]?.split(" ")[0]).toBe(severity === "warning" ? "warn" : severity);
  });

  it("says nothing when only a number in it is another", () => {
    const { lines, noticeLog } = recorded();
    noticeLog.note([notice({ message: "3 of 5 fit" })]);
    noticeLog.note([notice({ message: "4 of 5 fit" })]);
    expect(lines).toHaveLength(1);
  });

  it("says nothing when only the line in the file is another", () => {
    const { lines, noticeLog } = recorded();
    noticeLog.note([notice({ file: "a.yaml:7:11" })]);
    noticeLog.note([notice({ file: "a.yaml:9:11" })]);
    expect(lines).toHaveLength(1);
  });

  it("takes notices about other fields, files and reasons for others", () => {
    const { lines, noticeLog } = recorded();
    noticeLog.note([notice(), notice({ field: "f" }), notice({ file: "a.yaml" }), notice({ reason: "no-xdp" })]);
    expect(lines).toHaveLength(4);
  });

  it("counts what is too much to tell, and says so as soon as there is room", () => {
    const { lines, clock, noticeLog } = recorded();
    const many = Array.from({ length: 500 }, (_, i) => notice({ object: `Service default/s${i}` }));
    noticeLog.note(many);
    expect(lines).toHaveLength(40);
    clock.ms = 1_000;
    noticeLog.note(many);
    expect(lines.at(-1)).toContain("more notices began or ended than are told here");
    expect(lines).toHaveLength(41);
    clock.ms = 2_000;
    noticeLog.note(many);
    expect(lines).toHaveLength(41);
  });
});
