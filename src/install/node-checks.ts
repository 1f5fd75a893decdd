// What pods of the installer check from within a node, again and again for a while: is its agent well, does the API server's Service answer,
// does kube-proxy serve.
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { setTimeout as after } from "node:timers/promises";
import { Failure } from "../lib/errors.ts";

const EVERY_MS = 500;
const ANSWER_MS = 3_000;

/** Gives back "" when all is well, else what is not. */
export type Check = () => Promise<string>;

/** Resolves when `check` finds all well. @throws Failure "timeout" with what it said last */
export async function awaitCheck(what: string, check: Check, waitMs: number): Promise<void> {
  const deadline = performance.now() + waitMs;
  for (;;) {
    const said = await check().catch((error: Error) => error.message);
    if (said === "") return;
    if (performance.now() >= deadline)
      throw new Failure("timeout", what, `${what} is not well after ${waitMs / 1000} s: ${said}`);
    await after(EVERY_MS);
  }
}

/** What is read of an agent's status. */
export interface AgentHealth {
  readonly healthy: boolean;
  readonly unhealthy: readonly string[];
  readonly bypass: boolean;
  readonly source: { readonly synced: boolean };
}

/** `ask`: the agent of this node for its status. */
export function agentCheck(ask: () => Promise<AgentHealth>): Check {
  return async () => {
    const { healthy, unhealthy, bypass, source } = await ask();
    if (bypass) return "it is bypassed (millrace bypass on)";
    if (!source.synced) return "it has not read all objects of the API yet";
    return healthy ? "" : unhealthy.join("; ") || "it is not healthy";
  };
}

/** The API server by its Service, as a pod's environment names it. Any answer will do: it came by that Service. */
export function apiServiceCheck(env: NodeJS.ProcessEnv): Check {
  return async () => {
    const host = env["KUBERNETES_SERVICE_HOST"] ?? "";
    const port = env["KUBERNETES_SERVICE_PORT"] ?? "443";
    if (host === "") return "KUBERNETES_SERVICE_HOST is not set: it is no pod";
    // Whom the answer is from is not asked: no secret is sent.
    const status = await statusOf(httpsRequest, { host, port, path: "/version", rejectUnauthorized: false });
    return status > 0 ? "" : "no answer";
  };
}

/**
 * kube-proxy's own health: 200 when its rules are in force. /livez, which before Kubernetes 1.28 is not there, as /healthz says 503 too on a
 * node that is about to go (KEP-3836).
 */
export function kubeProxyCheck({ host, port }: { readonly host: string; readonly port: number }): Check {
  return async () => {
    for (const path of ["/livez", "/healthz"]) {
      const status = await statusOf(httpRequest, { host, port, path });
      if (status === 200) return "";
      if (status !== 404 || path === "/healthz") return `its ${path} answers ${status}`;
    }
    return "";
  };
}

function statusOf(ask: typeof httpsRequest | typeof httpRequest, options: object): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = ask({ ...options, agent: false, timeout: ANSWER_MS }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    request.on("timeout", () => request.destroy(new Error(`no answer within ${ANSWER_MS / 1000} s`)));
    request.on("error", reject);
    request.end();
  });
}
