// Whether labels match a selector, as the Kubernetes API has it. Pure.
import type { LabelSelector } from "./objects.ts";

type Labels = Readonly<Record<string, string>> | undefined;

function labelOf(labels: Labels, key: string): string | undefined {
  return labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined;
}

/** Every pair of `wanted` is in `labels`; an empty `wanted` matches everything. */
export function matchesLabels(wanted: Readonly<Record<string, string>>, labels: Labels): boolean {
  for (const key in wanted) if (labelOf(labels, key) !== wanted[key]) return false;
  return true;
}

/** NotIn and DoesNotExist also match labels without the key. */
export function matchesSelector(selector: LabelSelector, labels: Labels): boolean {
  if (!matchesLabels(selector.matchLabels, labels)) return false;
  for (const { key, operator, values } of selector.matchExpressions) {
    const value = labelOf(labels, key);
    const isOne = value !== undefined && values.includes(value);
    if (operator === "In" && !isOne) return false;
    if (operator === "NotIn" && isOne) return false;
    if (operator === "Exists" && value === undefined) return false;
    if (operator === "DoesNotExist" && value !== undefined) return false;
  }
  return true;
}
