// Starts traffic.ts somewhere, and ends it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Enter } from "./prometheus.ts";
import type { Traffic } from "./traffic.ts";

/** Runs until the function that is returned is called; that one returns when it has ended. */
export async function startTraffic(enter: Enter, traffic: Traffic): Promise<() => Promise<void>> {
  const script = join(import.meta.dirname, "traffic.ts");
  const [file = "", ...args] = enter([process.execPath, "--no-warnings", script, JSON.stringify(traffic)]);
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(child, "exit");
  child.stdin.on("error", () => {});
  await Promise.race([
    once(child.stdout, "data"),
    ended.then(() => {
      throw new Error("the traffic ended");
    }),
  ]);
  return async () => {
    child.stdin.end();
    const timer = setTimeout(() => child.kill("SIGKILL"), 5000);
    await ended;
    clearTimeout(timer);
  };
}
