// How many notices there are of each reason and severity, for the metrics. Pure.
import type { Notice } from "../model/objects.ts";
import type { NoticeCount } from "./view.ts";

/** By reason and severity, those of `known` included. */
export function countNotices(notices: readonly Notice[], known: readonly NoticeCount[] = []): NoticeCount[] {
  const counts = new Map(known.map((one) => [`${one.reason} ${one.severity}`, one]));
  for (const { reason, severity } of notices) {
    const id = `${reason} ${severity}`;
    counts.set(id, { reason, severity, count: (counts.get(id)?.count ?? 0) + 1 });
  }
  return [...counts.values()];
}
