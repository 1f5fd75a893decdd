// Running the machine's programs in a pod with the pod's own way to resolve names.
import type { RunResult } from "../../../src/lab/shell.ts";
import type { PodExecOptions, PodObject } from "../cluster-pod.ts";

/** Puts a resolv.conf over the machine's, in mounts that nobody else sees; then becomes the command. */
const WITH_RESOLVER = `mount -t tmpfs tmpfs /mnt && printf '%s' "$0" >/mnt/resolv.conf &&
mount --bind /mnt/resolv.conf /etc/resolv.conf && exec "$@"`;

const TIMEOUT_MS = 120_000;

export type RunInPod = (pod: PodObject, command: readonly string[], options?: PodExecOptions) => Promise<RunResult>;

export class PodNames {
  readonly #run: RunInPod;
  /** The resolv.conf of each pod, by uid. */
  readonly #resolvers = new Map<string, string>();

  constructor(run: RunInPod) {
    this.#run = run;
  }

  /** Runs a program of the machine with the network, the cgroup and the resolver of a pod. @throws not_found */
  async exec(pod: PodObject, command: readonly string[]): Promise<RunResult> {
    const resolver = await this.#resolverOf(pod);
    const own = ["unshare", "--mount", "--propagation=private", "--", "sh", "-c", WITH_RESOLVER, resolver];
    const options = { tools: "machine", timeoutMs: TIMEOUT_MS } as const;
    return this.#run(pod, [...own, ...command], options);
  }

  async #resolverOf(pod: PodObject): Promise<string> {
    const { uid } = pod.metadata;
    const known = this.#resolvers.get(uid);
    if (known !== undefined) return known;
    const { stdout } = await this.#run(pod, ["cat", "/etc/resolv.conf"]);
    this.#resolvers.set(uid, stdout);
    return stdout;
  }
}
