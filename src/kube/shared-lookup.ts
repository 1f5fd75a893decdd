// One question to the resolver for a name at a time, shared by all who ask meanwhile. While no DNS server answers, each question takes one of
// the two threads that libuv has for them for up to half a minute, and is not called off by whoever gave up waiting.
import { type LookupOptions, lookup } from "node:dns";
import type { LookupFunction } from "node:net";

type Done = Parameters<LookupFunction>[2];

/** `resolve` as dns.lookup. */
export function createSharedLookup(resolve: LookupFunction = lookup as LookupFunction): LookupFunction {
  const waiting = new Map<string, Done[]>();
  return (hostname, options, done) => {
    const key = keyOf(hostname, options);
    const others = waiting.get(key);
    if (others !== undefined) {
      others.push(done);
      return;
    }
    const all = [done];
    waiting.set(key, all);
    resolve(hostname, options, (...answer) => {
      waiting.delete(key);
      for (const one of all) one(...answer);
    });
  };
}

function keyOf(hostname: string, { family, hints, all, order }: LookupOptions): string {
  return JSON.stringify([hostname, family, hints, all, order]);
}
