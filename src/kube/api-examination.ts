// Looks at the way to the Kubernetes API once, for `millrace doctor`: each server that an agent would ask, by itself; version, clock,
// rights and this Node's object; then everything that an agent reads, once. Changes nothing there.
import { Failure } from "../lib/errors.ts";
import { VERSION } from "../lib/version.ts";
import type { Notice, ObjectEvent } from "../model/objects.ts";
import { parsed, problemOf, readSome } from "./answers.ts";
import { ApiError } from "./api-error.ts";
import { ApiProblem } from "./api-problem.ts";
import { AGENT_RIGHTS, type AgentRight } from "./api-rights.ts";
import type { ApiServer, ServerOrigin } from "./api-servers.ts";
import { type Connection, type ConnectionOptions, createConnection } from "./connection.ts";
import { CONTROLLER_RESOURCES } from "./controller-resources.ts";
import { RESOURCES, type Resource } from "./resources.ts";
import type { Change } from "./row.ts";
import { createUnpacker, packChanges } from "./rows.ts";
import { takeObject } from "./take-object.ts";
import { type ApiResponse, type ApiTransport, createTransport } from "./transport.ts";

export interface WayToApi {
  /** "host:port". */
  readonly server: string;
  readonly origin: ServerOrigin;
  /** Why there was no answer, with what to do; "": it answered. */
  readonly problem: string;
  /** Of the first request, connecting included; 0 when there was no answer. */
  readonly ms: number;
}

/** One verb of one right. undefined: the server did not say. */
export interface AskedRight {
  readonly right: AgentRight;
  readonly verb: string;
  readonly allowed: boolean | undefined;
}

/** Fields of a Node object as the API has them; nothing of it is known to be there. */
export type RawNode = Readonly<Record<string, unknown>>;

export interface ApiExamination {
  /** Nothing says where the API is: the sentence that an agent would end with. */
  readonly noWay: string;
  readonly ways: readonly WayToApi[];
  /** As /version has it ("v1.34.1"); "" when it did not answer. */
  readonly version: string;
  /** Milliseconds of the fastest of a few requests on one connection; 0 when none was answered. */
  readonly latencyMs: number;
  /** Milliseconds by which the server's clock is ahead of this machine's, to a second; undefined when it did not say. */
  readonly clockAheadMs: number | undefined;
  readonly certificateExpiresAtMs: number | undefined;
  readonly rights: readonly AskedRight[];
  /** The Node object of this name, undefined when there is none, or it cannot be read. */
  readonly node: RawNode | undefined;
  readonly objects: ApiObjects;
}

export interface ApiObjects {
  readonly events: readonly ObjectEvent[];
  /** What was refused of them, and lists that could not be had. */
  readonly notices: readonly Notice[];
  /** Names of resources that the server does not have. */
  readonly absent: readonly string[];
  /** Everything that must be read was read. */
  readonly complete: boolean;
  /** How many objects of MetalLB's BGP there are, by resource; those that cannot be read are left out. */
  readonly bgp: Readonly<Record<string, number>>;
}

export interface ExaminationOptions extends ConnectionOptions {
  readonly nodeName: string;
  readonly namespace: string;
  readonly signal: AbortSignal;
  /** For each request. @default 5000 */
  readonly requestMs?: number;
}

const PAGE_SIZE = 500;
const PAGE_LIMIT = 64 * 1024 * 1024;
const TIMES_ASKED = 4;

const NO_OBJECTS: ApiObjects = { events: [], notices: [], absent: [], complete: false, bgp: {} };
const NOTHING: Omit<ApiExamination, "ways"> = {
  ...{ noWay: "", version: "", latencyMs: 0, clockAheadMs: undefined, certificateExpiresAtMs: undefined },
  ...{ rights: [], node: undefined, objects: NO_OBJECTS },
};

