// The endpoints of one slice, in columns. An object and two strings per endpoint, as an array of Endpoint has them, would take
// several hundred bytes each: too much for a million.
import type { Address } from "../lib/address.ts";
import type { Endpoint, ObjectKey } from "./objects.ts";

export const READY = 1;
export const SERVING = 2;
export const TERMINATING = 4;

export interface EndpointColumns {
  /** The first address of each endpoint: consumers of a slice use no other. */
  readonly addresses: readonly Address[];
  /** READY, SERVING and TERMINATING, or'ed, by endpoint. */
  readonly conditions: Uint8Array;
  /** Which of `nodeNames`, by endpoint. */
  readonly nodes: Uint16Array | Uint32Array;
  /** Shared by many lists; "" for an unknown node. */
  readonly nodeNames: readonly string[];
  /** "namespace/name" of each endpoint's Pod ("" where there is none), joined by newlines; "" when none has one. */
  readonly pods: string;
  /** Host names, joined by newlines; "" when none has one. */
  readonly hostnames: string;
}

/** Endpoints of a slice, each with its first address only. Iterating makes Endpoint objects, which nothing keeps. */
export class EndpointList implements Iterable<Endpoint> {
  readonly #columns: EndpointColumns;

  constructor(columns: EndpointColumns) {
    const { addresses, conditions, nodes } = columns;
    if (conditions.length !== addresses.length || nodes.length !== addresses.length) {
      throw new RangeError(
        `Cannot make an endpoint list of ${addresses.length} addresses, ${conditions.length} conditions and ${nodes.length} nodes: the columns must be of one length`,
      );
    }
    this.#columns = columns;
  }

  get length(): number {
    return this.#columns.addresses.length;
  }

  *[Symbol.iterator](): Iterator<Endpoint> {
    const { addresses, conditions, nodes, nodeNames, pods, hostnames } = this.#columns;
    const podList: readonly ObjectKey[] = pods === "" ? [] : pods.split("\n");
    const hostnameList = hostnames === "" ? [] : hostnames.split("\n");
    for (let i = 0; i < addresses.length; i++) {
      const bits = conditions[i]!;
      yield {
        addresses: [addresses[i]!],
        ready: (bits & READY) !== 0,
        serving: (bits & SERVING) !== 0,
        terminating: (bits & TERMINATING) !== 0,
        nodeName: nodeNames[nodes[i]!] ?? "",
        hostname: hostnameList[i] ?? "",
        pod: podList[i] ?? "",
      };
    }
  }
}
