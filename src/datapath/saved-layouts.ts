// Layouts by their fingerprint: the directories that their maps are pinned in, and the descriptions that each build leaves in the
// state directory for the next one, older or newer.
import { join } from "node:path";
import { Failure } from "../lib/errors.ts";
import { recall, remember } from "../lib/state-store.ts";
import { VERSION } from "../lib/version.ts";
import { FINGERPRINT, LAYOUT } from "./layout.gen.ts";
import { fingerprintOf, type Layout } from "./layout.ts";

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

function recallLayout(stateDir: string, fingerprint: string): SavedLayout | undefined {
  const found = recall(layoutFile(stateDir, fingerprint)) as Partial<SavedLayout> | null | undefined;
  return typeof found?.format === "number" && found.layout?.structs !== undefined ? (found as SavedLayout) : undefined;
}

/** Leaves this build's layout for others; a damaged file is written anew. Where that is not possible the next upgrade misses it. */
export function saveLayout(stateDir: string): void {
  const known = recallLayout(stateDir, FINGERPRINT);
  if (known !== undefined && fingerprintOf(known.layout) === FINGERPRINT) return;
  const saved: SavedLayout = { format: FORMAT, version: VERSION, layout: LAYOUT };
  remember(layoutFile(stateDir, FINGERPRINT), saved);
}

/** Also when it is of a format that this build cannot read. */
export function isLayoutKnown(stateDir: string, fingerprint: string): boolean {
  return recallLayout(stateDir, fingerprint) !== undefined;
}

/** @throws Failure "conflict" when it is not known, or of a newer format */
export function readLayout(stateDir: string, fingerprint: string, pinDir: string): Layout {
  const remedy = `run 'millrace cleanup --pin-dir ${pinDir}' to start anew`;
  const saved = recallLayout(stateDir, fingerprint);
  if (saved === undefined) {
    throw new Failure(
      "conflict",
      pinDir,
      `could not take over the maps in ${pinDir}: their layout ${fingerprint} is not known here, perhaps of a newer build; ${remedy}`,
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
