// What the model asks of the kernel's maps: the vocabulary between model/ (pure) and datapath/ (applies it).
// Meaning of each row: docs/architecture.md, "Maps". Order is the invariant: put backends -> put slots -> put or switch rows
// -> frontends -> retire -> grace -> free.
import type { Address, Prefix } from "../lib/address.ts";
import type { Protocol } from "./objects.ts";

/** What is translated. */
export type RowProtocol = Protocol;

/**
 * Key of the `frontends` hash. "0.0.0.0" (bytes ::ffff:0.0.0.0) stands for every IPv4 address of this node, "::" for every
 * IPv6 one (node ports, host ports): each family has its own service id.
 */
export interface FrontendKey {
  readonly address: Address;
  readonly port: number;
  readonly protocol: RowProtocol;
}

export type FrontendKind = "cluster-ip" | "node-port" | "load-balancer" | "host-port" | "external-ip";

/**
 * The slots [first, first + count) of the `slots` array that a policy may use, written as one 64-bit word.
 * count 0: nothing serves; `whenEmpty` says what becomes of the packet: "refuse" (TCP RST, ICMP port unreachable,
 * ECONNREFUSED) when there is no endpoint at all, "drop" when a Local policy leaves none here but there are some elsewhere.
 */
export interface Window {
  readonly first: number;
  readonly count: number;
  readonly whenEmpty: "refuse" | "drop";
}

/**
 * Which window a client uses: from outside this node: `internal` for a cluster-ip frontend, else `external`;
 * from this node (pod, process): `internal` for a cluster-ip frontend, else `cluster`.
 */
export const WINDOWS = ["external", "internal", "cluster"] as const;

export interface Windows {
  readonly external: Window;
  readonly internal: Window;
  readonly cluster: Window;
}

/** A row of the `rows` array. What is below `kind` may change while a frontend points to it. */
export interface Row {
  readonly key: FrontendKey;
  /** Raised each time the index is used for another frontend; never 0. */
  readonly generation: number;
  readonly serviceId: number;
  readonly kind: FrontendKind;
  /** For so many seconds after its last new connection a client keeps its backend; 0: it keeps none. */
  readonly affinity: number;
  /** Only clients in the Service's source ranges are served. */
  readonly restricted: boolean;
  readonly windows: Windows;
}

/** A row of the `backends` array. Address, port and service id are constant from put to free. */
export interface Backend {
  readonly address: Address;
  readonly port: number;
  readonly serviceId: number;
  /** Never 0. Raised when the backend is retired and again when the index is used anew. */
  readonly generation: number;
  /** It is on this node: reached through the stack, without source translation. */
  readonly local: boolean;
  /** The windows that show it, a bit each in the order of WINDOWS. Set before a window shows it, cleared after none does. */
  readonly windows: number;
}

export interface Slot {
  readonly backend: number;
  readonly generation: number;
}

/** Roles of an address in the `addresses` hash; an address may have several. */
export interface AddressRoles {
  /** This node's: host ports answer on it, and node ports unless `withoutNodePorts`. */
  readonly node: boolean;
  /** A port nobody defined is refused and echo is answered here: ClusterIPs, and LoadBalancer addresses from our pools. */
  readonly refuse: boolean;
  /** Another node's, another proxy's, or, in a Service range, of a device of this one: never refused, no free Service address. */
  readonly peer: boolean;
  /** Of a node's address: node ports do not answer on it. */
  readonly withoutNodePorts: boolean;
}

/** A range of Services, for dropping free addresses of a known Service CIDR. */
export interface PrefixRange extends Prefix {
  /** A network of this node in or around such a range: its addresses are nobody's to drop. Comes before the ranges of Services. */
  readonly exempt?: boolean;
}

