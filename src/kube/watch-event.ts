// One line of a watch: {"type": …, "object": …}.
import { ApiProblem, excerpt, parseJson } from "./api-problem.ts";

export type WatchEvent =
  | { readonly type: "ADDED" | "MODIFIED" | "DELETED"; readonly object: unknown; readonly version: string }
  /** `endsList`: everything that existed when the watch began has been sent (KEP-3157). */
  | { readonly type: "BOOKMARK"; readonly version: string; readonly endsList: boolean }
  | { readonly type: "ERROR"; readonly object: unknown };

const INITIAL_EVENTS_END = "k8s.io/initial-events-end";

interface Loose {
  readonly metadata?: {
    readonly resourceVersion?: unknown;
    readonly annotations?: Readonly<Record<string, unknown>> | null;
  } | null;
}

/** Throws ApiProblem "garbage" for whatever is no event of a watch. */
export function parseWatchEvent(line: string): WatchEvent {
  const event = parseJson(line) as { readonly type?: unknown; readonly object?: Loose | null } | null;
  const object = event?.object;
  if (typeof object !== "object" || object === null) throw notAnEvent(line);
  const { resourceVersion = "", annotations } = object.metadata ?? {};
  const version = typeof resourceVersion === "string" ? resourceVersion : "";
  switch (event?.type) {
    case "ADDED":
    case "MODIFIED":
    case "DELETED":
      return { type: event.type, object, version };
    case "BOOKMARK":
      return { type: "BOOKMARK", version, endsList: annotations?.[INITIAL_EVENTS_END] === "true" };
    case "ERROR":
      return { type: "ERROR", object };
    default:
      throw notAnEvent(line);
  }
}

function notAnEvent(line: string): ApiProblem {
  return new ApiProblem("garbage", `the API server sent what is no event of a watch: "${excerpt(line)}"`);
}

/**
 * Whether version `a` is before `b`. Versions are numbers of one etcd (Kubernetes guarantees it from 1.35 on, and it always
 * was so); whatever else a server uses is never before anything.
 */
export function isBefore(a: string, b: string): boolean {
  if (!/^\d+$/.test(a) || !/^\d+$/.test(b)) return false;
  return a.length === b.length ? a < b : a.length < b.length;
}
