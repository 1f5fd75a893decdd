// What goes into the allocation of a cluster's addresses and what comes out of it. Types only.
import type { Address, Family } from "../lib/address.ts";
import type { AddressPool } from "../model/objects.ts";
import type { Refusal } from "./pool-request.ts";
import type { ServiceRequest } from "./service-request.ts";

/** A Service as the API shows it. */
export interface ServiceRecord {
  /** "namespace/name". */
  readonly key: string;
  readonly uid: string;
  /** resourceVersion. */
  readonly version: string;
  /** creationTimestamp: who is older comes first. */
  readonly created: string;
  readonly request: ServiceRequest;
  /** Of status.loadBalancer.ingress. */
  readonly addresses: readonly Address[];
  /** The annotation that says from which pool they are, "" without; and whether MetalLB's former one is there. */
  readonly pool: string;
  readonly hasFormerAnnotation: boolean;
  /** What a condition of its status says that it did with the addresses when it got them (as of PoolHolding), "" without. */
  readonly use: string;
  /** The other conditions. */
  readonly conditions: readonly object[];
}

/** What a Service's status and annotation are to be; no addresses: both are to be cleared. */
export interface AddressWrite {
  readonly record: ServiceRecord;
  readonly addresses: readonly Address[];
  /** "" when cleared. */
  readonly pool: string;
  /** What it does with them, where it may share them; else "". After a restart it tells whose edit it was that two may not share any more. */
  readonly use: string;
}

export interface AllocationInput {
  /** They do not overlap. */
  readonly pools: readonly AddressPool[];
  readonly namespaceLabels: (namespace: string) => Readonly<Record<string, string>>;
  /** Nobody is given one of these; who has one keeps it. */
  readonly nodeAddresses: ReadonlySet<Address>;
  /** False: of the pools some may be missing. Nothing is taken away for that. */
  readonly isWhole: boolean;
}

/** Why an address is not there, or goes. */
export interface AllocationNews {
  readonly record: ServiceRecord;
  /** "cleared": what it had goes, since `message`. "refused": it has none. "unmet": it keeps what it has. */
  readonly kind: "refused" | "unmet" | "cleared";
  readonly refusal: Refusal;
}

export interface PoolCounts {
  readonly name: string;
  readonly assigned: Readonly<Record<Family, number>>;
  readonly available: Readonly<Record<Family, number>>;
}
