// Takes the Lease, renews it, gives it back; and leads for as long as it holds it by its own clock. A term begins when the one
// before has ended, its last write included.

import { type Clock, sleep, type Timer } from "../kube/clock.ts";
import type { Answered, Attempt, ClusterWriter } from "../kube/cluster-writer.ts";
import type { FedObject } from "../kube/object-feed.ts";
import { isBefore } from "../kube/watch-event.ts";
import type { Log } from "../lib/log.ts";
import { type LeaseSeen, type LeaseTimings, leadsUntil, leaseStep } from "./lease.ts";

export interface ElectorOptions {
  readonly namespace: string;
  readonly name: string;
  /** Of this process alone. */
  readonly identity: string;
  readonly timings: LeaseTimings;
  readonly writer: Pick<ClusterWriter, "readLease" | "createLease" | "patchLease">;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  /** Aborted: the Lease is given back. */
  readonly signal: AbortSignal;
  /** Leads until the signal is aborted; resolves when nothing of it is under way any more. */
  readonly lead: (signal: AbortSignal) => Promise<void>;
}

export interface Elector {
  run(): Promise<void>;
  /** A write may begin now. */
  leads(): boolean;
  /** "" when nobody does, or it is not known; of ourselves only while we lead. */
  holder(): string;
  /** What keeps us from renewing or taking the Lease, "" nothing. */
  trouble(): string;
  /** What the watch shows of the Lease; undefined: it is gone. */
  saw(object: FedObject | Answered | undefined): void;
}

interface Term {
  readonly end: AbortController;
  readonly ended: Promise<void>;
}

const COULD_NOT = "could not renew or take the Lease";

export function createElector(options: ElectorOptions): Elector {
  const { namespace, name, identity, timings, writer, clock, random, log, signal } = options;
  const which = { namespace, name };
  let lease: LeaseSeen | undefined;
  let isKnown = false;
  let renewedMs = Number.NEGATIVE_INFINITY;
  let term: Term | undefined;
  let wake = (): void => {};
  let trouble = "";

  const leads = (): boolean =>
    term !== undefined && !term.end.signal.aborted && clock.now() < leadsUntil(renewedMs, timings);

  /** `isNewest`: it was read by name, and may have an older version than what was seen: etcd was restored. */
  function take(object: FedObject | Answered | undefined, isNewest: boolean): void {
    isKnown = true;
    if (object === undefined) {
      lease = undefined;
      wake();
      return;
    }
    const version = object.metadata?.resourceVersion ?? "";
    if (lease !== undefined && (version === lease.version || (!isNewest && isBefore(version, lease.version)))) return;
    const spec = (object["spec" as keyof typeof object] ?? {}) as Readonly<Record<string, unknown>>;
    const { holderIdentity, leaseTransitions, leaseDurationSeconds } = spec;
    lease = {
      version,
      holder: typeof holderIdentity === "string" ? holderIdentity : "",
      transitions: typeof leaseTransitions === "number" ? leaseTransitions : 0,
      durationMs: typeof leaseDurationSeconds === "number" ? leaseDurationSeconds * 1000 : timings.durationMs,
      seenMs: clock.now(),
    };
    if (lease.holder !== identity) wake();
  }

  /** Of the Lease's spec what a claim says; times are for people to read. */
  function claim(holder: string, transitions: number, isRenewal: boolean): Record<string, unknown> {
    const now = new Date(clock.wallMs()).toISOString().replace("Z", "000Z");
    return {
      holderIdentity: holder,
      leaseDurationSeconds: holder === "" ? 1 : Math.ceil(timings.durationMs / 1000),
      renewTime: now,
      leaseTransitions: transitions,
      ...(isRenewal ? {} : { acquireTime: now }),
    };
  }

  async function write(): Promise<Attempt<Answered> | undefined> {
    const step = leaseStep(lease, identity, clock.now());
    if (step.do === "wait") return undefined;
    if (step.do === "create") {
      const metadata = { namespace, name };
      return writer.createLease(namespace, { metadata, spec: claim(identity, 0, false) });
    }
    return writer.patchLease(which, {
      metadata: { resourceVersion: step.version },
      spec: claim(identity, step.transitions, step.isRenewal),
    });
  }

  async function attempt(): Promise<void> {
    if (term !== undefined && !leads()) await endTerm("the Lease was not renewed in time");
    if (!isKnown) {
      const found = await writer.readLease(which);
      if (found.outcome !== "done" && found.outcome !== "absent") return note(found);
      take(found.outcome === "done" ? found.object : undefined, true);
    }
    const sentMs = clock.now();
    const result = await write();
    if (result === undefined) {
      if (term !== undefined) await endTerm("another holds the Lease");
      return;
    }
    if (result.outcome !== "done") {
      // Somebody was faster, or our own attempt was applied and its answer lost.
      if (result.outcome === "conflict" || result.outcome === "absent") isKnown = false;
      if (result.outcome === "absent") lease = undefined;
      return note(result);
    }
    take(result.object, false);
    // Somebody between us and the server may have answered.
    if (lease?.holder !== identity) {
      return note({ outcome: "unknown", message: "the answer does not show us as the holder" });
    }
    trouble = "";
    renewedMs = sentMs;
    if (term === undefined && leads0()) startTerm();
  }

  /** An answer that took too long is none. */
  const leads0 = (): boolean => clock.now() < leadsUntil(renewedMs, timings);

  function note(result: Attempt<never>): void {
    if (result.outcome === "done" || result.outcome === "conflict" || result.message === trouble) return;
    trouble = result.message;
    log.warn({ lease: `${namespace}/${name}` }, `${COULD_NOT}: ${result.message}`);
  }

  function startTerm(): void {
    log.info({ lease: `${namespace}/${name}`, identity }, "leads: it gives addresses from now on");
    const end = new AbortController();
    term = { end, ended: options.lead(end.signal) };
  }

  async function endTerm(why: string): Promise<void> {
    const ended = term;
    if (ended === undefined) return;
    log.warn({ lease: `${namespace}/${name}` }, `leads no more: ${why}`);
    ended.end.abort();
    await ended.ended;
    term = undefined;
  }

  async function release(): Promise<void> {
    const hadLease = lease?.holder === identity && leads();
    await endTerm("it was told to stop");
    if (!hadLease || lease === undefined) return;
    const body = { metadata: { resourceVersion: lease.version }, spec: claim("", lease.transitions, true) };
    const result = await writer.patchLease(which, body);
    if (result.outcome !== "done") log.warn(`could not give the Lease back: ${result.message}`);
  }

  return {
    async run() {
      let expiry: Timer | undefined;
      while (!signal.aborted) {
        await attempt();
        expiry?.stop();
        const leftMs = leadsUntil(renewedMs, timings) - clock.now();
        if (term !== undefined && leftMs > 0) expiry = clock.after(leftMs, () => wake());
        const woken = new AbortController();
        wake = () => woken.abort();
        // Claimants that wait do not all come at once.
        const wait = term === undefined ? timings.retryMs * (1 + 0.2 * random()) : timings.retryMs;
        await sleep(clock, wait, AbortSignal.any([signal, woken.signal]));
        wake = () => {};
      }
      expiry?.stop();
      await release();
    },
    leads,
    holder: () => (lease === undefined || (lease.holder === identity && !leads()) ? "" : lease.holder),
    trouble: () => (trouble === "" ? "" : `${COULD_NOT}: ${trouble}`),
    saw: (object) => take(object, false),
  };
}
