// What a Service asks of MetalLB's pools, by its annotations and its spec, and which Services may share an address. Pure.
import { type Address, canonicalAddress, familyOf } from "../lib/address.ts";
import type { PendingReason } from "../model/objects.ts";
import { protocolOf, type ServiceRequest } from "./service-request.ts";

/** Why there is no address. `field` is "" when no field of the Service is to blame. */
export interface Refusal {
  readonly refused: PendingReason;
  readonly field: string;
  readonly message: string;
}

/** What counts when an address is shared. */
export interface Use {
  readonly sharingKey: string;
  readonly backendKey: string;
  readonly ports: readonly string[];
  /** It is seen there still, and goes: no reason against who is there too and stays. */
  readonly isLeaving?: boolean;
}

export interface PoolRequest {
  readonly field: string;
  /** Of each family one at most; empty: any. */
  readonly addresses: readonly Address[];
  readonly pool: { readonly key: string; readonly value: string } | undefined;
}

const PREFIXES = ["metallb.io", "metallb.universe.tf"];

function annotation(
  service: ServiceRequest,
  name: string,
): { readonly key: string; readonly value: string } | undefined {
  for (const prefix of PREFIXES) {
    const key = `${prefix}/${name}`;
    const { annotations } = service.metadata;
    if (annotations !== undefined && Object.hasOwn(annotations, key)) return { key, value: annotations[key] ?? "" };
  }
  return undefined;
}

export function refuse(refused: PendingReason, field: string, message: string): Refusal {
  return { refused, field, message: field === "" ? message : `${field}: ${message}` };
}

export function requestOf(service: ServiceRequest): PoolRequest | Refusal {
  const listed = annotation(service, "loadBalancerIPs");
  const single = service.spec.loadBalancerIP ?? "";
  const pool = annotation(service, "address-pool");
  if (listed !== undefined && single !== "") {
    return refuse(
      "invalid-request",
      "spec.loadBalancerIP",
      `may not be set together with the annotation ${listed.key}`,
    );
  }
  const field = listed === undefined ? "spec.loadBalancerIP" : `metadata.annotations.${listed.key}`;
  const texts =
    listed === undefined ? (single === "" ? [] : [single]) : listed.value.split(",").map((text) => text.trim());
  const addresses: Address[] = [];
  for (const text of texts) {
    const address = canonicalAddress(text);
    if (address === undefined)
      return refuse("invalid-request", field, `Invalid value: ${JSON.stringify(text)}: must be a valid IP address`);
    addresses.push(address);
  }
  if (addresses.length > 2 || (addresses.length === 2 && familyOf(addresses[0]!) === familyOf(addresses[1]!))) {
    return refuse("invalid-request", field, "may hold one address of each family");
  }
  return { field, addresses, pool };
}

export function useOf(service: ServiceRequest): Use {
  const local = service.spec.externalTrafficPolicy === "Local";
  const selector = Object.entries(service.spec.selector ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    sharingKey: annotation(service, "allow-shared-ip")?.value ?? "",
    // With policy Local two Services may share an address only if the same pods stand behind both.
    backendKey: local ? `local ${JSON.stringify(selector)}` : "cluster",
    ports: (service.spec.ports ?? []).map((port) => `${protocolOf(port)}/${port.port}`).sort(),
  };
}

export function mayShare(a: Use, b: Use): boolean {
  if (a.sharingKey === "" || a.sharingKey !== b.sharingKey || a.backendKey !== b.backendKey) return false;
  return !a.ports.some((port) => b.ports.includes(port));
}
