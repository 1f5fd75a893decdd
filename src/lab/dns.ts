// The cluster's DNS server as a program of its own: `lab dns`, started in the namespace of the pod kube-dns. It reads the
// lab's state directory and nothing else. It says "ready" when it listens, and "applied DIGEST" for each state it answers from.
import { writeSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { createLog } from "../lib/log.ts";
import { createDnsServer } from "../standalone/dns.ts";
import { createManifestSource } from "../standalone/manifest-source.ts";
import { CLUSTER_RANGES } from "./service-side.ts";

const DNS_PORT = 53;

/** Serves until SIGTERM. @throws when it cannot listen */
export async function runLabDns(manifests: string, stateDir: string): Promise<void> {
  const addresses = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith("fe80:"))
    .map(({ address }) => address);
  const log = createLog("dns");
  const server = await createDnsServer({ addresses, port: DNS_PORT, clusterDomain: "cluster.local", log });
  const source = createManifestSource({
    paths: [manifests],
    readOnly: true,
    stateDir,
    serviceClusterIpRange: Object.values(CLUSTER_RANGES),
    serviceNodePortRange: { first: 30000, last: 32767 },
  });
  await source.start((events, digest) => {
    server.update(events);
    tell(`applied ${digest}`);
  });
  tell("ready");
  process.once("SIGTERM", () => {
    // Questions of clients that still have the old endpoint are answered for the grace time of every pod.
    setTimeout(() => process.exit(0), 2000);
  });
}

/** To whoever started it; nobody may be left to read. */
function tell(line: string): void {
  try {
    writeSync(1, `${line}\n`);
  } catch {}
}
