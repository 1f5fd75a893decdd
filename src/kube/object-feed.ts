// Keeps somebody's objects of one resource equal to what the API server has, object by object: by the agent's list and watch loop,
// but in this thread and with whole objects. It remembers their keys alone.
import type { Clock } from "./clock.ts";
import type { KnownObjects } from "./known-objects.ts";
import { createReflector, type Reflector } from "./reflector.ts";
import { judgeList, type Loss, lostTotal } from "./relist-guard.ts";
import type { Resource } from "./resources.ts";
import type { ApiTransport } from "./transport.ts";

/** An object as JSON has it; of its own fields nothing is known to be there. */
export interface FedObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly resourceVersion?: string;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

export interface ObjectFeedOptions {
  readonly resource: Resource;
  /** What a list may not take away unseen (relist-guard.ts). */
  readonly guard: "Service" | "Node" | "AddressPool";
  readonly transport: Pick<ApiTransport, "get">;
  readonly clock: Clock;
  readonly random: () => number;
  readonly signal: AbortSignal;
  /** An object came or is another now; `key` is "namespace/name", or "name" of what has no namespace. */
  readonly put: (key: string, object: FedObject) => void;
  readonly remove: (key: string) => void;
  /** Whether all were listed, or what is wrong, is another now. */
  readonly onChange: () => void;
}

function asObject(object: unknown): FedObject | undefined {
  const { name, namespace } = (object as FedObject | null)?.metadata ?? {};
  const isNamed = typeof name === "string" && name !== "" && ["string", "undefined"].includes(typeof namespace);
  return isNamed ? (object as FedObject) : undefined;
}

const keyOf = ({ metadata: { namespace, name } }: FedObject): string =>
  namespace === undefined || namespace === "" ? name : `${namespace}/${name}`;

export function createObjectFeed(options: ObjectFeedOptions): Reflector {
  const { guard, put, remove } = options;
  /** By key: the version last put, and the number of the last list that had it. */
  const known = new Map<string, { version: string; list: number }>();
  let list = 0;
  let before = 0;
  let held: Loss | undefined;

  function take(object: unknown): void {
    const sound = asObject(object);
    if (sound === undefined) return;
    const key = keyOf(sound);
    const version = sound.metadata.resourceVersion ?? "";
    const one = known.get(key);
    known.set(key, { version, list });
    if (one === undefined || version === "" || one.version !== version) put(key, sound);
  }

  function drop(key: string): void {
    if (known.delete(key)) remove(key);
  }

  const objects: KnownObjects = {
    listBegins() {
      list++;
      before = known.size;
    },
    listed: take,
    unlisted(object) {
      const sound = asObject(object);
      const one = sound && known.get(keyOf(sound));
      if (one !== undefined) one.list = 0;
    },
    listEnds() {
      const absent = [...known].filter(([, one]) => one.list !== list).map(([key]) => key);
      const loss: Loss = { before, lost: new Map(absent.map((key) => [key, 1])) };
      if (judgeList(guard, loss, held) === "hold") {
        held = loss;
        return { outcome: "held", before, lost: lostTotal(loss) };
      }
      held = undefined;
      for (const key of absent) drop(key);
      return { outcome: "applied" };
    },
    changed: take,
    gone(object) {
      const sound = asObject(object);
      if (sound !== undefined) drop(keyOf(sound));
    },
    notices: () => [],
    noticesVersion: () => 0,
    count: () => known.size,
    total: () => known.size,
  };
  return createReflector({ ...options, objects, room: () => undefined });
}
