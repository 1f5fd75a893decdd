// Whether an object whose metadata is in order can be used: one function per kind, each complaint with its field. Nothing
// here looks at another object; what depends on others (an address taken twice) is the allocator's.
import { createChecks, type FieldError } from "../wire/field-checks.ts";
import type { KubernetesObject } from "../wire/kubernetes.ts";
import { checkEndpointSlice, checkEndpoints } from "./validate-endpoints.ts";
import { checkAddressPool, checkL2Advertisement } from "./validate-metallb.ts";
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
