// What a leader does from the claim of the Lease to its end: it keeps the announcers' Secret, and gives addresses, unless MetalLB runs
// and gives them.
import { type Clock, sleep } from "../kube/clock.ts";
import { type ClusterObject, createClusterObjects } from "../kube/cluster-objects.ts";
import type { ClusterWriter } from "../kube/cluster-writer.ts";
import { workloadTitle } from "../kube/metallb-workloads.ts";
import type { ApiTransport } from "../kube/transport.ts";
import type { Log } from "../lib/log.ts";
import { configurationStatus, writeConfigurationState } from "./configuration-state.ts";
import type { EventRecorder } from "./event-recorder.ts";
import { keepSecret } from "./keep-secret.ts";
import { createMetallbGuard } from "./metallb-guard.ts";
import type { ObjectRef } from "./object-ref.ts";
import type { ControllerOptions } from "./options.ts";
import { createProblems } from "./problems.ts";
import { repeat } from "./repeat.ts";
import { createTerm, type Term, type TermView } from "./term.ts";

export interface LeadershipOptions {
  readonly options: ControllerOptions;
  readonly transport: Pick<ApiTransport, "get" | "send">;
  readonly writer: ClusterWriter;
  readonly events: EventRecorder;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  readonly fieldManager: string;
  readonly mayWrite: () => boolean;
  readonly signal: AbortSignal;
}

export interface LeadershipView {
  /** While addresses are given. */
  readonly term: TermView | undefined;
  /** MetalLB's workloads, as "Deployment metallb-system/controller", for which no address is given; empty: it is. */
  readonly waitsFor: readonly string[];
  readonly problems: readonly string[];
}

export interface Leadership {
  /** Until the signal is aborted, and what was under way has ended. */
  run(): Promise<void>;
  view(): LeadershipView;
}

const SECRET_MS = 20_000;
const MINUTE_MS = 60_000;
const LOOK_TIMEOUT_MS = 10_000;
const REASON = "MetalLBRuns";

function waitMessage(found: readonly ClusterObject[]): string {
  const who = found.map(workloadTitle).join(", ");
  return `no address is given while MetalLB runs (${who}): two would give the same ones. Take it away (its CRDs and pools stay), or let Millrace have Services of a class alone (--load-balancer-class); where that MetalLB leaves Services without a class alone, say --beside-metallb`;
}

function refOf({ apiVersion, kind, metadata }: ClusterObject): ObjectRef {
  return { apiVersion, kind, namespace: metadata.namespace ?? "", name: metadata.name, uid: metadata.uid ?? "" };
}

export function createLeadership(given: LeadershipOptions): Leadership {
  const { options, transport, writer, events, clock, random, log, mayWrite, signal } = given;
  const isAlone = options.loadBalancerClass !== "" || options.besideMetallb;
  const api = createClusterObjects({
    ...{ transport, clock, signal },
    fieldManager: given.fieldManager,
    timeoutMs: LOOK_TIMEOUT_MS,
  });
  const guard = isAlone ? undefined : createMetallbGuard({ api, clock, signal, log });
  const problems = createProblems(log);
  let term: Term | undefined;

  async function secret(): Promise<void> {
    const { namespace, secretName: name, rotateSecretAfterMs: rotateAfterMs } = options;
    const { done, problem: failed } = await keepSecret(
      { writer, namespace, name, rotateAfterMs, mayWrite },
      clock.wallMs(),
    );
    problems.note("secret", failed);
    if (done !== undefined) log.info({ secret: `${namespace}/${name}` }, done);
  }

  /** Says why nothing is given: on the log, by an event, and in ConfigurationState. */
  async function wait(found: readonly ClusterObject[], until: AbortSignal): Promise<void> {
    const message = waitMessage(found);
    problems.note(REASON, message);
    events.record({ ref: refOf(found[0]!), type: "Warning", reason: REASON, message: `Millrace: ${message}` });
    let isTold = false;
    await repeat({ clock, signal: until, everyMs: MINUTE_MS, isDue: mayWrite }, async () => {
      if (isTold) return;
      const status = configurationStatus([message], new Date(clock.wallMs()).toISOString(), REASON);
      const written = await writeConfigurationState(writer, options.namespace, status);
      problems.note("ConfigurationState", written.problem);
      isTold = written.isWritten;
    });
    problems.note(REASON, undefined);
    problems.note("ConfigurationState", undefined);
    if (!signal.aborted) log.info("MetalLB does not run any more: addresses are given");
  }

  async function give(until: AbortSignal): Promise<void> {
    term = createTerm({ options, transport, writer, events, clock, random, log, mayWrite, signal: until });
    await term.run();
    term = undefined;
  }

  /** One thing after another, as MetalLB comes and goes. Each time that it went, everything is read anew: nothing of before is known. */
  async function giveUnlessMetallb(): Promise<void> {
    if (guard === undefined) return give(signal);
    while (!signal.aborted) {
      const until = AbortSignal.any([signal, guard.phase()]);
      const state = guard.state();
      if (state === "running") await wait(guard.found(), until);
      else if (state === "absent") await give(until);
      else await sleep(clock, MINUTE_MS, until);
    }
  }

  return {
    async run() {
      await Promise.all([
        guard?.run(),
        giveUnlessMetallb(),
        options.secretName === "" ? undefined : repeat({ clock, signal, everyMs: SECRET_MS, isDue: mayWrite }, secret),
      ]);
      await events.idle();
    },
    view() {
      const now = term?.view();
      const looking = guard?.problem() ?? "";
      return {
        term: now,
        waitsFor: guard?.state() === "running" ? guard.found().map(workloadTitle) : [],
        problems: [...(looking === "" ? [] : [looking]), ...problems.messages(), ...(now?.problems ?? [])],
      };
    },
  };
}
