// What is to be told of this machine: conditions of the network and the firewall that keep Services from being served as asked.
import type { Notice } from "../model/objects.ts";

export function machineNotice(
  object: string,
  reason: string,
  message: string,
  severity: Notice["severity"] = "warning",
): Notice {
  return { object, file: "", field: "", reason, message, severity };
}

export interface MachineProblems {
  /** One sentence each, "": there is no such problem. */
  readonly forwarding: string;
  readonly ipsec: string;
  readonly tunnel: string;
  readonly goingAway: boolean;
}

const GOING_AWAY =
  "this node is about to be removed: /healthz answers 503, so that load balancers lead clients elsewhere; what comes is served";

export function machineNotices({ forwarding, ipsec, tunnel, goingAway }: MachineProblems): Notice[] {
  return [
    machineNotice("Firewall FORWARD", "forward-policy", forwarding),
    machineNotice("IPsec policies", "ipsec-bypassed", ipsec),
    machineNotice("Routes", "encapsulation", tunnel),
    machineNotice("Node", "going-away", goingAway ? GOING_AWAY : ""),
  ].filter(({ message }) => message !== "");
}
