// Remembers the nodes' addresses over a restart: which devices are uplinks depends on them, and an agent that takes over
// programs cannot wait for its source to say so. Never the truth: the source's Node objects are, once it has synced.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { replaceFile } from "../lib/state-store.ts";
import type { NodeAddresses } from "./node-network.ts";

const FILE = "known-nodes.json";
const LISTS = ["own", "others", "otherPodCIDRs"] as const;

/** What was saved last; undefined when nothing was, or it cannot be read. */
export function readKnownNodes(stateDir: string): NodeAddresses | undefined {
  try {
    const found = JSON.parse(readFileSync(join(stateDir, FILE), "utf8")) as Partial<NodeAddresses>;
    const isList = (list: unknown): boolean => Array.isArray(list) && list.every((item) => typeof item === "string");
    return LISTS.every((name) => isList(found[name])) ? (found as NodeAddresses) : undefined;
  } catch {
    return undefined;
  }
}

/** Throws nothing: what is not remembered costs a moment at the next start. Returns why it could not be saved. */
export function saveKnownNodes(stateDir: string, addresses: NodeAddresses): string | undefined {
  try {
    replaceFile(join(stateDir, FILE), JSON.stringify(addresses));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
