// A Service of the API as the allocator keeps it: what it reads, and no more. Pure.
import type { ServiceRecord } from "../allocate/allocation-records.ts";
import type { ServiceRequest } from "../allocate/service-request.ts";
import { storedAddress } from "../lib/address.ts";
import { own, POOL_ANNOTATION, type ServiceObject } from "../wire/kubernetes.ts";

/** Where MetalLB before 0.13 said from which pool an address is. */
export const FORMER_POOL_ANNOTATION = "metallb.universe.tf/ip-allocated-from-pool";

/**
 * A condition of a Service's status, which only who may write a status can write: what it did with an address that it may share when it
 * got it (its message, as of PoolHolding).
 */
export const SHARED_CONDITION = "millrace.io/AddressShared";

const READ = /^metallb\.(io|universe\.tf)\//;

interface Condition {
  readonly type?: string;
  readonly message?: string;
}

/** A record without what nobody reads: last-applied-configuration alone is as large as the rest. */
function annotationsRead(all: Readonly<Record<string, string>> | undefined): Record<string, string> | undefined {
  const found = Object.entries(all ?? {}).filter(([key, value]) => READ.test(key) && typeof value === "string");
  return found.length === 0 ? undefined : Object.fromEntries(found);
}

/** `object` is one that the API server took. */
export function serviceRecord(object: ServiceObject): ServiceRecord {
  const { metadata, status } = object;
  const spec = object.spec ?? {};
  const addresses = (status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) => storedAddress(ip ?? "") ?? []);
  const pool = own(metadata.annotations, POOL_ANNOTATION) ?? "";
  const former = own(metadata.annotations, FORMER_POOL_ANNOTATION) ?? "";
  const clusterIPs = spec.clusterIPs ?? (spec.clusterIP === undefined ? [] : [spec.clusterIP]);
  const conditions = Array.isArray(status?.["conditions"]) ? (status["conditions"] as Condition[]) : [];
  const isBalanced = spec.type === "LoadBalancer";
  const { type, selector, ipFamilies, ipFamilyPolicy, externalTrafficPolicy, loadBalancerIP, loadBalancerClass } = spec;
  const ports = spec.ports?.map(({ port, protocol }) => ({ port, ...(protocol === undefined ? {} : { protocol }) }));
  const annotations = annotationsRead(metadata.annotations);
  const request = {
    metadata: {
      name: metadata.name,
      namespace: metadata.namespace ?? "default",
      ...(isBalanced && metadata.labels !== undefined ? { labels: metadata.labels } : {}),
      ...(annotations === undefined ? {} : { annotations }),
    },
    spec: withoutAbsent({
      type,
      ports: isBalanced ? ports : undefined,
      clusterIPs: clusterIPs.filter((one) => one !== "" && one !== "None"),
      ipFamilies,
      ipFamilyPolicy,
      externalTrafficPolicy,
      loadBalancerIP,
      loadBalancerClass,
      selector: externalTrafficPolicy === "Local" ? selector : undefined,
    }),
  } as ServiceRequest;
  return {
    key: `${request.metadata.namespace}/${metadata.name}`,
    uid: metadata.uid ?? "",
    version: String(metadata["resourceVersion"] ?? ""),
    created: metadata.creationTimestamp ?? "",
    request,
    addresses,
    pool,
    hasFormerAnnotation: former !== "",
    use: conditions.find(({ type }) => type === SHARED_CONDITION)?.message ?? "",
    conditions: conditions.filter(({ type }) => type !== SHARED_CONDITION),
  };
}

function withoutAbsent(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null));
}
