// Programs that hang do not hold up who runs them.
import { expect, it } from "vitest";
import { run } from "../../src/lib/exec.ts";

it("a program's output comes when it succeeds, what it complains of when it fails", async () => {
  expect(await run("sh", ["-c", "echo said"])).toEqual({ ok: true, text: "said\n", timedOut: false });
  expect(await run("sh", ["-c", "echo no >&2; exit 1"])).toEqual({ ok: false, text: "no", timedOut: false });
  expect(await run("no-such-program", [])).toMatchObject({ ok: false, timedOut: false });
});

it("one that writes more than is asked for fails", async () => {
  const write = ["-c", "head -c 70000000 /dev/zero"];
  expect(await run("sh", write)).toMatchObject({ ok: false, text: expect.stringContaining("maxBuffer") });
  expect((await run("sh", write, { maxBytes: 70_000_000 })).text).toHaveLength(70_000_000);
});

it("one that hangs is killed after its time", async () => {
  const began = performance.now();
  const ran = await run("sleep", ["1000"], { timeoutMs: 50 });
  expect(ran).toEqual({ ok: false, text: "sleep did not end within 0.05 s", timedOut: true });
  expect(performance.now() - began).toBeLessThan(10_000);
});

it("one ends with whoever asked for it", async () => {
  const abort = new AbortController();
  const ran = run("sleep", ["1000"], { signal: abort.signal });
  abort.abort();
  expect(await ran).toMatchObject({ ok: false, timedOut: false });
});
