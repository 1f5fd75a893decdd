// What is to be told of a kube-proxy on this node: it is no harm to the agent, but work done twice, and rules that outlive it. Pure.
import type { Notice } from "../model/objects.ts";
import type { OtherProxyFacts } from "./decide.ts";
import { machineNotice } from "./machine-notice.ts";

export function kubeProxyNotices({ running, rules }: Pick<OtherProxyFacts, "running" | "rules">): Notice[] {
  const kinds = rules.join(", ");
  if (running !== "") {
    const has = kinds === "" ? "" : `, and has rules here (${kinds})`;
    const message = `kube-proxy runs on this node (${running})${has}: Millrace serves the same Services before its rules see a packet; take it out of service, then remove what it leaves with millrace cleanup --kube-proxy`;
    return [machineNotice("kube-proxy", "kube-proxy-running", message)];
  }
  if (kinds === "") return [];
  const message = `kube-proxy's rules are on this node (${kinds}), and it is not seen to run: each new connection goes through them, and what Millrace does not serve they may; remove them with millrace cleanup --kube-proxy, which lets open connections go on`;
  return [machineNotice("kube-proxy", "kube-proxy-rules", message)];
}
