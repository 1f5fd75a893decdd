// The way from a person's kubeconfig to a cluster's objects.
import { ApiError } from "../kube/api-error.ts";
import { ApiProblem } from "../kube/api-problem.ts";
import { type Clock, systemClock } from "../kube/clock.ts";
import { type ClusterObjects, createClusterObjects, RequestRefused } from "../kube/cluster-objects.ts";
import { createConnection } from "../kube/connection.ts";
import { chooseKubeconfig } from "../kube/kubeconfig-choice.ts";
import { createTransport } from "../kube/transport.ts";
import { Failure } from "../lib/errors.ts";
import { VERSION } from "../lib/version.ts";
import { FIELD_MANAGER } from "./names.ts";
import { NotReached } from "./work.ts";

export interface OpenCluster {
  readonly api: ClusterObjects;
  readonly clock: Clock;
  /** The server's URL. */
  readonly server: string;
  close(): void;
}

/** A directory that is not there: nothing of an agent of this machine counts here. */
const NO_STATE = "/nonexistent";

/** `kubeconfig`, `context`: "" when not given. @throws Failure "usage" or "unreachable" */
export async function openCluster(
  kubeconfig: string,
  context: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<OpenCluster> {
  const chosen = chooseKubeconfig(kubeconfig, context, env);
  if (chosen === undefined && !env["KUBERNETES_SERVICE_HOST"]) {
    const message =
      "could not find a cluster: there is no --kubeconfig, KUBECONFIG is not set, and there is no ~/.kube/config";
    throw new Failure("usage", "--kubeconfig", message);
  }
  return told(async () => {
    // What is in the environment of a pod is another cluster's when a kubeconfig says which.
    const connection = createConnection({
      stateDir: NO_STATE,
      ...(chosen === undefined ? { env } : { kubeconfig: chosen, env: {} }),
    });
    const { servers } = await connection.access();
    const transport = createTransport(connection, `millrace/${VERSION}`);
    const clock = systemClock;
    const api = createClusterObjects({
      transport,
      clock,
      // What is under way is seen to its end when the user stops it: each request is bounded in time.
      signal: new AbortController().signal,
      fieldManager: FIELD_MANAGER,
    });
    return { api, clock, server: servers[0]?.url.href.replace(/\/$/, "") ?? "", close: () => transport.close() };
  });
}

/** What the API and the way to it throw, as Failures. */
export async function told<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ApiError || error instanceof ApiProblem)
      throw new Failure("unreachable", "the API server", error.message, { cause: error });
    if (error instanceof NotReached)
      throw new Failure("timeout", "the cluster", `${error.message}; the same command again goes on`, { cause: error });
    if (error instanceof RequestRefused) throw new Failure("cluster", "the cluster", adviceTo(error), { cause: error });
    throw error;
  }
}

function adviceTo({ status, message }: RequestRefused): string {
  // Server-side apply says which fields, and who has written them.
  if (status === 409 && /conflict/i.test(message))
    return `${message}; --force takes those fields over, or the other manager gives them up`;
  return message;
}
