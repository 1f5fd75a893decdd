// A small real implementation of kube-apiserver's list and watch, and of what an agent writes, over HTTP or HTTPS, for tests and benchmarks. Written
// to in process, or by its control paths when it is its own process. Semantics are those of 1.34 with its watch cache.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { type Access, authorize, OPEN_ACCESS } from "./access.ts";
import { answerList } from "./answer-list.ts";
import { answerControl, answerFault, answerObject, answerPath, answerStatus, type Control } from "./answer-once.ts";
import { answerReview, REVIEW_PATH } from "./answer-review.ts";
import { answerError, Watch, type WatchSettings } from "./answer-watch.ts";
import { answerWrite } from "./answer-write.ts";
import { type ApiRequest, readApiRequest } from "./api-request.ts";
import { ApiStatus, notFound, storageLacksProgress } from "./api-status.ts";
import { BodyWriter } from "./body-writer.ts";
import { type Fault, Faults, findFault } from "./faults.ts";
import { parseListOptions, type StreamingLists } from "./list-options.ts";
import { listPage } from "./list-page.ts";
import { type KubernetesObject, ObjectStore, type Snapshot } from "./object-store.ts";
import type { Plural, Resource } from "./resources.ts";

export interface FakeTls {
  /** PEM. */
  readonly key: string;
  readonly cert: string;
  /** Signs clients' certificates; without it none is asked for. */
  readonly clientCa?: string;
}

export interface FakeApiServerOptions extends Partial<WatchSettings> {
  readonly host?: string;
  /** Default: a free one, the same after a restart. */
  readonly port?: number;
  readonly tls?: FakeTls;
  /** Default: open to all. */
  readonly access?: Access;
  /** Default: they are served. */
  readonly streamingLists?: StreamingLists;
  /** false: as a server before 1.33. Default true. */
  readonly serviceCidrs?: boolean;
  /** false: MetalLB's CRDs are not installed. Default true. */
  readonly metallb?: boolean;
  /** Changes kept of each resource, at least. Default 10,000. */
  readonly historyLimit?: number;
  /** Default: no path under /control/ is served. */
  readonly control?: Control;
}

/** What was asked, and what it got. */
export interface RequestRecord {
  readonly atMs: number;
  readonly verb: ApiRequest["verb"];
  /** "" for a path outside resources. */
  readonly resource: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly userAgent: string;
  /** 0 until the head is written, and for good when a fault kept it back. */
  status: number;
}

const RECORDS_KEPT = 10_000;
export class FakeApiServer {
  readonly store: ObjectStore;
  readonly faults = new Faults();
  /** The latest requests, oldest first. */
  readonly requests: RequestRecord[] = [];
  /** Can be changed while running, as can `streamingLists` and `metallb`. */
  access: Access;
  streamingLists: StreamingLists;
  metallb: boolean;
  readonly #options: FakeApiServerOptions;
  readonly #settings: WatchSettings;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #watches = new Set<Watch>();
  #port: number;

