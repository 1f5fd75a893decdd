// The thread that talks to the Kubernetes API: connections, JSON, what is known of each object. The main loop gets changes alone,
// in messages that it can take in at once, and says what is to be written without waiting for it.
import { parentPort, workerData } from "node:worker_threads";
import { Failure } from "../lib/errors.ts";
import { collectGarbage } from "../lib/heap.ts";
import { VERSION } from "../lib/version.ts";
import { createApiEndpoints } from "./api-endpoints.ts";
import { apiNotices } from "./api-notices.ts";
import { systemClock } from "./clock.ts";
import { type Connection, createConnection } from "./connection.ts";
import { createKnownObjects } from "./known-objects.ts";
import { createOutbox } from "./outbox.ts";
import { createReflector } from "./reflector.ts";
import { RESOURCES, type ResourceName } from "./resources.ts";
import { buffersOf, packChanges } from "./rows.ts";
import { readSavedTotals, type SavedTotals, writeSavedTotals } from "./saved-totals.ts";
import { eventKind, takeObject } from "./take-object.ts";
import { createTransport } from "./transport.ts";
import {
  type FromWorker,
  failedMessage,
  type ThreadStats,
  type ToWorker,
  type WorkerOptions,
} from "./worker-messages.ts";
import { createWrites } from "./writes.ts";

const STATUS_MS = 1_000;
/** Changes that somebody may wait for are told sooner. */
const STATUS_SOON_MS = 20;
/** Of each resource; more of them say nothing new. */
const MOST_NOTICES = 1_000;

const TOTALS_MS = 30_000;
/** After the first lists: what parsing them has left is most of this thread's memory, and the engine would keep it for minutes. */
const COLLECT_MS = 100;

function post(message: FromWorker, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer);
}

function read(connection: Connection, options: WorkerOptions): void {
  const { trustLists, stateDir } = options;
  const clock = systemClock;
  const transport = createTransport(connection, `millrace/${VERSION}`);
  const endpoints = createApiEndpoints((urls, clusterIPs) => connection.remember(urls, clusterIPs));
  const outbox = createOutbox({
    clock,
    send(changes, synced) {
      const packed = packChanges(changes);
      const digest = readers.map(({ name, reflector }) => `${name}=${reflector.stats().resourceVersion}`).join(",");
      post({ type: "changes", packed, synced, digest }, buffersOf(packed));
    },
  });
  const writes = createWrites({ ...options, transport, clock, onChange: () => soon.restart() });
  const remembered = readSavedTotals(stateDir);
  const readers = RESOURCES.map((resource) => {
    const objects = createKnownObjects({
      kind: eventKind(resource.kind),
      title: resource.kind,
      take: (object) => takeObject(resource.kind, object),
      emit(change) {
        endpoints.take(change);
        writes.takeNode(change);
        outbox.add(change);
      },
      trustLists,
      remembered: remembered[resource.name] ?? 0,
    });
    const reflector = createReflector({
      resource,
      transport,
      objects,
      clock,
      random: Math.random,
      signal: new AbortController().signal,
      room: outbox.room,
      onChange,
    });
    return { name: resource.name, objects, reflector };
  });
  let savedTotals = "";
  let synced = false;
  let told = "";
  let toldNotices = "";
  const soon = clock.after(STATUS_SOON_MS, tell);

  function onChange(): void {
    soon.restart();
    if (synced || !readers.every(({ reflector }) => reflector.stats().synced)) return;
    synced = true;
    rememberTotals();
    outbox.synced();
    clock.after(COLLECT_MS, collectGarbage);
    setInterval(rememberTotals, TOTALS_MS);
  }

  function rememberTotals(): void {
    const totals: SavedTotals = Object.fromEntries(readers.map(({ name, objects }) => [name, objects.total()]));
    const now = JSON.stringify(totals);
    if (now === savedTotals) return;
    // Only a first list could miss it.
    if (writeSavedTotals(stateDir, totals)) savedTotals = now;
  }

  function tell(): void {
    const stats: ThreadStats = {
      resources: Object.fromEntries(
        readers.map(({ name, reflector }) => [name, reflector.stats()]),
      ) as ThreadStats["resources"] satisfies Record<ResourceName, unknown>,
      transport: transport.stats(),
    };
    const problems = [...readers.flatMap(({ reflector }) => reflector.problem() ?? []), ...writes.problems()];
    const notices = [
      ...apiNotices(problems, connection.certificateExpiresAt(), Date.now()),
      ...readers.flatMap(({ objects }) => objects.notices().slice(0, MOST_NOTICES)),
    ];
    const now = JSON.stringify(stats);
    const nowNotices = JSON.stringify(notices);
    if (now === told && nowNotices === toldNotices) return;
    post({ type: "status", stats, notices: nowNotices === toldNotices ? undefined : notices });
    told = now;
    toldNotices = nowNotices;
  }

  parentPort?.on("message", (message: ToWorker) => {
    if (message === "stop") process.exit();
    if (message === "acknowledged") outbox.acknowledged();
    else if (message.type === "announced") writes.announced(message.list);
    else writes.report(message.report);
  });
  setInterval(tell, STATUS_MS);
  post({ type: "started" });
  for (const { reflector } of readers) void reflector.run();
}

try {
  const options = workerData as WorkerOptions;
  read(createConnection(options), options);
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  post(failedMessage(error));
}
