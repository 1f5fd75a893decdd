// Why a cell of docs/semantics.md has no flow case. A cell without a case that none fits fails a test, and so does a gap that covers
// a cell with cases, or none at all: a gap names what cannot be asked, and a case that nobody wrote is to be written.
import type { Family } from "../../src/lib/address.ts";
import type { Protocol } from "../../src/model/objects.ts";
import type { Client } from "./semantics-page.ts";

/** What is absent is any. */
export interface Gap {
  readonly fields?: readonly string[];
  readonly clients?: readonly Client[];
  readonly protocols?: readonly Protocol[];
  readonly families?: readonly Family[];
  readonly why: string;
}

export const GAPS: readonly Gap[] = [
  {
    clients: ["a pod's socket", "the host's socket"],
    protocols: ["SCTP"],
    why: "sockets of SCTP are left alone: what they send is translated by packet",
  },
];
