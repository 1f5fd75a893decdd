import { describe, expect, it } from "vitest";
import { imageAdvice } from "../../src/install/agents.ts";
import { isNoImage, podState, terminationMessage } from "../../src/install/pod-state.ts";
import type { ClusterObject } from "../../src/kube/cluster-objects.ts";

const pod = (status: object): ClusterObject => ({ apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, status });
const waiting = (reason: string, message = "", restartCount = 0): object => ({
  phase: "Pending",
  containerStatuses: [{ name: "agent", restartCount, state: { waiting: { reason, message } } }],
});

describe("a pod", () => {
  it.each<[string, object, string, string]>([
    ["of which nobody knows", {}, "waiting", "its kubelet has not seen it yet"],
    ["that is ready", { phase: "Running", conditions: [{ type: "Ready", status: "True" }] }, "ready", ""],
    ["that ended well", { phase: "Succeeded" }, "ended", ""],
    ["that is created", waiting("ContainerCreating"), "waiting", "it is pending"],
    [
      "without its image",
      waiting("ErrImageNeverPull", "image is not\n present"),
      "failed",
      "container agent: ErrImageNeverPull, image is not present",
    ],
    [
      "whose image is pulled again and again",
      waiting("ImagePullBackOff", "Back-off"),
      "failed",
      "container agent: ImagePullBackOff, Back-off",
    ],
    [
      "whose first pull failed",
      waiting("ErrImagePull", "not found"),
      "waiting",
      "container agent: ErrImagePull, not found",
    ],
    [
      "that crashed once",
      { ...waiting("CrashLoopBackOff", "back-off 10s", 1) },
      "waiting",
      "container agent: CrashLoopBackOff",
    ],
    [
      "that crashes",
      { ...waiting("CrashLoopBackOff", "back-off 40s", 3) },
      "failed",
      "container agent: CrashLoopBackOff",
    ],
    [
      "that fits nowhere",
      { phase: "Pending", conditions: [{ type: "PodScheduled", status: "False", message: "0/3 nodes are available" }] },
      "waiting",
      "0/3 nodes are available",
    ],
    [
      "that runs and is not ready",
      { phase: "Running", containerStatuses: [{ name: "agent", ready: false, state: { running: {} } }] },
      "waiting",
      "container agent runs and is not ready",
    ],
    [
      "that was evicted",
      { phase: "Failed", reason: "Evicted", message: "The node was low on memory" },
      "failed",
      "The node was low on memory",
    ],
    [
      "whose first step failed",
      {
        phase: "Failed",
        initContainerStatuses: [
          { name: "agent", state: { terminated: { exitCode: 7, message: "millrace: it is not well\n" } } },
        ],
        containerStatuses: [{ name: "cleanup", state: { waiting: { reason: "PodInitializing" } } }],
      },
      "failed",
      "container agent: it ended with 7: millrace: it is not well",
    ],
  ])("%s", (_, status, state, why) => {
    expect(podState(pod(status))).toMatchObject({ state, why });
  });

  it("tells why it crashes by what it said last", () => {
    const status = {
      phase: "Running",
      containerStatuses: [
        {
          name: "agent",
          restartCount: 4,
          state: { waiting: { reason: "CrashLoopBackOff", message: "back-off" } },
          lastState: { terminated: { exitCode: 3, message: "millrace: could not use the pin directory" } },
        },
      ],
    };
    expect(podState(pod(status)).why).toBe(
      "container agent: CrashLoopBackOff, it ended with 3: millrace: could not use the pin directory",
    );
  });

  it("leaves a message", () => {
    const status = {
      phase: "Succeeded",
      containerStatuses: [{ name: "look", state: { terminated: { exitCode: 0, message: '{"a":1}\n' } } }],
    };
    expect(terminationMessage(pod(status))).toBe('{"a":1}');
  });
});

describe("an image that is not there", () => {
  const why = "container look: ErrImageNeverPull";
  it.each([
    ["kind", /^Bring the image into the nodes: kind load image-archive millrace-image-ARCH\.tar --name mr$/],
    ["minikube", /minikube image load/],
    ["k3s", /k3s ctr images import/],
    ["rke2", /agent\/images/],
    ["kubeadm", /ctr -n k8s\.io images import .* or push it to a registry .* --image/],
  ])("is brought to %s so", (platform, expected) => {
    expect(imageAdvice({ why }, "i", { platform, kindCluster: "mr" })).toMatch(expected);
  });

  it("is no advice for another trouble", () => {
    expect(isNoImage({ why: "CrashLoopBackOff" })).toBe(false);
    expect(imageAdvice({ why: "CrashLoopBackOff" }, "i", { platform: "kind", kindCluster: "" })).toBe("");
  });
});
