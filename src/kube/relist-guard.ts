// Whether a full list is believed at once. A list that would take away most of what is served may be an accident of the API
// (an empty etcd, a broken proxy in between), so it needs a second one that agrees. Pure.
import type { Change } from "./row.ts";

/** A list takes away too much when it takes more than so many, and more than half of what there was. */
const FEW: Readonly<Partial<Record<Change["kind"], number>>> = {
  Service: 50,
  EndpointSlice: 50,
  Node: 0,
  AddressPool: 0,
  L2Advertisement: 0,
};
const SHARE = 0.5;

/** What a full list would take away, counted in frontends, endpoints or objects. */
export interface Loss {
  /** How many there were before the list. */
  readonly before: number;
  /** How many go, by the key of the object that they go with: it is absent, or has fewer than it had. */
  readonly lost: ReadonlyMap<string, number>;
}

export type Judgement = "apply" | "hold";

function isTooMuch(kind: Change["kind"], lost: number, before: number): boolean {
  return lost > (FEW[kind] ?? 0) && lost > before * SHARE;
}

export function lostTotal(loss: Loss): number {
  let total = 0;
  for (const count of loss.lost.values()) total += count;
  return total;
}

/**
 * `held` is what the list before this one would have taken away when that was too much. The two agree when what only this
 * one takes away would not be too much by itself: a cluster goes on changing between two lists.
 */
export function judgeList(kind: Change["kind"], loss: Loss, held: Loss | undefined): Judgement {
  if (!isTooMuch(kind, lostTotal(loss), loss.before)) return "apply";
  if (held === undefined) return "hold";
  let unannounced = 0;
  for (const [key, count] of loss.lost) unannounced += Math.max(0, count - (held.lost.get(key) ?? 0));
  return isTooMuch(kind, unannounced, loss.before) ? "hold" : "apply";
}
