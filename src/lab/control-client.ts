// Gives orders to a lab's control process. Says what to do when there is none.
import { existsSync } from "node:fs";
import { request } from "node:http";
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
  let answer: { result: Result } | undefined;
  await new Promise<void>((resolve, reject) => {
    const call = request(
      {
        socketPath: paths.controlSocket,
        path: `/v1/${command}`,
        method: "POST",
        headers: { host: "localhost", "content-type": "application/json" },
      },
      (response) => {
        let rest = "";
        response.setEncoding("utf8");
        response.on("data", (text: string) => {
          rest += text;
          for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
            const line = JSON.parse(rest.slice(0, end)) as {
              progress?: string;
              result?: Result;
              error?: { code: FailureCode; subject: string; message: string };
            };
            rest = rest.slice(end + 1);
            if (line.error !== undefined) reject(new Failure(line.error.code, line.error.subject, line.error.message));
            else if (line.progress !== undefined) progress(line.progress);
            else answer = { result: line.result as Result };
          }
        });
        response.on("error", (cause) => reject(unreachable(paths, cause)));
        response.on("end", resolve);
        response.on("close", resolve);
      },
    );
    call.on("error", (cause) => reject(unreachable(paths, cause)));
    call.end(JSON.stringify(body));
  });
  if (answer === undefined) throw unreachable(paths, undefined);
  return answer.result;
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
