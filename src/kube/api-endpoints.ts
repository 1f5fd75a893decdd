// Where the API server itself is, as the Service default/kubernetes says: the way back in when nothing else leads there.
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

/** `remember` gets all of them whenever some changed. */
export function createApiEndpoints(remember: (urls: readonly string[]) => void): ApiEndpoints {
  const urls = new Map<ObjectKey, readonly string[]>();
  return {
    take(change) {
      if (change.kind !== "EndpointSlice") return;
      const { key, content } = change;
      if (content?.service === "kubernetes" && key.startsWith("default/")) urls.set(key, urlsOf(content));
      else if (!urls.delete(key)) return;
      remember([...urls.values()].flat());
    },
  };
}
