// Label and field selectors as they come in a query, turned into one predicate.
import { badRequest } from "./api-status.ts";
import type { StoredObject } from "./object-store.ts";
import type { Resource } from "./resources.ts";

export type Predicate = (object: StoredObject) => boolean;

const NAME = "[A-Za-z0-9](?:[A-Za-z0-9_./-]*[A-Za-z0-9])?";
const SET = new RegExp(`^(${NAME})\\s+(in|notin)\\s+\\(([^()]*)\\)$`);
const EQUALITY = new RegExp(`^(${NAME})\\s*(==|=|!=)\\s*([A-Za-z0-9_.-]*)$`);
const EXISTS = new RegExp(`^(!?)\\s*(${NAME})$`);
const FIELD = /^([A-Za-z.]+)(==|=|!=)(.*)$/;

/** undefined when the selector is empty: everything matches, and a list then tells how many items remain. */
export function labelPredicate(selector: string): Predicate | undefined {
  const terms = splitTerms(selector).map(labelTerm);
  return terms.length === 0 ? undefined : (object) => terms.every((term) => term(object));
}

/** Name, namespace, and what else the resource lets one select by. */
export function fieldPredicate(selector: string, { specSelectors }: Resource): Predicate | undefined {
  const known = ["metadata.name", "metadata.namespace", ...specSelectors.map((name) => `spec.${name}`)];
  const terms = selector === "" ? [] : selector.split(",").map((term) => fieldTerm(term, known));
  return terms.length === 0 ? undefined : (object) => terms.every((term) => term(object));
}

/** At the commas outside parentheses. */
function splitTerms(selector: string): string[] {
  if (selector.trim() === "") return [];
  return selector.split(/,(?![^(]*\))/).map((term) => term.trim());
}

function labelTerm(term: string): Predicate {
  const set = SET.exec(term);
  if (set) return setTerm(set[1]!, set[2] === "in", new Set(set[3]!.split(",").map((value) => value.trim())));
  const equality = EQUALITY.exec(term);
  // An absent label is unequal to any value, as in the real thing.
  if (equality) return setTerm(equality[1]!, equality[2] !== "!=", new Set([equality[3]!]));
  const exists = EXISTS.exec(term);
  if (exists) return ({ labels }) => (labels[exists[2]!] === undefined) === (exists[1] === "!");
  const unexpected = term.split(/\s+/)[1] ?? "";
  throw badRequest(`unable to parse requirement: found '${unexpected}', expected: in, notin, =, ==, !=, gt, lt`);
}

function setTerm(label: string, wanted: boolean, values: ReadonlySet<string>): Predicate {
  return ({ labels }) => {
    const value = labels[label];
    return (value !== undefined && values.has(value)) === wanted;
  };
}

function fieldTerm(term: string, known: readonly string[]): Predicate {
  const [, field, operator, value] = FIELD.exec(term) ?? [];
  if (field === undefined) throw badRequest(`invalid selector: '${term}'`);
  if (!known.includes(field)) throw badRequest(`field label not supported: ${field}`);
  const wanted = operator !== "!=";
  return ({ fields }) => (fields[field] === value) === wanted;
}
