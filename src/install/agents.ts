// The agents' pods as the installer sees them: is the one of a node well, and if not, why.
import type { ClusterObject } from "../kube/cluster-objects.ts";
import { count, items, text } from "../kube/fields.ts";
import { AGENT_PODS, DAEMON_SET, NAMESPACE } from "./names.ts";
import { isNoImage, type PodState, podState } from "./pod-state.ts";
import type { Work } from "./work.ts";

const LOG_LINES = 8;

/** Those that stay: one that is being replaced does not count. */
export async function agentPods({ api }: Work, node?: string): Promise<readonly ClusterObject[]> {
  const fieldSelector = node === undefined ? {} : { fieldSelector: `spec.nodeName=${node}` };
  const pods = await api.list("Pod", { namespace: NAMESPACE, labelSelector: AGENT_PODS, ...fieldSelector });
  return pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
}

/** Of a node's agent; waiting when there is none yet. */
export async function agentState(
  work: Work,
  node: string,
): Promise<PodState & { readonly pod: ClusterObject | undefined }> {
  const [pod] = await agentPods(work, node);
  if (pod === undefined) return { state: "waiting", why: "it has no agent yet", container: "", pod };
  return { ...podState(pod), pod };
}

/** How many of `nodes` have a ready agent, how many agents are of the DaemonSet's current template, and what is said of the first that has not. */
export async function rolloutState(
  work: Work,
  nodes: readonly string[],
): Promise<{ readonly ready: number; readonly updated: number; readonly waiting: string; readonly failed: string }> {
  const daemonSet = await work.api.get("DaemonSet", { namespace: NAMESPACE, name: DAEMON_SET });
  const pods = await agentPods(work);
  const byNode = new Map(pods.map((pod) => [text(pod, "spec", "nodeName"), pod]));
  const states = nodes.map((node) => {
    const pod = byNode.get(node);
    return { node, ...(pod === undefined ? { state: "waiting" as const, why: "it has no agent yet" } : podState(pod)) };
  });
  const failed = states.find(({ state }) => state === "failed");
  const waiting = states.find(({ state }) => state !== "ready");
  const ready = states.filter(({ state }) => state === "ready").length;
  const isSeen = count(daemonSet, "status", "observedGeneration") >= (daemonSet?.metadata.generation ?? 0);
  const updated = count(daemonSet, "status", "updatedNumberScheduled");
  const desired = count(daemonSet, "status", "desiredNumberScheduled");
  // All are ready, some of them still of the template before.
  const replaced = isSeen && updated >= desired ? "" : `${updated} of ${desired} agents are of this version`;
  return {
    ready,
    updated: isSeen ? updated : 0,
    waiting: waiting === undefined ? replaced : `node ${waiting.node}: ${waiting.why}`,
    failed: failed === undefined ? "" : `node ${failed.node}: ${failed.why}`,
  };
}

/** What its node's kubelet and its own log say, as lines; as far as the user may read them. */
export async function describeTrouble({ api }: Work, pod: ClusterObject | undefined): Promise<string[]> {
  if (pod === undefined) return [];
  const { name, namespace = NAMESPACE } = pod.metadata;
  const events = await api
    .list("Event", { namespace, fieldSelector: `involvedObject.name=${name},type=Warning` })
    .catch(() => []);
  const messages = [...new Set(events.map((one) => `${text(one, "reason")}: ${text(one, "message")}`))].slice(-3);
  const container = podState(pod).container || text(items(pod, "spec", "containers")[0], "name");
  const log = await api.log({ namespace, name }, container, LOG_LINES).catch(() => "");
  const lines = log.split("\n").filter((line) => line !== "");
  return [...messages.map((message) => `  event ${message}`), ...lines.map((line) => `  log   ${line}`)];
}

/** What to do about an image that is not there; "" when that is not what is wrong. */
export function imageAdvice(
  state: Pick<PodState, "why">,
  image: string,
  { platform, kindCluster }: { readonly platform: string; readonly kindCluster: string },
): string {
  if (!isNoImage(state)) return "";
  const archive = "millrace-image-ARCH.tar";
  switch (platform) {
    case "kind":
      return `Bring the image into the nodes: kind load image-archive ${archive} --name ${kindCluster || "CLUSTER"}`;
    case "minikube":
      return `Bring the image into the nodes: minikube image load ${archive}`;
    case "k3s":
      return `Bring the image into each node: k3s ctr images import ${archive}`;
    case "rke2":
      return `Bring the image into each node: put ${archive} into /var/lib/rancher/rke2/agent/images and restart RKE2`;
    default:
      return `Bring the image into each node (ctr -n k8s.io images import ${archive}), or push it to a registry that they reach and say --image, with --image-pull-secret where that asks for credentials: this one is ${image}`;
  }
}
