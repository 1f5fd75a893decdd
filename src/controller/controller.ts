// The controller: one of several claims the Lease, and gives the cluster's LoadBalancer Services their addresses for as long as it
// holds it. The others watch the Lease, and nothing else.
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { type Clock, systemClock } from "../kube/clock.ts";
import { type ClusterWriter, createClusterWriter } from "../kube/cluster-writer.ts";
import { createConnection } from "../kube/connection.ts";
import { leaseResource } from "../kube/controller-resources.ts";
import { createObjectFeed } from "../kube/object-feed.ts";
import { type ApiTransport, createTransport } from "../kube/transport.ts";
import { createLog } from "../lib/log.ts";
import { VERSION } from "../lib/version.ts";
import { createElector } from "./elector.ts";
import { createEventRecorder } from "./event-recorder.ts";
import { createLeadership, type Leadership } from "./leadership.ts";
import { writeTimeoutMs } from "./lease.ts";
import type { ControllerOptions } from "./options.ts";
import type { TermView } from "./term.ts";

export const FIELD_MANAGER = "millrace-controller";

export interface ControllerView {
  readonly identity: string;
  readonly leads: boolean;
  /** Who holds the Lease, "" when nobody is known to. */
  readonly holder: string;
  /** Of the leader alone, while it gives addresses. */
  readonly term: TermView | undefined;
  /** MetalLB's workloads, as "Deployment metallb-system/controller": the leader gives no address while they run. */
  readonly waitsFor: readonly string[];
  readonly problems: readonly string[];
  readonly writes: ReturnType<ClusterWriter["counts"]>;
  readonly eventsDropped: number;
}

export interface Controller {
  /** Until the signal is aborted; the Lease is then given back. */
  run(): Promise<void>;
  view(): ControllerView;
}

export interface ControllerParts {
  readonly transport: ApiTransport;
  readonly clock: Clock;
  readonly random: () => number;
}

/** What a controller of these options reaches the API by. @throws Failure when nothing says where the API is */
export function controllerParts({ apiServer, kubeconfig, stateDir }: ControllerOptions): ControllerParts {
  const connection = createConnection({
    stateDir,
    ...(apiServer === "" ? {} : { apiServer }),
    ...(kubeconfig === "" ? {} : { kubeconfig }),
  });
  return { transport: createTransport(connection, `millrace/${VERSION}`), clock: systemClock, random: Math.random };
}

export function createController(options: ControllerOptions, parts: ControllerParts, signal: AbortSignal): Controller {
  const { transport, clock, random } = parts;
  const log = createLog("controller");
  const timings = {
    durationMs: options.leaseDurationMs,
    renewDeadlineMs: options.leaseRenewDeadlineMs,
    retryMs: options.leaseRetryMs,
  };
  // What is under way when we are told to stop is seen to its end, and the Lease given back: a limit of time ends all that.
  const writer = createClusterWriter({
    transport,
    clock,
    fieldManager: FIELD_MANAGER,
    timeoutMs: writeTimeoutMs(timings),
    signal: new AbortController().signal,
  });
  const identity = `${hostname()}_${randomUUID()}`;
  const leads = (): boolean => elector.leads();
  const events = createEventRecorder({ writer, component: FIELD_MANAGER, clock, mayWrite: leads });
  let leadership: Leadership | undefined;
  const elector = createElector({
    ...{ writer, clock, random, log, signal, timings, identity },
    namespace: options.namespace,
    name: options.leaseName,
    async lead(ended) {
      leadership = createLeadership({
        ...{ options, transport, writer, events, clock, random, log },
        fieldManager: FIELD_MANAGER,
        mayWrite: leads,
        signal: ended,
      });
      await leadership.run();
      leadership = undefined;
    },
  });
  const reading = new AbortController();
  const feed = createObjectFeed({
    resource: leaseResource(options.namespace, options.leaseName),
    guard: "Service",
    ...{ transport, clock, random, signal: reading.signal },
    put: (_, object) => elector.saw(object),
    remove: () => elector.saw(undefined),
    onChange() {},
  });
  return {
    async run() {
      const read = feed.run();
      await elector.run();
      reading.abort();
      await read;
      transport.close();
    },
    view() {
      const now = leadership?.view();
      const troubles = [feed.problem()?.message ?? "", elector.trouble()].filter((one) => one !== "");
      return {
        identity,
        leads: leads(),
        holder: elector.holder(),
        term: now?.term,
        waitsFor: now?.waitsFor ?? [],
        problems: [...troubles, ...(now?.problems ?? [])],
        writes: writer.counts(),
        eventsDropped: events.dropped(),
      };
    },
  };
}
