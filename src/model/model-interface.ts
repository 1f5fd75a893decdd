// What a model is to whoever holds it: objects in, operations out, and what it knows for those who ask.
import type { Prefix } from "../lib/address.ts";
import type { LocalEndpoints } from "./compile.ts";
import type { NodePortAddresses } from "./node-port-addresses.ts";
import type {
  AddressPool,
  EndpointSlice,
  L2Advertisement,
  Node,
  Notice,
  ObjectEvent,
  ObjectKey,
  Service,
} from "./objects.ts";
import type { Capacity, KernelState, Operation, PrefixRange } from "./operations.ts";
import type { ServicePortView } from "./service-port-view.ts";
import type { Balancing } from "./spread.ts";

export interface ModelConfig {
  readonly nodeName: string;
  readonly capacity: Capacity;
  /** Service CIDRs: a free address of one is dropped. */
  readonly serviceRanges: readonly PrefixRange[];
  /** Where external IPs may be; nowhere when absent. */
  readonly externalIPRanges?: readonly Prefix[];
  /** DEFAULT_NODE_PORT_ADDRESSES when absent. */
  readonly nodePortAddresses?: NodePortAddresses;
  /** Absent: by hash. */
  readonly balancing?: Balancing;
}

export interface HealthCheck {
  readonly service: ObjectKey;
  readonly port: number;
  /** As of the last plan(). */
  readonly localEndpoints: LocalEndpoints;
}

export type Usage = Pick<
  Capacity,
  "rows" | "slots" | "backends" | "services" | "frontends" | "addresses" | "sourceRanges"
>;

export interface Model {
  /**
   * Takes the allocation over from the kernel: at start, and again after an apply failed. Everything becomes dirty; what
   * no object asks for is dropped by the next plan(), so that is called only when every source has synced.
   */
  adopt(state: KernelState): void;
  /** Enters changes of objects. Cheap: the work is plan()'s. */
  update(events: readonly ObjectEvent[]): void;
  /** The addresses of this node's devices and their networks: nothing in them is a Service's to take. Cheap when they are the same. */
  setNetworks(held: readonly Prefix[]): void;
  /** Something changed since the last plan(). */
  isDirty(): boolean;
  /**
   * Operations for all that is dirty, or, with `limit`, for about so many Services and endpoints of it, so that none may come:
   * isDirty() tells whether more is left. Safe after every prefix, and a frontend that moves is there all the while. The allocation
   * advances as if they succeeded; when one fails, adopt() what the kernel holds then and plan again, in parts as well. What follows
   * a `grace` frees what was retired before it. When a table is full what others need comes first, and in a later part what is given up for it.
   */
  plan(limit?: number): readonly Operation[];
  /** Losers of conflicts, refused addresses and endpoints, full tables: as of the last plan(). */
  notices(): readonly Notice[];
  /** Every service id in use, by its number of allocation. Details of backends are computed when read. */
  servicePorts(): Iterable<ServicePortView>;
  /** Those of one Service. */
  servicePortsOf(service: ObjectKey): Iterable<ServicePortView>;
  serviceById(serviceId: number): ServicePortView | undefined;
  services(): ReadonlyMap<ObjectKey, Service>;
  slices(): ReadonlyMap<ObjectKey, EndpointSlice>;
  /** Slices of one Service, ordered by key. */
  slicesOf(service: ObjectKey): readonly EndpointSlice[];
  nodes(): ReadonlyMap<string, Node>;
  pools(): ReadonlyMap<ObjectKey, AddressPool>;
  l2Advertisements(): ReadonlyMap<ObjectKey, L2Advertisement>;
  healthChecks(): readonly HealthCheck[];
  usage(): Usage;
}
