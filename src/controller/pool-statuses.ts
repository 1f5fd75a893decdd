// The counters in IPAddressPools' statuses, as MetalLB has them: written when they are others than what the API shows, of each pool
// once in a while at most.
import type { PoolCounts } from "../allocate/allocation-records.ts";
import type { ClusterWriter } from "../kube/cluster-writer.ts";
import type { ListedObject } from "./configuration.ts";

export interface PoolStatusesOptions {
  readonly writer: Pick<ClusterWriter, "patchPoolStatus">;
  readonly counts: () => readonly PoolCounts[];
  readonly object: (pool: string) => ListedObject | undefined;
  /** What was written last, by the pool's uid: of what the server does not keep a second writing makes no more. */
  readonly written: Map<string, string>;
  readonly mayWrite: () => boolean;
}

export function poolStatus({ assigned, available }: PoolCounts): Readonly<Record<string, number>> {
  return {
    assignedIPv4: assigned.IPv4,
    assignedIPv6: assigned.IPv6,
    availableIPv4: available.IPv4,
    availableIPv6: available.IPv6,
  };
}

/** Writes what has changed; resolves when it is done, to what went wrong. */
export async function writePoolStatuses(options: PoolStatusesOptions): Promise<readonly string[]> {
  const { writer, counts, object, written, mayWrite } = options;
  const problems: string[] = [];
  for (const one of counts()) {
    const listed = object(one.name);
    const status = poolStatus(one);
    const shown = (listed?.object["status"] ?? {}) as Readonly<Record<string, unknown>>;
    if (listed === undefined || Object.entries(status).every(([field, value]) => shown[field] === value)) continue;
    const text = JSON.stringify([status, shown]);
    if (written.get(listed.ref.uid) === text) continue;
    if (!mayWrite()) break;
    const { namespace, name } = listed.ref;
    const result = await writer.patchPoolStatus({ namespace, name }, { status });
    if (result.outcome === "done") written.set(listed.ref.uid, text);
    if (result.outcome !== "done" && result.outcome !== "absent") {
      problems.push(`could not write the status of IPAddressPool ${namespace}/${name}: ${result.message}`);
    }
  }
  return problems;
}
