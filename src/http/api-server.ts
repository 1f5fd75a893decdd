// /api/v1: what `millrace status`, `services`, `backends`, `flows` and `drops` show, as JSON. On a unix socket; over TCP only by
// flag, and then only for requests that name this machine (a browser's page under a rebound name does not). Reads only.
import { Readable } from "node:stream";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { AgentView, FlowFilter } from "../agent/view.ts";
import { canonicalAddress, familyOf, type Prefix, parsePrefix, socketAddress, unusableReason } from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { createPortions } from "../lib/portions.ts";
import { didYouMean, nearest } from "../lib/suggest.ts";
import type { Notice } from "../model/objects.ts";
import { createApp } from "./app.ts";
import { type HttpServer, listening } from "./health-server.ts";
import { parseLabelQuery } from "./label-query.ts";
import { closeServer } from "./listener.ts";
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
  return unusableReason(address) === "loopback" || address === socketAddress(localAddress ?? "");
}

function addRoutes(app: FastifyInstance, view: AgentView): void {
  app.get("/api/v1/status", async (request) => {
    readQuery(request, []);
    const status = view.status();
    return { ...status, notices: status.notices.map((notice) => ({ ...notice, see: seeAlso(notice) })) };
  });
  app.get("/api/v1/services", async (request, reply) => {
    return sendArray(reply, view.services(serviceTest(view, readQuery(request, OF_SERVICES))));
  });
  app.get("/api/v1/backends", async (request, reply) => {
    const query = readQuery(request, [...OF_SERVICES, "all"]);
    const isWanted = serviceTest(view, query);
    const all = oneOf("all", query.all, ["true", "false"]) === "true";
    return sendArray(reply, view.backends(isWanted, all));
  });
  app.get("/api/v1/drops", async (request, reply) => {
    const query = readQuery(request, OF_SERVICES);
    const isWanted = serviceTest(view, query);
    const isAny = OF_SERVICES.every((name) => query[name] === undefined);
    const drops = [...view.drops()].filter(({ service }) => (service === "" ? isAny : isWanted(service)));
    return sendArray(reply, drops);
  });
  app.get("/api/v1/flows", async (request, reply) => {
    const filter = flowFilter(request, view);
    let matched = 0;
    reply.trailer("millrace-matched", async () => String(matched));
    return sendArray(reply, view.flows(filter), (count) => {
      matched = count ?? 0;
    });
  });
}

/** Where the documentation says what to do about it. */
const seeAlso = ({ reason }: Notice): string => `docs/troubleshooting.md#${reason}`;

/** What says of which Services something is wanted. */
const OF_SERVICES = ["service", "namespace", "selector"] as const;

type ServiceQuery = { readonly [name in (typeof OF_SERVICES)[number]]?: string | undefined };

/** @throws Failure "not_found" for a Service or a namespace with Services that is not there, with the nearest that is */
function serviceTest(view: AgentView, { service, namespace, selector }: ServiceQuery): (key: string) => boolean {
  const wanted = service === undefined ? undefined : new Set(serviceKeys(service));
  if (wanted !== undefined || namespace !== undefined) {
    const known = new Set(view.serviceNames());
    for (const key of wanted ?? []) {
      if (known.has(key)) continue;
      throw new Failure("not_found", key, `could not find Service ${key}: there is none${nearestService(key, known)}`);
    }
    const namespaces = new Set([...known].map((key) => key.split("/", 1)[0]!));
    if (namespace !== undefined && !namespaces.has(namespace)) {
      const reason = `no Service is in it${didYouMean(namespace, namespaces)}`;
      throw new Failure("not_found", namespace, `could not find namespace ${namespace}: ${reason}`);
    }
  }
  const matches = selector === undefined ? undefined : parseLabelQuery(selector);
  return (key) => {
    if (wanted?.has(key) === false || (namespace !== undefined && !key.startsWith(`${namespace}/`))) return false;
    if (matches === undefined) return true;
    const labels = view.labelsOf(key);
    return labels !== undefined && matches(labels);
  };
}

/** One of the same name elsewhere comes before one that is spelt nearly so. */
function nearestService(key: string, known: ReadonlySet<string>): string {
  const nameOf = (one: string): string => one.slice(one.indexOf("/") + 1);
  const elsewhere = [...known].find((one) => nameOf(one) === nameOf(key));
  const name = nearest(nameOf(key), [...known].map(nameOf));
  const near = elsewhere ?? [...known].find((one) => nameOf(one) === name);
  return near === undefined ? "" : `; did you mean ${near}?`;
}

/** The query's parameters, each at most once and of those that the path knows. @throws Failure "usage" */
function readQuery<K extends string>(request: FastifyRequest, known: readonly K[]): Partial<Record<K, string>> {
  const query = request.query as Record<string, string | string[]>;
  const values: Record<string, string> = {};
  for (const [name, value] of Object.entries(query)) {
    if (!known.some((one) => one === name))
      throw new Failure("usage", name, `could not use the parameter '${name}': it is unknown here`);
    if (typeof value !== "string")
      throw new Failure("usage", name, `could not use the parameter '${name}': it is given twice`);
    values[name] = value;
  }
  return values as Partial<Record<K, string>>;
}

