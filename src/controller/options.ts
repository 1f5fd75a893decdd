// The controller's configuration after flags, environment and file were merged: nothing optional, everything checked.
import type { LogChoice } from "../lib/log.ts";

export interface ControllerOptions extends LogChoice {
  /** Kubeconfig file, "": the service account of the pod that this runs in. */
  readonly kubeconfig: string;
  /** URL of the API server, "": as the kubeconfig or the pod's environment says. */
  readonly apiServer: string;
  readonly stateDir: string;
  /** Where its Lease, its Secret and its ConfigurationState are. */
  readonly namespace: string;
  /** Of the Services that are ours, "" for those without one. */
  readonly loadBalancerClass: string;
  /** Addresses are given although MetalLB runs. */
  readonly besideMetallb: boolean;
  readonly leaseName: string;
  readonly leaseDurationMs: number;
  readonly leaseRenewDeadlineMs: number;
  readonly leaseRetryMs: number;
  /** Writes in a second. */
  readonly writesPerSecond: number;
  /** "": no Secret is made. */
  readonly secretName: string;
  /** 0: only when asked for. */
  readonly rotateSecretAfterMs: number;
  readonly healthzBindAddress: string;
  readonly metricsBindAddress: string;
}
