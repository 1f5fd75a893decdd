// What the allocator keeps between runs: who was first seen when, and what each Service holds. Plain JSON with a version.
import type { PoolHolding } from "../allocate/pools.ts";
import type { ServiceHolding } from "../allocate/service-ledger.ts";
import { Failure } from "../lib/errors.ts";
import type { KubernetesObject } from "../wire/kubernetes.ts";

export interface FirstSeen {
  /** Milliseconds since the epoch, no two alike: among objects seen at once, fractions tell their order. */
  readonly age: number;
  readonly uid: string;
}

export interface KeptService extends ServiceHolding {
  readonly balancer?: PoolHolding | undefined;
  /** The version in force while a change to it is refused. */
  readonly lastGood?: KubernetesObject | undefined;
}

export interface AllocationState {
  /** The youngest age that was given; the clock may have been set back since. */
  readonly lastAge: number;
  /** By "Kind namespace/name". */
  readonly firstSeen: ReadonlyMap<string, FirstSeen>;
  /** By "namespace/name". */
  readonly services: ReadonlyMap<string, KeptService>;
}

export const EMPTY_STATE: AllocationState = { lastAge: 0, firstSeen: new Map(), services: new Map() };

const VERSION = 2;
/** The state as JSON, a line for each entry, so that a person can read it. */
export function stateToJson({ lastAge, firstSeen, services }: AllocationState): string {
  const lines = (entries: ReadonlyMap<string, unknown>): string =>
    [...entries].map(([key, value]) => `\n${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",");
  return `{"version":${VERSION},"lastAge":${lastAge},"firstSeen":{${lines(firstSeen)}\n},"services":{${lines(services)}\n}}\n`;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The state of a file's text; `undefined` is the empty state. Throws a Failure when it is damaged or of another make. */
export function stateFromJson(text: string | undefined, path: string): AllocationState {
  if (text === undefined) return EMPTY_STATE;
  let root: unknown;
  try {
    root = JSON.parse(text);
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
  const seen = Object.entries(firstSeen as Record<string, FirstSeen>);
  const kept = Object.entries(services as Record<string, KeptService>);
  for (const [, one] of seen)
    if (!isRecord(one) || !Number.isFinite(one.age) || typeof one.uid !== "string") throw damaged(path);
  for (const [, one] of kept)
    if (!isRecord(one) || !Array.isArray(one.clusterIPs) || !Array.isArray(one.nodePorts)) throw damaged(path);
  return {
    lastAge: lastAge as number,
    firstSeen: new Map(seen),
    services: new Map(kept.map(([key, one]) => [key, { ...one, healthCheckNodePort: one.healthCheckNodePort ?? 0 }])),
  };
}

function damaged(path: string, cause?: unknown): Failure {
  const message = `could not use ${path}: it is damaged; restore it, or remove it to allocate all addresses anew`;
  return new Failure("machine", path, message, { cause });
}
