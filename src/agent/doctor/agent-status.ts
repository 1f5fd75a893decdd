// What is said of the agent that runs on this node, by its own status. Pure.
import { saidOnce } from "../../lib/text.ts";
import type { AgentStatus } from "../view.ts";
import { error, type Finding, ok, someOf } from "./finding.ts";

/** undefined: none answers at that socket. */
export function judgeAgent(status: AgentStatus | undefined, socket: string): Finding[] {
  const check = "agent.status";
  if (status === undefined) return [ok(check, `no agent answers at ${socket}`)];
  const { version, healthy, unhealthy, bypass, notices } = status;
  if (bypass) return [error(check, "bypass is on: nothing is translated", "end it with 'millrace bypass off'")];
  const errors = notices.filter(({ severity }) => severity === "error");
  const findings: Finding[] = [];
  if (!healthy)
    findings.push(error(check, `the agent (${version}) is not healthy: ${someOf(unhealthy)}`, "see 'millrace status'"));
  for (const notice of errors.slice(0, 5)) {
    findings.push(
      error(
        check,
        `the agent says: ${notice.object}: ${saidOnce(notice)}`,
        `see docs/troubleshooting.md#${notice.reason}`,
      ),
    );
  }
  if (errors.length > 5)
    findings.push(error(check, `the agent says ${errors.length - 5} things more`, "see 'millrace status'"));
  return findings.length > 0 ? findings : [ok(check, `an agent (${version}) runs and is healthy`)];
}
