// The controllers' Deployment as the installer sees it: does one of the current version run, and if not, why.
import type { ClusterObject } from "../kube/cluster-objects.ts";
import { count, items, text } from "../kube/fields.ts";
import { describeTrouble, imageAdvice } from "./agents.ts";
import { type ClusterFacts, nodeFacts } from "./cluster-facts.ts";
import { CONTROLLER, CONTROLLER_PODS, NAMESPACE } from "./names.ts";
import { type PodState, podState } from "./pod-state.ts";
import { type Look, NotReached, persist, until, type Work } from "./work.ts";

const TITLE = `Deployment ${NAMESPACE}/${CONTROLLER}`;
const READY_MS = 120_000;
const END_MS = 30_000;

/** One of them leads, the others wait: the first that is ready is enough. Says what is wrong where none becomes so, and goes on. */
export async function awaitController(work: Work, image: string, facts: ClusterFacts): Promise<void> {
  const nodes = (await persist(work, "nodes", () => work.api.list("Node"))).map(nodeFacts);
  if (!nodes.some(({ ready }) => ready === "yes")) {
    work.progress.line("controller: not waited for, no node is ready (is there a network plugin?)");
    return;
  }
  let isServed = false;
  const look = async (): Promise<Look<void>> => {
    const found = await work.api.get("Deployment", { namespace: NAMESPACE, name: CONTROLLER });
    isServed = count(found, "status", "availableReplicas") > 0;
    return hasCurrent(found) ? { done: undefined } : { waiting: (await worstPod(work, image)).why };
  };
  try {
    await until(work, "controller", look, Math.min(READY_MS, work.timeoutMs));
  } catch (error) {
    if (!(error instanceof NotReached)) throw error;
    const { pod } = await worstPod(work, image);
    const lines = [
      `warning: ${TITLE} does not run: ${error.message}`,
      ...(await describeTrouble(work, pod)),
      imageAdvice({ why: error.message }, image, facts),
      isServed
        ? "The one of before goes on meanwhile."
        : "Services are served without it. LoadBalancer Services get no addresses until it runs.",
    ];
    work.progress.line(lines.filter((line) => line !== "").join("\n"));
  }
}

/** Pods of the template before may be available too: more have to be than there are of those. */
function hasCurrent(deployment: ClusterObject | undefined): boolean {
  const status = (name: string): number => count(deployment, "status", name);
  if (status("observedGeneration") < (deployment?.metadata.generation ?? 0)) return false;
  return status("availableReplicas") > status("replicas") - status("updatedReplicas");
}

/** Of its pods, of those with `image` if there are, the one that is the farthest from being ready. */
async function worstPod({ api }: Work, image: string): Promise<PodState & { readonly pod: ClusterObject | undefined }> {
  const pods = (await api.list("Pod", { namespace: NAMESPACE, labelSelector: CONTROLLER_PODS })).filter(
    ({ metadata }) => metadata.deletionTimestamp === undefined,
  );
  const current = pods.filter((pod) => items(pod, "spec", "containers").some((one) => text(one, "image") === image));
  const states = (current.length > 0 ? current : pods).map((pod) => ({ ...podState(pod), pod }));
  const worst = states.find(({ state }) => state === "failed") ?? states.find(({ state }) => state !== "ready");
  if (worst !== undefined) return { ...worst, why: `pod ${worst.pod.metadata.name}: ${worst.why}` };
  return { state: "waiting", why: "it has no pod of this version yet", container: "", pod: undefined };
}

/** Its pods are gone, so that none writes what is removed. Goes on after a while: on a node that is away they end late. */
export async function awaitControllerGone(work: Work): Promise<void> {
  const look = async (): Promise<Look<void>> => {
    const pods = await work.api.list("Pod", { namespace: NAMESPACE, labelSelector: CONTROLLER_PODS });
    return pods.length === 0 ? { done: undefined } : { waiting: "its pods end" };
  };
  try {
    await until(work, "controller", look, Math.min(END_MS, work.timeoutMs));
  } catch (error) {
    if (!(error instanceof NotReached)) throw error;
  }
}
