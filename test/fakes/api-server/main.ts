// The fake API server as its own process, for benchmarks: node test/fakes/api-server/main.ts --services 10000 --endpoints 10
// Prints one line of JSON when it is ready, serves until SIGTERM or SIGINT.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { TestAuthority } from "./certificates.ts";
import { ClusterObjects } from "./cluster-objects.ts";
import { createControl } from "./control.ts";
import { FakeApiServer, type FakeTls } from "./fake-api-server.ts";
import type { StreamingLists } from "./list-options.ts";

const { values } = parseArgs({
  options: {
    services: { type: "string", default: "1" },
    endpoints: { type: "string", default: "1" },
    nodes: { type: "string", default: "100" },
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "0" },
    "dual-stack": { type: "boolean", default: false },
    /** served, refused, ignored or unsupported. */
    "streaming-lists": { type: "string", default: "served" },
    "bookmark-ms": { type: "string", default: "60000" },
    /** The first node's name and address, for an agent that is to be on it. */
    "node-name": { type: "string" },
    "node-address": { type: "string", default: "10.0.0.10" },
    /** A folder: HTTPS, with ca.crt, client.crt and client.key written there. */
    tls: { type: "string" },
  },
});

const cluster = new ClusterObjects({
  services: Number(values.services),
  endpoints: Number(values.endpoints),
  nodes: Number(values.nodes),
  dualStack: values["dual-stack"],
  ...(values["node-name"] === undefined
    ? {}
    : { firstNode: { name: values["node-name"], address: values["node-address"] } }),
});
const server = new FakeApiServer({
  host: values.host,
  port: Number(values.port),
  bookmarkMs: Number(values["bookmark-ms"]),
  streamingLists: values["streaming-lists"] as StreamingLists,
  control: createControl(() => server, cluster),
  ...(values.tls === undefined ? {} : { tls: writeCertificates(values.tls) }),
});

for (const object of cluster.all()) server.put(object);
// Otherwise the history holds what was never a change to anyone.
server.compact();
await server.start();
process.stdout.write(`${JSON.stringify({ url: server.url, revision: server.store.revision, pid: process.pid })}\n`);
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void server.stop());

function writeCertificates(folder: string): FakeTls {
  const authority = new TestAuthority("fake API server CA");
  const client = authority.issue({ commonName: "bench", usage: "client" });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "ca.crt"), authority.cert);
  writeFileSync(join(folder, "client.crt"), client.cert);
  writeFileSync(join(folder, "client.key"), client.key, { mode: 0o600 });
  const server = authority.issue({
    commonName: "kube-apiserver",
    usage: "server",
    names: ["kubernetes.default.svc", "localhost"],
    addresses: [values.host],
  });
  return { ...server, clientCa: authority.cert };
}
