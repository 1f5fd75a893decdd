// A required node affinity in a pod template, put in and taken out again without a trace of it. Pure. Terms of a required affinity are
// alternatives (any of them is enough), so a requirement stands in each.
import { field, items, type Loose } from "../kube/fields.ts";

/** One line of a term's matchExpressions. */
export interface Requirement {
  readonly key: string;
  readonly operator: "In" | "NotIn";
  readonly values: readonly string[];
}

const REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution";

function termsOf(affinity: unknown): readonly unknown[] {
  return items(affinity, "nodeAffinity", REQUIRED, "nodeSelectorTerms");
}

/** Its expressions about `key`, of all terms. */
export function requirementsOf(affinity: unknown, key: string): readonly Requirement[] {
  return termsOf(affinity)
    .flatMap((term) => items(term, "matchExpressions"))
    .filter((one) => field(one, "key") === key) as readonly Requirement[];
}

/** Every term asks for exactly this of its key. */
export function hasRequirement(affinity: unknown, wanted: Requirement): boolean {
  const terms = termsOf(affinity);
  const asText = ({ operator, values }: Requirement): string => `${operator} ${[...values].sort().join()}`;
  return (
    terms.length > 0 &&
    terms.every((term) => {
      const found = items(term, "matchExpressions").filter((one) => field(one, "key") === wanted.key) as Requirement[];
      return found.length === 1 && asText(found[0]!) === asText(wanted);
    })
  );
}

/** `affinity` with `wanted` in each term, instead of what they say of its key. `affinity`: a pod spec's, or undefined. */
export function withRequirement(affinity: unknown, wanted: Requirement): Loose {
  const bare = (withoutKey(affinity, wanted.key) ?? {}) as Loose;
  const terms = termsOf(bare);
  const expression = { key: wanted.key, operator: wanted.operator, values: [...wanted.values] };
  const changed = (terms.length === 0 ? [{}] : terms).map((term) => ({
    ...(term as Loose),
    matchExpressions: [...items(term, "matchExpressions"), expression],
  }));
  const nodeAffinity = (field(bare, "nodeAffinity") ?? {}) as Loose;
  const required = (nodeAffinity[REQUIRED] ?? {}) as Loose;
  return { ...bare, nodeAffinity: { ...nodeAffinity, [REQUIRED]: { ...required, nodeSelectorTerms: changed } } };
}

/** `affinity` without what it says of `key`; undefined when nothing is left. A term that was about it alone goes: it would match no node. */
export function withoutKey(affinity: unknown, key: string): Loose | undefined {
  if (requirementsOf(affinity, key).length === 0) return affinity as Loose | undefined;
  const terms = termsOf(affinity).flatMap((term) => {
    const rest = items(term, "matchExpressions").filter((one) => field(one, "key") !== key);
    const { matchExpressions: _, ...others } = term as Loose;
    const left = rest.length === 0 ? others : { ...others, matchExpressions: rest };
    return Object.keys(left).length === 0 ? [] : [left];
  });
  const { nodeAffinity, ...other } = affinity as { readonly nodeAffinity: Loose };
  const { [REQUIRED]: required, ...preferred } = nodeAffinity;
  const ofNodes =
    terms.length === 0 ? preferred : { ...preferred, [REQUIRED]: { ...(required as Loose), nodeSelectorTerms: terms } };
  const left = Object.keys(ofNodes).length === 0 ? other : { ...other, nodeAffinity: ofNodes };
  return Object.keys(left).length === 0 ? undefined : left;
}
