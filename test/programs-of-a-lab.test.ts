// No program that the lab calls is waited for without end.
import { execFile } from "node:child_process";
import { afterEach, expect, it, vi } from "vitest";
import { checkedLab } from "../src/lab/checked-lab.ts";
import type { LabSession } from "../src/lab/lab-session.ts";
import { changeNetwork, runChecked, runProgram } from "../src/lab/shell.ts";
import { patience } from "../src/lib/patience.ts";

vi.mock(import("node:child_process"), async (original) => {
  const real = await original();
  return { ...real, execFile: vi.fn(real.execFile) as unknown as typeof real.execFile };
});

afterEach(() => void vi.useRealTimers());

it("every program has a limit, and so has a change of the network", async () => {
  await runProgram("true", []);
  await changeNetwork("nothing", (script) => script.ethtool("nowhere", ["--version"])).catch(() => {});
  const limits = vi.mocked(execFile).mock.calls.map((call) => (call as unknown as [string, string[], object])[2]);
  expect(limits).toEqual([
    expect.objectContaining({ timeout: patience(1_800_000), killSignal: "SIGKILL" }),
    expect.objectContaining({ timeout: patience(120_000), killSignal: "SIGKILL" }),
  ]);
});

it("one that takes longer is ended, and the failure says so", async () => {
  await expect(runChecked("sleep", ["600"], { timeoutMs: 50 })).rejects.toThrow(
    "could not run sleep 600: sleep did not end within 0.05 s",
  );
});

it("a listener that does not come to listen is given up, and ended", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const command = vi.fn(async () => ["sleep", "600"]);
  const { loadBalancing } = checkedLab({ command, notices: vi.fn() } as unknown as LabSession);
  const holders = loadBalancing?.holders("client1", "192.168.122.101");
  const refused = expect(holders).rejects.toThrow("tcpdump did not listen within");
  await vi.waitFor(() => expect(vi.getTimerCount()).toBe(1));
  await vi.advanceTimersByTimeAsync(patience(10_000));
  await refused;
});
