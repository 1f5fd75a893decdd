// What is told about Services, in MetalLB's words: event reasons and sentences. Pure.
import type { AddressWrite, AllocationNews, ServiceRecord } from "../allocate/allocation-records.ts";
import type { EventText } from "./event-recorder.ts";
import type { ObjectRef } from "./object-ref.ts";

const FORMER_PREFIX = "metallb.universe.tf/";

export function serviceRef({ request: { metadata }, uid }: ServiceRecord): ObjectRef {
  return { apiVersion: "v1", kind: "Service", namespace: metadata.namespace ?? "default", name: metadata.name, uid };
}

const listed = (addresses: readonly string[]): string => `[${addresses.map((one) => JSON.stringify(one)).join(" ")}]`;

/** A Service that has no address, keeps another than it asks for, or loses what it has. */
export function newsEvent({ record, kind, refusal }: AllocationNews): EventText {
  const ref = serviceRef(record);
  const key = JSON.stringify(record.key);
  if (kind === "cleared") {
    const had = listed(record.addresses);
    const message = `current IP ${had} for ${key} not allowed by config, will attempt for new IP assignment: ${refusal.message}`;
    return { ref, type: "Warning", reason: "ClearAssignment", message };
  }
  const keeps = kind === "unmet" ? `; it keeps ${listed(record.addresses)}` : "";
  if (refusal.refused === "invalid-request") {
    const message = `invalid requested loadbalancer IPs: ${refusal.message}${keeps}`;
    return { ref, type: "Warning", reason: "LoadBalancerFailed", message };
  }
  const message = `Failed to allocate IP for ${key}: ${refusal.message} (${refusal.refused})${keeps}`;
  return { ref, type: "Warning", reason: "AllocationFailed", message };
}

/** After a write: the addresses that are new, and annotations that MetalLB has renamed. */
export function writtenEvents({ record, addresses }: AddressWrite): readonly EventText[] {
  const ref = serviceRef(record);
  const isNew = addresses.some((one) => !record.addresses.includes(one));
  const message = `Assigned IP ${listed(addresses)}`;
  const former = Object.keys(record.request.metadata.annotations ?? {}).filter((key) => key.startsWith(FORMER_PREFIX));
  return [
    ...(isNew ? [{ ref, type: "Normal" as const, reason: "IPAllocated", message }] : []),
    ...former.map((key) => ({
      ref,
      type: "Warning" as const,
      reason: "deprecatedAnnotation",
      message: `Service uses deprecated annotation ${key}`,
    })),
  ];
}
