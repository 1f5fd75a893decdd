import { describe, expect, it } from "vitest";
import { hasRequirement, requirementsOf, withoutKey, withRequirement } from "../../src/install/affinity.ts";
import { patchFrom } from "../../src/install/uninstall.ts";
import { merged } from "./merged.ts";

const OURS = { key: "millrace.io/service-proxy", operator: "In", values: ["kube-proxy"] } as const;
const expression = (key: string): object => ({ key, operator: "Exists" });
const required = (...terms: object[]): object => ({
  nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } },
});

const AFFINITIES: readonly (readonly [name: string, affinity: object | undefined])[] = [
  ["none", undefined],
  ["one term", required({ matchExpressions: [expression("kubernetes.io/os")] })],
  ["two alternatives", required({ matchExpressions: [expression("a")] }, { matchExpressions: [expression("b")] })],
  ["a term of fields", required({ matchFields: [{ key: "metadata.name", operator: "In", values: ["n1"] }] })],
  ["a preference of nodes", { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 1 }] } }],
  ["one of pods", { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [] } }],
];

describe("a requirement in an affinity", () => {
  it.each(AFFINITIES)("stands in every term, and goes without a trace: %s", (_, affinity) => {
    const changed = withRequirement(affinity, OURS);
    expect(hasRequirement(affinity, OURS)).toBe(false);
    expect(hasRequirement(changed, OURS)).toBe(true);
    expect(withoutKey(changed, OURS.key)).toEqual(affinity);
  });

  it.each(AFFINITIES)("is taken out by a merge patch: %s", (_, affinity) => {
    const changed = withRequirement(affinity, OURS);
    const patch = { affinity: patchFrom(changed, withoutKey(changed, OURS.key)) };
    expect(merged({ affinity: changed }, patch)).toEqual(affinity === undefined ? {} : { affinity });
  });

  it("is there once, however often it is put in, and in place of another of its key", () => {
    const before = withRequirement(undefined, { ...OURS, operator: "NotIn", values: ["millrace"] });
    const changed = withRequirement(withRequirement(before, OURS), OURS);
    expect(requirementsOf(changed, OURS.key)).toEqual([OURS]);
    expect(changed).toEqual(withRequirement(undefined, OURS));
  });

  it("is not there when one of two alternatives does without", () => {
    const affinity = required({ matchExpressions: [OURS] }, { matchExpressions: [expression("a")] });
    expect(hasRequirement(affinity, OURS)).toBe(false);
  });

  it("leaves no term that would match nothing", () => {
    const affinity = required({ matchExpressions: [OURS] }, { matchExpressions: [expression("a")] });
    expect(withoutKey(affinity, OURS.key)).toEqual(required({ matchExpressions: [expression("a")] }));
  });
});
