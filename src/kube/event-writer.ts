// Events (v1) about Services and MetalLB's objects. What happens again is counted on the event that there is, at most once a
// minute; a storm is cut short and said. Events are news: those that cannot be written are lost without harm.
import { createHash } from "node:crypto";
import type { ObjectReport } from "../model/source.ts";
import type { ApiWriter } from "./api-writer.ts";
import type { Clock } from "./clock.ts";
import type { Problem } from "./resource-record.ts";
import { RESOURCES, type Resource } from "./resources.ts";
import { createWriteQueue } from "./write-queue.ts";

export interface EventWriterOptions {
  readonly nodeName: string;
  readonly writer: ApiWriter;
  readonly clock: Clock;
  readonly random: () => number;
  readonly signal: AbortSignal;
  readonly onChange: () => void;
}

export interface EventWriter {
  /** Returns at once. */
  report(report: ObjectReport): void;
  problem(): Problem | undefined;
  /** How many reports found no room. */
  dropped(): number;
  pending(): number;
}

const COMPONENT = "millrace";
const COUNT_AGAIN_MS = 60_000;
/** API servers keep events for an hour. */
const FORGET_MS = 3_600_000;
/** Different things that are remembered. */
const MOST_KNOWN = 2_000;
const MOST_WAITING = 2_000;

interface Known {
  readonly report: ObjectReport;
  /** Of the event; "" until it is first written. */
  name: string;
  firstMs: number;
  lastMs: number;
  count: number;
  /** As the API has it. */
  written: number;
  writtenMs: number;
}

/** An Event has seconds, as metav1.Time has. */
const timeText = (wallMs: number): string => `${new Date(wallMs).toISOString().slice(0, 19)}Z`;

export function createEventWriter(options: EventWriterOptions): EventWriter {
  const { nodeName, writer, clock } = options;
  const known = new Map<string, Known>();
  let dropped = 0;
  const queue = createWriteQueue<string>({ ...options, write });

  /** The uid of the object that a report is about, undefined when it is gone: kubectl describe shows events by it. */
  async function uidOf({ key }: ObjectReport, resource: Resource): Promise<string | undefined> {
    const [namespace = "", name = ""] = key.split("/");
    const query = new URLSearchParams({ fieldSelector: `metadata.name=${name}`, resourceVersion: "0" });
    const path = pathIn(resource, namespace);
    const { object } = await writer.ask({
      ...{ verb: "list", path: `${path}?${query}`, subject: { ...resource, namespace }, expects: [404] },
    });
    const { items } = object as { readonly items?: readonly { readonly metadata?: { readonly uid?: unknown } }[] };
    const uid = items?.[0]?.metadata?.uid;
    return typeof uid === "string" ? uid : undefined;
  }

  async function write(id: string): Promise<void> {
    const one = known.get(id);
    if (one === undefined || one.written === one.count) return;
    const [namespace = ""] = one.report.key.split("/");
    const path = `/api/v1/namespaces/${namespace}/events`;
    const subject = { name: "events", group: "", path, namespace };
    const { count } = one;
    const lastTimestamp = timeText(one.lastMs);
    if (one.written > 0) {
      const body = { count, lastTimestamp, message: one.report.message };
      const { status } = await writer.ask({
        ...{ verb: "patch", path: `${path}/${one.name}`, subject, expects: [404], body },
      });
      // The API server keeps events for a while only.
      if (status === 404) Object.assign(one, { name: "", written: 0 });
    }
    if (one.written === 0) {
      const resource = RESOURCES.find(({ kind }) => kind === one.report.kind)!;
      const uid = await uidOf(one.report, resource);
      if (uid === undefined) {
        known.delete(id);
        return;
      }
      one.name ||= eventName(one.report, nodeName, one.firstMs);
      const body = eventOf(one, resource, uid, { count, lastTimestamp });
      // 409: it was written, and the answer was lost; 404: the namespace is gone; 422: it would be refused for ever.
      await writer.ask({ verb: "create", path, subject, expects: [404, 409, 422], body });
    }
    one.written = count;
    one.writtenMs = clock.now();
  }

  function eventOf(one: Known, { group }: Resource, uid: string, last: object): object {
    const { kind, key, reason, message, type } = one.report;
    const [namespace, name] = key.split("/");
    const apiVersion = group === "" ? "v1" : `${group}/v1beta1`;
    return {
      apiVersion: "v1",
      kind: "Event",
      metadata: { name: one.name, namespace },
      involvedObject: { apiVersion, kind, namespace, name, uid },
      ...{ reason, message: message.slice(0, 1024), type },
      source: { component: COMPONENT, host: nodeName },
      reportingComponent: COMPONENT,
      reportingInstance: nodeName,
      firstTimestamp: timeText(one.firstMs),
      ...last,
    };
  }

  function forget(id: string): void {
    known.delete(id);
    if (known.size < MOST_KNOWN) return;
    for (const [oldest, one] of known) {
      if (one.written !== one.count) continue;
      known.delete(oldest);
      return;
    }
  }

  return {
    report(report) {
      const { kind, key, reason, message } = report;
      const id = [kind, key, reason, message].join("\0");
      const nowMs = clock.wallMs();
      const before = known.get(id);
      if (before !== undefined && nowMs - before.lastMs < FORGET_MS) {
        before.count++;
        before.lastMs = nowMs;
        const restsMs = before.written === 0 ? 0 : before.writtenMs + COUNT_AGAIN_MS - clock.now();
        if (restsMs <= 0) queue.due(id);
        else if (before.count === before.written + 1) clock.after(restsMs, () => queue.due(id));
        return;
      }
      if (queue.size() >= MOST_WAITING) {
        dropped++;
        return;
      }
      forget(id);
      known.set(id, { report, name: "", firstMs: nowMs, lastMs: nowMs, count: 1, written: 0, writtenMs: 0 });
      queue.due(id);
    },
    problem: queue.problem,
    dropped: () => dropped,
    pending: queue.size,
  };
}

/** Of one namespace. */
function pathIn({ path, name }: Resource, namespace: string): string {
  return `${path.slice(0, -name.length)}namespaces/${namespace}/${name}`;
}

/** As client-go names events, with what tells apart those of one moment. */
function eventName({ key, reason, message }: ObjectReport, nodeName: string, firstMs: number): string {
  const name = key.slice(key.indexOf("/") + 1);
  const digest = createHash("sha256").update([nodeName, key, reason, message, firstMs].join("\0")).digest("hex");
  return `${name.slice(0, 200)}.${digest.slice(0, 16)}`;
}
