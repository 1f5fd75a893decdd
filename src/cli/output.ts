// How answers are written: as a table, JSON, YAML or names, once or again and again with what changed. Colour where a terminal shows it.
import { setTimeout as after } from "node:timers/promises";
import { Failure } from "../lib/errors.ts";
import { isStructured, structured } from "../lib/structured.ts";
import type { ListQuery } from "./queries.ts";
import { type Column, headerText, layoutOf, rowsText, type TableStyle, tableText } from "./table.ts";

export const FORMATS = ["table", "wide", "json", "yaml", "name"] as const;
export type Format = (typeof FORMATS)[number];

const WATCH_MS = 1000;

/** `choice` as --color says; "auto": on a terminal, unless NO_COLOR is set (no-color.org). */
export function showsColour(choice: string, stream: { readonly isTTY?: boolean } = process.stdout): boolean {
  if (choice !== "auto") return choice === "always";
  return stream.isTTY === true && (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb";
}

/** All records in a format; a table is `columns`. */
export async function listText<T>(
  query: ListQuery<T>,
  records: readonly T[],
  format: Format,
  colour: boolean,
): Promise<string> {
  if (isStructured(format)) return structured(records, format);
  if (format === "name") return records.map((record) => `${query.name(record)}\n`).join("");
  return tableText(query.columns, records, { wide: format === "wide", colour });
}

export type Change = "ADDED" | "MODIFIED" | "DELETED";

export interface Changed<T> {
  readonly change: Change;
  readonly record: T;
  /** How much more of what the query counts, in a second. */
  readonly perSecond: number | undefined;
}

/**
 * Tells at each moment what changed since the one before: at the first all records. `seconds` since the last one. A change is one
 * of what is shown, but for what is restless.
 */
export function createChanges<T>(query: ListQuery<T>): (records: readonly T[], seconds: number) => Changed<T>[] {
  let known = new Map<string, { readonly record: T; readonly shown: string }>();
  const told = query.columns.filter(({ restless }) => restless !== true);
  return (records, seconds) => {
    const now = new Map(
      records.map((record) => [query.name(record), { record, shown: told.map((one) => one.text(record)).join("\0") }]),
    );
    const changed: Changed<T>[] = [];
    for (const [name, { record, shown }] of now) {
      const before = known.get(name);
      if (before?.shown === shown) continue;
      const counted = before === undefined || query.rate === undefined ? undefined : query.rate(before.record);
      const perSecond = counted === undefined ? undefined : (query.rate!(record) - counted) / seconds;
      changed.push({ change: before === undefined ? "ADDED" : "MODIFIED", record, perSecond });
    }
    for (const [name, { record }] of known)
      if (!now.has(name)) changed.push({ change: "DELETED", record, perSecond: undefined });
    known = now;
    return changed;
  };
}

/** Asks again and again, and writes rows of what changed, as `kubectl get --watch` does. Ends only with the process, or by an error. */
export async function watchList<T>(
  query: ListQuery<T>,
  ask: () => Promise<readonly T[]>,
  format: Format,
  style: TableStyle,
): Promise<never> {
  const changes = createChanges(query);
  const perSecond: Column<Changed<T>> = {
    title: "PER-SECOND",
    text: (one) => (one.perSecond === undefined ? "-" : one.perSecond.toFixed(1)),
  };
  const columns: Column<Changed<T>>[] = [
    { title: "EVENT", text: ({ change }) => change, tone: ({ change }) => (change === "DELETED" ? "dim" : undefined) },
    ...(query.rate === undefined ? [] : [perSecond]),
    // What is sparse now may have a text later, and the columns stay.
    ...query.columns.map(({ title, text, tone, wide }): Column<Changed<T>> => {
      const base = { title, text: ({ record }: Changed<T>) => text(record), ...(wide === true ? { wide } : {}) };
      return tone === undefined ? base : { ...base, tone: ({ record }) => tone(record) };
    }),
  ];
  let layout: ReturnType<typeof layoutOf<Changed<T>>> | undefined;
  for (let last = performance.now(); ; ) {
    const records = await ask();
    const now = performance.now();
    const changed = changes(records, Math.max(0.001, (now - last) / 1000));
    last = now;
    if (format === "table" || format === "wide") {
      const isFirst = layout === undefined;
      layout ??= layoutOf(columns, changed, style);
      const rows = rowsText(layout, changed, style.colour);
      process.stdout.write(isFirst ? headerText(layout) + rows : rows);
    } else if (format === "name") {
      for (const { record } of changed) process.stdout.write(`${query.name(record)}\n`);
    } else {
      const events = changed.map(({ change, record }) => ({ type: change, object: record }));
      if (format === "json") for (const event of events) process.stdout.write(`${JSON.stringify(event)}\n`);
      else for (const event of events) process.stdout.write(`---\n${await structured(event, "yaml")}`);
    }
    await after(WATCH_MS);
  }
}

/** Draws a text anew in its place on a terminal; elsewhere writes it again when it changed. Ends as watchList does. */
export async function watchText(ask: () => Promise<string>): Promise<never> {
  let shown = "";
  for (;;) {
    const text = await ask();
    if (process.stdout.isTTY) process.stdout.write(`\x1b[H${text.replaceAll("\n", "\x1b[K\n")}\x1b[J`);
    else if (text !== shown) process.stdout.write(shown === "" ? text : `\n${text}`);
    shown = text;
    await after(WATCH_MS);
  }
}

/** What became of standard output: the reader has seen enough (`| head`), or it cannot be written. */
export function endOnBrokenOutput(error: NodeJS.ErrnoException): void {
  if (error.code === "EPIPE") process.exit(0);
  const failure = new Failure("machine", "stdout", `could not write to standard output: ${reasonOf(error)}`);
  process.stderr.write(`millrace: ${failure.message}\n`);
  process.exit(3);
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  return code === "ENOSPC" ? "no space is left on the device" : (code ?? message);
}
