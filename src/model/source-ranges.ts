// Which clients a Service's LoadBalancer addresses serve, as far as there is room to say so: what is left out stays closed.
import type { Prefix } from "../lib/address.ts";
import { type FrontendSpec, type PortSpec, prefixText } from "./compile.ts";
import type { Shortage } from "./fit.ts";
import type { Operation } from "./operations.ts";
import type { Round } from "./plan.ts";
import type { Group, InstalledRow, Tables } from "./tables.ts";

/** Of one service id. */
export interface SourceRanges {
  readonly serviceId: number;
  readonly ranges: readonly Prefix[];
}

/** Node ports and cluster addresses are not filtered. */
export function isRestricted({ kind }: FrontendSpec, spec: PortSpec): boolean {
  return kind === "load-balancer" && spec.sourceRanges !== undefined;
}

/**
 * Brings the group's ranges to what `spec` asks for, `most` of them, those that are there before others, such that nobody is served in between who is refused before and after. `live`: its
 * rows that were restricted before; while there are any, new ranges come when those that leave have left. Old ones go last, unless new
 * rows would serve their clients or the map is too full for both: then whoever is in old and new ones is refused for a moment.
 */
export function applySourceRanges(
  tables: Tables,
  round: Round,
  group: Group,
  spec: PortSpec,
  most: number,
  live: readonly InstalledRow[],
  shortages: Shortage[],
): void {
  const restricted = group.rows.some((row) => row.restricted);
  if (!restricted && group.sourceRanges.length === 0 && group.policy === "") return;
  const asked = restricted ? (spec.sourceRanges ?? []) : [];
  const { serviceId } = group;
  const there = new Set(group.sourceRanges.map(prefixText));
  const kept = asked.filter((range) => there.has(prefixText(range))).slice(0, most);
  const fresh = asked.filter((range) => !there.has(prefixText(range))).slice(0, most - kept.length);
  const stays = new Set(kept.map(prefixText));
  const gone = group.sourceRanges.filter((range) => !stays.has(prefixText(range)));

  const room = tables.capacity.sourceRanges - tables.sourceRangesUsed;
  const goFirst = fresh.length > room;
  const ranges = goFirst ? fresh.slice(0, room + gone.length) : fresh;
  const put: Operation = { op: "put-source-ranges", serviceId, ranges };
  const free: Operation = { op: "free-source-ranges", serviceId, ranges: gone };
  const early = goFirst || live.length === 0 || group.rows.some((row) => row.restricted && !live.includes(row));
  if (early && gone.length > 0) round.puts.push(free);
  if (ranges.length > 0) (live.length > 0 ? round.settles : round.puts).push(put);
  if (!early && gone.length > 0) round.settles.push(free);
  const more = goFirst ? Math.max(0, ranges.length - gone.length) : ranges.length;
  tables.sourceRangesUsed += more;
  round.freedSourceRanges += gone.length - (ranges.length - more);
  group.sourceRanges = [...kept, ...ranges];
  const served = group.sourceRanges.length;
  if (served < asked.length)
    shortages.push({ table: "source_ranges", served, asked: asked.length, share: served >= most });

  const policy = restricted ? `restricted ${group.sourceRanges.map(prefixText).sort().join(" ")}` : "";
  if (policy !== group.policy) round.settles.push({ op: "raise-policy", serviceId });
  group.policy = policy;
}

/** Its rows go with this round. */
export function removeSourceRanges(round: Round, { serviceId, sourceRanges: ranges }: Group): void {
  if (ranges.length > 0) round.leavingSourceRanges.push({ serviceId, ranges });
}

/** What nothing reads any more after the round's grace. */
export function* endSourceRanges(tables: Tables, round: Round): Generator<Operation> {
  tables.sourceRangesUsed -= round.freedSourceRanges;
  for (const { serviceId, ranges } of round.leavingSourceRanges) {
    yield { op: "free-source-ranges", serviceId, ranges };
    tables.sourceRangesUsed -= ranges.length;
  }
}
