// Makes the announcers' Secret, and rotates its keys step by step (announcer-secret.ts says which step is due).
import { randomBytes } from "node:crypto";
import type { Answered, ClusterWriter } from "../kube/cluster-writer.ts";
import { type SecretChange, type SecretState, secretStep } from "./announcer-secret.ts";

export interface KeepSecretOptions {
  readonly writer: Pick<ClusterWriter, "readSecret" | "createSecret" | "patchSecret">;
  readonly namespace: string;
  readonly name: string;
  readonly rotateAfterMs: number;
  readonly mayWrite: () => boolean;
}

const newKey = (): string => randomBytes(16).toString("hex");

function stateOf({ data, metadata }: Answered): SecretState {
  const decode = (text: string): string => Buffer.from(text, "base64").toString("latin1");
  return {
    keys: Object.fromEntries(Object.entries(data ?? {}).map(([name, text]) => [name, decode(text)])),
    annotations: metadata?.annotations ?? {},
  };
}

function encoded(change: SecretChange): Record<string, string | null> {
  const encode = (text: string | null): string | null => (text === null ? null : Buffer.from(text).toString("base64"));
  return Object.fromEntries(Object.entries(change.keys).map(([name, text]) => [name, encode(text)]));
}

/** One look at it, and what is due. `done`: what was changed, undefined when nothing; `problem`: what went wrong. */
export async function keepSecret(
  options: KeepSecretOptions,
  wallMs: number,
): Promise<{ readonly done?: string; readonly problem?: string }> {
  const { writer, namespace, name, rotateAfterMs, mayWrite } = options;
  const which = { namespace, name };
  const could = `could not keep Secret ${namespace}/${name}`;
  const found = await writer.readSecret(which);
  if (found.outcome !== "done" && found.outcome !== "absent") return { problem: `${could}: ${found.message}` };
  const object = found.outcome === "done" ? found.object : undefined;
  const change = secretStep(object && stateOf(object), rotateAfterMs, wallMs, newKey);
  if (change === undefined || !mayWrite()) return {};
  const body = { metadata: { ...which, annotations: change.annotations }, data: encoded(change) };
  const result =
    object === undefined
      ? await writer.createSecret(namespace, { ...body, type: "Opaque" })
      : await writer.patchSecret(which, {
          ...body,
          metadata: { ...body.metadata, resourceVersion: object.metadata?.resourceVersion },
        });
  // Whoever was faster made it, or changed it: the next look shows what.
  if (result.outcome === "conflict") return {};
  return result.outcome === "done" ? { done: change.why } : { problem: `${could}: ${result.message}` };
}
