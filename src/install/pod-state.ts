// How a pod is, in words for people. Pure.
import type { ClusterObject } from "../kube/cluster-objects.ts";
import { count, field, items, text } from "../kube/fields.ts";

/**
 * ready: its condition says so; waiting: it may become that; failed: it will not by itself; ended: its containers ended well.
 * `why`: of what is not ready, one clause.
 */
export interface PodState {
  readonly state: "ready" | "waiting" | "failed" | "ended";
  readonly why: string;
  /** The container that it is about, "" for none. */
  readonly container: string;
}

/** The image is not there, and will not come. */
const NO_IMAGE = ["ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName"];
const RESTARTS = 3;
const LONGEST_MESSAGE = 300;

export function isNoImage({ why }: Pick<PodState, "why">): boolean {
  return NO_IMAGE.some((reason) => why.includes(reason));
}

function waiting(container: string, why: string): PodState {
  return { state: "waiting", why, container };
}

function judgeContainer(status: unknown): PodState | undefined {
  const name = text(status, "name");
  const reason = text(status, "state", "waiting", "reason");
  const message = text(status, "state", "waiting", "message").replace(/\s+/g, " ").trim().slice(0, LONGEST_MESSAGE);
  if (reason === "" || reason === "PodInitializing" || reason === "ContainerCreating") return undefined;
  const isFinal =
    NO_IMAGE.includes(reason) || (reason === "CrashLoopBackOff" && count(status, "restartCount") >= RESTARTS);
  const ended = endingOf(field(status, "lastState", "terminated"));
  const why = [`container ${name}: ${reason}`, reason === "CrashLoopBackOff" ? ended : message]
    .filter(Boolean)
    .join(", ");
  return { state: isFinal ? "failed" : "waiting", why, container: name };
}

/** "it ended with 3: could not …" */
function endingOf(terminated: unknown): string {
  if (terminated === undefined) return "";
  const message = text(terminated, "message").replace(/\s+/g, " ").trim();
  return `it ended with ${count(terminated, "exitCode")}${message === "" ? "" : `: ${message.slice(-400)}`}`;
}

export function podState(pod: ClusterObject): PodState {
  const phase = text(pod, "status", "phase");
  const statuses = ["initContainerStatuses", "containerStatuses"].flatMap((list) => items(pod, "status", list));
  if (phase === "Succeeded") return { state: "ended", why: "", container: "" };
  if (phase === "Failed") {
    const bad = statuses.find((one) => count(one, "state", "terminated", "exitCode") !== 0);
    const name = text(bad, "name");
    const reason = text(pod, "status", "message") || text(pod, "status", "reason");
    const why =
      bad === undefined ? reason || "it failed" : `container ${name}: ${endingOf(field(bad, "state", "terminated"))}`;
    return { state: "failed", why, container: name };
  }
  const ready = items(pod, "status", "conditions").find((one) => text(one, "type") === "Ready");
  if (text(ready, "status") === "True") return { state: "ready", why: "", container: "" };
  const judged = statuses.flatMap((one) => judgeContainer(one) ?? []);
  const worst = judged.find(({ state }) => state === "failed") ?? judged[0];
  if (worst !== undefined) return worst;
  const scheduled = items(pod, "status", "conditions").find((one) => text(one, "type") === "PodScheduled");
  if (text(scheduled, "status") === "False") return waiting("", text(scheduled, "message") || "it is not scheduled");
  const running = statuses.find((one) => field(one, "state", "running") !== undefined && field(one, "ready") === false);
  if (running !== undefined)
    return waiting(text(running, "name"), `container ${text(running, "name")} runs and is not ready`);
  return waiting("", phase === "" ? "its kubelet has not seen it yet" : `it is ${phase.toLowerCase()}`);
}

/** What the only container, or the last of its init containers that failed, has left as its termination message. */
export function terminationMessage(pod: ClusterObject): string {
  const ended = ["initContainerStatuses", "containerStatuses"]
    .flatMap((list) => items(pod, "status", list))
    .map((one) => field(one, "state", "terminated"))
    .filter((one) => one !== undefined);
  const bad = ended.find((one) => count(one, "exitCode") !== 0);
  return text(bad ?? ended.at(-1), "message").trim();
}
