// How the endpoints of a service port lie in its slots, and which part of them each policy may use.
// Nothing is stored twice: local-only first, then what both windows use, then cluster-only.
import { type FrontendKind, WINDOWS, type Window, type Windows } from "./operations.ts";

export type TrafficPolicy = "Cluster" | "Local";

export interface Placeable {
  readonly local: boolean;
  /** Ready; else it is terminating and serves, and is used in a window that has no ready one. */
  readonly ready: boolean;
  /** Ready endpoints that topology sets aside are in no cluster window as long as there are preferred ones. */
  readonly preferred: boolean;
}

/** Slots in order. The local window is the first `localCount` of them, the cluster window the last `clusterCount`. */
export interface Layout<T> {
  readonly slots: readonly T[];
  readonly localCount: number;
  readonly clusterCount: number;
}

/**
 * Places endpoints. Ready ones win in each window by itself: while a local window may consist of terminating endpoints,
 * the cluster window next to it has ready ones of other nodes. `withLocal`: some frontend has a Local policy; without it
 * there is no local window and no order by place. Topology concerns the cluster window alone. The order within a part is the order given.
 */
export function layOut<T extends Placeable>(endpoints: readonly T[], withLocal: boolean): Layout<T> {
  let readyLocal = 0;
  let ready = 0;
  let preferred = 0;
  for (const endpoint of endpoints) {
    if (!endpoint.ready) continue;
    ready++;
    if (endpoint.local) readyLocal++;
    if (endpoint.preferred) preferred++;
  }
  const inCluster = (endpoint: T): boolean => (endpoint.ready ? endpoint.preferred || preferred === 0 : ready === 0);
  const inLocal = (endpoint: T): boolean => withLocal && endpoint.local && (endpoint.ready || readyLocal === 0);
  const localOnly: T[] = [];
  const both: T[] = [];
  const clusterOnly: T[] = [];
  for (const endpoint of endpoints) {
    if (inCluster(endpoint)) (inLocal(endpoint) ? both : clusterOnly).push(endpoint);
    else if (inLocal(endpoint)) localOnly.push(endpoint);
  }
  return {
    slots: [...localOnly, ...both, ...clusterOnly],
    localCount: localOnly.length + both.length,
    clusterCount: both.length + clusterOnly.length,
  };
}

/** The windows of one row, for slots that begin at `first`. */
export function windowsOf(
  kind: FrontendKind,
  policies: { readonly external: TrafficPolicy; readonly internal: TrafficPolicy },
  layout: Pick<Layout<unknown>, "localCount" | "clusterCount"> & { readonly slots: { readonly length: number } },
  first: number,
): Windows {
  const { localCount, clusterCount } = layout;
  const cluster = window(first + layout.slots.length - clusterCount, clusterCount, "refuse");
  const local = window(first, localCount, clusterCount === 0 ? "refuse" : "drop");
  // A cluster-ip frontend knows only the internal policy, every other kind only the external one. The window that no
  // client of the row asks for repeats its neighbour, so that a reader who errs finds nothing unexpected.
  if (kind === "cluster-ip") {
    const internal = policies.internal === "Local" ? local : cluster;
    return { external: internal, internal, cluster };
  }
  return { external: policies.external === "Local" ? local : cluster, internal: cluster, cluster };
}

function window(first: number, count: number, whenEmpty: "refuse" | "drop"): Window {
  return count === 0 ? { first: 0, count: 0, whenEmpty } : { first, count, whenEmpty: "refuse" };
}

/** Of `count` slots from 0 on, each one's windows that a client of these rows may use: a bit each in the order of WINDOWS. */
export function windowBits(
  rows: readonly { readonly kind: FrontendKind; readonly windows: Windows }[],
  count: number,
): Uint8Array {
  const bits = new Uint8Array(count);
  for (const { kind, windows } of rows) {
    for (const [bit, name] of WINDOWS.entries()) {
      if ((kind === "cluster-ip") !== (name === "internal")) continue;
      const { first, count: long } = windows[name];
      for (let at = first; at < first + long; at++) bits[at]! |= 1 << bit;
    }
  }
  return bits;
}

/** Equal for every client. `first` means nothing in an empty window, `whenEmpty` nothing in one that has slots. */
export function sameWindows(a: Windows, b: Windows): boolean {
  return sameWindow(a.external, b.external) && sameWindow(a.internal, b.internal) && sameWindow(a.cluster, b.cluster);
}

function sameWindow(a: Window, b: Window): boolean {
  return a.count === b.count && (a.count === 0 ? a.whenEmpty === b.whenEmpty : a.first === b.first);
}
