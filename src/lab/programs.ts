// Which programs a lab starts: this same Millrace again, and the pod server beside it. In dist/ both are bundles; from the
// sources Node runs the TypeScript.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { selfCommand } from "../lib/paths.ts";

const FLAGS = ["--max-old-space-size=24", "--max-semi-space-size=1", "--no-warnings"];

/** The server of every pod. */
export function podServerCommand(
  pod: string,
  node: string,
  ports: readonly number[],
  graceMs: number,
  endMs: number,
): string[] {
  // In this form the build finds the module and bundles it.
  const server = fileURLToPath(new URL("./pod-server.ts", import.meta.url));
  return [process.execPath, ...FLAGS, server, pod, node, ports.join(","), String(graceMs), String(endMs)];
}

/** The program that asks servers from inside a namespace; `order` is JSON. */
export function probeCommand(order: string): string[] {
  return [process.execPath, ...FLAGS, fileURLToPath(new URL("./probe.ts", import.meta.url)), order];
}

function firstThatExists(...relative: readonly string[]): string {
  const paths = relative.map((path) => fileURLToPath(new URL(path, import.meta.url)));
  return paths.find((path) => existsSync(path)) ?? paths[0]!;
}

/** The command of another part of Millrace: `selfCommand()`, or with `dist` the executable of another build. */
export function millraceCommand(args: readonly string[], dist = ""): string[] {
  return dist === "" ? [...selfCommand(), ...args] : [join(dist, "millrace"), ...args];
}

/** The object with a program that passes every packet, for the LAN's ends of the uplinks under `--xdp on`. */
export function xdpPassObject(): string {
  return firstThatExists("./bpf/pass.bpf.o", "../../build/bpf/pass.bpf.o");
}

/** The examples that come with Millrace. */
export function examplesDirectory(): string {
  return firstThatExists("../deploy/examples", "./examples", "../../deploy/examples");
}
