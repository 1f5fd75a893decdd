// A transport whose server is the test: it sees each request and says what comes back, piece by piece.
import type { ApiRequestOptions, ApiTransport } from "../../src/kube/transport.ts";

export interface Call {
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly options: ApiRequestOptions;
  /** The head of the answer, with a whole body when one is given. */
  answer(status: number, body?: string, headers?: Readonly<Record<string, string>>): void;
  /** No answer, or the end of its body, by an error. */
  fail(error: Error): void;
  send(text: string): void;
  end(): void;
  /** The head was sent. */
  readonly answered: boolean;
  /** The client left. */
  readonly closed: boolean;
}

export interface ScriptedTransport extends Pick<ApiTransport, "get"> {
  readonly calls: readonly Call[];
  /** The newest call. */
  last(): Call;
}

type Piece = { readonly text: string } | { readonly end: Error | undefined };

function createBody(
  signal: AbortSignal,
  onClose: () => void,
): { push(piece: Piece): void; read(): AsyncGenerator<Uint8Array> } {
  const pieces: Piece[] = [];
  let wake: () => void = () => {};
  signal.addEventListener("abort", () => wake());
  return {
    push(piece) {
      pieces.push(piece);
      wake();
    },
    async *read() {
      try {
        for (;;) {
          if (signal.aborted) throw signal.reason;
          const piece = pieces.shift();
          if (piece === undefined) {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          } else if ("text" in piece) yield Buffer.from(piece.text);
          else if (piece.end === undefined) return;
          else throw piece.end;
        }
      } finally {
        onClose();
      }
    },
  };
}

export function createScriptedTransport(): ScriptedTransport {
  const calls: Call[] = [];
  return {
    calls,
    last() {
      const call = calls.at(-1);
      if (call === undefined) throw new Error("nothing was asked yet");
      return call;
    },
    get(path, query, options) {
      const { promise, resolve, reject } = Promise.withResolvers<Awaited<ReturnType<ApiTransport["get"]>>>();
      let closed = false;
      let answered = false;
      const body = createBody(options.signal, () => {
        closed = true;
      });
      options.signal.addEventListener("abort", () => reject(options.signal.reason));
      calls.push({
        path,
        query,
        options,
        answer(status, text, headers = {}) {
          answered = true;
          resolve({ status, headers, body: body.read() });
          if (text === undefined) return;
          body.push({ text });
          body.push({ end: undefined });
        },
        fail(error) {
          reject(error);
          body.push({ end: error });
        },
        send: (text) => body.push({ text }),
        end: () => body.push({ end: undefined }),
        get answered() {
          return answered;
        },
        get closed() {
          return closed;
        },
      });
      return promise;
    },
  };
}
