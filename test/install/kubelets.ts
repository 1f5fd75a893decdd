// Kubelets that are played: what becomes of the pods of a node, and of the node's kernel as far as it counts for an installation. Pure:
// whoever has the pods asks for their statuses.

// biome-ignore lint/suspicious/noExplicitAny: tests look into objects as JSON has them
type Json = any;

/** What a pod's kubelet says of it; the default is what an installer hopes for. */
export type PodOutcome =
  | { readonly phase: "Running"; readonly ready: boolean; readonly waiting?: { reason: string; message?: string } }
  | { readonly phase: "Succeeded"; readonly message: string }
  | { readonly phase: "Failed"; readonly container?: string; readonly exitCode: number; readonly message: string };

export interface PlayedNode {
  readonly name: string;
  /** kube-proxy's rules are in its kernel; they stay when its pod goes. */
  hasRules: boolean;
  /** Millrace's programs are in its kernel; they stay when its agent goes. */
  hasMillrace: boolean;
}

export interface Kubelets {
  readonly nodes: Map<string, PlayedNode>;
  /** Undefined: the default. */
  outcome: (pod: Json) => PodOutcome | undefined;
  /** What happened to nodes, in order. */
  readonly history: string[];
  /** Nodes that nobody served at some moment, with what happened last. */
  readonly unserved: string[];
  join(name: string): void;
  /** The pod's status when it is another than it has. */
  play(pod: Json): Json | undefined;
}

/** How often a kubelet looks at a new pod before it runs. */
export const START_TURNS = 3;

export function createKubelets(): Kubelets {
  /** By uid. */
  const ages = new Map<string, number>();

  function usualOutcome(pod: Json, what: string | undefined, { hasMillrace, hasRules }: PlayedNode): PodOutcome {
    if (what === "look") {
      return { phase: "Succeeded", message: JSON.stringify({ kernel: "6.1.0", missingCapabilities: [] }) };
    }
    // Its first step waits for who is to serve from now on.
    const [first] = pod.spec.initContainers ?? [];
    if ((first?.name === "agent" && !hasMillrace) || (first?.name === "kube-proxy" && !hasRules))
      return { phase: "Failed", container: first.name, exitCode: 7, message: "millrace: it is not well" };
    if (what !== undefined) return { phase: "Succeeded", message: "" };
    if (pod.metadata.name.startsWith("millrace-from-")) {
      const targets = JSON.parse(pod.spec.containers[0].env[0].value) as unknown[];
      return { phase: "Succeeded", message: JSON.stringify({ good: targets.length, bad: [] }) };
    }
    return { phase: "Running", ready: true };
  }

  function watchNodes(): void {
    for (const { name, hasRules, hasMillrace } of kubelets.nodes.values())
      if (!hasRules && !hasMillrace) kubelets.unserved.push(`${name} after ${kubelets.history.at(-1) ?? "nothing"}`);
  }

  const kubelets: Kubelets = {
    nodes: new Map(),
    outcome: () => undefined,
    history: [],
    unserved: [],
    join(name) {
      kubelets.nodes.set(name, { name, hasRules: false, hasMillrace: false });
    },
    play(pod) {
      const node = kubelets.nodes.get(pod.spec.nodeName);
      if (node === undefined) return undefined;
      const what = pod.metadata.labels?.["millrace.io/installer"] as string | undefined;
      const isAgent = pod.metadata.labels?.["app.kubernetes.io/component"] === "agent";
      const isKubeProxy = !isAgent && pod.metadata.labels?.["k8s-app"] === "kube-proxy";
      const age = (ages.get(pod.metadata.uid) ?? 0) + 1;
      ages.set(pod.metadata.uid, age);
      if (age < START_TURNS) return undefined;
      const outcome = kubelets.outcome(pod) ?? usualOutcome(pod, what, node);
      const told = JSON.stringify(outcome);
      if (pod.status?.message === told) return undefined;
      if (outcome.phase === "Running" && outcome.ready && (isAgent || isKubeProxy)) {
        if (isAgent) node.hasMillrace = true;
        else node.hasRules = true;
        kubelets.history.push(`${node.name} ${isAgent ? "agent" : "kube-proxy"} ready`);
      }
      if (outcome.phase === "Succeeded" && what !== undefined && what !== "look") {
        if (what === "takeover") node.hasRules = false;
        if (what === "drain") node.hasMillrace = false;
        kubelets.history.push(`${node.name} ${what} done`);
      }
      watchNodes();
      return { ...statusOf(pod, outcome), message: told };
    },
  };
  return kubelets;
}

function statusOf(pod: Json, outcome: PodOutcome): Json {
  const { name, image } = pod.spec.containers[0];
  const common = { image, imageID: "", restartCount: 0 };
  const conditions = [{ type: "Ready", status: outcome.phase === "Running" && outcome.ready ? "True" : "False" }];
  if (outcome.phase === "Running") {
    const { waiting } = outcome;
    const state = waiting === undefined ? { running: {} } : { waiting };
    const status = { ...common, name, ready: outcome.ready, state };
    return { phase: waiting === undefined ? "Running" : "Pending", conditions, containerStatuses: [status] };
  }
  const exitCode = outcome.phase === "Failed" ? outcome.exitCode : 0;
  const failedIn = outcome.phase === "Failed" ? (outcome.container ?? name) : name;
  const state = { terminated: { exitCode, message: outcome.message } };
  return { phase: outcome.phase, conditions, containerStatuses: [{ ...common, name: failedIn, ready: false, state }] };
}
