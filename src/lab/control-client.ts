// Gives orders to a lab's control process. Says what to do when there is none.
import { once } from "node:events";
import { existsSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { Failure, type FailureCode } from "../lib/errors.ts";
import { type LabPaths, labPaths } from "./lab-paths.ts";
import { cannot } from "./refusals.ts";

/** One order; resolves with its result. @throws what the control process answered; not_found when the lab is not up; unreachable when its control process is gone */
export async function order<Result>(
  name: string,
  command: string,
  body: Readonly<Record<string, unknown>>,
  progress: (text: string) => void = () => {},
): Promise<Result> {
  const paths = labPaths(name);
  const headers = { host: "localhost", "content-type": "application/json" };
  const call = request({ socketPath: paths.controlSocket, path: `/v1/${command}`, method: "POST", headers });
  // Whoever waits below hears of it; nobody waits for one that comes later.
  call.on("error", () => {});
  call.end(JSON.stringify(body));
  let answer: { readonly result: Result } | undefined;
  const take = (text: string): void => {
    const line = JSON.parse(text) as Line<Result>;
    if (line.error !== undefined) throw new Failure(line.error.code, line.error.subject, line.error.message);
    if (line.progress !== undefined) progress(line.progress);
    else answer = { result: line.result as Result };
  };
  try {
    const [response] = (await once(call, "response")) as [IncomingMessage];
    let rest = "";
    for await (const part of response.setEncoding("utf8")) {
      const lines = (rest + part).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) take(line);
    }
  } catch (error) {
    throw error instanceof Failure ? error : unreachable(paths, error);
  }
  if (answer === undefined) throw unreachable(paths, undefined);
  return answer.result;
}

interface Line<Result> {
  readonly progress?: string;
  readonly result?: Result;
  readonly error?: { readonly code: FailureCode; readonly subject: string; readonly message: string };
}

function unreachable({ name, runDir, controlLog }: LabPaths, cause: unknown): Failure {
  if (!existsSync(runDir)) {
    return cannot("not_found", "find lab", name, `it is not up; \`millrace lab up --name ${name}\` starts one`, cause);
  }
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  if (code === "EACCES") return cannot("unreachable", "reach lab", name, "only root may; try sudo", cause);
  const reason = `it ended (its log is ${controlLog}); \`millrace lab down --name ${name}\` removes what is left`;
  return cannot("unreachable", "reach the control process of lab", name, reason, cause);
}
