// A page of a list, taken apart as it arrives: each element of "items" by itself, so that neither the page's text nor its
// objects are ever whole in memory. What surrounds the elements is kept and parsed at the end.
import { ApiProblem, excerpt, parseJson } from "./api-problem.ts";
import { LINE_LIMIT } from "./lines.ts";

export interface ItemSplitter {
  /** The texts of the elements that end within `chunk`. Throws ApiProblem "garbage" or "too-long". */
  push(chunk: Uint8Array): Generator<string, void, void>;
  /** The page without its elements ("items" empty). Throws ApiProblem "truncated" when it has not ended. */
  end(): unknown;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

const OTHER = 0;
const OPENS = 1;
const CLOSES = 2;
const QUOTES = 3;
/** What each byte is to us, outside of strings. */
const MARKS = new Uint8Array(256);
MARKS[OPEN_BRACE] = OPENS;
MARKS[OPEN_BRACKET] = OPENS;
MARKS[CLOSE_BRACE] = CLOSES;
MARKS[CLOSE_BRACKET] = CLOSES;
MARKS[QUOTE] = QUOTES;
const BETWEEN_ITEMS: ReadonlySet<number> = new Set([OPEN_BRACE, CLOSE_BRACKET, COMMA]);

/** Depth within `{"items":[`. */
const ITEMS_DEPTH = 2;
const ITEMS_KEY = /[{,]\s*"items"\s*:\s*\[$/;
const FRAME_LIMIT = 1024 * 1024;

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** Bytes that are collected over chunks. */
function createCollector(limit: number): { add(part: Uint8Array): void; text(): string; take(): string } {
  let parts: Uint8Array[] = [];
  let length = 0;
  const text = (): string => Buffer.concat(parts, length).toString("utf8");
  return {
    add(part) {
      parts.push(part);
      length += part.length;
      if (length > limit) throw new ApiProblem("too-long", `the API server sent an object of more than ${limit} bytes`);
    },
    text,
    take() {
      const taken = text();
      parts = [];
      length = 0;
      return taken;
    },
  };
}

export function createItemSplitter(limit: number = LINE_LIMIT): ItemSplitter {
  const frame = createCollector(FRAME_LIMIT);
  const item = createCollector(limit);
  let depth = 0;
  let started = false;
  let inString = false;
  let escaped = false;
  let where: "frame" | "items" | "item" = "frame";

  function garbage(buffer: Buffer, at: number): ApiProblem {
    const shown = excerpt(buffer.toString("utf8", at, at + 200));
    return new ApiProblem("garbage", `the API server's answer is not a list: "${shown}"`);
  }

  /** Past the string's end, or the buffer's. `at`: the first byte after the quote, or of the buffer. */
  function skipString(buffer: Buffer, at: number): number {
    let next = at;
    while (next < buffer.length) {
      const byte = buffer[next++]!;
      if (escaped) escaped = false;
      else if (byte === BACKSLASH) escaped = true;
      else if (byte === QUOTE) {
        inString = false;
        break;
      }
    }
    return next;
  }

  /** Throws for what cannot stand outside of the list, or between its elements. */
  function checkPlace(buffer: Buffer, at: number, byte: number): void {
    const fits = depth === 0 ? !started && byte === OPEN_BRACE : BETWEEN_ITEMS.has(byte);
    if (!fits && !isSpace(byte)) throw garbage(buffer, at);
  }

  return {
    *push(chunk) {
      const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      // Where the part began that is being collected, be it of the frame or of an element.
      let start = 0;
      let at = inString ? skipString(buffer, 0) : 0;
      for (; at < buffer.length; at++) {
        const byte = buffer[at]!;
        const mark = MARKS[byte];
        if (depth === 0 || where === "items") checkPlace(buffer, at, byte);
        if (mark === OTHER) continue;
        if (byte === QUOTE) {
          inString = true;
          at = skipString(buffer, at + 1) - 1;
        } else if (mark === OPENS) {
          started = true;
          depth++;
          if (where === "items") {
            where = "item";
            start = at;
          } else if (where === "frame" && depth === ITEMS_DEPTH && byte === OPEN_BRACKET) {
            frame.add(buffer.subarray(start, at + 1));
            start = at + 1;
            if (ITEMS_KEY.test(frame.text())) where = "items";
          }
        } else {
          depth--;
          if (where === "items") {
            where = "frame";
            start = at;
          } else if (where === "item" && depth === ITEMS_DEPTH) {
            where = "items";
            item.add(buffer.subarray(start, at + 1));
            yield item.take();
          }
        }
      }
      if (where === "frame") frame.add(buffer.subarray(start));
      else if (where === "item") item.add(buffer.subarray(start));
    },
    end() {
      if (!started || depth > 0) throw new ApiProblem("truncated", "the API server's list ended before its end");
      return parseJson(frame.text());
    },
  };
}
