// The answers of one piece: objects, refusals, faults instead of an answer, paths outside resources, control.
import type { IncomingMessage, ServerResponse } from "node:http";
import { type ApiStatus, serverTrouble } from "./api-status.ts";
import type { Fault } from "./faults.ts";
import type { StoredObject } from "./object-store.ts";
import { apiVersionOf, type Resource } from "./resources.ts";

/** Answers paths under /control/; undefined is no such path, what it throws is told. */
export type Control = (path: string, body: string) => Promise<unknown>;

const VERSION = {
  major: "1",
  minor: "34",
  gitVersion: "v1.34.1",
  gitCommit: "93248f9ae092f571eb870b7664c534bfc7d00f03",
  gitTreeState: "clean",
  buildDate: "2025-09-09T19:38:20Z",
  goVersion: "go1.24.6",
  compiler: "gc",
  platform: "linux/amd64",
};

export function answerFault(response: ServerResponse, faults: readonly Fault[]): "answered" | "go on" {
  for (const fault of faults) {
    if (fault.kind === "hang") return "answered";
    if (fault.kind === "status") throw serverTrouble(fault.code, fault.retryAfterSeconds);
    if (fault.kind === "drop") response.destroy();
    else if (fault.kind === "garbage") sendText(response, 200, "\u0000\u0001 not json \ufffd{{{\n");
    else if (fault.kind === "html") sendText(response, 200, "<!doctype html><title>Sign in</title>\n", "text/html");
    else continue;
    return "answered";
  }
  return "go on";
}

/** Text, not a Status, for what no API is registered at: so does the real one. */
export function answerPath(response: ServerResponse, path: string): void {
  if (path === "/version") sendText(response, 200, JSON.stringify(VERSION, undefined, 2));
  else if (/^\/(healthz|livez|readyz)$/.test(path)) sendText(response, 200, "ok", "text/plain; charset=utf-8");
  else sendText(response, 404, "404 page not found\n", "text/plain; charset=utf-8");
}

export function answerStatus(response: ServerResponse, status: ApiStatus): void {
  const seconds = status.details?.retryAfterSeconds;
  if (seconds !== undefined && seconds > 0) response.setHeader("Retry-After", String(seconds));
  sendText(response, status.code, `${status.toJson()}\n`);
}

export async function answerControl(
  message: IncomingMessage,
  response: ServerResponse,
  control: Control,
): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of message) parts.push(part);
  try {
    const answer = await control(message.url ?? "", Buffer.concat(parts).toString());
    sendText(response, answer === undefined ? 404 : 200, `${JSON.stringify(answer ?? { error: "no such path" })}\n`);
  } catch (error) {
    sendText(response, 400, `${JSON.stringify({ error: error instanceof Error ? error.message : String(error) })}\n`);
  }
}

export function answerObject(response: ServerResponse, resource: Resource, { tail }: StoredObject, code = 200): void {
  const start = `{"kind":"${resource.kind}","apiVersion":"${apiVersionOf(resource)}",`;
  sendText(response, code, `${start}${tail.toString()}\n`);
}

function sendText(response: ServerResponse, status: number, text: string, type = "application/json"): void {
  response.writeHead(status, { "Content-Type": type, "Cache-Control": "no-cache, private" });
  response.end(text);
}
