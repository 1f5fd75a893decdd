// promtool check metrics, of one scrape.
import { spawnSync } from "node:child_process";

/** kube-proxy's own names: a gauge called a total there stays one here. */
const KUBE_PROXYS = /^kubeproxy_sync_proxy_rules_no_local_endpoints_total /;

/** What promtool says is wrong, line by line. */
export function complaintsAbout(text: string): string[] {
  const { status, stdout, stderr, error } = spawnSync("promtool", ["check", "metrics"], {
    input: text,
    encoding: "utf8",
  });
  if (error !== undefined) throw error;
  const lines = `${stdout}${stderr}`.split("\n").filter((line) => line !== "");
  // 3: there are complaints, and no error.
  if (status !== 0 && status !== 3) return [`promtool ended with ${status}`, ...lines];
  return lines.filter((line) => !KUBE_PROXYS.test(line));
}
