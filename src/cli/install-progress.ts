// How the installer's work looks: lines on standard error, and on a terminal a last one that changes in place. Standard output is for
// manifests alone.

import { createInterface } from "node:readline/promises";
import type { Progress } from "../install/work.ts";
import { Failure } from "../lib/errors.ts";
import { printable } from "../lib/text.ts";

const CLEAR = "\r\x1b[K";
const FRAMES = "|/-\\";
const DRAW_MS = 120;
const PLAIN_MS = 15_000;

export interface Terminal {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export interface TerminalProgress extends Progress {
  /** Leaves no half line behind. */
  close(): void;
}

/** Elsewhere than on a terminal what is waited for is a line now and then. */
export function createProgress(terminal: Terminal, now: () => number = Date.now): TerminalProgress {
  const isLive = terminal.isTTY === true;
  let shown = "";
  let since = now();
  let told = "";
  let frame = 0;
  const draw = (): void => {
    if (shown === "") return;
    const width = Math.max(20, (terminal.columns ?? 80) - 1);
    frame = (frame + 1) % FRAMES.length;
    terminal.write(`${CLEAR}${`${FRAMES[frame]} ${shown}`.slice(0, width)}`);
  };
  const timer = isLive ? setInterval(draw, DRAW_MS).unref() : undefined;
  return {
    line(text) {
      const lines = text.split("\n").map(printable).join("\n");
      terminal.write(`${isLive && shown !== "" ? CLEAR : ""}${lines}\n`);
      shown = "";
      since = now();
    },
    live(text) {
      shown = printable(text.replaceAll("\n", " "));
      if (isLive) draw();
      else if (withoutIds(shown) !== told && now() - since >= PLAIN_MS) {
        terminal.write(`${shown}\n`);
        told = withoutIds(shown);
        since = now();
      }
    },
    close() {
      clearInterval(timer);
      if (isLive && shown !== "") terminal.write(CLEAR);
      shown = "";
    },
  };
}

/** Each attempt of a kubelet has ids of its own, and says the same. */
function withoutIds(text: string): string {
  return text.replace(/[0-9a-f]{8,}/g, "…");
}

/** Yes only when that is what is typed. @throws Failure "usage" when there is nobody to ask */
export async function confirmOnTerminal(question: string, isYes: boolean, signal: AbortSignal): Promise<boolean> {
  if (isYes) return true;
  if (process.stdin.isTTY !== true)
    throw new Failure("usage", "--yes", "could not ask whether to do this: there is no terminal; say --yes");
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `, { signal })).trim());
  } catch (error) {
    if (signal.aborted) return false;
    throw error;
  } finally {
    terminal.close();
  }
}
