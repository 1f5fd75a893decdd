// What is said when the API server lacks MetalLB's custom resources though Services ask for addresses that they would tell of. Pure.
import type { Notice } from "../model/objects.ts";
import type { ApiStats } from "../model/source.ts";

const NEEDED: ReadonlySet<string> = new Set(["ipaddresspools", "l2advertisements"]);

/** `services`: LoadBalancer Services that could have an address from a pool. */
export function absentResourceNotices(
  resources: ApiStats["resources"] | undefined,
  services: number,
): readonly Notice[] {
  const absent = (resources ?? []).filter((one) => one.absent && NEEDED.has(one.resource));
  if (absent.length === 0 || services === 0) return [];
  const names = absent.map(({ resource }) => resource).join(" and ");
  const message = `the API server has no ${names}: LoadBalancer addresses (${services} Services) are served and not announced; it is looked for them again within a minute`;
  return [
    { object: "API group metallb.io", file: "", field: "", reason: "resource-absent", message, severity: "info" },
  ];
}
