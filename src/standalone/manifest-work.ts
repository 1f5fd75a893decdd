// From a directory of manifests to events for the model, again and again: reads, allocates (or, read-only, takes what the
// files say), and tells what is another. It runs in a thread of its own (manifest-thread.ts), so it takes its time.
import { join } from "node:path";
import type { Address } from "../lib/address.ts";
import type { Log } from "../lib/log.ts";
import type { Range } from "../lib/range.ts";
import { recall, writeStateFile } from "../lib/state-store.ts";
import type { Notice, ObjectEvent } from "../model/objects.ts";
import type { OwnNode } from "../model/source.ts";
import type { KubernetesObject, ManifestObject, PodObject, RawDocument } from "../wire/kubernetes.ts";
import { bypassesSockets, isFinished, normaliseObject, refusedNotice } from "../wire/normalise.ts";
import { createCatalogue } from "./catalogue.ts";
import { type ControlPlane, createControlPlane } from "./control-plane.ts";
import { createDnsServer, type DnsServer } from "./dns.ts";
import { createManifestReader, type ManifestReader } from "./manifest-reader.ts";
import { sameJson } from "./same-json.ts";

export interface ManifestWorkOptions {
  readonly paths: readonly string[];
  /** Allocates and writes nothing: the files say everything. */
  readonly readOnly: boolean;
  readonly stateDir: string;
  readonly serviceClusterIpRange: readonly string[];
  readonly serviceNodePortRange: Range;
  /** Made when no manifest has a Node of this name; not when read-only. */
  readonly ownNode?: OwnNode | undefined;
  /** Answers DNS on these addresses, on a free port; the Service kube-system/kube-dns leads there. */
  readonly dns?:
    | { readonly addresses: readonly Address[]; readonly clusterDomain: string; readonly nodeName: string }
    | undefined;
  /** For tests; see ManifestReaderOptions. */
  readonly rescanMs?: number | undefined;
}

/** The state after a look at the files. */
export interface Told {
  /** What is another than when it was last told; removals last. */
  readonly events: readonly ObjectEvent[];
  /** See SourceStatus. */
  readonly digest: string;
  /** The very list that was told last while it says the same. */
  readonly notices: readonly Notice[];
  /** Nodes with a Pod whose packets bypass sockets. */
  readonly bypassing: readonly string[];
}

export interface ManifestWork {
  /** Resolves when the first state was told. Rejects with a Failure when the state directory, a range or the DNS server's port is unusable. */
  start(): Promise<void>;
  setOwnNode(node: OwnNode): void;
  stop(): Promise<void>;
}

interface Taken {
  /** By "Kind namespace/name"; undefined when it is gone. */
  readonly changed: ReadonlyMap<string, KubernetesObject | undefined>;
  readonly notices: readonly Notice[];
}

const RETRY_MS = 1_000;

function bypassOn(object: KubernetesObject | undefined): string | undefined {
  if (object?.kind !== "Pod") return undefined;
  const pod = object as PodObject;
  return isFinished(pod) || !bypassesSockets(pod) ? undefined : pod.spec.nodeName || undefined;
}