/** Rejects with the signal's reason alone. */
export async function examineApi(options: ExaminationOptions): Promise<ApiExamination> {
  let connection: Connection;
  try {
    connection = createConnection(options);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { ...NOTHING, ways: [], noWay: error.message };
  }
  let servers: readonly ApiServer[];
  try {
    servers = (await connection.access()).servers;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { ...NOTHING, ways: [], noWay: error.message };
  }
  const ways = await Promise.all(servers.map((server) => tryServer(server, connection, options)));
  const at = ways.findIndex(({ problem }) => problem === "");
  const server = servers[at];
  if (server === undefined) return { ...NOTHING, ways };
  const transport = createTransport(only(server, connection), `millrace-doctor/${VERSION}`);
  try {
    const ask = createAsk(transport, options);
    const [about, rights, node, objects] = await Promise.all([
      askVersion(ask),
      Promise.all(rightsToAsk().map(([right, verb]) => askRight(ask, right, verb, options.namespace))),
      askNode(ask, options.nodeName),
      readObjects(ask),
    ]);
    const expiresAt = connection.certificateExpiresAt();
    const certificateExpiresAtMs = expiresAt === undefined ? undefined : expiresAt * 1000;
    return { ...NOTHING, ways, ...about, rights, node, objects, certificateExpiresAtMs };
  } finally {
    transport.close();
  }
}

/** The same credentials, this server alone. */
function only(server: ApiServer, connection: Connection): Connection {
  const alone = async (access: Promise<Awaited<ReturnType<Connection["access"]>>>) => ({
    ...(await access),
    servers: [server],
  });
  return {
    ...connection,
    access: () => alone(connection.access()),
    renew: (refused) => alone(connection.renew(refused)),
  };
}

async function tryServer(server: ApiServer, connection: Connection, options: ExaminationOptions): Promise<WayToApi> {
  const transport = createTransport(only(server, connection), `millrace-doctor/${VERSION}`);
  const way = { server: server.url.host, origin: server.origin };
  const began = performance.now();
  try {
    const { response } = await createAsk(transport, options)("GET", "/version");
    const ms = performance.now() - began;
    if (response.status === 200) return { ...way, problem: "", ms };
    // That a server refuses anonymous questions about its version is an answer of a server, and so is any other.
    const problem = response.status === 401 ? "it does not accept our credentials; renew them" : "";
    return { ...way, problem, ms };
  } catch (error) {
    return { ...way, problem: sentenceOf(error, options), ms: 0 };
  } finally {
    transport.close();
  }
}

/** Of what may go wrong with a request. Throws what else there is. */
function sentenceOf(error: unknown, { signal }: ExaminationOptions): string {
  if (signal.aborted) throw signal.reason;
  if (error instanceof ApiError || error instanceof ApiProblem) return error.message;
  throw error;
}

interface Answer {
  readonly response: ApiResponse;
  readonly body: unknown;
}

type Ask = (method: "GET" | "POST", path: string, body?: object) => Promise<Answer>;

function createAsk(
  transport: Pick<ApiTransport, "send">,
  { signal, requestMs: headTimeoutMs = 5_000 }: ExaminationOptions,
): Ask {
  return async (method, path, body) => {
    const demand = { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
    const verb = method === "GET" ? "GET" : "POST";
    const response = await transport.send(demand, path, { signal, headTimeoutMs, resource: "doctor", verb });
    return { response, body: parsed(await readSome(response.body, PAGE_LIMIT)) };
  };
}

const record = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};

async function askVersion(ask: Ask): Promise<Pick<ApiExamination, "version" | "latencyMs" | "clockAheadMs">> {
  let version = "";
  let latencyMs = Number.POSITIVE_INFINITY;
  let clockAheadMs: number | undefined;
  for (let time = 0; time < TIMES_ASKED; time++) {
    const began = Date.now();
    const beganMs = performance.now();
    const { response, body } = await ask("GET", "/version");
    latencyMs = Math.min(latencyMs, performance.now() - beganMs);
    const { gitVersion } = record(body);
    if (typeof gitVersion === "string") version = gitVersion;
    const date = Date.parse(response.headers["date"] ?? "");
    // The header has whole seconds: what it says is up to one behind.
    if (Number.isFinite(date)) clockAheadMs = aheadMs(date, began, Date.now());
  }
  return { version, latencyMs, clockAheadMs };
}

/** 0 when the server's second, [date, date + 1 s), can be the time between question and answer. */
export function aheadMs(date: number, askedMs: number, answeredMs: number): number {
  if (date > answeredMs) return date - answeredMs;
  return date + 1000 < askedMs ? date + 1000 - askedMs : 0;
}

function rightsToAsk(): (readonly [AgentRight, string])[] {
  return AGENT_RIGHTS.flatMap((right) => right.verbs.map((verb) => [right, verb] as const));
}

