// What an operator ought to know about the addresses that this node may announce. Pure.
import type { Notice } from "../model/objects.ts";
import type { Candidate } from "./candidate.ts";
import { isSettled } from "./damping.ts";
import type { Peers } from "./peers.ts";

/** An address that was defended, and that nobody else claims for so long, is no news any more. */
const DEFENDED_MS = 300_000;
/** So many addresses under one MAC are a router's that answers for everything. */
const PROXY_ARP = 3;
const UNSURE_TRIES = 3;

export function announcerNotices(
  candidates: Iterable<Candidate>,
  left: readonly Candidate[],
  options: { readonly capacity: number; readonly liveness: () => boolean },
  peers: Pick<Peers, "isMute">,
  nowMs: number,
): Notice[] {
  const found: Notice[] = [];
  const all = [...candidates];
  const mute = new Set<string>();
  const byMac = new Map<string, number>();
  for (const { stranger } of all) if (stranger) byMac.set(stranger.mac, (byMac.get(stranger.mac) ?? 0) + 1);
  for (const { candidacy, phase, refusal, stranger, damping } of all) {
    const { address, device, service, above } = candidacy;
    const about = { object: `Service ${service}`, file: "", field: "status.loadBalancer" };
    if (options.liveness()) for (const node of above) if (peers.isMute(node, nowMs)) mute.add(node);
    if (refusal !== "") {
      const message = `could not announce ${address} on ${device}: ${refusal}; it is tried again`;
      found.push({ ...about, reason: "not-announced", message, severity: "error" });
    }
    // Without answers from nodes it may be a node's that is about to let the address go.
    const isSure = options.liveness() || (stranger?.tries ?? 0) >= UNSURE_TRIES;
    if (stranger !== undefined && phase !== "holding" && isSure) {
      const many =
        (byMac.get(stranger.mac) ?? 0) >= PROXY_ARP ? ", as a router with proxy ARP does for any address" : "";
      const message = `${address} is not announced on ${device}: ${stranger.mac}, which is no node's, answers for it${many}; it is asked again`;
      found.push({ ...about, reason: "address-in-use", message, severity: "warning" });
    } else if (stranger?.kept && nowMs - stranger.sinceMs < DEFENDED_MS) {
      const message = `${address}, announced on ${device}, is claimed by ${stranger.mac} too, which is no node's; it is announced again`;
      found.push({ ...about, reason: "address-in-use", message, severity: "warning" });
    }
    if (isSettled(damping, nowMs)) {
      const message = `${address} changed hands ${damping.changes} times in a row on ${device}: it stays where it is for a while`;
      found.push({ ...about, reason: "announcement-flapping", message, severity: "warning" });
    }
  }
  if (mute.size > 0) {
    const names = [...mute].sort();
    const message = `${names.slice(0, 3).join(", ")}${names.length > 3 ? ` and ${names.length - 3} more` : ""}: no answer to questions whether ${names.length === 1 ? "it lives" : "they live"} so far; until then their Node objects say so`;
    found.push({ object: `Node ${names[0]}`, file: "", field: "", reason: "node-unheard", message, severity: "info" });
  }
  if (left.length === 0) return found;
  const some = left.slice(0, 3).map(({ candidacy }) => `${candidacy.address} of ${candidacy.service}`);
  const message = `${options.capacity} of ${options.capacity + left.length} addresses are announced, as map "announced" is full: not ${some.join(", ")}${left.length > some.length ? ` and ${left.length - some.length} more` : ""}`;
  return [...found, { object: "Map announced", file: "", field: "", reason: "table-full", message, severity: "error" }];
}
