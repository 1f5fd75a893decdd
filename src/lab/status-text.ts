// `millrace lab status` for people. Pure.
import { saidOnce, table } from "../lib/text.ts";
import type { LabStatus } from "./lab-status.ts";

export function labStatusText(status: LabStatus): string {
  const nodes = status.nodes.map((node) => [
    node.name,
    node.ready ? "Ready" : "NotReady",
    node.addresses.join(","),
    node.podCIDRs.join(","),
    node.agent,
    node.link,
    String(node.pods),
  ]);
  const pods = status.pods.map((pod) => [
    pod.namespace,
    pod.name,
    pod.ready ? "yes" : "no",
    pod.terminating ? "Terminating" : pod.phase,
    String(pod.restarts),
    pod.addresses.join(",") || "<none>",
    pod.node || "<none>",
  ]);
  const outside = [...status.clients, ...status.hosts].map((member) => [member.name, member.addresses.join(",")]);
  const parts = [
    table(["NODE", "STATUS", "ADDRESSES", "PODS-IN", "AGENT", "LINK", "PODS"], nodes),
    pods.length === 0
      ? "no pods\n"
      : table(["NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "ADDRESSES", "NODE"], pods),
    table(["OUTSIDE", "ADDRESSES"], outside),
  ];
  if (status.split.length > 0) parts.push(`split: ${status.split.map((side) => side.join(",")).join(" | ")}\n`);
  if (status.notices.length > 0) {
    parts.push(
      table(
        ["NOTICE", "OBJECT", "MESSAGE"],
        status.notices.map((notice) => [notice.reason, notice.object, saidOnce(notice)]),
      ),
    );
  }
  return parts.join("\n");
}
