// Whether a document can be used: its metadata, then one function per kind, each complaint with its field. Nothing here looks
// at another object; what depends on others (an address taken twice) is the allocator's.
import { createChecks, type FieldError } from "../wire/field-checks.ts";
import { type KubernetesObject, objectTitle } from "../wire/kubernetes.ts";
import { checkAddressPool, checkL2Advertisement } from "../wire/metallb-checks.ts";
import { isMetalLbWorkload, type KindUse } from "./kinds.ts";
import { validateMetadata } from "./metadata.ts";
import { unknownFields } from "./unknown-fields.ts";
import { checkEndpointSlice, checkEndpoints } from "./validate-endpoints.ts";
import { checkNode, checkPod } from "./validate-node-pod.ts";
import { checkService } from "./validate-service.ts";

const VALIDATORS = {
  Service: checkService,
  Endpoints: checkEndpoints,
  EndpointSlice: checkEndpointSlice,
  Node: checkNode,
  Pod: checkPod,
  IPAddressPool: checkAddressPool,
  L2Advertisement: checkL2Advertisement,
};

/** Errors of an object of a used kind; none for the kinds whose content does not matter here. */
export function validateObject(object: KubernetesObject): readonly FieldError[] {
  if (!Object.hasOwn(VALIDATORS, object.kind)) return [];
  const checks = createChecks();
  VALIDATORS[object.kind as keyof typeof VALIDATORS](checks, object);
  return checks.errors;
}

export interface CheckedDocument {
  /** "Kind namespace/name" as far as it could be read. */
  readonly title: string;
  readonly use: KindUse | undefined;
  readonly object: KubernetesObject | undefined;
  /** The key could be told, whatever else is wrong; else "". */
  readonly key: string;
  /** With any of these it cannot be used. */
  readonly errors: readonly FieldError[];
  /** It counts without these. */
  readonly unknown: readonly FieldError[];
}

const checkedBefore = new WeakMap<object, CheckedDocument>();

function check(raw: unknown): CheckedDocument {
  const { object, info, title, errors } = validateMetadata(raw);
  if (object === undefined || info === undefined)
    return { title, use: undefined, object: undefined, key: "", errors, unknown: [] };
  const use =
    info.use === "workload" && isMetalLbWorkload(object.kind, object.metadata.namespace ?? "") ? "skipped" : info.use;
  return {
    title,
    use,
    object,
    key: objectTitle(object),
    errors: use === "used" ? validateObject(object) : [],
    unknown: use === "skipped" ? [] : unknownFields(object),
  };
}

/** A document is checked once, however often it is asked about. Never throws, whatever `raw` is. */
export function checkDocument(raw: unknown): CheckedDocument {
  if (typeof raw !== "object" || raw === null) return check(raw);
  const found = checkedBefore.get(raw) ?? check(raw);
  checkedBefore.set(raw, found);
  return found;
}
