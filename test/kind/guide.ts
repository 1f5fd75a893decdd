// Runs the commands of a guide as they stand: each block of `sh` in turn, in one shell, on the clusters' machine. What a guide takes from a
// registry is put in its place: `kind` gives the node image that was made here, and connects pods.
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkedOnHost } from "./docker.ts";
import type { KindCluster } from "./kind-cluster.ts";
import { REPOSITORY, STATE } from "./paths.ts";

/** The guide's commands that make something only once, in the order of the page. */
export interface GuideBlock {
  /** The heading above it. */
  readonly heading: string;
  readonly commands: string;
}

/** @throws Error when the page has no commands */
export function guideBlocks(page: string): readonly GuideBlock[] {
  const blocks: GuideBlock[] = [];
  let heading = "";
  for (const match of page.matchAll(/^## (.+)$|^```sh\n([\s\S]*?)^```$/gm)) {
    if (match[1] !== undefined) heading = match[1];
    else blocks.push({ heading, commands: match[2] ?? "" });
  }
  if (blocks.length === 0) throw new Error("the page has no commands");
  return blocks;
}

export function readGuide(path: string): readonly GuideBlock[] {
  return guideBlocks(readFileSync(join(REPOSITORY, path), "utf8"));
}

const SHIMS = join(STATE, "guide-bin");

/** `make image` was run by `make kind`, and kind's cluster is the one that stands. */
export function makeShims(): void {
  mkdirSync(SHIMS, { recursive: true });
  const shims = {
    make: `[ "$1" = image ] || { echo "make: not expected: $*" >&2; exit 1; }`,
    kind: `[ "$1 $2" = "create cluster" ] && exit 0
exec "${join(REPOSITORY, ".cache/kind/bin/kind")}" "$@"`,
    millrace: `exec "${join(REPOSITORY, "dist/millrace")}" "$@"`,
  };
  for (const [name, script] of Object.entries(shims)) {
    writeFileSync(join(SHIMS, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(SHIMS, name), 0o755);
  }
}

/** Runs a block in a directory. Returns what it wrote to either output. @throws machine with the last of it */
export async function runBlock(
  { environment }: KindCluster,
  { commands }: GuideBlock,
  directory = REPOSITORY,
): Promise<string> {
  const env = { ...environment, PATH: `${SHIMS}:${environment["PATH"]}` };
  const script = `cd ${directory} || exit 1\nset -e\nexec 2>&1\n${commands}`;
  return await checkedOnHost(["bash", "-c", script], { env, timeoutMs: 900_000 });
}
