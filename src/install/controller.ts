// The controllers' Deployment as the installer sees it: does one of the current version run, and if not, why.
import type { ClusterObject } from "../kube/cluster-objects.ts";
import { describeTrouble, imageAdvice } from "./agents.ts";
import { type ClusterFacts, nodeFacts } from "./cluster-facts.ts";
import { count } from "./fields.ts";
import { CONTROLLER, CONTROLLER_PODS, NAMESPACE } from "./names.ts";
import { type PodState, podState } from "./pod-state.ts";
import { type Look, NotReached, until, type Work } from "./work.ts";

const TITLE = `Deployment ${NAMESPACE}/${CONTROLLER}`;
const READY_MS = 120_000;
const END_MS = 30_000;
const WITHOUT = "Services are served without it. LoadBalancer Services get no addresses until it runs.";

/** One of them leads, the others wait: the first that is ready is enough. Says what is wrong where none becomes so, and goes on. */
export async function awaitController(work: Work, image: string, facts: ClusterFacts): Promise<void> {
  const nodes = (await work.api.list("Node")).map(nodeFacts);
  if (!nodes.some(({ ready }) => ready === "yes")) {
    work.progress.line("controller: not waited for, no node is ready (is there a network plugin?)");
    return;
  }
  try {
    await until(work, "controller", () => lookAtController(work), Math.min(READY_MS, work.timeoutMs));
  } catch (error) {
    if (!(error instanceof NotReached)) throw error;
    const { pod } = await worstPod(work);
    const advice = imageAdvice({ why: error.message }, image, facts);
    const lines = [`warning: ${TITLE} does not run: ${error.message}`, ...(await describeTrouble(work, pod)), advice];
    work.progress.line([...lines.filter((line) => line !== ""), WITHOUT].join("\n"));
  }
}

async function lookAtController(work: Work): Promise<Look<void>> {
  const found = await work.api.get("Deployment", { namespace: NAMESPACE, name: CONTROLLER });
  if (found === undefined) return { failed: "it is not there" };
  if (hasCurrent(found)) return { done: undefined };
  const { state, why } = await worstPod(work);
  return state === "failed" ? { failed: why } : { waiting: why };
}

/** Pods of the template before may be available too: more have to be than there are of those. */
function hasCurrent(deployment: ClusterObject): boolean {
  const status = (name: string): number => count(deployment, "status", name);
  if (status("observedGeneration") < (deployment.metadata.generation ?? 0)) return false;
  return status("availableReplicas") > status("replicas") - status("updatedReplicas");
}

/** Of its pods the one that is the farthest from being ready. */
async function worstPod({ api }: Work): Promise<PodState & { readonly pod: ClusterObject | undefined }> {
  const pods = await api.list("Pod", { namespace: NAMESPACE, labelSelector: CONTROLLER_PODS });
  const states = pods
    .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
    .map((pod) => ({ ...podState(pod), pod }));
  const worst = states.find(({ state }) => state === "failed") ?? states.find(({ state }) => state !== "ready");
  if (worst === undefined) {
    const why = pods.length === 0 ? "it has no pod yet" : "its pods are being replaced";
    return { state: "waiting", why, container: "", pod: undefined };
  }
  return { ...worst, why: `pod ${worst.pod.metadata.name}: ${worst.why}` };
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
