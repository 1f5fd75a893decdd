// Remembers the nodes' addresses over a restart: which devices are uplinks depends on them, and an agent that takes over
// programs cannot wait for its source to say so. Never the truth: the source's Node objects are, once it has synced.
import { join } from "node:path";
import { type NodeAddresses, readNodeAddresses } from "../decide/node-addresses.ts";
import { recall, writeStateFile } from "../lib/state-store.ts";

const fileIn = (stateDir: string): string => join(stateDir, "known-nodes.json");

/** What was saved last; undefined when nothing was, or it cannot be read. */
export function readSavedNodeAddresses(stateDir: string): NodeAddresses | undefined {
  return readNodeAddresses(recall(fileIn(stateDir)));
}

/** @throws Failure "machine": what is not remembered costs a moment at the next start */
export function saveNodeAddresses(stateDir: string, addresses: NodeAddresses): Promise<void> {
  return writeStateFile(fileIn(stateDir), `${JSON.stringify(addresses)}\n`);
}