/** `tell` is not called again before what it returned is settled. */
export function createManifestWork(
  options: ManifestWorkOptions,
  tell: (told: Told) => Promise<void>,
  log: Pick<Log, "warn">,
): ManifestWork {
  const { paths, readOnly, stateDir, serviceClusterIpRange, serviceNodePortRange, ownNode, rescanMs } = options;
  const catalogue = createCatalogue({ workloads: "run" });
  const lastGoodPath = join(stateDir, "last-good.json");
  let lastGoodText = "{}";
  let controlPlane: ControlPlane | undefined;
  let dns: DnsServer | undefined;
  let reader: ManifestReader | undefined;
  /** Read-only: the documents in force, by title. */
  let documentsOf: ReadonlyMap<string, ManifestObject> = new Map();
  /** What was told, by the title of the object that it is of. */
  const delivered = new Map<string, ObjectEvent>();
  /** What was left out of objects, by their title. */
  const leftOut = new Map<string, readonly Notice[]>();
  /** The node of each Pod whose packets bypass sockets. */
  const bypassing = new Map<string, string>();
  let last: Told = { events: [], digest: "", notices: [], bypassing: [] };
  let stopped = false;
  let stale = false;
  let running: Promise<void> | undefined;
  let retry: NodeJS.Timeout | undefined;

  function takeAsWritten(documents: readonly RawDocument[]): Taken {
    const { objects, notices } = catalogue.update(documents);
    const changed = new Map<string, KubernetesObject | undefined>();
    for (const [title, { object }] of objects)
      if (documentsOf.get(title)?.object !== object) changed.set(title, object);
    for (const title of documentsOf.keys()) if (!objects.has(title)) changed.set(title, undefined);
    documentsOf = objects;
    return { changed, notices };
  }

  // What stands in for a file that cannot be used must outlive this process, or a restart would take its Services away.
  async function keepLastGood(from: ManifestReader): Promise<void> {
    const text = JSON.stringify(Object.fromEntries(from.lastGood()));
    if (text === lastGoodText) return;
    await writeStateFile(lastGoodPath, text);
    lastGoodText = text;
  }

  function eventsOf(changed: Taken["changed"]): readonly ObjectEvent[] {
    const events: ObjectEvent[] = [];
    const removals: ObjectEvent[] = [];
    for (const [title, object] of changed) {
      const result = object === undefined ? undefined : normaliseObject(object);
      const node = bypassOn(object);
      if (node === undefined) bypassing.delete(title);
      else bypassing.set(title, node);
      const refused = result?.refused ?? [];
      const file = documentsOf.get(title)?.file ?? "";
      if (object === undefined || refused.length === 0) leftOut.delete(title);
      else
        leftOut.set(
          title,
          refused.map((one) => refusedNotice(object, file, one)),
        );
      const before = delivered.get(title);
      const event = result?.event;
      if (sameJson(before?.object, event?.object)) continue;
      if (event !== undefined) {
        delivered.set(title, event);
        events.push(event);
      } else if (before !== undefined) {
        delivered.delete(title);
        removals.push({ ...before, object: undefined } as ObjectEvent);
      }
    }
    return [...events, ...removals];
  }

  async function refresh(from: ManifestReader): Promise<void> {
    const digest = from.digest();
    const documents = from.documents();
    if (controlPlane !== undefined) await keepLastGood(from);
    const { changed, notices } =
      controlPlane === undefined ? takeAsWritten(documents) : await controlPlane.reconcile(documents);
    if (stopped) return;
    const events = eventsOf(changed);
    dns?.update(events);
    const all = [...from.notices(), ...notices, ...[...leftOut.values()].flat()];
    last = {
      events,
      digest,
      notices: sameJson(last.notices, all) ? last.notices : all,
      bypassing: [...new Set(bypassing.values())],
    };
    await tell(last);
  }

  async function run(from: ManifestReader): Promise<void> {
    while (stale && !stopped) {
      stale = false;
      try {
        await refresh(from);
      } catch (error) {
        // What was told stays in force; the state directory may be writable again later.
        const message = error instanceof Error ? error.message : String(error);
        const place = { object: stateDir, file: stateDir, field: "" };
        const failure: Notice = { ...place, reason: "state-not-written", message, severity: "error" };
        await tell({ ...last, events: [], notices: [failure, ...last.notices] });
        clearTimeout(retry);
        retry = setTimeout(() => request(from), RETRY_MS);
        return;
      }
    }
  }

  function request(from: ManifestReader): void {
    stale = true;
    if (stopped) return;
    running ??= run(from).finally(() => {
      running = undefined;
    });
  }

  function readLastGood(): Map<string, readonly unknown[]> {
    const kept = recall(lastGoodPath);
    if (typeof kept !== "object" || kept === null) return new Map();
    lastGoodText = JSON.stringify(kept);
    return new Map(Object.entries(kept).filter((entry): entry is [string, unknown[]] => Array.isArray(entry[1])));
  }

  return {
    async start() {
      if (options.dns !== undefined && !readOnly) {
        const { addresses, clusterDomain } = options.dns;
        dns = await createDnsServer({ addresses, port: 0, clusterDomain, onlyCluster: true, log });
      }
      const found = dns && { addresses: dns.addresses, port: dns.port, nodeName: options.dns?.nodeName ?? "" };
      if (!readOnly)
        controlPlane = await createControlPlane({
          stateDir,
          serviceClusterIpRange,
          serviceNodePortRange,
          ownNode,
          dns: found,
        });
      const created = createManifestReader({
        paths,
        lastGood: readOnly ? new Map() : readLastGood(),
        ...(rescanMs === undefined ? {} : { rescanMs }),
      });
      reader = created;
      await created.start(() => request(created));
      if (stopped) return;
      running = refresh(created).finally(() => {
        running = undefined;
        if (stale) request(created);
      });
      await running;
    },
    setOwnNode(node) {
      controlPlane?.setOwnNode(node);
      if (reader !== undefined) request(reader);
    },
    async stop() {
      stopped = true;
      clearTimeout(retry);
      await reader?.stop();
      await running?.catch(() => {});
      await dns?.stop();
    },
  };
}
