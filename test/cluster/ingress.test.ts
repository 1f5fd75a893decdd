// An ingress controller that knows nothing of Millrace, behind a LoadBalancer address of Millrace's: Traefik finds the API by the
// Service kubernetes, names of its backends come by CoreDNS and their endpoints by the API, and clients outside reach it by an
// address of each family. Who they are is seen with policy Local, and not with Cluster.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lanAddresses } from "../../src/lab/addressing.ts";
import { familyOf } from "../../src/lib/address.ts";
import { patience } from "../../src/lib/patience.ts";
import type { Cluster } from "./cluster.ts";
import { isPodReady } from "./cluster-pod.ts";
import { poolObjects, startController } from "./controller.ts";
import { buildTraefik, TRAEFIK, traefikObjects, traefikVersion } from "./ingress/traefik.ts";
import { progressOnStderr } from "./progress.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";
import { manifest, serverContainer } from "./workloads.ts";

/** Where Traefik runs: the third node answers for an address only where that is of use. */
const NODES = ["node1", "node2"];
const CLIENT = lanAddresses("client", 1, true);
const BUILD_MS = 20 * 60_000;
const PATIENCE = { timeoutMs: 90_000 };
const INGRESS = "/apis/networking.k8s.io/v1/namespaces/default/ingresses/by-host";

interface ServiceStatus {
  readonly status: { readonly loadBalancer?: { readonly ingress?: readonly { readonly ip: string }[] } };
}

function backend(name: string): object[] {
  const labels = { app: name };
  const spec = { terminationGracePeriodSeconds: 1, containers: [serverContainer()] };
  return [
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name, namespace: "default" },
      spec: { replicas: 2, selector: { matchLabels: labels }, template: { metadata: { labels }, spec } },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace: "default" },
      spec: { selector: labels, ports: [{ port: 80 }] },
    },
  ];
}

interface Rule {
  readonly host: string;
  /** Path → Service. */
  readonly paths: Readonly<Record<string, string>>;
}

function ingress(name: string, ...rules: readonly Rule[]): object {
  const path = ([prefix, service]: [string, string]) => ({
    path: prefix,
    pathType: "Prefix",
    backend: { service: { name: service, port: { number: 80 } } },
  });
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "Ingress",
    metadata: { name, namespace: "default" },
    spec: {
      ingressClassName: TRAEFIK,
      rules: rules.map(({ host, paths }) => ({ host, http: { paths: Object.entries(paths).map(path) } })),
    },
  };
}

const OBJECTS = [
  ...poolObjects("192.168.122.120-192.168.122.129", "fd00:192:168:122::120-fd00:192:168:122::129"),
  ...traefikObjects(NODES),
  ...["red", "blue"].flatMap(backend),
  ingress("by-host", { host: "red.example", paths: { "/": "red" } }, { host: "blue.example", paths: { "/": "blue" } }),
  ingress("by-path", { host: "paths.example", paths: { "/hostname": "red", "/shell": "blue" } }),
];

