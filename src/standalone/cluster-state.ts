// What the allocator keeps between runs: who was first seen when, and what each Service holds. Plain JSON with a version.
import type { PoolHolding } from "../allocate/pools.ts";
import type { ServiceHolding } from "../allocate/service-ledger.ts";
import { Failure } from "../lib/errors.ts";
import type { KubernetesObject } from "../wire/kubernetes.ts";
import type { Work } from "./portions.ts";

export interface FirstSeen {
  /** Milliseconds since the epoch, no two alike: among objects seen at once, fractions tell their order. */
  readonly age: number;
  readonly uid: string;
}

export interface KeptService extends ServiceHolding {
  readonly balancer: PoolHolding | undefined;
  /** The version in force while a change to it is refused. */
  readonly lastGood: KubernetesObject | undefined;
}

export interface ClusterState {
  /** The youngest age that was given; the clock may have been set back since. */
  readonly lastAge: number;
  /** By "Kind namespace/name". */
  readonly firstSeen: ReadonlyMap<string, FirstSeen>;
  /** By "namespace/name". */
  readonly services: ReadonlyMap<string, KeptService>;
}

export const EMPTY_STATE: ClusterState = { lastAge: 0, firstSeen: new Map(), services: new Map() };

const VERSION = 2;
// A millisecond of today leaves twelve bits of a number for its fractions.
const AGE_STEP_MS = 1 / 1024;

/** The age of an object first seen at `nowMs`, after one that got `lastAge`. */
export function nextAge(lastAge: number, nowMs: number): number {
  return Math.max(nowMs, lastAge + AGE_STEP_MS);
}

/** An age as an object's creation time, RFC 3339. */
export function creationTime(age: number): string {
  return `${new Date(age).toISOString().slice(0, 19)}Z`;
}

const ENTRIES_AT_ONCE = 500;

/** The state as JSON, a line for each entry, in pieces to be written one after another. */
export function* stateToJson(state: ClusterState): Generator<string, void, void> {
  yield `{"version":${VERSION},"lastAge":${state.lastAge},"firstSeen":{`;
  yield* entryLines(state.firstSeen);
  yield '},"services":{';
  yield* entryLines(state.services);
  yield "}}\n";
}

function* entryLines(entries: ReadonlyMap<string, unknown>): Generator<string, void, void> {
  let text = entries.size === 0 ? "\n" : "";
  let left = entries.size;
  for (const [key, value] of entries) {
    text += `\n${JSON.stringify(key)}:${JSON.stringify(value)}${--left === 0 ? "\n" : ","}`;
    if (left % ENTRIES_AT_ONCE !== 0) continue;
    yield text;
    text = "";
  }
  yield text;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value of a text as `stateToJson` makes it, read line by line; else, or if somebody edited it, read at once. */
function* parseLines(text: string): Work<unknown> {
  const firstSeen = new Map<string, unknown>();
  const services = new Map<string, unknown>();
  let section: Map<string, unknown> | undefined;
  let head = "";
  try {
    for (let at = 0; at < text.length; ) {
      const end = text.indexOf("\n", at);
      const line = text.slice(at, end < 0 ? text.length : end);
      at = end < 0 ? text.length : end + 1;
      if (line.endsWith('"firstSeen":{') && section === undefined) {
        head = line;
        section = firstSeen;
      } else if (line === '},"services":{') section = services;
      else if (line === "}}" && section === services)
        return { ...JSON.parse(`${head.slice(0, head.lastIndexOf(","))}}`), firstSeen, services };
      else if (section === undefined) break;
      else if (line !== "") {
        const entry = JSON.parse(`{${line.endsWith(",") ? line.slice(0, -1) : line}}`);
        for (const key in entry) section.set(key, entry[key]);
      }
      yield;
    }
  } catch {}
  return JSON.parse(text);
}

function entriesOf<T>(section: Record<string, unknown>): Iterable<[string, T]> {
  return (section instanceof Map ? section : Object.entries(section)) as Iterable<[string, T]>;
}

/** The state of a file's text; `undefined` is the empty state. Throws a Failure when it is damaged or of another make. */
export function* stateFromJson(text: string | undefined, path: string): Work<ClusterState> {
  if (text === undefined) return EMPTY_STATE;
  let root: unknown;
  try {
    root = yield* parseLines(text);
  } catch (cause) {
    throw damaged(path, cause);
  }
  if (!isRecord(root) || root["version"] !== VERSION) {
    const found = isRecord(root) ? String(root["version"]) : "none";
    throw new Failure(
      "conflict",
      path,
      `could not use ${path}: it has version ${found}, this program knows ${VERSION}; remove it to allocate all addresses anew`,
    );
  }
  const { lastAge, firstSeen, services } = root;
  if (!Number.isFinite(lastAge) || !isRecord(firstSeen) || !isRecord(services)) throw damaged(path);
  const seen = new Map<string, FirstSeen>();
  for (const [title, one] of entriesOf<FirstSeen>(firstSeen)) {
    if (!isRecord(one) || !Number.isFinite(one.age) || typeof one.uid !== "string") throw damaged(path);
    seen.set(title, one);
    yield;
  }
  const kept = new Map<string, KeptService>();
  for (const [key, one] of entriesOf<KeptService>(services)) {
    if (!isRecord(one) || !Array.isArray(one.clusterIPs) || !Array.isArray(one.nodePorts)) throw damaged(path);
    const { healthCheckNodePort = 0, balancer, lastGood } = one;
    kept.set(key, { ...one, healthCheckNodePort, balancer: balancer ?? undefined, lastGood: lastGood ?? undefined });
    yield;
  }
  return { lastAge: lastAge as number, firstSeen: seen, services: kept };
}

function damaged(path: string, cause?: unknown): Failure {
  const message = `could not use ${path}: it is damaged; restore it, or remove it to allocate all addresses anew`;
  return new Failure("machine", path, message, { cause });
}
