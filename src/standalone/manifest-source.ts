// The directory of manifests as the agent's source of objects. Read-only it says what the files say; else it also is the
// allocator and endpoint controller. What it delivers is only what changed.
import { join } from "node:path";
import type { Address } from "../lib/address.ts";
import { readStateFile, writeStateFile } from "../lib/state-store.ts";
import type { Notice, ObjectEvent } from "../model/objects.ts";
import type { Deliver, Source } from "../model/source.ts";
import type { KubernetesObject, PodObject, RawDocument } from "../wire/kubernetes.ts";
import { bypassesSockets, isFinished, normaliseObject, refusedNotice } from "../wire/normalise.ts";
import { createCatalogue } from "./catalogue.ts";
import { type Cluster, createCluster } from "./cluster.ts";
import type { DnsAddress } from "./dns-service.ts";
import { createManifestReader, type ManifestReader } from "./manifest-reader.ts";
import type { PortRange } from "./node-ports.ts";
import { inPortions, type Work } from "./portions.ts";
import { sameJson } from "./same-json.ts";

export interface ManifestSourceOptions {
  readonly paths: readonly string[];
  /** Allocates and writes nothing: the files say everything. */
  readonly readOnly: boolean;
  readonly stateDir: string;
  readonly serviceClusterIpRange: readonly string[];
  readonly serviceNodePortRange: PortRange;
  /** Made when no manifest has a Node of this name; not when read-only. */
  readonly ownNode?: { readonly name: string; readonly addresses: readonly Address[] } | undefined;
  readonly dns?: DnsAddress | undefined;
  /** For tests; see ManifestReaderOptions. */
  readonly rescanMs?: number;
}

export interface ManifestSource extends Source {
  /** The objects in force, in full. */
  kubernetesObjects(): readonly KubernetesObject[];
  /** Where the DNS server listens now; the Service kube-dns follows. */
  setDns(dns: DnsAddress | undefined): void;
  setOwnNode(node: { readonly name: string; readonly addresses: readonly Address[] } | undefined): void;
}

const RETRY_MS = 1_000;
const LAST_GOOD = "last-good.json";

function bypassOn(object: KubernetesObject): string | undefined {
  if (object.kind !== "Pod") return undefined;
  const pod = object as PodObject;
  return isFinished(pod) || !bypassesSockets(pod) ? undefined : pod.spec.nodeName || undefined;
}

