// All that an agent has to say of itself and of what it serves, gathered when it is asked for.
import { absentResourceNotices } from "../decide/absent-resources.ts";
import { advertisementNotices } from "../decide/advertisement-notices.ts";
import type { Notice } from "../model/objects.ts";
import type { Source } from "../model/source.ts";
import { bypassNotices } from "./bypass-notice.ts";
import { effectNotices, watchNotices } from "./machine.ts";
import type { AgentOptions } from "./options.ts";
import type { AgentParts } from "./parts.ts";
import type { Reconciler } from "./reconciler.ts";
import { scarcePortNotices } from "./scarce-ports.ts";

interface Telling {
  notices(): readonly Notice[];
}

export interface NoticesOf {
  readonly options: AgentOptions;
  readonly parts: AgentParts;
  readonly source: Source;
  readonly reconciler: Pick<Reconciler, "desired" | "statuses">;
  readonly others: readonly Telling[];
  /** Why the network is not watched; "" when it is. */
  watchProblem(): string;
  scarcePorts(): Parameters<typeof scarcePortNotices>[0];
}

export interface AgentNotices {
  /** What any node that reads these objects has to say of them. */
  objects(): Notice[];
  /** All that is to be told now, but for what the HTTP servers add. */
  all(): Notice[];
}

export function createAgentNotices(of: NoticesOf): AgentNotices {
  const { options, parts, source, reconciler } = of;
  const { model, provenance, dataplane, network, announcer, sysctls, liveness, startNotices } = parts;
  const objects = (): Notice[] => [
    ...[source, provenance, model].flatMap((one) => one.notices()),
    ...advertisementNotices(model.l2Advertisements().values(), model.pools().values()),
  ];
  const all = (): Notice[] => [
    ...bypassNotices(dataplane.readBypass()),
    ...objects(),
    ...[network, announcer, sysctls, ...of.others].flatMap((one) => one.notices()),
    ...absentResourceNotices(source.api?.()?.resources, provenance.services()),
    ...liveness.notices(model.l2Advertisements().size > 0),
    ...startNotices,
    ...watchNotices(of.watchProblem()),
    ...reconciler.desired().notices,
    ...scarcePortNotices(of.scarcePorts(), options.snatPortRange, model.serviceById),
    ...effectNotices(reconciler.statuses()),
  ];
  return { objects, all };
}
