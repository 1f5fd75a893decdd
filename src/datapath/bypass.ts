// Turns all translation of a node off and on in its pinned settings, beside an agent or without one. During an upgrade there are
// maps of two layouts, and those that are being filled: the word is written in all of them. Never loads anything.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../lib/errors.ts";
import { type BpfMap, openPinnedMap, readMapBtf } from "../libbpf/mod.ts";
import { FINGERPRINT, SETTINGS } from "./layout.gen.ts";
import { WORD } from "./mapped-array.ts";
import { MAPS_PREFIX, STAGING_PREFIX } from "./saved-layouts.ts";

/** Where the settings of a layout have the word: in those of another build their own type information tells. */
function bypassWord(directory: string, map: BpfMap): number | undefined {
  if (directory.endsWith(`-${FINGERPRINT}`)) return SETTINGS.bypass / WORD;
  const member = readMapBtf(map)
    ?.struct("settings")
    ?.members.find(({ name }) => name === "bypass");
  return member?.bitSize === WORD * 8 ? member.bitOffset / 8 / WORD : undefined;
}

/** Directories in the order of their filling: what is copied from one that was written holds what was written. */
function layoutsIn(pinDir: string): readonly string[] {
  const names = existsSync(pinDir) ? readdirSync(pinDir) : [];
  return [MAPS_PREFIX, STAGING_PREFIX].flatMap((prefix) => names.filter((name) => name.startsWith(prefix)));
}

/** Does `use` with the word of each layout. Directories come, are renamed and go meanwhile: then `use` sees those that stay. */
function eachWord(pinDir: string, use: (words: BigUint64Array, index: number) => void): void {
  let found = 0;
  const foreign: string[] = [];
  for (const directory of layoutsIn(pinDir)) {
    const path = join(pinDir, directory, "settings");
    if (!existsSync(path)) continue;
    using map = openPinnedMap(path, "settings");
    const index = bypassWord(directory, map);
    if (index === undefined) {
      foreign.push(directory);
      continue;
    }
    use(new BigUint64Array(map.mmap(true)), index);
    found++;
  }
  if (foreign.length > 0) {
    throw new Failure(
      "conflict",
      pinDir,
      `could not use the settings in ${pinDir}: ${foreign.join(", ")} were made by a build that has no bypass`,
    );
  }
  if (found === 0) {
    throw new Failure(
      "not_found",
      pinDir,
      `could not find settings in ${pinDir}: no agent has run with this --pin-dir since this machine started`,
    );
  }
}

/** Is all translation off, in any layout? Throws Failure "not_found" when no maps are pinned, "conflict" when some have no such word. */
export function readBypass(pinDir: string): boolean {
  let on = false;
  eachWord(pinDir, (words, index) => {
    on ||= Atomics.load(words, index) !== 0n;
  });
  return on;
}

/** As readBypass; what can be written was written when it throws. */
export function setBypass(pinDir: string, on: boolean): void {
  const value = on ? 1n : 0n;
  let wrote = false;
  // What was renamed, or made, while the directories were read: once more, until all of them have it.
  for (let round = 0; round === 0 || (wrote && round < 8); round++) {
    wrote = false;
    eachWord(pinDir, (words, index) => {
      if (Atomics.exchange(words, index, value) !== value) wrote = true;
    });
  }
}
