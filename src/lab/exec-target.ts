// `millrace lab exec`: becomes the command, inside its target's cgroup and namespace, so that standard streams, signals
// and the exit status are the command's own.
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { Failure } from "../lib/errors.ts";
import { order } from "./control-client.ts";
import type { ExecTarget } from "./lab.ts";
import { cannot } from "./refusals.ts";
import { inNamespace } from "./shell.ts";

/** Never returns. @throws not_found when there is no such target or program */
export async function execTarget(lab: string, target: string, command: readonly string[]): Promise<never> {
  const place = await order<ExecTarget>(lab, "target", { target });
  const program = findProgram(command[0] ?? "");
  // The names of the machine's /sys stay visible in nodes: only pods need a mount namespace, for their resolv.conf.
  const [enter = "", ...within] = inNamespace(place.netns, [program, ...command.slice(1)], place.ownResolver);
  const script = 'echo $$ > "$0/cgroup.procs" || exit 126; exec "$@"';
  const environment = process.env as Record<string, string>;
  process.execve!("/bin/sh", ["sh", "-c", script, place.cgroup, findProgram(enter), ...within], environment);
  throw new Failure("internal", target, `could not become ${program}`);
}

function findProgram(name: string): string {
  const path = process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin";
  const candidates = name.includes("/") ? [name] : path.split(delimiter).map((directory) => join(directory, name));
  for (const candidate of candidates) {
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {}
  }
  throw cannot("not_found", "run", name, "there is no such program on this machine");
}
