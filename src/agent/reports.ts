// What the agent tells whoever reads objects: which Services this node announces, and what is wrong with a Service, a pool or an
// advertisement, as events about it. What every node sees alike is told by one of them. Holds what was told; writes nothing itself.
import { hashOf, score } from "../decide/ranking.ts";
import type { Announcement } from "../l2/announcer-machine.ts";
import type { Node, Notice } from "../model/objects.ts";
import type { Provenance } from "../model/provenance.ts";
import type { AnnouncedService, ObjectReport, Source } from "../model/source.ts";
import { noticeIdentity } from "./notice-log.ts";

export interface ReportsParts {
  readonly nodeName: string;
  readonly source: Pick<Source, "announced" | "report">;
  readonly provenance: Pick<Provenance, "servicesAt" | "version">;
  readonly nodes: () => ReadonlyMap<string, Node>;
}

export interface Reports {
  /** What is announced now. Cheap when it is the same. */
  announced(announcements: readonly Announcement[]): void;
  /** All notices that there are now: those that this node alone has, and those that any node would have. */
  note(own: readonly Notice[], shared: readonly Notice[]): void;
}

const OBJECT = /^(Service|IPAddressPool|L2Advertisement) ([^/]+\/[^/]+)$/;

export function createReports({ nodeName, source, provenance, nodes }: ReportsParts): Reports {
  let told: { readonly list: readonly Announcement[]; readonly version: number } | undefined;
  let known: ReadonlySet<string> = new Set();

  /** Every Service that has an announced address, also where several share it. */
  function servicesOf(announcements: readonly Announcement[]): readonly AnnouncedService[] {
    const devices = new Map<string, Set<string>>();
    for (const { address, service, device } of announcements) {
      const sharers = provenance.servicesAt(address);
      for (const key of sharers.length > 0 ? sharers : [service])
        devices.set(key, (devices.get(key) ?? new Set()).add(device));
    }
    return [...devices].map(([service, names]) => ({ service, interfaces: [...names].sort() }));
  }

  /** Of nodes that are ready this one ranks first for the object. */
  function isReporter(object: string): boolean {
    const hash = hashOf(object);
    const own = score(hashOf(nodeName), hash);
    for (const { name, ready } of nodes().values()) {
      if (!ready || name === nodeName) continue;
      const other = score(hashOf(name), hash);
      if (other > own || (other === own && name < nodeName)) return false;
    }
    return true;
  }

  function reportOf({ object, reason, message, severity }: Notice): ObjectReport | undefined {
    const [, kind, key] = OBJECT.exec(object) ?? [];
    if (severity === "info" || kind === undefined || key === undefined) return undefined;
    const word = reason.replaceAll(/(?:^|-)(\w)/g, (_, letter: string) => letter.toUpperCase());
    return { kind: kind as ObjectReport["kind"], key, reason: word, message, type: "Warning" };
  }

  return {
    announced(list) {
      if (source.announced === undefined) return;
      const version = provenance.version();
      const isSame =
        told?.version === version && told.list.length === list.length && list.every((one, i) => one === told?.list[i]);
      if (isSame) return;
      told = { list, version };
      source.announced(servicesOf(list));
    },
    note(own, shared) {
      if (source.report === undefined) return;
      const now = new Set<string>();
      const tell = (notices: readonly Notice[], isMine: (object: string) => boolean): void => {
        for (const notice of notices) {
          const report = reportOf(notice);
          if (report === undefined) continue;
          const id = noticeIdentity(notice);
          now.add(id);
          if (!known.has(id) && isMine(notice.object)) source.report?.(report);
        }
      };
      tell(own, () => true);
      tell(shared, isReporter);
      known = now;
    },
  };
}
