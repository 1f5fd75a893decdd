// Node ports as an API server gives them: which port is free, what is refused and in which words. Who holds what is the
// ledger's (service-ledger.ts). A number belongs to one Service, whatever the protocol.
import type { Range } from "../lib/range.ts";
import { NODE_PORT_BAND, pickFree, reservedOffset } from "./allocation-range.ts";

/** Why a given port cannot be had, in the API server's words; undefined when it can. */
export function nodePortProblem(
  port: number,
  range: Range,
  isTaken: (port: number) => boolean,
): { readonly reason: string; readonly words: string } | undefined {
  if (port < range.first || port > range.last) {
    const words = `provided port is not in the valid range. The range of valid ports is ${range.first}-${range.last}`;
    return { reason: "port-out-of-range", words };
  }
  return isTaken(port) ? { reason: "port-allocated", words: "provided port is already allocated" } : undefined;
}

/** A free port of the range, from its upper part first; undefined when none is left. */
export function pickNodePort(range: Range, seed: string, isTaken: (port: number) => boolean): number | undefined {
  const size = range.last - range.first + 1;
  const index = pickFree(size, reservedOffset(size, NODE_PORT_BAND), seed, (one) => isTaken(range.first + one));
  return index === undefined ? undefined : range.first + index;
}
