// The secret that the nodes of a cluster share, by which they believe each other's word that they live: a directory of files, as the
// kubelet mounts a Secret. Each with 32 hex digits is a key that is accepted; the one named "current" is sent by. So a key is rotated
// by adding it, making it current when every node has it, and taking the old one away.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Notice } from "../model/objects.ts";

export interface AnnouncerSecret {
  /** 16 bytes each, the one to send by first. Empty: there is none yet. */
  keys(): readonly Uint8Array[];
  /** Looks at the files again. Never rejects. Resolves with whether the keys changed. */
  read(): Promise<boolean>;
  notices(): readonly Notice[];
}

const CURRENT = "current";
const KEY_TEXT = /^[0-9a-f]{32}$/i;
/** As many as the kernel's row takes. */
const MOST_KEYS = 4;

const reasonOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);

/** `directory`: "" for no secret at all. What cannot be read leaves the last good keys in force. */
export function createAnnouncerSecret(directory: string): AnnouncerSecret {
  /** The last good key of each file. */
  let good = new Map<string, string>();
  let keys: readonly Uint8Array[] = [];
  let notices: readonly Notice[] = [];

  function notice(file: string, what: string): Notice {
    const message = `could not use ${file} as a key of the announcer's secret: ${what}`;
    return { object: file, file: "", field: "", reason: "announcer-secret", message, severity: "warning" };
  }

  /** A file that is gone is a key that is gone; one that is there and wrong keeps what it was. */
  async function readFiles(): Promise<{ readonly found: Map<string, string>; readonly said: Notice[] }> {
    const said: Notice[] = [];
    const found = new Map<string, string>();
    // The kubelet's own entries begin with two dots.
    const names = (await readdir(directory)).filter((name) => !name.startsWith(".")).sort();
    for (const name of names) {
      const path = join(directory, name);
      const last = good.get(name);
      const keep = last === undefined ? "it is left out" : "the key that it had before is kept";
      try {
        const text = (await readFile(path, "utf8")).trim();
        if (KEY_TEXT.test(text)) {
          found.set(name, text.toLowerCase());
          continue;
        }
        said.push(notice(path, `it must hold 32 hex digits, such as \`openssl rand -hex 16\` prints; ${keep}`));
      } catch (error) {
        said.push(notice(path, `${reasonOf(error)}; ${keep}`));
      }
      if (last !== undefined) found.set(name, last);
    }
    return { found, said };
  }

  /** In the order in which they count, each once. */
  function order(found: ReadonlyMap<string, string>): string[] {
    const current = found.get(CURRENT);
    return [...new Set([...(current === undefined ? [] : [current]), ...found.values()])];
  }

  async function look(): Promise<void> {
    const { found, said } = await readFiles();
    // Whoever takes the secret away by mistake has time to bring it back.
    const before = good.get(CURRENT);
    if (!found.has(CURRENT)) {
      const then = found.size > 0 ? "the first other file is sent by" : "the last keys are kept";
      const what = before === undefined ? then : "the key that it had before is kept";
      said.push(notice(join(directory, CURRENT), `there is no such file; ${what}`));
      if (before !== undefined) found.set(CURRENT, before);
    }
    const texts = order(found);
    if (texts.length > MOST_KEYS) {
      said.push(notice(directory, `it has ${texts.length} keys, of which ${MOST_KEYS} are used: remove old ones`));
    }
    notices = said;
    if (texts.length === 0) return;
    good = found;
    keys = texts.slice(0, MOST_KEYS).map((text) => Uint8Array.from(Buffer.from(text, "hex")));
  }

  const textOf = (): string => keys.map((key) => Buffer.from(key).toString("hex")).join();

  return {
    keys: () => keys,
    notices: () => notices,
    async read() {
      if (directory === "") return false;
      const before = textOf();
      try {
        await look();
      } catch (error) {
        notices = [
          notice(directory, `${reasonOf(error)}; ${keys.length > 0 ? "the last keys are kept" : "there is none"}`),
        ];
      }
      return textOf() !== before;
    },
  };
}
