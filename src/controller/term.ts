// One term of a leader: reads the cluster to the end, decides, writes, until its time is over. Nothing of a term before is kept: what
// the API shows is the truth about who has which address.
import type { AddressWrite, ServiceRecord } from "../allocate/allocation-records.ts";
import { type ClusterAllocation, createClusterAllocation } from "../allocate/cluster-allocation.ts";
import type { Clock } from "../kube/clock.ts";
import type { ClusterWriter } from "../kube/cluster-writer.ts";
import { CONTROLLER_RESOURCES, type ControllerResource } from "../kube/controller-resources.ts";
import { createObjectFeed, type FedObject } from "../kube/object-feed.ts";
import type { ApiTransport } from "../kube/transport.ts";
import type { Log } from "../lib/log.ts";
import type { ServiceObject } from "../wire/kubernetes.ts";
import { createAddressWrites } from "./address-writes.ts";
import { newsEvent, writtenEvents } from "./allocation-events.ts";
import {
  addressesWithin,
  type Configuration,
  configurationInForce,
  judgeConfiguration,
  type MetallbObjects,
  type Remark,
} from "./configuration.ts";
import { configurationStatus, writeConfigurationState } from "./configuration-state.ts";
import type { EventRecorder } from "./event-recorder.ts";
import { createGathered } from "./gathered.ts";
import { type ObjectRef, refTitle } from "./object-ref.ts";
import type { ControllerOptions } from "./options.ts";
import { writePoolStatuses } from "./pool-statuses.ts";
import { createProblems } from "./problems.ts";
import { repeat } from "./repeat.ts";
import { serviceRecord } from "./service-record.ts";

export interface TermOptions {
  readonly options: Pick<ControllerOptions, "namespace" | "loadBalancerClass" | "writesPerSecond">;
  readonly transport: Pick<ApiTransport, "get">;
  readonly writer: ClusterWriter;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  readonly mayWrite: () => boolean;
  readonly signal: AbortSignal;
}

export interface Term {
  /** Until the signal is aborted, and what was under way has ended. */
  run(): Promise<void>;
  view(): TermView;
}

export interface TermView {
  /** Everything was listed to the end: addresses are given. */
  readonly synced: boolean;
  readonly counts: ReturnType<ClusterAllocation["counts"]>;
  readonly pools: ReturnType<ClusterAllocation["pools"]>;
  readonly refusals: ReturnType<ClusterAllocation["refusals"]>;
  readonly remarks: readonly Remark[];
  /** The configuration in force is the one of the objects. */
  readonly isConfigurationValid: boolean;
  readonly problems: readonly string[];
  readonly writesWaiting: number;
  /** Of the last decision, milliseconds. */
  readonly decisionMs: number;
}

/** Changes that arrive together are decided together. */
const GATHER_MS = 20;
const STATUSES_MS = 2_000;
const MINUTE_MS = 60_000;
const SHOWN_REFUSALS = 100;

