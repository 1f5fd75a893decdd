// Which node a pod goes to: the one it names, else, of those its nodeSelector and host ports allow, the ready one with
// the fewest pods, then the first by name. Pure.

export interface NodeFacts {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ready: boolean;
  readonly unschedulable: boolean;
  /** Pods that neither ended nor are about to; the lab's own are not counted. */
  readonly pods: number;
  /** "TCP/80" and such, taken by pods on it. */
  readonly hostPorts: ReadonlySet<string>;
}

export interface PodNeeds {
  readonly nodeName: string;
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly hostPorts: readonly string[];
}

export type Placement = { readonly node: string } | { readonly pending: string };

export function schedule(pod: PodNeeds, nodes: readonly NodeFacts[]): Placement {
  if (pod.nodeName !== "") {
    return nodes.some((node) => node.name === pod.nodeName)
      ? { node: pod.nodeName }
      : { pending: `there is no node ${pod.nodeName}` };
  }
  const refusals = new Map<string, number>();
  let best: NodeFacts | undefined;
  for (const node of nodes) {
    const reason = refusal(pod, node);
    if (reason !== undefined) refusals.set(reason, (refusals.get(reason) ?? 0) + 1);
    else if (
      best === undefined ||
      node.pods < best.pods ||
      (node.pods === best.pods && compareNames(node.name, best.name) < 0)
    )
      best = node;
  }
  if (best !== undefined) return { node: best.name };
  const reasons = [...refusals].map(([reason, count]) => `${count} ${reason}`).join(", ");
  return { pending: `0 of ${nodes.length} nodes are suitable: ${reasons}` };
}

/** node2 comes before node10. */
export function compareNames(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

function refusal(pod: PodNeeds, node: NodeFacts): string | undefined {
  if (!matchesNode(pod.nodeSelector, node.labels)) return "without the labels of its nodeSelector";
  if (!node.ready) return "not ready";
  if (node.unschedulable) return "unschedulable";
  if (pod.hostPorts.some((port) => node.hostPorts.has(port))) return "with its host ports taken";
  return undefined;
}

export function matchesNode(
  selector: Readonly<Record<string, string>>,
  labels: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(selector).every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}
