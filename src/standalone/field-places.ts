// Where in a manifest's text the fields stand that something is said about: line and column, from 1. They are kept beside the
// objects, which stay plain JSON.
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type LineCounter,
  type Node,
  type Pair,
  type Scalar,
} from "yaml";

/** Lists within Lists. */
export const MAX_LIST_NESTING = 4;

/** Line and column, from 1. */
export type Place = readonly [line: number, column: number];
/** By field path; "" is the object itself. */
export type FieldPlaces = ReadonlyMap<string, Place>;

const places = new WeakMap<object, FieldPlaces>();

export function notePlaces(object: unknown, found: FieldPlaces | undefined): void {
  if (found !== undefined && typeof object === "object" && object !== null) places.set(object, found);
}

/** `file`, with :LINE:COLUMN where they are known, as editors take it. */
export function placeInFile(file: string, object: unknown, field: string): string {
  const found = typeof object === "object" && object !== null ? places.get(object) : undefined;
  const place = found?.get(field) ?? found?.get("");
  return place === undefined ? file : `${file}:${place[0]}:${place[1]}`;
}

/** `file` of a notice without the place. */
export function fileOfPlace(place: string): string {
  return place.replace(/:\d+:\d+$/, "");
}

/** The nodes of a document's objects, those of Lists one by one, in the order in which they are read. */
export function objectNodes(document: Document): Node[] {
  const found: Node[] = [];
  const collect = (node: unknown, nesting: number): void => {
    if (isAlias(node)) {
      collect(node.resolve(document), nesting);
      return;
    }
    const kind = isMap(node) ? node.get("kind") : undefined;
    const items = isMap(node) ? node.get("items", true) : undefined;
    if (typeof kind === "string" && kind.endsWith("List") && isSeq(items) && nesting <= MAX_LIST_NESTING) {
      for (const item of items.items) collect(item, nesting + 1);
    } else if (!isEmpty(node)) found.push(node as Node);
  };
  collect(document.contents, 0);
  return found;
}

const isEmpty = (node: unknown): boolean =>
  node === null || node === undefined || (isScalar(node) && node.value === null);

/** Of each field the place of its value, or of its key when it is `asKey`; of an absent one that of what it belongs to. */
export function findPlaces(
  document: Document,
  node: Node,
  fields: readonly { readonly field: string; readonly asKey: boolean }[],
  lines: LineCounter,
): FieldPlaces {
  const found = new Map<string, Place>();
  const put = (field: string, offset: number | undefined): void => {
    if (offset === undefined) return;
    const { line, col } = lines.linePos(offset);
    if (line > 0) found.set(field, [line, col]);
  };
  put("", node.range?.[0]);
  for (const { field, asKey } of fields) put(field, offsetOf(document, node, field, asKey));
  return found;
}

function offsetOf(document: Document, root: Node, field: string, asKey: boolean): number | undefined {
  let node: unknown = root;
  let rest = field;
  let offset = root.range?.[0];
  while (rest !== "") {
    if (isAlias(node)) node = node.resolve(document);
    const index = /^\[(\d+)\]\.?/.exec(rest);
    if (isSeq(node) && index !== null) {
      node = node.items[Number(index[1])];
      rest = rest.slice(index[0].length);
      offset = (node as Node | undefined)?.range?.[0] ?? offset;
      continue;
    }
    const pair = isMap(node) ? longestKey(node.items, rest) : undefined;
    if (pair === undefined) return offset;
    const { key, value } = pair as Pair<Scalar, unknown>;
    rest = rest.slice(String(key.value).length).replace(/^\./, "");
    offset = key.range?.[0] ?? offset;
    if (rest === "" && !asKey && isScalar(value) && value.value !== null) offset = value.range?.[0] ?? offset;
    node = value;
  }
  return offset;
}

/** Keys may hold dots: of those that begin the path the longest. */
function longestKey(pairs: readonly Pair[], path: string): Pair | undefined {
  let best: Pair | undefined;
  let length = -1;
  for (const pair of pairs) {
    if (!isScalar(pair.key)) continue;
    const key = String(pair.key.value);
    if (key.length <= length || !path.startsWith(key) || !/^(\.|\[|$)/.test(path.slice(key.length))) continue;
    [best, length] = [pair, key.length];
  }
  return best;
}
