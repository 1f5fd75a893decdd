// The endpoints of one slice, in columns. An object and two strings per endpoint, as an array of Endpoint has them, would take
// several hundred bytes each: too much for a million.
import type { Address } from "../lib/address.ts";
import type { Endpoint, EndpointHints, Endpoints } from "./objects.ts";

export const READY = 1;
export const SERVING = 2;
export const TERMINATING = 4;

export interface EndpointColumns {
  /** The first address of each endpoint: consumers of a slice use no other. */
  readonly addresses: readonly Address[];
  /** One character for each endpoint, whose code is READY, SERVING and TERMINATING or'ed: a short text takes a third of an array's room. */
  readonly conditions: string;
  /** One character for each endpoint, whose code is the index in `nodeNames`. */
  readonly nodes: string;
  /** Shared by many lists; "" for an unknown node. At most 65536. */
  readonly nodeNames: readonly string[];
  /** One character for each endpoint, whose code is the index in `hintSets`. Absent: no endpoint has hints. */
  readonly hints?: string;
  /** Shared by many lists; undefined for an endpoint without hints. At most 65536. */
  readonly hintSets?: readonly (EndpointHints | undefined)[];
}

/** Endpoints of a slice, each with its first address only, without host name and Pod. Iterating makes Endpoint objects, which nothing keeps. */
export class EndpointList implements Iterable<Endpoint> {
  readonly #columns: EndpointColumns;

  constructor(columns: EndpointColumns) {
    const { addresses, conditions, nodes, hints } = columns;
    if ([conditions, nodes, hints ?? addresses].some(({ length }) => length !== addresses.length)) {
      throw new RangeError(
        `Cannot make an endpoint list of ${addresses.length} addresses, ${conditions.length} conditions and ${nodes.length} nodes${hints === undefined ? "" : ` and ${hints.length} hints`}: the columns must be of one length`,
      );
    }
    this.#columns = columns;
  }

  get length(): number {
    return this.#columns.addresses.length;
  }

  get hasHints(): boolean {
    return this.#columns.hints !== undefined;
  }

  *[Symbol.iterator](): Iterator<Endpoint> {
    const { addresses, conditions, nodes, nodeNames, hints, hintSets } = this.#columns;
    for (let i = 0; i < addresses.length; i++) {
      const bits = conditions.charCodeAt(i);
      const hinted = hints === undefined ? undefined : hintSets?.[hints.charCodeAt(i)];
      yield {
        addresses: [addresses[i]!],
        ready: (bits & READY) !== 0,
        serving: (bits & SERVING) !== 0,
        terminating: (bits & TERMINATING) !== 0,
        nodeName: nodeNames[nodes.charCodeAt(i)] ?? "",
        hostname: "",
        pod: "",
        ...(hinted && { hints: hinted }),
      };
    }
  }
}

/** Some endpoint is meant for some zone or node. */
export function hasHints(endpoints: Endpoints): boolean {
  if (endpoints instanceof EndpointList) return endpoints.hasHints;
  for (const { hints } of endpoints) if (hints !== undefined) return true;
  return false;
}
