// Backends toward which source ports run out, as notices of their Services.
import type { ScarcePorts } from "../datapath/source-ports.ts";
import { hostAndPort } from "../lib/address.ts";
import type { Range } from "../lib/range.ts";
import type { Model } from "../model/model-interface.ts";
import type { Notice } from "../model/objects.ts";

const SHOWN = 10;

/** One for each of the first ten backends. */
export function scarcePortNotices(
  scarce: readonly ScarcePorts[],
  { first, last }: Range,
  serviceById: Model["serviceById"],
): readonly Notice[] {
  return scarce.slice(0, SHOWN).map(({ address, port, protocol, serviceId, used }) => {
    const view = serviceById(serviceId);
    const object = view === undefined ? `Backend ${hostAndPort(address, port)}` : `Service ${view.service}`;
    const ports = `${used} of ${last - first + 1} source ports toward ${protocol} ${hostAndPort(address, port)} are in use`;
    const message = `${ports}: new connections from outside may be dropped (DROP_NO_SOURCE_PORT); add endpoints, or widen --snat-port-range`;
    return { object, file: "", field: "", reason: "source-ports-scarce", message, severity: "error" };
  });
}
