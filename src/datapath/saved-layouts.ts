// Layouts by their fingerprint: the directories that their maps are pinned in, and the descriptions that each build leaves in the
// state directory for the next one, older or newer.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../lib/errors.ts";
import { replaceFile } from "../lib/state-store.ts";
import { VERSION } from "../lib/version.ts";
import { FINGERPRINT, LAYOUT } from "./layout.gen.ts";
import type { Layout } from "./layout.ts";

/** Of a directory of pins, before the fingerprint: maps that programs read, and maps that are being filled. */
export const MAPS_PREFIX = "maps-";
export const STAGING_PREFIX = "new-";

/** Raised when a newer build's state cannot be taken over by this one. */
const FORMAT = 1;

interface SavedLayout {
  readonly format: number;
  readonly version: string;
  readonly layout: Layout;
}

function layoutFile(stateDir: string, fingerprint: string): string {
  return join(stateDir, "layouts", `${fingerprint}.json`);
}

export function saveLayout(stateDir: string): void {
  const path = layoutFile(stateDir, FINGERPRINT);
  if (existsSync(path)) return;
  const saved: SavedLayout = { format: FORMAT, version: VERSION, layout: LAYOUT };
  replaceFile(path, JSON.stringify(saved));
}

export function readLayout(stateDir: string, fingerprint: string, pinDir: string): Layout {
  const remedy = `run 'millrace cleanup --pin-dir ${pinDir}' to start anew`;
  let saved: SavedLayout;
  try {
    saved = JSON.parse(readFileSync(layoutFile(stateDir, fingerprint), "utf8")) as SavedLayout;
  } catch (cause) {
    throw new Failure(
      "conflict",
      pinDir,
      `could not take over the maps in ${pinDir}: their layout ${fingerprint} is not known here, perhaps of a newer build; ${remedy}`,
      { cause },
    );
  }
  if (saved.format > FORMAT) {
    throw new Failure(
      "conflict",
      pinDir,
      `could not take over the maps in ${pinDir}: they were made by the newer version ${saved.version}; start that version, or ${remedy}`,
    );
  }
  return saved.layout;
}
