// In which order nodes ought to announce an address: rendezvous hashing, so that a node that leaves moves only its own
// addresses and every node computes the same without asking. It never asks who is eligible or alive.
import { createHash } from "node:crypto";
import type { Address } from "../lib/address.ts";

/** 64-bit score of a node for an address: the first eight bytes of SHA-256 over the name, a zero byte and the address. */
export function score(node: string, address: Address): bigint {
  return createHash("sha256").update(`${node}\0${address}`).digest().readBigUInt64BE(0);
}

/** The nodes, highest score first. The order of the argument does not matter. */
export function rank(nodes: readonly string[], address: Address): string[] {
  return nodes
    .map((node) => ({ node, score: score(node, address) }))
    .sort((a, b) => (a.score > b.score ? -1 : a.score < b.score ? 1 : a.node < b.node ? -1 : 1))
    .map(({ node }) => node);
}
