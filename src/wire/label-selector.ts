// Labels and label selectors: from a manifest to the model's form. Whether they match is model/label-selector.ts's.
import type { LabelSelector } from "../model/objects.ts";
import { type Checks, createChecks, type FieldError } from "./field-checks.ts";
import { labelKeyProblem, labelValueProblem } from "./names.ts";

const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"] as const;

export function checkLabels(checks: Checks, field: string, value: unknown): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [key, content] of Object.entries(checks.record(field, value) ?? {})) {
    const keyProblem = labelKeyProblem(key);
    if (keyProblem !== undefined) {
      checks.invalid(field, key, keyProblem);
      continue;
    }
    if (content === null) checks.invalid(`${field}.${key}`, content, "must be a string", "wrong-type");
    const text = checks.string(`${field}.${key}`, content);
    if (text === undefined) continue;
    const problem = labelValueProblem(text);
    if (problem !== undefined) checks.invalid(`${field}.${key}`, text, problem);
    else labels[key] = text;
  }
  return labels;
}

/** The selector at `field`; what is wrong with it is added to `checks`. An absent one selects everything. */
export function checkSelector(checks: Checks, field: string, value: unknown): LabelSelector {
  const raw = checks.record(field, value) ?? {};
  const matchExpressions: LabelSelector["matchExpressions"][number][] = [];
  for (const [at, expression] of checks.records(`${field}.matchExpressions`, raw["matchExpressions"])) {
    const key = checks.string(`${at}.key`, expression["key"]);
    const operator = checks.oneOf(`${at}.operator`, expression["operator"], OPERATORS);
    const values = checks.strings(`${at}.values`, expression["values"]) ?? [];
    if (!expression["operator"]) checks.required(`${at}.operator`);
    const problem = key === undefined ? "is required" : labelKeyProblem(key);
    if (problem !== undefined) checks.invalid(`${at}.key`, key, problem);
    if (key === undefined || operator === undefined || problem !== undefined) continue;
    const takesValues = operator === "In" || operator === "NotIn";
    if (takesValues && values.length === 0) {
      checks.required(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'");
    } else if (!takesValues && values.length > 0) {
      checks.forbidden(`${at}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
    } else matchExpressions.push({ key, operator, values });
  }
  return { matchLabels: checkLabels(checks, `${field}.matchLabels`, raw["matchLabels"]), matchExpressions };
}

/** A LabelSelector of a manifest (`matchLabels`, `matchExpressions`) in the model's form. `errors` name the fields under `field`. */
export function parseLabelSelector(
  value: unknown,
  field = "spec.selector",
): { readonly selector: LabelSelector; readonly errors: readonly FieldError[] } {
  const checks = createChecks();
  const selector = checkSelector(checks, field, value);
  return { selector, errors: checks.errors };
}
