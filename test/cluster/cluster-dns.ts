// The cluster's DNS: CoreDNS as a Deployment behind the Service kube-dns, so that names are reached through the proxy under test.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { API_URL, CLUSTER_DOMAIN, DNS_ADDRESSES } from "./addressing.ts";
import { COREDNS_IMAGE } from "./images.ts";

/** The manifest of CoreDNS and all that belongs to it. */
export function dnsManifest(): string {
  const values: Readonly<Record<string, string>> = {
    API_URL,
    CLUSTER_DOMAIN,
    COREDNS_IMAGE,
    DNS_ADDRESS: DNS_ADDRESSES[0],
    DNS_ADDRESS6: DNS_ADDRESSES[1],
  };
  const text = readFileSync(join(import.meta.dirname, "manifests/coredns.yaml"), "utf8");
  return text.replace(/\b(?:API_URL|CLUSTER_DOMAIN|COREDNS_IMAGE|DNS_ADDRESS6?)\b/g, (name) => values[name]!);
}
