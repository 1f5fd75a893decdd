// Bytes to lines, as a watch sends them: one JSON object a line, split over chunks anywhere, within a character too.
import { ApiProblem } from "./api-problem.ts";

/** Far above any object that etcd takes; without it a server that never ends a line would fill the memory. */
export const LINE_LIMIT = 64 * 1024 * 1024;

export interface LineSplitter {
  /** The lines that end within `chunk`, without newline; empty ones are left out. Throws ApiProblem "too-long". */
  push(chunk: Uint8Array): Generator<string, void, void>;
  /** Bytes of the line that has not ended yet. */
  pending(): number;
}

const NEWLINE = 10;

export function createLineSplitter(limit: number = LINE_LIMIT): LineSplitter {
  let parts: Uint8Array[] = [];
  let length = 0;

  function keep(part: Uint8Array): void {
    if (part.length === 0) return;
    parts.push(part);
    length += part.length;
    if (length > limit) throw new ApiProblem("too-long", `the API server sent an object of more than ${limit} bytes`);
  }

  function finish(): string {
    const line = Buffer.concat(parts, length).toString("utf8");
    parts = [];
    length = 0;
    return line;
  }

  return {
    *push(chunk) {
      const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      let start = 0;
      for (let end = buffer.indexOf(NEWLINE); end >= 0; end = buffer.indexOf(NEWLINE, start)) {
        if (length > 0) {
          keep(buffer.subarray(start, end));
          yield finish();
        } else if (end > start) yield buffer.toString("utf8", start, end);
        start = end + 1;
      }
      keep(buffer.subarray(start));
    },
    pending: () => length,
  };
}