export function createTerm(given: TermOptions): Term {
  const { options, transport, writer, events, clock, random, log, signal } = given;
  /** Of this term: what waits here for its next attempt may not be said in the next. */
  const mayWrite = (): boolean => !signal.aborted && given.mayWrite();
  const allocation = createClusterAllocation(options.loadBalancerClass);
  const gathered = createGathered();
  const problems = createProblems(log);
  const countersWritten = new Map<string, string>();
  /** Writes of which nobody knows what became. */
  const inDoubt = new Map<string, AddressWrite>();
  let configuration: Configuration | undefined;
  let remarks: readonly Remark[] = [];
  let faults: readonly Remark[] = [];
  let judged = -1;
  let configured = "";
  let stateTold = "";
  let isStating: Promise<void> = Promise.resolve();
  let decisionMs = 0;

  const writes = createAddressWrites({
    ...{ allocation, writer, clock, random, mayWrite },
    perSecond: options.writesPerSecond,
    onWritten: tellWritten,
    onFailed(write, message) {
      inDoubt.set(write.record.key, write);
      problems.note(
        `Service ${write.record.key}`,
        `could not write the status of Service ${write.record.key}: ${message}`,
      );
      decideSoon();
    },
  });

  function tellWritten(write: AddressWrite): void {
    const { key } = write.record;
    inDoubt.delete(key);
    problems.note(`Service ${key}`, undefined);
    for (const event of writtenEvents(write)) events.record(event);
    log.info(
      { service: key, pool: write.pool },
      write.addresses.length === 0 ? "its addresses were taken away" : `has ${write.addresses.join(", ")}`,
    );
  }

  /** The watch shows what became of a write that nobody answered for. */
  function sawService(record: ServiceRecord): void {
    const write = inDoubt.get(record.key);
    if (write === undefined || record.version === write.record.version) return;
    inDoubt.delete(record.key);
    const isDone = record.uid === write.record.uid && String(record.addresses) === String(write.addresses);
    if (isDone && record.pool === write.pool) tellWritten(write);
  }

  function refOf(resource: ControllerResource, { metadata }: FedObject): ObjectRef {
    const { kind, group, path } = CONTROLLER_RESOURCES[resource];
    const version = /\/(v1|v1beta1|v1beta2)\//.exec(path)?.[1] ?? "v1";
    return {
      apiVersion: group === "" ? version : `${group}/${version}`,
      kind,
      namespace: metadata.namespace ?? "",
      name: metadata.name,
      uid: String(metadata["uid"] ?? ""),
    };
  }

  const feeds = (Object.keys(CONTROLLER_RESOURCES) as ControllerResource[]).map((name) => {
    const resource = CONTROLLER_RESOURCES[name];
    const feed = createObjectFeed({
      ...{ resource, transport, clock, random, signal },
      guard: name === "services" ? "Service" : name === "nodes" ? "Node" : "AddressPool",
      put(key, object) {
        if (name === "services") {
          const record = serviceRecord(object as unknown as ServiceObject);
          sawService(record);
          allocation.put(record);
        } else if (!gathered.put(name, key, refOf(name, object), object)) return;
        decideSoon();
      },
      remove(key) {
        if (name === "services") {
          allocation.remove(key);
          inDoubt.delete(key);
          problems.note(`Service ${key}`, undefined);
        } else gathered.remove(name, key);
        decideSoon();
      },
      onChange() {
        problems.note(name, feed.problem()?.message);
        decideSoon();
      },
    });
    return feed;
  });
  const isSynced = (): boolean => feeds.every((feed) => feed.stats().synced);
  const isDue = (): boolean => isSynced() && mayWrite();
  const soon = clock.after(GATHER_MS, turn);
  let isArmed = true;

  /** What comes meanwhile puts it off no further: a cluster may never rest. */
  function decideSoon(): void {
    if (isArmed) return;
    isArmed = true;
    soon.restart();
  }

  function judge(): void {
    if (judged === gathered.version()) return;
    judged = gathered.version();
    const objects = gathered.objects();
    const result = judgeConfiguration(objects);
    ({ faults, remarks } = result);
    configuration = configurationInForce(configuration, result);
    configure(configuration, objects.nodeAddresses);
    for (const { ref, reason, message } of [...faults, ...remarks]) {
      events.record({ ref, type: "Warning", reason, message });
      problems.note(`${reason} ${refTitle(ref)}`, `${refTitle(ref)}: ${message}`);
    }
    const current = new Set([...faults, ...remarks].map(({ ref, reason }) => `${reason} ${refTitle(ref)}`));
    for (const about of problems.about())
      if (/^(Inv|BGP|NotA)/.test(about) && !current.has(about)) problems.note(about, undefined);
    stateConfiguration();
  }

  /** Looks at every Service again, when what comes into force is something else. */
  function configure({ pools, isWhole }: Configuration, nodes: MetallbObjects["nodeAddresses"]): void {
    const nodeAddresses = addressesWithin(pools, nodes.keys());
    const readsLabels = pools.some(({ namespaceSelectors }) => namespaceSelectors.length > 0);
    const labels = readsLabels ? gathered.labelsVersion() : 0;
    const now = JSON.stringify([pools, isWhole, [...nodeAddresses].sort(), labels]);
    if (now === configured) return;
    configured = now;
    allocation.configure({ pools, isWhole, nodeAddresses, namespaceLabels: gathered.namespaceLabels });
  }

  function stateConfiguration(): void {
    const invalid = [...faults, ...remarks].filter(({ reason }) => reason === "InvalidConfiguration");
    const faultTexts = invalid.map(({ ref, message }) => `${refTitle(ref)}: ${message}`);
    const status = configurationStatus(faultTexts, new Date(clock.wallMs()).toISOString());
    const told = JSON.stringify([status["result"], status["errorSummary"]]);
    if (told === stateTold) return;
    isStating = isStating.then(async () => {
      if (!mayWrite()) return;
      const { isWritten, problem: failed } = await writeConfigurationState(writer, options.namespace, status);
      problems.note("ConfigurationState", failed);
      if (isWritten) stateTold = told;
    });
  }

  function turn(): void {
    isArmed = false;
    if (signal.aborted || !isSynced()) return;
    const beganMs = clock.now();
    judge();
    const { writes: wanted, news } = allocation.settle();
    decisionMs = clock.now() - beganMs;
    for (const one of news) events.record(newsEvent(one));
    for (const { record, kind, refusal } of news) log.warn({ service: record.key, kind }, refusal.message);
    writes.want(wanted);
  }

  async function statuses(): Promise<void> {
    const { pools: counts } = allocation;
    const found = await writePoolStatuses({
      writer,
      counts,
      object: gathered.pool,
      written: countersWritten,
      mayWrite,
    });
    problems.note("pool statuses", found[0]);
  }

  return {
    async run() {
      await Promise.all([
        ...feeds.map((feed) => feed.run()),
        repeat({ clock, signal, isDue, everyMs: STATUSES_MS }, statuses),
        repeat({ clock, signal, isDue, everyMs: MINUTE_MS }, async () => stateConfiguration()),
      ]);
      soon.stop();
      await writes.idle();
      await isStating;
      await events.idle();
    },
    view: () => ({
      synced: isSynced(),
      counts: allocation.counts(),
      pools: allocation.pools(),
      refusals: allocation.refusals(SHOWN_REFUSALS),
      remarks: [...faults, ...remarks],
      isConfigurationValid: faults.length === 0,
      problems: problems.messages(),
      writesWaiting: writes.waiting(),
      decisionMs,
    }),
  };
}
