// Checks the part that all objects share: apiVersion, kind and metadata. The rest of an object is validate.ts's.
import { type Checks, createChecks, type FieldError } from "../wire/field-checks.ts";
import type { KubernetesObject } from "../wire/kubernetes.ts";
import { checkLabels } from "../wire/label-selector.ts";
import { dnsLabelProblem, labelKeyProblem } from "../wire/names.ts";
import { withoutZeros } from "../wire/zero-values.ts";
import { isKnownKindName, type KindInfo, kindInfo } from "./kinds.ts";

export interface CheckedMetadata {
  /** With a namespace where its kind has one; undefined when `errors` has any. */
  readonly object: KubernetesObject | undefined;
  readonly info: KindInfo | undefined;
  /** "Kind namespace/name" as far as it could be read, for notices. Never holds more than 100 characters of a bad name. */
  readonly title: string;
  readonly errors: readonly FieldError[];
}

const MAX_ANNOTATIONS = 256 * 1024;

function cut(text: string): string {
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function checkAnnotations(checks: Checks, value: unknown): void {
  let total = 0;
  for (const [key, content] of Object.entries(checks.record("metadata.annotations", value) ?? {})) {
    const problem = labelKeyProblem(key.toLowerCase());
    if (problem !== undefined) checks.invalid("metadata.annotations", key, problem);
    if (content === null) checks.invalid(`metadata.annotations.${key}`, content, "must be a string", "wrong-type");
    total += key.length + (checks.string(`metadata.annotations.${key}`, content)?.length ?? 0);
  }
  if (total > MAX_ANNOTATIONS)
    checks.add("metadata.annotations", `Too long: may not be more than ${MAX_ANNOTATIONS} bytes`);
}

function checkName(
  checks: Checks,
  field: string,
  value: unknown,
  problemOf: (name: string) => string | undefined,
): string {
  const name = checks.string(field, value);
  if (name === undefined || name === "") {
    if (value === undefined || value === null || name === "")
      checks.required(field, "name or generateName is required");
    return "";
  }
  const problem = problemOf(name);
  if (problem !== undefined) checks.invalid(field, name, problem, "invalid-name");
  return name;
}

/** Checks a document's apiVersion, kind and metadata as an API server would. Never throws, whatever `raw` is. */
export function validateMetadata(raw: unknown): CheckedMetadata {
  const checks = createChecks();
  const root = checks.record("", raw);
  if (root === undefined) {
    if (checks.errors.length === 0) checks.add("", "a document must be an object");
    return { object: undefined, info: undefined, title: "", errors: checks.errors };
  }
  const apiVersion = checks.string("apiVersion", root["apiVersion"]) ?? "";
  const kind = checks.string("kind", root["kind"]) ?? "";
  const raw_metadata = root["metadata"];
  const metadata = checks.record("metadata", raw_metadata) ?? {};
  const nameText = typeof metadata["name"] === "string" ? metadata["name"] : "";
  const namespaceText = typeof metadata["namespace"] === "string" ? metadata["namespace"] : "";
  if (apiVersion === "" && root["apiVersion"] === undefined) checks.required("apiVersion");
  if (kind === "" && root["kind"] === undefined) checks.required("kind");
  const info = kindInfo(apiVersion, kind);
  if (info === undefined && checks.errors.length === 0) {
    const where = isKnownKindName(kind)
      ? `no matches for kind "${cut(kind)}" in version "${cut(apiVersion)}"`
      : `unknown kind "${cut(kind)}"`;
    checks.add(isKnownKindName(kind) ? "apiVersion" : "kind", where, "unknown-kind");
  }
  const namespaced = info?.namespaced ?? true;
  const namespace = namespaced && namespaceText === "" ? "default" : namespaceText;
  const title = cut(
    kind === "" ? "" : `${kind} ${namespaced && nameText !== "" ? `${namespace}/` : ""}${nameText}`.trim(),
  );
  if (info === undefined) return { object: undefined, info, title, errors: checks.errors };

  if (raw_metadata === undefined || raw_metadata === null) checks.required("metadata");
  else checkName(checks, "metadata.name", metadata["name"], info.nameProblem);
  const given = checks.string("metadata.namespace", metadata["namespace"]);
  if (!namespaced && given !== undefined && given !== "")
    checks.forbidden("metadata.namespace", "not allowed on this type");
  if (namespaced && given !== undefined && given !== "") {
    const problem = dnsLabelProblem(given);
    if (problem !== undefined) checks.invalid("metadata.namespace", given, problem, "invalid-name");
  }
  checkLabels(checks, "metadata.labels", metadata["labels"]);
  checkAnnotations(checks, metadata["annotations"]);
  for (const field of ["uid", "creationTimestamp", "deletionTimestamp"]) {
    const text = checks.string(`metadata.${field}`, metadata[field]);
    if (text !== undefined && field !== "uid" && Number.isNaN(Date.parse(text))) {
      checks.invalid(`metadata.${field}`, text, "must be a time such as 2006-01-02T15:04:05Z");
    }
  }
  if (checks.errors.length > 0) return { object: undefined, info, title, errors: checks.errors };
  const object = {
    ...root,
    metadata: { ...metadata, ...(namespaced ? { namespace } : {}) },
  } as unknown as KubernetesObject;
  return { object: withoutZeros(object), info, title, errors: checks.errors };
}
