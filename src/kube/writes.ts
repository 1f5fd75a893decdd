// All that an agent writes to the API: events, and the ServiceL2Status objects of its node. Each kind has its own rate, so that
// neither a storm of addresses nor one of news floods the API or delays the other.
import type { AnnouncedService, ObjectReport } from "../model/source.ts";
import { type ApiWriterOptions, createApiWriter } from "./api-writer.ts";
import type { Clock } from "./clock.ts";
import { createEventWriter } from "./event-writer.ts";
import type { Problem } from "./resource-record.ts";
import type { Change } from "./row.ts";
import { createServiceStatuses } from "./service-statuses.ts";

/** Requests at once, and from then on in a second. */
export const STATUS_RATE = { burst: 50, perSecond: 10 };
export const EVENT_RATE = { burst: 25, perSecond: 5 };

export interface WritesOptions extends Pick<ApiWriterOptions, "transport"> {
  readonly nodeName: string;
  readonly namespace: string;
  readonly clock: Clock;
  /** In [0, 1). @default Math.random */
  readonly random?: () => number;
  /** @default never aborted */
  readonly signal?: AbortSignal;
  readonly onChange: () => void;
}

export interface Writes {
  announced(list: readonly AnnouncedService[]): void;
  report(report: ObjectReport): void;
  /** Tells which nodes are alive. */
  takeNode(change: Change): void;
  problems(): readonly Problem[];
  /** Keys that wait to be written. */
  pending(): number;
}

export function createWrites(options: WritesOptions): Writes {
  const { nodeName, transport, clock, random = Math.random, signal = new AbortController().signal } = options;
  const common = { ...options, random, signal };
  const writerOf = (rate: Pick<ApiWriterOptions, "burst" | "perSecond">) =>
    createApiWriter({ transport, clock, signal, ...rate });
  const events = createEventWriter({ ...common, writer: writerOf(EVENT_RATE) });
  const statuses = createServiceStatuses({
    ...common,
    writer: writerOf(STATUS_RATE),
    onAssigned: (key) =>
      events.report({
        ...{ kind: "Service", key, reason: "nodeAssigned", type: "Normal" },
        message: `announcing from node "${nodeName}" with protocol "layer2"`,
      }),
  });
  return {
    announced: statuses.announced,
    report: events.report,
    takeNode: statuses.takeNode,
    problems() {
      const dropped = events.dropped();
      const lost: Problem[] =
        dropped === 0 ? [] : [{ reason: "events-dropped", message: `${dropped} events found no room and are lost` }];
      return [statuses.problem() ?? [], events.problem() ?? [], lost].flat();
    },
    pending: () => statuses.pending() + events.pending(),
  };
}