export type Operation =
  /** Backends of one service id, by position: nothing points to their indexes yet. Generations are never 0. */
  | {
      readonly op: "put-backends";
      readonly serviceId: number;
      readonly indexes: readonly number[];
      readonly generations: readonly number[];
      readonly endpoints: readonly Pick<Backend, "address" | "port" | "local" | "windows">[];
    }
  /** The one live change of a backend: it moved to this node or away, or other windows show it. Same generation. */
  | ({ readonly op: "set-backend"; readonly index: number } & Pick<Backend, "generation" | "local" | "windows">)
  /** Slots [first, first + backends.length): a backend's index and generation each. */
  | {
      readonly op: "put-slots";
      readonly first: number;
      readonly backends: Uint32Array;
      readonly generations: Uint32Array;
    }
  /** Nothing points to `index` yet. */
  | { readonly op: "put-row"; readonly index: number; readonly row: Row }
  /** A live change of a row: up to three 64-bit stores. */
  | { readonly op: "set-windows"; readonly index: number; readonly windows: Windows }
  /** A live change of a row: one 64-bit store. */
  | ({ readonly op: "set-row"; readonly index: number } & Pick<Row, "kind" | "affinity" | "restricted">)
  /** Networks whose clients the Service's restricted rows serve. Neither puts what is there nor drops what is not. */
  | { readonly op: "put-source-ranges"; readonly serviceId: number; readonly ranges: readonly Prefix[] }
  | { readonly op: "free-source-ranges"; readonly serviceId: number; readonly ranges: readonly Prefix[] }
  /** Established flows of the Service are to be measured by its ranges again. */
  | { readonly op: "raise-policy"; readonly serviceId: number }
  /** May replace the row of a key that another Service had: readers find the old or the new one, as rows repeat their key. */
  | { readonly op: "put-frontend"; readonly key: FrontendKey; readonly row: number; readonly generation: number }
  | { readonly op: "drop-frontend"; readonly key: FrontendKey }
  | { readonly op: "put-address"; readonly address: Address; readonly roles: AddressRoles }
  | { readonly op: "drop-address"; readonly address: Address }
  | { readonly op: "set-service-ranges"; readonly ranges: readonly PrefixRange[] }
  /** `retired` gets {address, port, UDP} -> a row of the Service (UDP only, when asked), then the backend's word gets `generation` and the state "retired". */
  | { readonly op: "retire-backend"; readonly index: number; readonly generation: number; readonly udp: boolean }
  /** Wait until no program that started before can still see what was retired (membarrier). Several may be merged. */
  | { readonly op: "grace" }
  /** The index, row or range is free from here on; the kernel's copy is marked free so that a restart adopts it as free. */
  | { readonly op: "free-backend"; readonly index: number }
  | { readonly op: "free-row"; readonly index: number }
  | { readonly op: "free-slots"; readonly first: number; readonly count: number };

/** What is in the kernel's maps, read once at start: the truth about ids, indexes and ranges. */
export interface KernelState {
  readonly frontends: readonly { readonly key: FrontendKey; readonly row: number; readonly generation: number }[];
  /** Rows that a frontend points to with the same generation, by index. */
  readonly rows: ReadonlyMap<number, Row>;
  /** Every backend that is in use (neither free nor retired), by index. */
  readonly backends: ReadonlyMap<number, Backend>;
  /** Last generation used per index, for rows and backends that are free or retired: reuse must raise it. */
  readonly rowGenerations: ReadonlyMap<number, number>;
  readonly backendGenerations: ReadonlyMap<number, number>;
  /** Reads one slot. */
  slot(index: number): Slot;
  readonly addresses: ReadonlyMap<Address, AddressRoles>;
  /** By service id. */
  readonly sourceRanges: ReadonlyMap<number, readonly Prefix[]>;
}

/** Sizes of the maps that may fill up with what objects ask for. */
export interface Capacity {
  readonly frontends: number;
  readonly rows: number;
  readonly slots: number;
  readonly backends: number;
  readonly services: number;
  /** Ranges of cluster addresses, and those exempt from them. */
  readonly serviceRanges: number;
  /** Networks of source ranges, once for each service id. */
  readonly sourceRanges: number;
  /** Addresses with a role. */
  readonly addresses: number;
  /** Network devices of the node. */
  readonly devices: number;
  /** Announced addresses, once for each device. */
  readonly announced: number;
}
