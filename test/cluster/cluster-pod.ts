// Running programs in a pod as its container would: its namespaces, its cgroup, and its files or the machine's.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { inCgroup, processesIn } from "../../src/lab/cgroups.ts";
import { type RunOptions, type RunResult, runProgram } from "../../src/lab/shell.ts";
import { Failure } from "../../src/lib/errors.ts";

/** As much of a Pod object as is read here. */
export interface PodObject {
  readonly metadata: { readonly name: string; readonly namespace: string; readonly uid: string };
  readonly spec: { readonly nodeName?: string; readonly hostNetwork?: boolean };
  readonly status: {
    readonly phase: string;
    readonly qosClass?: string;
    readonly podIPs?: readonly { readonly ip: string }[];
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly {
      readonly name: string;
      readonly containerID?: string;
      readonly ready: boolean;
    }[];
  };
}

export interface PodExecOptions extends RunOptions {
  /** @default the first container */
  readonly container?: string;
  /** Programs and files: of the container's image, or of the machine, with the pod's network and cgroup. @default "container" */
  readonly tools?: "container" | "machine";
}

export function isPodReady(pod: PodObject): boolean {
  return pod.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") === true;
}

/** Where in a pod a program runs: see PodExecOptions. */
export type PodPlace = Pick<PodExecOptions, "container" | "tools">;

/** Program and arguments that run `command` in a container of a pod on the node whose cgroup2 directory is `nodeCgroup`. @throws not_found when it does not run */
export function enterPod(
  pod: PodObject,
  nodeCgroup: string,
  command: readonly string[],
  { container, tools = "container" }: PodPlace = {},
): [string, ...string[]] {
  const cgroup = containerCgroup(pod, nodeCgroup, container);
  const [pid] = processesIn(cgroup);
  if (pid === undefined) throw notRunning(pod);
  const spaces = tools === "machine" ? ["--net"] : ["--net", "--mount", "--uts", "--ipc", "--pid"];
  return inCgroup(cgroup, ["nsenter", `--target=${pid}`, ...spaces, "--", ...command]);
}

/** Runs a program in a container of a pod, and collects what it says. @throws as enterPod */
export function execInPod(
  pod: PodObject,
  nodeCgroup: string,
  command: readonly string[],
  { container, tools, ...options }: PodExecOptions = {},
): Promise<RunResult> {
  const place = { ...(container === undefined ? {} : { container }), ...(tools === undefined ? {} : { tools }) };
  const [file, ...args] = enterPod(pod, nodeCgroup, command, place);
  return runProgram(file, args, options);
}

/** The cgroup that the kubelet's cgroupfs driver makes for a container. @throws not_found */
function containerCgroup(pod: PodObject, nodeCgroup: string, container: string | undefined): string {
  const { containerStatuses = [], qosClass = "" } = pod.status;
  const status = containerStatuses.find(({ name }) => container === undefined || name === container);
  const id = status?.containerID?.replace(/^containerd:\/\//, "");
  if (id === undefined) throw notRunning(pod);
  const quality = qosClass === "Guaranteed" ? "" : qosClass.toLowerCase();
  const directory = join(nodeCgroup, "kubepods", quality, `pod${pod.metadata.uid}`, id);
  if (!existsSync(directory)) throw notRunning(pod);
  return directory;
}

function notRunning({ metadata: { namespace, name }, status: { phase } }: PodObject): Failure {
  const pod = `${namespace}/${name}`;
  return new Failure("not_found", pod, `could not run a program in pod ${pod}: its container does not run (${phase})`);
}
