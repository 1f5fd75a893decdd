// Writes a response's body: gathers small pieces into large blocks, waits while the client does not read, and does to
// the bytes what the request's faults ask for.
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { type Fault, findFault } from "./faults.ts";

/** Blocks of this size keep system calls and HTTP chunks few beside the bytes. */
const BLOCK_BYTES = 256 * 1024;

export class BodyWriter {
  /** Aborts when the connection is gone or the body has ended. */
  readonly closed: AbortSignal;
  readonly #response: ServerResponse;
  readonly #chunks: number | "within-characters" | undefined;
  readonly #limit: { readonly afterBytes: number; readonly kind: "truncated" | "cut" | "silent" } | undefined;
  #pieces: Buffer[] = [];
  #pendingBytes = 0;
  #sentBytes = 0;
  #silent = false;

  constructor(response: ServerResponse, faults: readonly Fault[]) {
    const controller = new AbortController();
    response.once("close", () => controller.abort());
    this.closed = controller.signal;
    this.#response = response;
    this.#chunks = findFault(faults, "chunks")?.size;
    this.#limit = findFault(faults, "truncated") ?? findFault(faults, "cut") ?? findFault(faults, "silent");
  }

  /** Sends the head at once: a watcher learns that it is heard before there is an event. */
  begin(): void {
    this.#response.writeHead(200, { "Content-Type": "application/json", "Cache-Control": "no-cache, private" });
    this.#response.flushHeaders();
  }

  /** Resolves when the next piece may come. Nothing is sent before a block is full or `flush` is called. */
  write(...pieces: readonly Buffer[]): Promise<void> | undefined {
    for (const piece of pieces) {
      this.#pieces.push(piece);
      this.#pendingBytes += piece.length;
    }
    return this.#pendingBytes < BLOCK_BYTES ? undefined : this.flush();
  }

  async flush(): Promise<void> {
    if (this.#pendingBytes === 0) return;
    const block = this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces, this.#pendingBytes);
    this.#pieces = [];
    this.#pendingBytes = 0;
    if (this.#limit === undefined) return await this.#send(block);
    const room = this.#limit.afterBytes - this.#sentBytes;
    await this.#send(block.subarray(0, Math.max(0, room)));
    if (block.length >= room) this.#strike(this.#limit.kind);
  }

  async end(): Promise<void> {
    await this.flush();
    if (!this.#silent) this.#response.end();
  }

  /** From now on nothing is sent, not even the end. */
  silence(): void {
    this.#silent = true;
  }

  #strike(kind: "truncated" | "cut" | "silent"): void {
    // What was written goes out first; then the connection breaks.
    if (kind === "cut") this.#response.socket?.destroySoon();
    if (kind === "truncated") this.#response.end();
    this.#silent = true;
  }

  async #send(block: Buffer): Promise<void> {
    for (const chunk of this.#chunks === undefined ? [block] : split(block, this.#chunks)) {
      if (this.#silent || chunk.length === 0) return;
      this.closed.throwIfAborted();
      this.#sentBytes += chunk.length;
      if (!this.#response.write(chunk)) await once(this.#response, "drain", { signal: this.closed });
    }
  }
}

function* split(block: Buffer, size: number | "within-characters"): Generator<Buffer> {
  let start = 0;
  for (let end = 1; end < block.length; end++) {
    // In UTF-8 the bytes 0b10xxxxxx continue a character.
    const cut = size === "within-characters" ? (block[end]! & 0xc0) === 0x80 : end - start === size;
    if (!cut) continue;
    yield block.subarray(start, end);
    start = end;
  }
  yield block.subarray(start);
}
