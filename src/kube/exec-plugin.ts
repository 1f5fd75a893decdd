// Credentials from an exec plugin of a kubeconfig. client-node runs it and keeps what it said until it expires; here is
// what that lacks: a time limit, no standard input to wait on, one call at a time, and a sentence for each way to fail.
import { type SpawnOptions, spawn } from "node:child_process";
import type { RequestOptions } from "node:https";
import { ExecAuth } from "@kubernetes/client-node/dist/exec_auth.js";
import { ApiError } from "./api-error.ts";
import type { ExecPluginCalls } from "./client-stats.ts";
import type { ExecSettings } from "./identity.ts";

/** What the plugin gave; fields it left out are undefined. */
export interface ExecCredential {
  readonly authorization: string | undefined;
  /** PEM. */
  readonly certificate: string | undefined;
  readonly key: string | undefined;
}

export interface ExecPlugin {
  /** What was kept, else what the plugin says now. Throws an ApiError "credentials". */
  credential(settings: ExecSettings): Promise<ExecCredential>;
  /** The next call runs the plugin again. */
  forget(): void;
  calls(): ExecPluginCalls;
}

export function createExecPlugin(timeoutMs = 30_000): ExecPlugin {
  const calls = { no_error: 0, plugin_execution_error: 0, plugin_not_found_error: 0 };
  let auth: ExecAuth | undefined;
  let pending: Promise<ExecCredential> | undefined;
  let keptFor = "";
  let runs = 0;
  let timedOut = false;

  function run(command: string, args: string[], options: SpawnOptions) {
    // A process group of its own, so that whatever the plugin started ends with it.
    const child = spawn(command, args ?? [], { ...options, stdio: ["ignore", "pipe", "pipe"], detached: true });
    runs += 1;
    timedOut = false;
    const kill = (): void => {
      const isRunning = child.exitCode === null && child.signalCode === null;
      if (child.pid !== undefined && isRunning) process.kill(-child.pid, "SIGKILL");
    };
    const limit = setTimeout(() => {
      timedOut = true;
      kill();
      // One that left the group, or outlived the plugin, may hold them open: the call does not wait for it.
      child.stdout.destroy();
      child.stderr.destroy();
    }, timeoutMs);
    // Of the thread that asks: nobody would be left to end the plugin.
    process.once("exit", kill);
    child.once("close", () => {
      clearTimeout(limit);
      process.off("exit", kill);
    });
    return child;
  }

  async function ask(settings: ExecSettings): Promise<ExecCredential> {
    // ExecAuth's own seam for how a process is started; its type keeps it private.
    const current = auth ?? Object.assign(new ExecAuth(), { execFn: run });
    auth = current;
    const options: RequestOptions = {};
    const runsBefore = runs;
    try {
      await current.applyAuthentication(settings.user, options);
    } catch (cause) {
      // It keeps even what it could not use.
      auth = undefined;
      throw failure(settings, cause as NodeJS.ErrnoException);
    }
    const headers = options.headers as { Authorization?: string } | undefined;
    const { cert, key } = options as { cert?: string; key?: string };
    if (!headers?.Authorization && !(cert && key)) {
      auth = undefined;
      throw failure(settings, new Error("its answer has neither a token nor a certificate with its key"));
    }
    calls.no_error += runs - runsBefore;
    return { authorization: headers?.Authorization, certificate: cert, key };
  }

  function failure(settings: ExecSettings, cause: NodeJS.ErrnoException): ApiError {
    const missing = cause.code === "ENOENT";
    calls[missing ? "plugin_not_found_error" : "plugin_execution_error"] += 1;
    const hint = settings.installHint === "" ? "" : `: ${settings.installHint.trim()}`;
    const reason = missing
      ? `it is not installed${hint}`
      : timedOut
        ? `it did not end within ${timeoutMs / 1000} s`
        : `it failed: ${cause.message.trim() || "it wrote no reason to its standard error"}`;
    return new ApiError("credentials", `could not get credentials from the ${settings.source}: ${reason}`, { cause });
  }

  return {
    credential(settings) {
      const wanted = JSON.stringify(settings.user.exec);
      if (wanted !== keptFor) {
        auth = undefined;
        pending = undefined;
      }
      keptFor = wanted;
      const call = pending ?? ask(settings);
      pending = call;
      return call.finally(() => {
        if (pending === call) pending = undefined;
      });
    },
    forget() {
      // A call under way is as fresh as the next one.
      if (!pending) auth = undefined;
    },
    calls: () => ({ ...calls }),
  };
}
