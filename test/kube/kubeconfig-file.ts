// Kubeconfig files for tests: one context of one cluster and one user.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

export interface KubeconfigParts {
  readonly cluster: Readonly<Record<string, unknown>>;
  readonly user?: Readonly<Record<string, unknown>>;
}

/** As JSON, which is YAML. Gives back its path. */
export function writeKubeconfig(dir: string, { cluster, user = {} }: KubeconfigParts): string {
  const path = join(dir, "kubeconfig");
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "here", cluster }],
    users: [{ name: "agent", user }],
    contexts: [{ name: "agent@here", context: { cluster: "here", user: "agent" } }],
    "current-context": "agent@here",
  };
  writeFileSync(path, JSON.stringify(config, undefined, 2));
  return path;
}

/** An executable shell script. Gives back its path. */
export function writeScript(dir: string, name: string, body: string): string {
  const path = join(dir, name);
  writeFileSync(path, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  return path;
}

/** What an exec plugin prints. */
export function execCredential(status: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({ apiVersion: "client.authentication.k8s.io/v1", kind: "ExecCredential", status });
}
