// Runs a pod of the installer on a node until it ends, and takes it away again, whatever became of it.
import { type ClusterObject, RequestRefused } from "../kube/cluster-objects.ts";
import { NAMESPACE } from "./names.ts";
import { type NodePodOptions, nodePod } from "./node-pods.ts";
import { podState, terminationMessage } from "./pod-state.ts";
import { type Look, persist, until, type Work } from "./work.ts";

/** Looks without the pod until it counts as gone. */
const MISSES = 5;

/** What its last step left as its message. Rejects with NotReached, which says what went wrong. */
export async function runNodePod(work: Work, options: NodePodOptions, timeoutMs = work.timeoutMs): Promise<string> {
  const pod = nodePod(options);
  const { name } = pod.metadata;
  const which = { namespace: NAMESPACE, name };
  const what = `node ${options.node}: ${options.what}`;
  try {
    // One that an earlier run left behind is of that run.
    await removePod(work, name);
    await persist(work, what, () => createOnce(work, pod));
    let missed = 0;
    return await until(
      work,
      what,
      async () => {
        const pod = await work.api.get("Pod", which);
        if (pod !== undefined) return lookAt(pod);
        // One of several API servers may not know it yet.
        if (++missed < MISSES) return { waiting: "its pod comes" };
        return { failed: `pod ${name} is gone: somebody else removed it` };
      },
      timeoutMs,
    );
  } finally {
    await work.api.remove("Pod", which).catch(() => false);
  }
}

/** A request that was sent twice finds its own pod. */
async function createOnce({ api }: Work, pod: ReturnType<typeof nodePod>): Promise<void> {
  try {
    await api.create(pod);
  } catch (error) {
    if (!(error instanceof RequestRefused) || error.status !== 409) throw error;
  }
}

function lookAt(pod: ClusterObject): Look<string> {
  const state = podState(pod);
  if (state.state === "ended") return { done: terminationMessage(pod) };
  if (state.state === "failed") return { failed: `pod ${pod.metadata.name}: ${state.why}` };
  return { waiting: state.state === "ready" ? "its pod runs" : state.why };
}

async function removePod(work: Work, name: string): Promise<void> {
  const which = { namespace: NAMESPACE, name };
  await persist(work, `pod ${name}`, () => work.api.remove("Pod", which));
  await until(work, `pod ${name}`, async () =>
    (await work.api.get("Pod", which)) === undefined ? { done: undefined } : { waiting: "an earlier one ends" },
  );
}
