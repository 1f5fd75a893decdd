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

  return {
    *push(chunk) {
      const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      // Where the part began that is being collected, be it of the frame or of an element.
      let start = 0;
      for (let at = 0; at < buffer.length; at++) {
        const byte = buffer[at]!;
        if (inString) {
          if (escaped) escaped = false;
          else if (byte === BACKSLASH) escaped = true;
          else if (byte === QUOTE) inString = false;
          continue;
        }
        const opens = byte === OPEN_BRACE || byte === OPEN_BRACKET;
        if (depth === 0 && !isSpace(byte) && (started || byte !== OPEN_BRACE)) throw garbage(buffer, at);
        if (where === "items" && !(byte === OPEN_BRACE || byte === CLOSE_BRACKET || byte === COMMA || isSpace(byte))) {
          throw garbage(buffer, at);
        }
        if (byte === QUOTE) inString = true;
        else if (opens) {
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
        } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
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
