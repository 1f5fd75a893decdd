// What is kept of an object on its way from the API to the model, and what can be said against one.
import type { Address, Family } from "../lib/address.ts";
import type {
  AddressPool,
  EndpointHints,
  EndpointPort,
  L2Advertisement,
  Node,
  ObjectKey,
  Service,
  ServiceCIDR,
} from "../model/objects.ts";

/** An EndpointSlice in columns (see model/endpoint-list.ts); one entry for each endpoint. */
export interface SliceRow {
  readonly service: string;
  readonly family: Family;
  readonly ports: readonly EndpointPort[];
  readonly addresses: readonly Address[];
  readonly conditions: readonly number[];
  /** Names of nodes, "" when unknown. */
  readonly nodes: readonly string[];
  /** Absent: no endpoint has hints. */
  readonly hints?: readonly (EndpointHints | undefined)[];
  /** The annotation millrace.io/weights. */
  readonly weights?: string;
}

/** Equal hints have equal text. */
export const hintsId = ({ zones, nodes }: EndpointHints): string => JSON.stringify([zones, nodes]);

export type SliceChange = {
  readonly kind: "EndpointSlice";
  readonly key: ObjectKey;
  /** undefined: it is gone. */
  readonly content: SliceRow | undefined;
  /** Milliseconds since the epoch, 0 when unknown. */
  readonly triggerMs: number;
};

/** `text`: the model's event as JSON, where it was made already. */
export type ObjectChange = { readonly key: ObjectKey; readonly text?: string } & (
  | { readonly kind: "Service"; readonly content: Service | undefined }
  | { readonly kind: "Node"; readonly content: Node | undefined }
  | { readonly kind: "ServiceCIDR"; readonly content: ServiceCIDR | undefined }
  | { readonly kind: "AddressPool"; readonly content: AddressPool | undefined }
  | { readonly kind: "L2Advertisement"; readonly content: L2Advertisement | undefined }
);

export type Change = SliceChange | ObjectChange;

/** Something wrong with one object, by field. */
export interface Complaint {
  readonly field: string;
  readonly reason: string;
  readonly message: string;
}

export type Taken =
  | {
      readonly outcome: "taken";
      readonly change: Change;
      /** Of what the change holds: equal contents need not be sent again. */
      readonly hash: number;
      /** Frontends of a Service, endpoints of a slice, 0 for a ServiceCIDR, else 1: what a full list may not take away unseen (relist-guard.ts). */
      readonly size: number;
      /** What was left out of it. */
      readonly complaints: readonly Complaint[];
    }
  /** Sound, but of no use to the model. */
  | { readonly outcome: "skipped"; readonly key: ObjectKey }
  /** `key` is "" when not even its name can be read. */
  | { readonly outcome: "refused"; readonly key: ObjectKey; readonly complaints: readonly Complaint[] };
