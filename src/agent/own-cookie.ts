// The cookie of the agent's own network namespace, by which the socket programs know the node's sockets.
import type { Log } from "../lib/log.ts";
import { hasFeature, netnsCookie } from "../libbpf/mod.ts";

/** 0, which no namespace has, when it cannot be learned: then no socket counts as the node's. */
export function ownCookie(log: Log): bigint {
  if (!hasFeature("netns_cookie")) return 0n;
  try {
    return netnsCookie();
  } catch (error) {
    const effect = "loopback node ports are off, and --sockets=host-only leaves every socket to the packet programs";
    log.warn({ err: error, effect }, "could not learn the cookie of this network namespace");
    return 0n;
  }
}