  constructor(options: FakeApiServerOptions = {}) {
    this.#options = options;
    this.#port = options.port ?? 0;
    this.#settings = {
      bookmarkMs: options.bookmarkMs ?? 60_000,
      freshnessMs: options.freshnessMs ?? 3000,
      futureResume: options.futureResume ?? "waits",
      expiredAs: options.expiredAs ?? "event",
    };
    this.access = options.access ?? OPEN_ACCESS;
    this.streamingLists = options.streamingLists ?? "served";
    this.metallb = options.metallb ?? true;
    this.store = new ObjectStore(options.historyLimit ?? 10_000);
    this.#server = makeServer(options.tls, (message, response) => void this.#serve(message, response));
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
      // A client that leaves in the middle of a write is no concern of the server.
      socket.on("error", () => {});
    });
  }

  /** Without a trailing slash. Known once it was started. */
  get url(): string {
    return `${this.#options.tls === undefined ? "http" : "https"}://${this.#host}:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  /** Watches that are open, of one resource or of all. */
  watches(plural?: Plural): number {
    return [...this.#watches].filter(({ resource }) => plural === undefined || resource.plural === plural).length;
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#port, this.#host, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
    this.#port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  /** Refuses connections from now on and breaks those that are open. What is stored stays; `start` serves it again. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => void this.#server.close(() => resolve()));
    this.disconnect();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.listening) await this.stop();
  }

  /** Breaks every connection that is open. */
  disconnect(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  put(...objects: readonly KubernetesObject[]): void {
    for (const object of objects) this.store.put(object);
  }

  /** `key`: "namespace/name", or "name" of what has no namespace. */
  delete(plural: Plural, key: string): void {
    if (this.store.delete(plural, key) === undefined) throw new Error(`there is no ${plural} ${key}`);
  }

  /** Forgets all history: every resume from before now is too old, every continued list too. */
  compact(): void {
    this.store.compact();
  }

  snapshot(): Snapshot {
    return this.store.snapshot();
  }

  /** etcd restored from a backup: older objects, older revisions, and connections broken by the API server's restart. */
  restore(snapshot: Snapshot): void {
    this.store.restore(snapshot);
    this.disconnect();
  }

  /** Running watches of a resource (or all) say nothing any more; their connections stay. */
  silence(plural?: Plural): void {
    for (const watch of this.#watchesOf(plural)) watch.silence();
  }

  /** Puts bytes into the running watches of a resource that no server would send. */
  async inject(plural: Plural, text: string): Promise<void> {
    await Promise.all(this.#watchesOf(plural).map((watch) => watch.inject(text)));
  }

  #watchesOf(plural: Plural | undefined): Watch[] {
    return [...this.#watches].filter(({ resource }) => plural === undefined || resource.plural === plural);
  }

  get #host(): string {
    return this.#options.host ?? "127.0.0.1";
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = readApiRequest(message.url ?? "/", message.method);
    const { control } = this.#options;
    try {
      // Outside access rules, faults and the record: it is no part of the API.
      if (control !== undefined && request.path.startsWith("/control/")) {
        return await answerControl(message, response, control);
      }
      noteStatus(response, this.#record(message, request));
      await this.#answer(message, request, response);
    } catch (error) {
      if (response.destroyed) return;
      if (!(error instanceof ApiStatus)) throw error;
      answerStatus(response, error);
    }
  }

  #record(message: IncomingMessage, { verb, resource, path, query }: ApiRequest): RequestRecord {
    if (this.requests.length === RECORDS_KEPT) this.requests.shift();
    const record: RequestRecord = {
      atMs: Date.now(),
      verb,
      resource: resource?.plural ?? "",
      path,
      query: Object.fromEntries(query),
      userAgent: message.headers["user-agent"] ?? "",
      status: 0,
    };
    this.requests.push(record);
    return record;
  }

  async #answer(message: IncomingMessage, request: ApiRequest, response: ServerResponse): Promise<void> {
    const faults = this.faults.strike(request);
    if (answerFault(response, faults) === "answered") return;
    const user = authorize(this.access, message, request);
    if (request.path === REVIEW_PATH && message.method === "POST") {
      return answerReview(message, response, this.access, user);
    }
    const { resource } = request;
    if (resource === undefined || this.#lacks(resource)) return answerPath(response, request.path);
    if (message.method !== "GET") return answerWrite(message, response, resource, request, this.store);
    if (request.verb === "get") return this.#answerObject(response, resource, request);
    await this.#answerMany(response, resource, request, faults);
  }

  #lacks({ plural, group }: Resource): boolean {
    if (plural === "servicecidrs") return this.#options.serviceCidrs === false;
    return group === "metallb.io" && !this.metallb;
  }

  #answerObject(
    response: ServerResponse,
    resource: Resource & { plural: Plural },
    { namespace, name }: ApiRequest,
  ): void {
    const stored = this.store.collection(resource.plural).get(namespace === "" ? name : `${namespace}/${name}`);
    if (stored === undefined) throw notFound(resource, name);
    answerObject(response, resource, stored);
  }

  async #answerMany(
    response: ServerResponse,
    resource: Resource & { plural: Plural },
    { query, namespace }: ApiRequest,
    faults: readonly Fault[],
  ): Promise<void> {
    const options = parseListOptions(query, resource, this.streamingLists);
    const prefix = namespace === "" ? "" : `${namespace}/`;
    const collection = () => this.store.collection(resource.plural);
    const reversed = findFault(faults, "reversed") !== undefined;
    const writer = new BodyWriter(response, faults);
    if (!options.watch) {
      const page = await listPage(this.store, collection, prefix, options, this.#settings.freshnessMs);
      return await answerList(writer, resource, page, reversed);
    }
    if (this.streamingLists === "unsupported" && options.sendInitialEvents === true && options.allowWatchBookmarks) {
      return await answerError(writer, storageLacksProgress());
    }
    const shape = { prefix, duplicates: findFault(faults, "duplicates") !== undefined };
    const watch = new Watch(resource, this.store, collection(), this.#settings, writer, options, shape);
    this.#watches.add(watch);
    try {
      await watch.run(reversed);
    } finally {
      this.#watches.delete(watch);
    }
  }
}

function makeServer(
  tls: FakeTls | undefined,
  listener: (message: IncomingMessage, response: ServerResponse) => void,
): Server {
  // A real API server keeps idle connections for minutes.
  const common = { keepAliveTimeout: 300_000, requestTimeout: 0 };
  if (tls === undefined) return createServer(common, listener);
  const { key, cert, clientCa: ca } = tls;
  const clients = ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: false };
  return createTlsServer({ ...common, key, cert, ...clients }, listener);
}

/** As soon as the head is written: a watch that is open has its status already. */
function noteStatus(response: ServerResponse, record: RequestRecord): void {
  const writeHead = response.writeHead.bind(response);
  response.writeHead = (status: number, ...rest: never[]) => {
    record.status = status;
    return writeHead(status, ...rest);
  };
}
