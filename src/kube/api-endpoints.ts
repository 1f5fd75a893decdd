// Where the API server itself is, as the Service default/kubernetes says: the way back in when nothing else leads there.
import type { Address } from "../lib/address.ts";
import type { ObjectKey } from "../model/objects.ts";
import type { Change, SliceRow } from "./row.ts";

function urlsOf({ addresses, ports }: SliceRow): string[] {
  const port = (ports.find(({ name }) => name === "https") ?? ports[0])?.port;
  if (port === undefined) return [];
  return addresses.map((address) => `https://${address.includes(":") ? `[${address}]` : address}:${port}`);
}

export interface ApiEndpoints {
  take(change: Change): void;
}

/** `remember` gets all of them, and the Service's ClusterIPs, whenever something of it changed. */
export function createApiEndpoints(
  remember: (urls: readonly string[], clusterIPs: readonly Address[]) => void,
): ApiEndpoints {
  const urls = new Map<ObjectKey, readonly string[]>();
  let clusterIPs: readonly Address[] = [];
  return {
    take(change) {
      const { kind, key, content } = change;
      if (kind === "Service" && key === "default/kubernetes") clusterIPs = content?.clusterIPs ?? [];
      else if (kind !== "EndpointSlice") return;
      // By its name, which the API server keeps for itself: anybody may label another slice of that namespace so.
      else if (key === "default/kubernetes" && content?.service === "kubernetes") urls.set(key, urlsOf(content));
      else if (!urls.delete(key)) return;
      remember([...urls.values()].flat(), clusterIPs);
    },
  };
}
