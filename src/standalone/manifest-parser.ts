// The text of a manifest file to the objects in it: YAML of several documents, JSON, Lists. What it returns is plain JSON
// of bounded depth and size, and where the fields stand that are to be complained of. It reads no file.
import {
  type Document,
  type DocumentOptions,
  LineCounter,
  type ParseOptions,
  parseAllDocuments,
  type SchemaOptions,
  type Tags,
} from "yaml";
import { type FieldPlaces, findPlaces, MAX_LIST_NESTING, objectNodes, type Place } from "./field-places.ts";
import { checkDocument } from "./validate.ts";

/** Files larger than this are refused without being read. */
export const MAX_FILE_BYTES = 8 * 1024 * 1024;

const MAX_ALIASES = 100;
const MAX_DEPTH = 64;
const MAX_VALUES = 2_000_000;
/** To find places, JSON is read again as the YAML that it is, which is slow: not in a file larger than this. */
const MAX_JSON_PLACES = 512 * 1024;

export type ParseResult =
  | {
      readonly objects: readonly unknown[];
      /** By the object's place among `objects`; only of those that something is wrong with. */
      readonly places: ReadonlyMap<number, FieldPlaces>;
    }
  | { readonly problem: string; readonly place?: Place };

// As Kubernetes' parser has it: YAML 1.1 booleans and merge keys, but times and base-60 numbers stay text.
const LEFT_OUT = new Set(["binary", "omap", "pairs", "set", "timestamp"].map((name) => `tag:yaml.org,2002:${name}`));
const OPTIONS: ParseOptions & DocumentOptions & SchemaOptions = {
  version: "1.1",
  customTags: (tags: Tags) =>
    tags.filter((tag) => typeof tag === "string" || (!LEFT_OUT.has(tag.tag) && tag.format !== "TIME")),
};

interface Budget {
  left: number;
}

// Also turns a graph with shared parts into a tree, whose size is what counts.
function plain(value: unknown, depth: number, budget: Budget): unknown {
  if (--budget.left < 0) throw new Error(`more than ${MAX_VALUES} values`);
  if (typeof value !== "object" || value === null) {
    if (typeof value === "number" && !Number.isFinite(value)) throw new Error(`${value} is no number that JSON has`);
    return typeof value === "bigint" || typeof value === "symbol" ? String(value) : value;
  }
  if (depth >= MAX_DEPTH) throw new Error(`nested more than ${MAX_DEPTH} deep`);
  if (Array.isArray(value)) return value.map((one) => plain(one, depth + 1, budget));
  const copy: Record<string, unknown> = {};
  for (const [key, one] of Object.entries(value)) {
    const content = plain(one, depth + 1, budget);
    if (key === "__proto__")
      Object.defineProperty(copy, key, { value: content, enumerable: true, configurable: true, writable: true });
    else copy[key] = content;
  }
  return copy;
}

function isList(value: unknown): value is { apiVersion?: unknown; kind: string; items: unknown[] } {
  const candidate = value as { kind?: unknown; items?: unknown } | null;
  return (
    typeof candidate === "object" &&
    candidate !== null &&
    typeof candidate.kind === "string" &&
    candidate.kind.endsWith("List") &&
    Array.isArray(candidate.items)
  );
}

function flatten(value: unknown, nesting: number, into: unknown[]): void {
  if (value === null || value === undefined) return;
  if (!isList(value)) {
    into.push(value);
    return;
  }
  if (nesting >= MAX_LIST_NESTING) throw new Error(`Lists nested more than ${MAX_LIST_NESTING} deep`);
  // The items of a ServiceList may leave out what its name says already.
  const kind = value.kind.slice(0, -"List".length);
  for (const item of value.items) {
    const bare = kind !== "" && typeof item === "object" && item !== null && !("kind" in item);
    flatten(bare ? { apiVersion: value.apiVersion, kind, ...item } : item, nesting + 1, into);
  }
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const line = (text.split("\n", 1)[0] ?? "").replace(/:$/, "");
  return line.length > 300 ? `${line.slice(0, 300)}…` : line;
}

/** Line and column stand before the message, and need not stand in it. */
function problemOf(error: unknown, place: Place | undefined): ParseResult {
  if (place === undefined) return { problem: firstLine(error) };
  const problem = firstLine(error).replace(
    / (?:at line \d+, column \d+|(?:in JSON )?at position \d+ \(line \d+ column \d+\))/,
    "",
  );
  return { problem, place };
}

function jsonPlace(error: unknown): Place | undefined {
  const found = error instanceof SyntaxError ? /\(line (\d+) column (\d+)\)/.exec(error.message) : null;
  return found === null ? undefined : [Number(found[1]), Number(found[2])];
}

/** `documents`: those that `objects` were read from. */
function placesOf(
  objects: readonly unknown[],
  documents: () => { readonly list: readonly Document[]; readonly lines: LineCounter },
): ReadonlyMap<number, FieldPlaces> {
  const found = new Map<number, FieldPlaces>();
  const wrong = objects.flatMap((object, index) => {
    const { errors, unknown } = checkDocument(object);
    const fields = [
      ...errors.map(({ field }) => ({ field, asKey: false })),
      ...unknown.map(({ field }) => ({ field, asKey: true })),
    ];
    return fields.length === 0 ? [] : [{ index, fields }];
  });
  if (wrong.length === 0) return found;
  const { list, lines } = documents();
  const nodes = list.flatMap((document) => objectNodes(document).map((node) => ({ document, node })));
  if (nodes.length !== objects.length) return found;
  for (const { index, fields } of wrong) {
    const { document, node } = nodes[index]!;
    found.set(index, findPlaces(document, node, fields, lines));
  }
  return found;
}

/** Parses a whole file; one malformed document makes the whole file malformed. Never throws. */
export function parseManifest(text: string, isJson: boolean): ParseResult {
  const lines = new LineCounter();
  const read = () => parseAllDocuments(text, { ...OPTIONS, lineCounter: lines }) as Document[];
  try {
    const budget = { left: MAX_VALUES };
    const objects: unknown[] = [];
    if (isJson) {
      if (text.trim() !== "") flatten(plain(JSON.parse(text), 0, budget), 0, objects);
      const places = placesOf(objects, () => ({ list: text.length > MAX_JSON_PLACES ? [] : read(), lines }));
      return { objects, places };
    }
    const documents = read();
    for (const document of documents) {
      const error = document.errors[0];
      if (error !== undefined) return problemOf(error, error.linePos && [error.linePos[0].line, error.linePos[0].col]);
      flatten(plain(document.toJS({ maxAliasCount: MAX_ALIASES }), 0, budget), 0, objects);
    }
    return { objects, places: placesOf(objects, () => ({ list: documents, lines })) };
  } catch (error) {
    if (error instanceof RangeError) return { problem: "nested too deep" };
    return problemOf(error, isJson ? jsonPlace(error) : undefined);
  }
}
