// Starts a lab's control process, detached and in a cgroup of its own, and waits until it takes orders.
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Failure } from "../lib/errors.ts";
import { patience } from "../lib/patience.ts";
import { inCgroup, makeCgroup } from "./cgroups.ts";
import { order } from "./control-client.ts";
import type { LabConfig } from "./lab.ts";
import { labPaths } from "./lab-paths.ts";
import { millraceCommand } from "./programs.ts";
import { cannot } from "./refusals.ts";
import { spawnLogged } from "./shell.ts";
import { labExists } from "./teardown.ts";

const START_TIMEOUT_MS = patience(15_000);

/** @throws conflict when a lab of this name is there, up or left over */
export async function spawnControl(config: LabConfig): Promise<void> {
  const { lab } = config.network;
  const paths = labPaths(lab);
  if (labExists(lab)) throw await taken(lab);
  mkdirSync(join(paths.runDir, ".."), { recursive: true, mode: 0o755 });
  try {
    mkdirSync(paths.runDir, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") throw await taken(lab);
    throw error;
  }
  const cgroup = join(paths.cgroup, "control");
  makeCgroup(cgroup);
  const command = inCgroup(cgroup, millraceCommand(["lab", "control", JSON.stringify(config)]));
  const child = spawnLogged(command, paths.controlLog, { detached: true });
  let ended: string | undefined;
  child.on("error", (error) => {
    ended = error.message;
  });
  child.on("exit", (code, signal) => {
    ended = signal ?? `status ${code}`;
  });
  child.unref();
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!existsSync(paths.controlSocket)) {
    if (ended !== undefined || Date.now() > deadline) {
      const lastWords = existsSync(paths.controlLog)
        ? readFileSync(paths.controlLog, "utf8").trim().split("\n").slice(-3).join("; ")
        : "its directory is gone: somebody took the lab down meanwhile";
      const said = `${ended ?? "it takes no orders"}: ${lastWords || "it said nothing"}`;
      throw cannot("machine", "start the control process of lab", lab, said);
    }
    await delay(10);
  }
}

async function taken(lab: string): Promise<Failure> {
  const alive = await order(lab, "status", {}).then(
    () => true,
    () => false,
  );
  const down = `\`millrace lab down --name ${lab}\``;
  const reason = alive
    ? `a lab of this name is up; choose another with --name, or ${down} first`
    : `a lab of this name was left behind; ${down} removes it`;
  return cannot("conflict", "start lab", lab, reason);
}
