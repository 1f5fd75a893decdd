// The paths under /control/ of a server that is its own process: what a test does by calls, as POST with a JSON body.
import type { Access } from "./access.ts";
import type { Control } from "./answer-once.ts";
import type { ClusterObjects } from "./cluster-objects.ts";
import type { FakeApiServer } from "./fake-api-server.ts";
import type { FaultRule } from "./faults.ts";
import type { KubernetesObject, Snapshot } from "./object-store.ts";
import { PLURALS, type Plural } from "./resources.ts";

/** A write's time is taken after the store has it and before any watcher can: milliseconds since the epoch. */
export interface Written {
  readonly revision: number;
  readonly timeMs: number;
}

export interface Churned {
  readonly changes: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly revision: number;
}

type Commands = Readonly<Record<string, (body: never) => unknown>>;

/** Answers undefined for a path that is none of them. Throws with a sentence for what cannot be done. */
export function createControl(server: () => FakeApiServer, cluster: ClusterObjects): Control {
  const endpoints = cluster.shape.services * cluster.shape.endpoints;
  let next = 0;
  let saved: Snapshot | undefined;

  const written = (): Written => ({ revision: server().store.revision, timeMs: nowMs() });

  const moveNext = () => {
    if (endpoints === 0) throw new Error("this cluster has no endpoint to change");
    const { slice, removed, added } = cluster.move(next, nowMs());
    // A prime stride: changes after one another fall into different slices.
    next = (next + 7919) % endpoints;
    server().put(slice);
    const { namespace, name } = slice.metadata;
    return { ...written(), slice: `${namespace}/${name}`, removed, added };
  };

  const churn = async ({ changes, perSecond }: { changes: number; perSecond: number }): Promise<Churned> => {
    const start = performance.now();
    const startMs = nowMs();
    for (let done = 0; done < changes; ) {
      const due = Math.min(changes, Math.floor(((performance.now() - start) * perSecond) / 1000) + 1);
      for (; done < due; done++) moveNext();
      const nextAt = start + (done * 1000) / perSecond;
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, nextAt - performance.now())));
    }
    return { changes, startMs, endMs: nowMs(), revision: server().store.revision };
  };

  const commands: Commands = {
    /** One endpoint of one slice is replaced. */
    change: moveNext,
    /** Answers when all changes are made. */
    churn,
    put: ({ objects }: { objects: readonly KubernetesObject[] }) => {
      server().put(...objects);
      return written();
    },
    delete: ({ resource, key }: { resource: Plural; key: string }) => {
      server().delete(resource, key);
      return written();
    },
    faults: ({ rules }: { rules: readonly FaultRule[] }) => {
      server().faults.set(rules);
      return {};
    },
    access: (access: Access) => {
      server().access = access;
      return {};
    },
    disconnect: () => {
      // After the answer, whose connection it breaks too.
      setTimeout(() => server().disconnect(), 50);
      return {};
    },
    silence: ({ resource }: { resource?: Plural }) => {
      server().silence(resource);
      return {};
    },
    compact: () => {
      server().compact();
      return written();
    },
    snapshot: () => {
      saved = server().snapshot();
      return written();
    },
    restore: () => {
      if (saved === undefined) throw new Error("nothing was saved: POST /control/snapshot first");
      const snapshot = saved;
      setTimeout(() => server().restore(snapshot), 50);
      return { revision: snapshot.revision, timeMs: nowMs() };
    },
    status: () => ({
      revision: server().store.revision,
      objects: Object.fromEntries(PLURALS.map((plural) => [plural, server().store.collection(plural).size])),
      watches: Object.fromEntries(PLURALS.map((plural) => [plural, server().watches(plural)])),
    }),
    requests: () => server().requests,
  };

  return async (path, body) => {
    const command = commands[path.slice("/control/".length)];
    return command === undefined ? undefined : await command((body === "" ? {} : JSON.parse(body)) as never);
  };
}

/** With fractions: Date.now() is too coarse to measure a change by. */
function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
