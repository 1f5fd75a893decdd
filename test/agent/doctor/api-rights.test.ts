// What is asked for is what deploy/rbac.yaml grants, no more and no less.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { AGENT_RIGHTS } from "../../../src/kube/api-rights.ts";

interface Role {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly rules?: readonly {
    readonly apiGroups: readonly string[];
    readonly resources: readonly string[];
    readonly verbs: readonly string[];
  }[];
}

const text = readFileSync(resolve(import.meta.dirname, "../../../deploy/rbac.yaml"), "utf8");

it("the rights that a doctor asks for are those of deploy/rbac.yaml", () => {
  const granted = parseAllDocuments(text)
    .map((document) => document.toJS() as Role)
    .filter(({ kind, metadata }) => /^(Cluster)?Role$/.test(kind) && metadata.name === "millrace")
    .flatMap(({ kind, rules = [] }) =>
      rules.flatMap(({ apiGroups, resources, verbs }) =>
        apiGroups.flatMap((group) =>
          resources.flatMap((resource) => verbs.map((verb) => `${kind === "Role"} ${group} ${resource} ${verb}`)),
        ),
      ),
    );
  const asked = AGENT_RIGHTS.flatMap(({ group, resource, verbs, inNamespace }) =>
    verbs.map((verb) => `${inNamespace} ${group} ${resource} ${verb}`),
  );
  expect(granted.length).toBeGreaterThan(10);
  expect(asked.sort()).toEqual(granted.sort());
});
