// Zeros and empty strings of clients that hold objects in typed structures and leave nothing out. The API server's defaults come
// before its checks: to it they are as good as absent.
import type { KubernetesObject } from "./kubernetes.ts";

const PORTS_OF_POD = ["containers[].ports[].protocol", "initContainers[].ports[].protocol"];
const TEMPLATE = PORTS_OF_POD.map((path) => `spec.template.spec.${path}`);

/** Fields that have a default other than zero, by kind. */
const DEFAULTED: Readonly<Record<string, readonly string[]>> = {
  Service: [
    ...["type", "sessionAffinity", "externalTrafficPolicy", "internalTrafficPolicy", "ipFamilyPolicy"],
    ...["ports[].protocol", "ports[].targetPort"],
  ].map((path) => `spec.${path}`),
  Pod: PORTS_OF_POD.map((path) => `spec.${path}`),
  Endpoints: ["subsets[].ports[].protocol"],
  EndpointSlice: ["ports[].protocol"],
  Deployment: TEMPLATE,
  StatefulSet: TEMPLATE,
  DaemonSet: TEMPLATE,
  ReplicaSet: TEMPLATE,
  Job: TEMPLATE,
};

function without(value: unknown, [step = "", ...rest]: readonly string[]): unknown {
  if (typeof value !== "object" || value === null) return value;
  const name = step.replace("[]", "");
  const fields = value as Readonly<Record<string, unknown>>;
  const old = fields[name];
  if (rest.length === 0) {
    if (old !== "" && old !== 0) return value;
    const { [name]: _, ...left } = fields;
    return left;
  }
  const next = step.endsWith("[]")
    ? Array.isArray(old)
      ? old.map((one) => without(one, rest))
      : old
    : without(old, rest);
  return old === undefined ? value : { ...fields, [name]: next };
}

/** The object without them; its types need not have been checked. */
export function withoutZeros(object: KubernetesObject): KubernetesObject {
  const paths = Object.hasOwn(DEFAULTED, object.kind) ? DEFAULTED[object.kind]! : [];
  return paths.reduce<unknown>((changed, path) => without(changed, path.split(".")), object) as KubernetesObject;
}
