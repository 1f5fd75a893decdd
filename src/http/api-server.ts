// /api/v1: what `millrace status`, `services`, `backends` and `flows` show, as JSON. On a unix socket; over TCP only by
// flag, and then only for requests that name this machine (a browser's page under a rebound name does not). Reads only.
import { Readable } from "node:stream";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { AgentView, FlowFilter } from "../agent/view.ts";
import { canonicalAddress, unusableReason } from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { Notice } from "../model/objects.ts";
import { createApp } from "./app.ts";
import { type HttpServer, listening } from "./health-server.ts";
import { closeServer } from "./listener.ts";
import { createTimeSlices } from "./time-slices.ts";
import { listenOnUnixSocket } from "./unix-socket.ts";

export const MAX_FLOWS = 10_000;
const DEFAULT_FLOWS = 1000;

export interface ApiServerOptions {
  readonly view: AgentView;
  readonly socketPath: string;
  /** ADDRESS:PORT; "" for no TCP listener. */
  readonly tcpAddress: string;
  readonly log: Log;
  readonly onNotice: (notice: Notice | undefined) => void;
}

export interface ApiServer {
  /** The app behind the unix socket. */
  readonly app: FastifyInstance;
  /** The app behind the TCP address, undefined when there is none. */
  readonly tcp: HttpServer | undefined;
  /** @throws Failure "conflict" when the socket belongs to another agent; a TCP port that is taken is only a notice */
  listen(): Promise<void>;
  close(): Promise<void>;
}

export function createApiServer(options: ApiServerOptions): ApiServer {
  const { view, socketPath, tcpAddress, log } = options;
  const app = createApp(log);
  addRoutes(app, view);
  const tcp = tcpAddress === "" ? undefined : createTcp(options);
  return {
    app,
    tcp,
    async listen() {
      await app.ready();
      await listenOnUnixSocket(app.server, socketPath);
      await tcp?.listen();
    },
    async close() {
      await closeServer(app.server);
      await app.close();
      await tcp?.close();
    },
  };
}

function createTcp({ view, tcpAddress, log, onNotice }: ApiServerOptions): HttpServer {
  const app = createApp(log);
  app.addHook("onRequest", async (request, reply) => {
    if (namesThisMachine(request.headers.host, request.socket.localAddress)) return;
    const message = `could not answer for the host '${request.headers.host ?? ""}': name localhost or this machine's address`;
    return reply.code(403).send({ code: "usage", message });
  });
  addRoutes(app, view);
  return listening(app, { address: tcpAddress, log, onNotice }, "--api-address", "the API");
}

/** True for localhost, a loopback address, and the very address that the connection came to: no name that DNS can turn. */
export function namesThisMachine(host: string | undefined, localAddress: string | undefined): boolean {
  const match = /^(?:\[([^\]]+)\]|([^:]+))(?::\d{1,5})?$/.exec(host ?? "");
  const name = (match?.[1] ?? match?.[2] ?? "").toLowerCase();
  if (name === "localhost") return true;
  const address = canonicalAddress(name);
  if (address === undefined) return false;
  return unusableReason(address) === "loopback" || address === localAddress?.replace(/^::ffff:/, "");
}

function addRoutes(app: FastifyInstance, view: AgentView): void {
  app.get("/api/v1/status", async (request) => {
    readQuery(request, []);
    return view.status();
  });
  app.get("/api/v1/services", async (request, reply) => {
    readQuery(request, []);
    return sendArray(reply, view.services());
  });
  app.get("/api/v1/backends", async (request, reply) => {
    const { service } = readQuery(request, ["service"]);
    return sendArray(reply, view.backends(service === undefined ? undefined : serviceKey(service)));
  });
  app.get("/api/v1/flows", async (request, reply) => sendArray(reply, view.flows(flowFilter(request))));
}

/** The query's parameters, each at most once and of those that the path knows. @throws Failure "usage" */
function readQuery(request: FastifyRequest, known: readonly string[]): Partial<Record<string, string>> {
  const query = request.query as Record<string, string | string[]>;
  const values: Record<string, string> = {};
  for (const [name, value] of Object.entries(query)) {
    if (!known.includes(name))
      throw new Failure("usage", name, `could not use the parameter '${name}': it is unknown here`);
    if (typeof value !== "string")
      throw new Failure("usage", name, `could not use the parameter '${name}': it is given twice`);
    values[name] = value;
  }
  return values;
}

function flowFilter(request: FastifyRequest): FlowFilter {
  const { address, service, limit } = readQuery(request, ["address", "service", "limit"]);
  const most = limit === undefined ? DEFAULT_FLOWS : /^\d{1,6}$/.test(limit) ? Number(limit) : 0;
  if (most < 1 || most > MAX_FLOWS) {
    throw new Failure(
      "usage",
      "limit",
      `limit must be a whole number from 1 to ${MAX_FLOWS}: current value is '${limit}'`,
    );
  }
  const canonical = address === undefined ? undefined : canonicalAddress(address);
  if (address !== undefined && canonical === undefined) {
    throw new Failure("usage", "address", `address must be an IPv4 or IPv6 address: current value is '${address}'`);
  }
  return {
    limit: most,
    ...(canonical === undefined ? {} : { address: canonical }),
    ...(service === undefined ? {} : { service: serviceKey(service) }),
  };
}

/** "namespace/name"; a bare name is one of the namespace "default". @throws Failure "usage" */
function serviceKey(text: string): string {
  if (!/^([a-z0-9][-a-z0-9]*\/)?[a-z0-9][-a-z0-9.]*$/.test(text) || text.length > 317) {
    throw new Failure("usage", "service", `service must be NAME or NAMESPACE/NAME: current value is '${text}'`);
  }
  return text.includes("/") ? text : `default/${text}`;
}

/**
 * Streams a JSON array in slices of time, so that a hundred thousand backends never hold the loop up. An undefined item is none,
 * and a place to pause.
 */
function sendArray(reply: FastifyReply, items: Iterable<unknown>): FastifyReply {
  const iterator = items[Symbol.iterator]();
  // What goes wrong before there is anything to send still has a status of its own.
  const first = iterator.next();
  return reply.type("application/json; charset=utf-8").send(Readable.from(arrayText(iterator, first)));
}

async function* arrayText(items: Iterator<unknown>, first: IteratorResult<unknown>): AsyncGenerator<string> {
  const slices = createTimeSlices();
  let text = "[";
  let separator = "";
  try {
    for (let item = first; item.done !== true; item = items.next()) {
      if (item.value !== undefined) {
        text += separator + JSON.stringify(item.value);
        separator = ",";
      }
      if (!slices.isOver()) continue;
      yield text;
      text = "";
      await slices.next();
    }
  } finally {
    items.return?.();
  }
  yield `${text}]\n`;
}