/** Whoever has an account may ask what he may (SelfSubjectAccessReview). */
async function askRight(ask: Ask, right: AgentRight, verb: string, namespace: string): Promise<AskedRight> {
  const [resource, subresource] = right.resource.split("/");
  const resourceAttributes = {
    ...{ group: right.group, resource, verb },
    ...(subresource === undefined ? {} : { subresource }),
    ...(right.inNamespace ? { namespace } : {}),
  };
  const review = {
    apiVersion: "authorization.k8s.io/v1",
    kind: "SelfSubjectAccessReview",
    spec: { resourceAttributes },
  };
  try {
    const { response, body } = await ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review);
    const { allowed } = record(record(body)["status"]);
    const said = response.status === 200 || response.status === 201;
    return { right, verb, allowed: said && typeof allowed === "boolean" ? allowed : undefined };
  } catch (error) {
    if (error instanceof ApiError) return { right, verb, allowed: undefined };
    throw error;
  }
}

async function askNode(ask: Ask, name: string): Promise<RawNode | undefined> {
  try {
    const { response, body } = await ask(
      "GET",
      `/api/v1/nodes?${new URLSearchParams({ fieldSelector: `metadata.name=${name}` })}`,
    );
    const { items } = record(body);
    return response.status === 200 && Array.isArray(items) && items.length > 0 ? record(items[0]) : undefined;
  } catch (error) {
    if (error instanceof ApiError) return undefined;
    throw error;
  }
}

type Listed = { readonly items: readonly unknown[] } | { readonly problem: string; readonly absent: boolean };

async function listAll(ask: Ask, resource: Resource): Promise<Listed> {
  const items: unknown[] = [];
  let next = "";
  try {
    do {
      const query = new URLSearchParams({ limit: String(PAGE_SIZE) });
      if (resource.labelSelector !== "") query.set("labelSelector", resource.labelSelector);
      if (next !== "") query.set("continue", next);
      const { response, body } = await ask("GET", `${resource.path}?${query}`);
      if (response.status !== 200) {
        const again = { ...response, body: [Buffer.from(JSON.stringify(body))] as unknown as ApiResponse["body"] };
        const problem = await problemOf(again, resource, "list");
        return { problem: problem.message, absent: problem.reason === "not-found" };
      }
      const page = record(body);
      if (Array.isArray(page["items"])) items.push(...page["items"]);
      const token = record(page["metadata"])["continue"];
      next = typeof token === "string" ? token : "";
    } while (next !== "");
    return { items };
  } catch (error) {
    if (error instanceof ApiError || error instanceof ApiProblem) return { problem: error.message, absent: false };
    throw error;
  }
}

async function readObjects(ask: Ask): Promise<ApiObjects> {
  const changes: Change[] = [];
  const notices: Notice[] = [];
  const absent: string[] = [];
  let complete = true;
  for (const [resource, listed] of await inParallel(RESOURCES, (one) => listAll(ask, one))) {
    if ("problem" in listed) {
      if (listed.absent && resource.optional) absent.push(resource.name);
      else notices.push(notice(`Kubernetes API ${resource.name}`, "forbidden", listed.problem, resource.optional));
      if (!resource.optional) complete = false;
      continue;
    }
    for (const item of listed.items) {
      const taken = takeObject(resource.kind, item);
      if (taken.outcome === "taken") changes.push(taken.change);
      const complaints = taken.outcome === "skipped" ? [] : taken.complaints;
      const key = taken.outcome === "taken" ? taken.change.key : taken.key;
      for (const { field, reason, message } of complaints)
        notices.push({ ...notice(`${resource.kind} ${key}`, reason, message, false), field });
    }
  }
  const bgp: Record<string, number> = {};
  const { bgpAdvertisements, bgpPeers } = CONTROLLER_RESOURCES;
  for (const [{ name }, listed] of await inParallel([bgpAdvertisements, bgpPeers], (one) => listAll(ask, one)))
    if ("items" in listed) bgp[name] = listed.items.length;
  return { events: createUnpacker().unpack(packChanges(changes)), notices, absent, complete, bgp };
}

function notice(object: string, reason: string, message: string, mild: boolean): Notice {
  return { object, file: "", field: "", reason, message, severity: mild ? "warning" : "error" };
}

async function inParallel<T, R>(list: readonly T[], work: (one: T) => Promise<R>): Promise<(readonly [T, R])[]> {
  return Promise.all(list.map(async (one) => [one, await work(one)] as const));
}
