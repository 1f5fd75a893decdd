// The one logger. JSON lines on standard error; the level comes from MILLRACE_LOG (default "info").
import { pino } from "pino";

export type Log = Pick<ReturnType<typeof pino>, "debug" | "info" | "warn" | "error">;

/** A logger whose lines carry `component`. */
export function createLog(component: string): Log {
  return pino(
    { level: process.env["MILLRACE_LOG"] ?? "info", base: { component } },
    pino.destination({ fd: 2, sync: true }),
  );
}
