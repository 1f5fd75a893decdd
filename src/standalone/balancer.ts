// The LoadBalancer addresses of all Services that ask for one, from the IPAddressPools of the manifests, and what is to be
// told about those that get none. Who gets what is allocate/pools.ts's.
import { assignPoolAddresses, type PoolHolding, type PoolOutcome, usablePools } from "../allocate/pools.ts";
import type { AllocatedService } from "../allocate/service-ledger.ts";
import { type Address, canonicalAddress } from "../lib/address.ts";
import type { Notice } from "../model/objects.ts";
import {
  type AddressPoolObject,
  type ManifestObject,
  own,
  POOL_ANNOTATION,
  type ServiceObject,
} from "../wire/kubernetes.ts";
import { normaliseAddressPool } from "../wire/normalise.ts";
import type { KeptService } from "./allocation-state.ts";

export interface BalancerInput {
  readonly pools: readonly (ManifestObject & { readonly object: AddressPoolObject })[];
  /** As the manifests have them, by "namespace/name", as is everything below. */
  readonly services: ReadonlyMap<string, { readonly document: ManifestObject }>;
  readonly ledger: ReadonlyMap<string, AllocatedService<ServiceObject>>;
  readonly kept: ReadonlyMap<string, KeptService>;
  readonly ageOf: (key: string) => number;
  readonly labelsOfNamespace: (name: string) => Readonly<Record<string, string>> | undefined;
  /** Addresses of nodes and pods: no Service's to have. */
  readonly others: () => Iterable<string>;
}

export interface Balanced {
  readonly outcomes: ReadonlyMap<string, PoolOutcome>;
  readonly notices: readonly Notice[];
}

/** A manifest taken from a running cluster carries the address that it had there: it is kept where that can be. */
function carried({ status, metadata }: ServiceObject): PoolHolding | undefined {
  const addresses = (status?.loadBalancer?.ingress ?? []).flatMap((one) => one.ip ?? []);
  const pool = own(metadata.annotations, POOL_ANNOTATION);
  return addresses.length === 0 || pool === undefined ? undefined : { addresses, pool };
}

export function balance(input: BalancerInput): Balanced {
  const { services, ledger, kept } = input;
  const notices: Notice[] = [];
  const { usable, overlapping } = usablePools(input.pools.map((one) => normaliseAddressPool(one.object)));
  for (const { pool, with: other, range } of overlapping) {
    const field = `spec.addresses[${range}]`;
    const message = `${field}: Invalid value: "${pool.ranges[range]}": overlaps with the IPAddressPool ${other}; this pool is not used`;
    const file = input.pools.find(
      ({ object: { metadata } }) => metadata.name === pool.name && metadata.namespace === pool.namespace,
    )?.file;
    const object = `IPAddressPool ${pool.namespace}/${pool.name}`;
    notices.push({ object, file: file ?? "", field, reason: "pool-overlap", message, severity: "error" });
  }
  const asking = [...ledger.values()].filter(({ source }) => source.spec.type === "LoadBalancer");
  if (asking.length === 0) return { outcomes: new Map(), notices };
  const foreign = new Set<Address>();
  for (const text of input.others()) {
    const address = canonicalAddress(text);
    if (address !== undefined) foreign.add(address);
  }
  for (const { holding } of ledger.values()) for (const one of holding.clusterIPs) foreign.add(one);
  const held = new Map<string, PoolHolding>();
  for (const { key, source } of asking) {
    const holding = kept.get(key)?.balancer ?? carried(source);
    if (holding !== undefined) held.set(key, holding);
  }
  const outcomes = assignPoolAddresses({
    pools: usable,
    clients: asking
      .sort((a, b) => input.ageOf(a.key) - input.ageOf(b.key))
      .map(({ key, source, ipFamilies, ipFamilyPolicy }) => ({
        key,
        service: source,
        families: ipFamilies,
        needsAllFamilies: ipFamilyPolicy === "RequireDualStack",
      })),
    held,
    namespaceLabels: (name) => ({ ...input.labelsOfNamespace(name), "kubernetes.io/metadata.name": name }),
    isForeign: (address) => foreign.has(address),
  });
  for (const [key, outcome] of outcomes) {
    if ("assigned" in outcome) continue;
    const { refused: reason, field, message } = outcome;
    const severity = reason === "wrong-class" ? "info" : reason === "invalid-request" ? "error" : "warning";
    const file = services.get(key)?.document.file ?? "";
    notices.push({ object: `Service ${key}`, file, field, reason, message, severity });
  }
  return { outcomes, notices };
}
