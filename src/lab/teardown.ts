// Removes a lab, whole, half made or crashed: it asks nobody, and finds everything by name.
import { existsSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { entriesOf } from "../lib/entries.ts";
import { removeCgroup } from "./cgroups.ts";
import { isLabNamespace, type LabPaths, labPaths } from "./lab-paths.ts";
import { changeNetwork } from "./shell.ts";

function namespacesOf(paths: LabPaths): string[] {
  const all = new Set([...entriesOf("/run/netns"), ...entriesOf("/etc/netns")]);
  return [...all].filter((namespace) => isLabNamespace(paths.name, namespace));
}

/** Directories that other labs may use too. */
function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // Somebody else's things are in it, or it was never made.
  }
}

/** Whether anything of a lab is on this machine. */
export function labExists(name: string): boolean {
  const paths = labPaths(name);
  return (
    existsSync(paths.runDir) || existsSync(paths.cgroup) || existsSync(paths.pinDir) || namespacesOf(paths).length > 0
  );
}

/** Ends the lab's processes and removes its namespaces, cgroups, pins and files. false when there was nothing. */
export async function tearDown(name: string): Promise<boolean> {
  const paths = labPaths(name);
  if (!labExists(name)) return false;
  // Its processes go first, at once: nobody makes anything new meanwhile.
  await removeCgroup(paths.cgroup);
  rmSync(paths.pinDir, { recursive: true, force: true });
  const namespaces = namespacesOf(paths);
  const lines = namespaces.map((namespace) => `netns del ${namespace}`);
  await changeNetwork(`lab ${name}`, (script) => script.ip("", lines, { force: true }));
  for (const namespace of namespaces) rmSync(join("/etc/netns", namespace), { recursive: true, force: true });
  rmSync(paths.runDir, { recursive: true, force: true });
  for (const directory of [dirname(paths.runDir), dirname(dirname(paths.runDir)), "/etc/netns"])
    removeIfEmpty(directory);
  return true;
}