describe(`Traefik ${traefikVersion()} behind a LoadBalancer address`, () => {
  let cluster: Cluster;
  let addresses: readonly string[] = [];

  beforeAll(async () => {
    await buildTraefik(progressOnStderr());
    cluster = await startCluster({ name: "ingress", replace: true });
    await startController(cluster);
    // The API server serves a new resource a moment after it is defined.
    await waitUntil(
      "the objects to be taken",
      async () => (await cluster.apply(manifest(...OBJECTS))) !== "",
      PATIENCE,
    );
    addresses = await waitUntil("an address of each family", balanced, PATIENCE);
    for (const app of [TRAEFIK, "red", "blue"]) {
      const ready = async () => {
        const pods = await cluster.pods("default", `app=${app}`);
        return pods.length === NODES.length && pods.every(isPodReady) ? true : undefined;
      };
      await waitUntil(`the pods of ${app}`, ready, PATIENCE);
    }
    for (const address of addresses) {
      const serves = async () => ((await ask(address, "red.example", "/hostname")).status === 200 ? true : undefined);
      await waitUntil(`${address} to lead to a backend`, serves, PATIENCE);
    }
  }, patience(BUILD_MS));

  afterAll(() => cluster?.down());

  async function balanced(): Promise<string[] | undefined> {
    const service = await cluster.api.ask<ServiceStatus>(`/api/v1/namespaces/default/services/${TRAEFIK}`);
    const found = (service.status.loadBalancer?.ingress ?? []).map(({ ip }) => ip).sort();
    return found.length === 2 ? found : undefined;
  }

  /** What a client outside gets over a connection of its own. */
  async function ask(address: string, host: string, path: string): Promise<{ status: number; body: string }> {
    const url = `http://${address.includes(":") ? `[${address}]` : address}${path}`;
    const command = ["curl", "-sg", "-m", "5", "-H", `Host: ${host}`, "-w", "\n%{http_code}", url];
    const { stdout } = await cluster.exec("client1", command);
    const at = stdout.lastIndexOf("\n");
    return { status: Number(stdout.slice(at + 1)), body: stdout.slice(0, at) };
  }

  /** Answers to so many questions, one after another. */
  async function askOften(times: number, address: string, host: string, path: string): Promise<string[]> {
    const bodies = [];
    for (let i = 0; i < times; i++) {
      const { status, body } = await ask(address, host, path);
      expect([host, path, status]).toEqual([host, path, 200]);
      bodies.push(body);
    }
    return bodies;
  }

  const clientsSeen = async (address: string): Promise<string[]> => [
    ...new Set(await askOften(24, address, "red.example", "/header?key=X-Forwarded-For")),
  ];

  it("has an address of each family, which its Ingress objects show", async () => {
    expect(addresses.map((address) => familyOf(address))).toEqual(["IPv4", "IPv6"]);
    const shown = async () => {
      const { status } = await cluster.api.ask<ServiceStatus>(INGRESS);
      const ips = (status.loadBalancer?.ingress ?? []).map(({ ip }) => ip).sort();
      return ips.join() === addresses.join() ? true : undefined;
    };
    await waitUntil("the addresses in the Ingress", shown, PATIENCE);
  });

  it.each(["red", "blue"])(
    "leads clients outside to both pods of %s by the host's name, in both families",
    async (name) => {
      const pods = (await cluster.pods("default", `app=${name}`)).map(({ metadata }) => metadata.name).sort();
      for (const address of addresses) {
        const seen = await askOften(20, address, `${name}.example`, "/hostname");
        expect([...new Set(seen)].sort(), address).toEqual(pods);
      }
    },
  );

  it("leads them by the path, in both families", async () => {
    for (const address of addresses) {
      for (const body of await askOften(5, address, "paths.example", "/hostname")) expect(body).toMatch(/^red-/);
      for (const body of await askOften(5, address, "paths.example", "/shell?cmd=hostname"))
        expect((JSON.parse(body) as { output: string }).output).toMatch(/^blue-/);
      expect((await ask(address, "paths.example", "/echo?msg=nobody")).status).toBe(404);
      expect((await ask(address, "unknown.example", "/hostname")).status).toBe(404);
    }
  });

  it("sees who they are with policy Local, whichever node speaks for the address", async () => {
    for (const address of addresses) {
      const isOfFamily = (one: string) => familyOf(one) === familyOf(address);
      expect(await clientsSeen(address), address).toEqual(CLIENT.filter(isOfFamily));
    }
  });

  it("with policy Cluster sees nodes in their place, where Traefik's pod is on another", async () => {
    const service = `/api/v1/namespaces/default/services/${TRAEFIK}`;
    const body = { spec: { externalTrafficPolicy: "Cluster" } };
    await cluster.api.ask({ method: "PATCH", path: service, body });
    const nodes = cluster.nodes.flatMap((node) => node.addresses);
    for (const address of addresses) {
      const known = async () => ((await clientsSeen(address)).some((one) => nodes.includes(one)) ? true : undefined);
      await waitUntil(`${address} to be served by a pod of another node`, known, PATIENCE);
    }
  });
});
