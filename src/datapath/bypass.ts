// Turns all translation of a node off and on in its pinned settings, whether an agent runs or not. Never loads anything.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../lib/errors.ts";
import { openPinnedMap } from "../libbpf/mod.ts";
import { FINGERPRINT, SETTINGS } from "./layout.gen.ts";

const PREFIX = "maps-";

/** Settings that are pinned under `pinDir`. Throws Failure "not_found" when there are none, "conflict" for those of another build. */
function withBypass<T>(pinDir: string, use: (words: BigUint64Array, at: number) => T): T {
  const layouts = existsSync(pinDir) ? readdirSync(pinDir).filter((name) => name.startsWith(PREFIX)) : [];
  const path = join(pinDir, `${PREFIX}${FINGERPRINT}`, "settings");
  if (!existsSync(path)) {
    throw layouts.length === 0
      ? new Failure("not_found", pinDir, `could not find settings in ${pinDir}: no agent has run with this --pin-dir`)
      : new Failure(
          "conflict",
          pinDir,
          `could not use the settings in ${pinDir}: they are of another build; use its millrace`,
        );
  }
  const map = openPinnedMap(path, "settings");
  try {
    return use(new BigUint64Array(map.mmap(true)), SETTINGS.bypass / 8);
  } finally {
    map.close();
  }
}

export function readBypass(pinDir: string): boolean {
  return withBypass(pinDir, (words, at) => words[at] !== 0n);
}

export function setBypass(pinDir: string, on: boolean): void {
  withBypass(pinDir, (words, at) => Atomics.store(words, at, on ? 1n : 0n));
}