export function createManifestSource(options: ManifestSourceOptions): ManifestSource {
  const { paths, readOnly, stateDir } = options;
  const catalogue = createCatalogue({ workloads: readOnly ? "run" : "noticed" });
  const lastGoodPath = join(stateDir, LAST_GOOD);
  let reader: ManifestReader | undefined;
  let cluster: Cluster | undefined;
  let deliver: Deliver = () => {};
  /** What was delivered, by the title of the object that it is of. */
  const delivered = new Map<string, ObjectEvent>();
  /** What was left out of objects, by their title. */
  const leftOut = new Map<string, readonly Notice[]>();
  /** The node of each Pod whose packets bypass sockets, and how many there are on a node. */
  const bypassing = new Map<string, string>();
  const bypassingOn = new Map<string, number>();
  let objects: () => readonly KubernetesObject[] = () => [];
  let notices: readonly Notice[] = [];
  let lastGoodText = "{}";
  let failure: Notice | undefined;
  let digest = "";
  let synced = false;
  let lastEventMs = 0;
  let { dns, ownNode } = options;
  let stopped = false;
  let stale = false;
  let running: Promise<void> | undefined;
  let retry: NodeJS.Timeout | undefined;

  /** What is another than at the last refresh that succeeded, by "Kind namespace/name"; undefined when it is gone. */
  async function take(documents: readonly RawDocument[]): Promise<{
    readonly changed: ReadonlyMap<string, KubernetesObject | undefined>;
    readonly notices: readonly Notice[];
  }> {
    if (cluster !== undefined) {
      cluster.setDns(dns);
      cluster.setOwnNode(ownNode);
      const result = await cluster.reconcile(documents);
      objects = () => result.objects;
      return result;
    }
    const changed = new Map<string, KubernetesObject | undefined>();
    for (const [title, { before, after }] of await inPortions(catalogue.take(documents))) {
      if (before?.use === "used" || after?.use === "used")
        changed.set(title, after?.use === "used" ? after.document.object : undefined);
    }
    objects = () => [...catalogue.inForce().values()].flatMap((one) => (one.use === "used" ? one.document.object : []));
    return { changed, notices: catalogue.notices() };
  }

  // What stands in for a file that cannot be used must outlive this process, or a restart would take its Services away.
  async function keepLastGood(from: ManifestReader): Promise<void> {
    const text = JSON.stringify(Object.fromEntries(from.lastGood()));
    if (text === lastGoodText) return;
    await writeStateFile(lastGoodPath, text);
    lastGoodText = text;
  }

  function fileOf(title: string): string {
    return cluster === undefined ? (catalogue.inForce().get(title)?.document.file ?? "") : "";
  }

  function noteBypass(title: string, node: string | undefined): void {
    const before = bypassing.get(title);
    if (before === node) return;
    if (before !== undefined) {
      const left = (bypassingOn.get(before) ?? 0) - 1;
      if (left > 0) bypassingOn.set(before, left);
      else bypassingOn.delete(before);
    }
    if (node === undefined) bypassing.delete(title);
    else {
      bypassing.set(title, node);
      bypassingOn.set(node, (bypassingOn.get(node) ?? 0) + 1);
    }
  }

  function* eventsOf(changed: ReadonlyMap<string, KubernetesObject | undefined>): Work<ObjectEvent[]> {
    const events: ObjectEvent[] = [];
    const removals: ObjectEvent[] = [];
    for (const [title, object] of changed) {
      yield;
      const result = object === undefined ? undefined : normaliseObject(object);
      noteBypass(title, object === undefined ? undefined : bypassOn(object));
      const refused = result?.refused ?? [];
      if (object === undefined || refused.length === 0) leftOut.delete(title);
      else
        leftOut.set(
          title,
          refused.map((one) => refusedNotice(object, fileOf(title), one)),
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
    for (const one of removals) events.push(one);
    return events;
  }

  async function refresh(from: ManifestReader): Promise<void> {
    const state = from.digest();
    const documents = await from.gatherDocuments();
    if (cluster !== undefined) await keepLastGood(from);
    const now = await take(documents);
    failure = undefined;
    if (stopped) return;
    const events = await inPortions(eventsOf(now.changed));
    notices = [...from.notices(), ...now.notices, ...[...leftOut.values()].flat()];
    if (synced && events.length === 0 && state === digest) return;
    digest = state;
    synced = true;
    lastEventMs = Date.now();
    deliver(events, digest, true);
  }

  async function run(from: ManifestReader): Promise<void> {
    while (stale && !stopped) {
      stale = false;
      try {
        await refresh(from);
      } catch (error) {
        // What was delivered stays in force; the state directory may be writable again later.
        const message = error instanceof Error ? error.message : String(error);
        failure = {
          object: stateDir,
          file: stateDir,
          field: "",
          reason: "state-not-written",
          message,
          severity: "error",
        };
        clearTimeout(retry);
        retry = setTimeout(() => request(from), RETRY_MS);
        retry.unref();
        return;
      }
    }
  }

  function request(from: ManifestReader): void {
    stale = true;
    if (stopped) return;
    running ??= run(from).finally(() => {
      running = undefined;
      if (stale && failure === undefined) request(from);
    });
  }

  return {
    async start(onEvents) {
      deliver = onEvents;
      let lastGood = new Map<string, readonly unknown[]>();
      if (!readOnly) {
        const kept = await readStateFile(lastGoodPath);
        if (typeof kept === "object" && kept !== null) {
          lastGood = new Map(
            Object.entries(kept).filter((entry): entry is [string, unknown[]] => Array.isArray(entry[1])),
          );
          lastGoodText = JSON.stringify(kept);
        }
        const { serviceClusterIpRange, serviceNodePortRange } = options;
        cluster = await createCluster({ stateDir, serviceClusterIpRange, serviceNodePortRange, ownNode, dns });
      }
      const created = createManifestReader({
        paths,
        lastGood,
        ...(options.rescanMs === undefined ? {} : { rescanMs: options.rescanMs }),
      });
      reader = created;
      await created.start(() => request(created));
      if (stopped) return;
      await refresh(created);
    },
    status: () => ({ kind: "manifests", synced, lastEventMs, digest }),
    bypassesSockets: (node) => bypassingOn.has(node),
    notices: () => (failure === undefined ? notices : [failure, ...notices]),
    kubernetesObjects: () => objects(),
    setDns(address) {
      dns = address;
      if (reader !== undefined && synced) request(reader);
    },
    setOwnNode(node) {
      ownNode = node;
      if (reader !== undefined && synced) request(reader);
    },
    async stop() {
      stopped = true;
      clearTimeout(retry);
      await reader?.stop();
      await running;
    },
  };
}
