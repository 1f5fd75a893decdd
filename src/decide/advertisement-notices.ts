// L2Advertisements that name pools which do not exist: MetalLB says nothing of them, and their addresses are announced nowhere. Pure.
import { didYouMean } from "../lib/suggest.ts";
import type { AddressPool, L2Advertisement, Notice } from "../model/objects.ts";

export function advertisementNotices(
  advertisements: Iterable<L2Advertisement>,
  pools: Iterable<AddressPool>,
): readonly Notice[] {
  const names = new Map<string, string[]>();
  for (const { namespace, name } of pools) names.set(namespace, [...(names.get(namespace) ?? []), name]);
  return [...advertisements].flatMap(({ namespace, name, pools: wanted }) => {
    const known = names.get(namespace) ?? [];
    return wanted.flatMap((pool, i): Notice[] => {
      if (known.includes(pool)) return [];
      const field = `spec.ipAddressPools[${i}]`;
      const message = `${field}: Not found: "${pool}": namespace ${namespace} has no such IPAddressPool${didYouMean(pool, known)}`;
      return [
        {
          object: `L2Advertisement ${namespace}/${name}`,
          file: "",
          field,
          reason: "no-such-pool",
          message,
          severity: "info",
        },
      ];
    });
  });
}
