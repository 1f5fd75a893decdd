// A small HTTPS server in the place of kube-apiserver: what it saw, and an answer by a function.
import { once } from "node:events";
import type { IncomingMessage, RequestListener } from "node:http";
import { createServer, type ServerOptions } from "node:https";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";

export interface SeenRequest {
  readonly url: string;
  readonly authorization: string;
  /** The client certificate's common name, "" without one. */
  readonly client: string;
  /** The client's port: the same for requests over one connection. */
  readonly connection: number;
  readonly headers: IncomingMessage["headers"];
}

export interface TlsServer {
  /** https://127.0.0.1:port */
  readonly url: string;
  readonly port: number;
  readonly seen: SeenRequest[];
  answer: RequestListener;
  /** Open ones. */
  connections(): Promise<number>;
  close(): Promise<void>;
}

function seenRequest(request: IncomingMessage): SeenRequest {
  const peer = (request.socket as TLSSocket).getPeerCertificate?.();
  return {
    url: request.url ?? "",
    authorization: request.headers.authorization ?? "",
    client: [peer?.subject?.CN ?? ""].flat()[0] ?? "",
    connection: request.socket.remotePort ?? 0,
    headers: request.headers,
  };
}

export async function startTlsServer(options: ServerOptions, answer: RequestListener = ok): Promise<TlsServer> {
  const server = createServer(options);
  const started: TlsServer = {
    url: "",
    port: 0,
    seen: [],
    answer,
    connections: () =>
      new Promise((done, fail) => server.getConnections((error, count) => (error ? fail(error) : done(count)))),
    async close() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
  server.on("request", (request, response) => {
    started.seen.push(seenRequest(request));
    started.answer(request, response);
  });
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return Object.assign(started, { url: `https://127.0.0.1:${port}`, port });
}

export const ok: RequestListener = (_, response) => {
  response.writeHead(200, { "content-type": "application/json" }).end('{"kind":"List"}');
};

/** 401 as kube-apiserver words it, unless `accepts`. */
export function onlyWhen(accepts: (request: IncomingMessage) => boolean): RequestListener {
  return (request, response) => {
    if (accepts(request)) ok(request, response);
    else response.writeHead(401, { "content-type": "application/json" }).end('{"kind":"Status","code":401}');
  };
}
