// Fields that no object of a kind has, most of them misspelt. An API server's strict decoding knows them as errors, kubectl
// warns of them; here too the object counts without them. Pure.
import { didYouMean } from "../lib/suggest.ts";
import type { FieldError } from "../wire/field-checks.ts";
import fields from "./known-fields.json" with { type: "json" };

interface Field {
  /** "" for a value without fields of its own. */
  readonly type: string;
  readonly in: "field" | "list" | "map";
}
type Fields = ReadonlyMap<string, Field>;

/** More of one object are not told. */
const MAX_UNKNOWN = 10;
const MAX_DEPTH = 64;

const kinds = new Map(Object.entries(fields.kinds));
const typeTexts = new Map(Object.entries(fields.types));
const types = new Map<string, Fields>();

/** The fields of a type, read from the text of scripts/generate-fields.ts when they are first asked for. */
function fieldsOf(type: string): Fields | undefined {
  const known = types.get(type);
  const text = typeTexts.get(type);
  if (known !== undefined || text === undefined) return known;
  const read = text.split(" ").map((word): [string, Field] => {
    const [name = "", target = ""] = word.split(":");
    if (target.startsWith("[")) return [name, { type: target.slice(1), in: "list" }];
    if (target.startsWith("{")) return [name, { type: target.slice(1), in: "map" }];
    return [name, { type: target, in: "field" }];
  });
  const found = new Map(read);
  types.set(type, found);
  return found;
}

/** One complaint for each field that the object's kind does not have, none for kinds that are not known by their fields. */
export function unknownFields(object: { readonly apiVersion: string; readonly kind: string }): readonly FieldError[] {
  const found: FieldError[] = [];
  const type = kinds.get(`${object.apiVersion} ${object.kind}`);
  if (type !== undefined) walk(object, type, "", 0, found);
  return found;
}

function walk(value: unknown, type: string, path: string, depth: number, found: FieldError[]): void {
  const known = fieldsOf(type);
  if (known === undefined || typeof value !== "object" || value === null || Array.isArray(value)) return;
  if (depth > MAX_DEPTH) return;
  for (const [name, content] of Object.entries(value)) {
    if (found.length >= MAX_UNKNOWN) return;
    const at = path === "" ? name : `${path}.${name}`;
    const field = known.get(name);
    if (field === undefined) {
      const message = `unknown field "${at}"${didYouMean(name, known.keys())}`;
      found.push({ field: at, reason: "unknown-field", message });
    } else if (field.type === "") continue;
    else if (field.in === "field") walk(content, field.type, at, depth + 1, found);
    else if (typeof content === "object" && content !== null) {
      // Entries of a list have numbers for keys.
      for (const [key, one] of Object.entries(content)) {
        walk(one, field.type, field.in === "list" ? `${at}[${key}]` : `${at}.${key}`, depth + 1, found);
      }
    }
  }
}
