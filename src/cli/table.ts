// Tables of records: columns with a text, and colour where a terminal shows it. Pure.
import { styleText } from "node:util";
import { printable } from "../lib/text.ts";

export type Tone = "good" | "warning" | "bad" | "dim";

export interface Column<T> {
  readonly title: string;
  text(record: T): string;
  /** Undefined: as it is. */
  tone?(record: T): Tone | undefined;
  /** Shown with -o wide only. */
  readonly wide?: true;
  /** Shown where some record has a text there. */
  readonly sparse?: true;
  /** It is another one from second to second: no change that --watch tells of. */
  readonly restless?: true;
}

export interface TableStyle {
  readonly wide: boolean;
  readonly colour: boolean;
}

const STYLES: Readonly<Record<Tone, Parameters<typeof styleText>[0]>> = {
  good: "green",
  warning: "yellow",
  bad: "red",
  dim: "dim",
};

export function toned(text: string, tone: Tone | undefined, colour: boolean): string {
  return tone === undefined || !colour ? text : styleText(STYLES[tone], text, { validateStream: false });
}

/** What the columns of one table need. */
export interface Layout<T> {
  readonly columns: readonly Column<T>[];
  /** In characters. They only grow, so that rows that come later stand under those before. */
  readonly widths: number[];
}

/** The columns that `records` need in this style. */
export function layoutOf<T>(columns: readonly Column<T>[], records: readonly T[], { wide }: TableStyle): Layout<T> {
  const shown = columns.filter(
    (column) =>
      (wide || column.wide !== true) &&
      (column.sparse !== true || records.some((record) => column.text(record) !== "")),
  );
  return { columns: shown, widths: shown.map(({ title }) => title.length) };
}

/** Lines of the records, without their header; columns three spaces apart, no space at the end. */
export function rowsText<T>({ columns, widths }: Layout<T>, records: readonly T[], colour: boolean): string {
  const cells = records.map((record) => columns.map((column) => printable(column.text(record))));
  for (const row of cells) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return cells
    .map((row, r) => row.map((cell, i) => ({ cell, tone: columns[i]?.tone?.(records[r]!) })))
    .map((row) => lineOf(row, widths, colour))
    .join("");
}

export function headerText<T>({ columns, widths }: Layout<T>): string {
  return lineOf(
    columns.map(({ title }) => ({ cell: title, tone: undefined })),
    widths,
    false,
  );
}

/** Header and rows. */
export function tableText<T>(columns: readonly Column<T>[], records: readonly T[], style: TableStyle): string {
  const layout = layoutOf(columns, records, style);
  const rows = rowsText(layout, records, style.colour);
  return `${headerText(layout)}${rows}`;
}

function lineOf(
  row: readonly { readonly cell: string; readonly tone: Tone | undefined }[],
  widths: readonly number[],
  colour: boolean,
): string {
  const last = row.findLastIndex(({ cell }) => cell !== "");
  const parts = row.slice(0, last + 1).map(({ cell, tone }, i) => {
    const space = i === last ? "" : " ".repeat((widths[i] ?? 0) - cell.length);
    return `${toned(cell, tone, colour)}${space}`;
  });
  return `${parts.join("   ")}\n`;
}

/** `text` in lines of at most `width` characters where its words allow, each after the first behind `indent`. */
export function wrapped(text: string, width: number, indent: string): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && indent.length + line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line].join(`\n${indent}`);
}