function wrong(name: string, wanted: string, value: string | undefined): Failure {
  return new Failure("usage", name, `${name} must be ${wanted}: current value is '${value}'`);
}

function oneOf<T extends string>(name: string, value: string | undefined, choices: readonly T[]): T | undefined {
  const found = choices.find((choice) => choice === value);
  if (found === undefined && value !== undefined) throw wrong(name, choices.join(" or "), value);
  return found;
}

function wholeNumber(name: string, value: string | undefined, most: number): number | undefined {
  if (value === undefined) return undefined;
  const number = /^\d{1,6}$/.test(value) ? Number(value) : -1;
  if (number < 0 || number > most) throw wrong(name, `a whole number from 0 to ${most}`, value);
  return number;
}

/** An address is a prefix of its whole length. */
function prefixOf(name: string, value: string | undefined): Prefix | undefined {
  if (value === undefined) return undefined;
  const address = canonicalAddress(value);
  const prefix =
    address === undefined ? parsePrefix(value) : { address, length: familyOf(address) === "IPv4" ? 32 : 128 };
  if (prefix === undefined) throw wrong(name, "an IPv4 or IPv6 address, or a network as 10.0.0.0/8", value);
  return prefix;
}

const FLOW_STATES = [
  "syn-sent",
  "unanswered",
  "answered",
  "established",
  "midstream",
  "closing",
  "closed",
  "reset",
  "pointed",
  "retired",
];

function flowFilter(request: FastifyRequest, view: AgentView): FlowFilter {
  const query = readQuery(request, [
    ...OF_SERVICES,
    "address",
    "client",
    "backend",
    "port",
    "state",
    "protocol",
    "path",
    "pod",
    "backend-node",
    "limit",
  ]);
  const { service, namespace, selector, pod } = query;
  const isWanted = serviceTest(view, query);
  const named = service === undefined ? undefined : serviceKeys(service);
  const given = {
    services: selector === undefined ? named : (named ?? [...view.serviceNames()]).filter(isWanted),
    namespace,
    address: prefixOf("address", query.address),
    client: prefixOf("client", query.client),
    backend: prefixOf("backend", query.backend),
    port: wholeNumber("port", query.port, 65_535),
    state: oneOf("state", query.state, FLOW_STATES),
    protocol: oneOf("protocol", query.protocol?.toUpperCase(), ["TCP", "UDP", "SCTP"]),
    path: oneOf("path", query.path, ["packet", "socket"] as const),
    pod: pod === undefined || pod.includes("/") ? pod : `${namespace ?? "default"}/${pod}`,
    backendNode: query["backend-node"],
  };
  const set = Object.entries(given).filter(([, value]) => value !== undefined);
  return {
    ...(Object.fromEntries(set) as Partial<FlowFilter>),
    limit: wholeNumber("limit", query.limit, MAX_FLOWS) ?? DEFAULT_FLOWS,
  };
}

/** "namespace/name", several with commas between; a bare name is one of the namespace "default". @throws Failure "usage" */
function serviceKeys(text: string): string[] {
  return text.split(",").map((one) => {
    if (!/^([a-z0-9][-a-z0-9]*\/)?[a-z0-9][-a-z0-9.]*$/.test(one) || one.length > 317)
      throw wrong("service", "NAME or NAMESPACE/NAME", one);
    return one.includes("/") ? one : `default/${one}`;
  });
}

/**
 * Streams a JSON array in slices of time, so that a hundred thousand backends never hold the loop up. An undefined item is none,
 * and a place to pause.
 */
function sendArray<R>(
  reply: FastifyReply,
  items: Iterable<unknown, R>,
  ended: (returned: R) => void = () => {},
): FastifyReply {
  const iterator = items[Symbol.iterator]();
  // What goes wrong before there is anything to send still has a status of its own.
  const first = iterator.next();
  return reply.type("application/json; charset=utf-8").send(Readable.from(arrayText(iterator, first, ended)));
}

async function* arrayText<R>(
  items: Iterator<unknown, R>,
  first: IteratorResult<unknown, R>,
  ended: (returned: R) => void,
): AsyncGenerator<string> {
  const portions = createPortions();
  let text = "[";
  let separator = "";
  try {
    let item = first;
    for (; item.done !== true; item = items.next()) {
      if (item.value !== undefined) {
        text += separator + JSON.stringify(item.value);
        separator = ",";
      }
      if (!portions.isOver()) continue;
      yield text;
      text = "";
      await portions.next();
    }
    ended(item.value);
  } finally {
    items.return?.();
  }
  yield `${text}]\n`;
}
