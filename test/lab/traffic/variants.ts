// Other builds of this very tree, for upgrades: the tree is copied, changed in one place, compiled and bundled by its own
// Makefile. Nothing outside of the temporary directory is written.
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { must, ROOT } from "./test-lab.ts";

export interface Variant {
  /** Directory for `lab start agent --dist`. */
  readonly dist: string;
  /** Fingerprint of its struct layouts. */
  readonly layout: string;
  remove(): void;
}

export interface Edit {
  readonly file: string;
  readonly find: string;
  readonly put: string;
}

const PARTS = ["bpf", "src", "scripts", "deploy", "Makefile", "package.json", "tsconfig.json"];

/** Throws when an edit does not apply: a variant that changes nothing would prove nothing. */
export async function buildVariant(edits: readonly Edit[]): Promise<Variant> {
  const root = mkdtempSync(join(tmpdir(), "millrace-variant-"));
  const remove = (): void => rmSync(root, { recursive: true, force: true });
  try {
    for (const part of PARTS) cpSync(join(ROOT, part), join(root, part), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(root, "node_modules"));
    for (const { file, find, put } of edits) {
      const text = readFileSync(join(root, file), "utf8");
      if (text.split(find).length !== 2) throw new Error(`${file} does not hold this once: ${find}`);
      writeFileSync(
        join(root, file),
        text.replace(find, () => put),
      );
    }
    await must("make", ["-C", root, "bundle"], { cwd: root, timeoutMs: 300_000 });
    const generated = readFileSync(join(root, "src/datapath/layout.gen.ts"), "utf8");
    const layout = /FINGERPRINT = "([0-9a-f]+)"/.exec(generated)?.[1];
    if (layout === undefined) throw new Error("the variant has no fingerprint");
    return { dist: join(root, "dist"), layout, remove };
  } catch (error) {
    remove();
    throw error;
  }
}

/** The same layout, other programs: a window's slots are tried five times instead of four. */
export const otherPrograms: readonly Edit[] = [
  { file: "bpf/select.h", find: "for (int i = 0; i < 4; i++) {", put: "for (int i = 0; i < 5; i++) {" },
];

/** struct flow has a new field in its middle, so that all behind it moves, and the programs write it. */
export const newFlowField: readonly Edit[] = [
  {
    file: "bpf/types.h",
    find: "struct flow {\n\tstruct tuple write;\n",
    put: "struct flow {\n\tstruct tuple write;\n\t__u32 opened; /* jiffies when it was opened */\n\t__u32 pad0;\n",
  },
  {
    file: "bpf/flow_open.h",
    find: "\tf->seen = jiffies_now();\n\tf->state = opening->midstream",
    put: "\tf->seen = jiffies_now();\n\tf->opened = f->seen;\n\tf->state = opening->midstream",
  },
];
