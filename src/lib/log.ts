// The one logger, on standard error: a line of text on a terminal, a JSON object elsewhere. Times are ISO 8601 in UTC, levels
// have names.
import { isatty } from "node:tty";
import { pino } from "pino";
import { printable } from "./text.ts";

export type Log = Pick<ReturnType<typeof pino>, "debug" | "info" | "warn" | "error">;

const LEVELS = ["debug", "info", "warn", "error"] as const;
const FORMATS = ["auto", "text", "json"] as const;

export interface LogChoice {
  readonly logLevel: (typeof LEVELS)[number];
  /** auto: text on a terminal. */
  readonly logFormat: (typeof FORMATS)[number];
}

const STDERR = 2;

// Before anything was chosen, as in the control process of a lab: a word that is no level counts as none.
let choice: LogChoice = {
  logLevel: LEVELS.find((level) => level === process.env["MILLRACE_LOG_LEVEL"]) ?? "info",
  logFormat: FORMATS.find((format) => format === process.env["MILLRACE_LOG_FORMAT"]) ?? "auto",
};

/** For all loggers that are created from now on. */
export function configureLog({ logLevel, logFormat }: LogChoice): void {
  choice = { logLevel, logFormat };
}

/** A logger whose lines carry `component`. */
export function createLog(component: string): Log {
  const { logLevel, logFormat } = choice;
  const terminal = isatty(STDERR);
  const asText = logFormat === "text" || (logFormat === "auto" && terminal);
  const colour = terminal && !process.env["NO_COLOR"];
  const standardError = pino.destination({ fd: STDERR, sync: true });
  return pino(
    {
      level: logLevel,
      base: { component },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    asText ? { write: (line: string) => void standardError.write(logText(line, colour)) } : standardError,
  );
}

const COLOURS: Readonly<Record<string, string>> = { debug: "2", warn: "33", error: "31" };

/** A JSON line of the log as text: time, level, component, message, then what else there is as key=value. */
export function logText(line: string, colour: boolean): string {
  const { time, level, component, msg, err, ...rest } = JSON.parse(line) as Record<string, unknown>;
  const name = String(level).toUpperCase().padEnd(5);
  const code = COLOURS[String(level)];
  const shown = colour && code !== undefined ? `\u001b[${code}m${name}\u001b[0m` : name;
  // What the message says already is not said again.
  const isTold = (value: unknown): boolean => typeof value === "string" && String(msg ?? "").includes(value);
  const values = Object.entries(rest).filter(([, value]) => !isTold(value));
  const fields = values.map(([key, value]) => ` ${key}=${fieldText(value)}`).join("");
  const error = err === undefined ? "" : `: ${errorText(err)}`;
  // What foreign names hold must not move the cursor.
  const body = `${component}: ${msg ?? ""}${error}${fields}`.split("\n").map(printable).join("\n  ");
  return `${time} ${shown} ${body}\n`;
}

function errorText(err: unknown): string {
  return typeof err === "object" && err !== null && "message" in err ? String(err.message) : String(err);
}

function fieldText(value: unknown): string {
  const text = Array.isArray(value) ? value.join(",") : typeof value === "string" ? value : JSON.stringify(value);
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}
