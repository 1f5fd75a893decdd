// Label selectors as kubectl's -l takes them: "app=web,tier!=db,env in (a, b),!legacy".
import { Failure } from "../lib/errors.ts";

type Labels = Readonly<Record<string, string>>;

const KEY = "[A-Za-z0-9][-A-Za-z0-9_./]*";
const VALUE = "[-A-Za-z0-9_.]*";
const SET = new RegExp(`^(${KEY})\\s+(in|notin)\\s+\\(([^()]*)\\)$`);
const PAIR = new RegExp(`^(${KEY})\\s*(==|=|!=)\\s*(${VALUE})$`);
const PRESENCE = new RegExp(`^(!?)\\s*(${KEY})$`);

/** True for labels that match all of it; those without a key match != and notin, as in the API. @throws Failure "usage" */
export function parseLabelQuery(text: string): (labels: Labels) => boolean {
  const requirements = text
    .split(/,(?![^(]*\))/)
    .map((part) => part.trim())
    .map(parseRequirement);
  return (labels) => requirements.every((matches) => matches(labels));
}

function parseRequirement(text: string): (labels: Labels) => boolean {
  const own = (labels: Labels, key: string): string | undefined =>
    Object.hasOwn(labels, key) ? labels[key] : undefined;
  const [, setKey = "", operator, list = ""] = SET.exec(text) ?? [];
  if (operator !== undefined) {
    const values = list.split(",").map((value) => value.trim());
    return (labels) => values.includes(own(labels, setKey) ?? "\0") === (operator === "in");
  }
  const [, pairKey = "", sign, value] = PAIR.exec(text) ?? [];
  if (sign !== undefined) return (labels) => (own(labels, pairKey) === value) === (sign !== "!=");
  const [, not, key = ""] = PRESENCE.exec(text) ?? [];
  if (not !== undefined) return (labels) => Object.hasOwn(labels, key) === (not === "");
  const wanted = "a label selector, as app=web,tier!=db,env in (a,b),!legacy";
  throw new Failure("usage", "selector", `selector must be ${wanted}: current value is '${text}'`);
}
