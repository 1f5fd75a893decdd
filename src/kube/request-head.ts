// One request to one API server, until the head of its answer: time limits for connecting and for the head, TCP keep-alive.
import http, { type OutgoingHttpHeaders } from "node:http";
import https from "node:https";
import { isIP, type LookupFunction, type Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { ApiServer } from "./api-servers.ts";

/** With ten probes, one a second (as libuv sets them on Linux), a peer that vanished is found after 20 s of silence. */
const TCP_KEEP_ALIVE_MS = 10_000;

/** What is asked for. Whatever is sent may be sent twice: a connection may end after the server has done it. */
export interface Demand {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  /** JSON, of a POST or PATCH (RFC 7386: a merge patch, unless `contentType` says otherwise). */
  readonly body?: string;
  readonly contentType?: string;
}

export interface HeadRequest extends Demand {
  readonly server: ApiServer;
  /** With its query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly agent: http.Agent;
  readonly lookup: LookupFunction;
  /** Ends the request, and the answer's body. */
  readonly signal: AbortSignal;
  /** From now on. */
  readonly connectTimeoutMs: number;
  /** From now on, connecting included. */
  readonly headTimeoutMs: number;
}

/** Why there was no head; `cause` is Node's error. */
export class NoHead extends Error {
  override readonly name = "NoHead";
  /**
   * "lookup", "connect" and "head": its time was over, before the server's name was resolved, before and after the connection stood.
   * "failed": see `cause`.
   */
  readonly reason: "lookup" | "connect" | "head" | "failed";
  /** The connection had been used before: the server may have closed it just as this request went out. */
  readonly reused: boolean;

  constructor(reason: NoHead["reason"], reused: boolean, cause: NodeJS.ErrnoException) {
    super(cause.message, { cause });
    this.reason = reason;
    this.reused = reused;
  }
}

/** Rejects with NoHead. */
export function requestHead(wanted: HeadRequest): Promise<http.IncomingMessage> {
  const startedMs = performance.now();
  return new Promise((resolve, reject) => {
    const request = start(wanted);
    let phase: "lookup" | "connect" | "head" = needsLookup(wanted.server) ? "lookup" : "connect";
    let timedOut = false;
    const expire = () => {
      timedOut = true;
      request.destroy(new Error("no answer in time"));
    };
    let timer = setTimeout(expire, wanted.connectTimeoutMs);
    request.once("socket", (socket) => {
      // One that stands already resolves no name: a listener for that would stay for each request.
      if (socket.connecting) {
        socket.once("lookup", () => {
          if (phase === "lookup") phase = "connect";
        });
      }
      whenConnected(socket, request.reusedSocket, () => {
        phase = "head";
        socket.setKeepAlive(true, TCP_KEEP_ALIVE_MS);
        clearTimeout(timer);
        if (!request.destroyed) timer = setTimeout(expire, wanted.headTimeoutMs - (performance.now() - startedMs));
      });
    });
    // Stays for the answer's life: the body reports its own errors.
    request.on("error", (error) => {
      clearTimeout(timer);
      reject(new NoHead(timedOut ? phase : "failed", request.reusedSocket, error));
    });
    request.once("response", (response) => {
      clearTimeout(timer);
      resolve(response);
    });
  });
}

/** Behind a proxy the proxy's own name is, which is told from its connection by nobody. */
function needsLookup({ url, proxyUrl }: ApiServer): boolean {
  return proxyUrl === undefined && isIP(hostOf(url)) === 0;
}

const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[|\]$/g, "");

const CONTENT_TYPE = { GET: "", POST: "application/json", PATCH: "application/merge-patch+json", DELETE: "" } as const;

function start(wanted: HeadRequest): http.ClientRequest {
  const { server, path, method, body, contentType, headers, agent, lookup, signal } = wanted;
  const { protocol, port, pathname } = server.url;
  const secure = protocol === "https:";
  return (secure ? https : http)
    .request({
      host: hostOf(server.url),
      lookup,
      port: port || (secure ? 443 : 80),
      path: pathname.replace(/\/$/, "") + path,
      method,
      headers: {
        ...headers,
        ...(body === undefined ? {} : bodyHeaders(contentType ?? CONTENT_TYPE[method], body)),
      } as OutgoingHttpHeaders,
      agent,
      signal,
      ...(server.tlsName === undefined ? {} : { servername: server.tlsName }),
    })
    .end(body);
}

function bodyHeaders(contentType: string, body: string): OutgoingHttpHeaders {
  return { "Content-Type": contentType, "Content-Length": Buffer.byteLength(body) };
}

/** Calls back once the connection can take a request: at once for one that stands already. */
function whenConnected(socket: Socket, reused: boolean, done: () => void): void {
  const secure = socket instanceof TLSSocket;
  // A tunnel through a proxy has finished its handshake before the socket is handed over.
  const stands = secure ? socket.getFinished() !== undefined : !socket.connecting;
  if (reused || stands) done();
  else socket.once(secure ? "secureConnect" : "connect", done);
}
