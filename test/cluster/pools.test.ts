// MetalLB's objects on a real cluster, as far as an agent goes: an address in a Service's status is announced when a pool that was
// read holds it, by one node, which says so in a ServiceL2Status and an event; nothing else is announced. Whoever gives addresses
// is played by this test.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ServiceView } from "../../src/agent/view.ts";
import { LAN_PREFIX } from "../../src/lab/addressing.ts";
import type { Notice } from "../../src/model/objects.ts";
import type { KubernetesObject } from "../../src/wire/kubernetes.ts";
import type { Cluster } from "./cluster.ts";
import { RealCluster } from "./examples/real-cluster.ts";
import { agentServices, agentStatus } from "./load/ask-cluster.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";
import { manifest, serverContainer, serverOnEachNode, serviceOf } from "./workloads.ts";

const NAME = "pools";
const ADDRESSES = ["192.168.122.115", "fd00:192:168:122::115"];
const STATUSES = "/apis/metallb.io/v1beta1/namespaces/kube-system/servicel2statuses";
const NODES = ["node1", "node2"];
/** In a node's own mounts; empty at first. */
const SECRET = "/var/lib/cluster/announcer";

const metallb = (kind: string, name: string, spec: object): object => ({
  ...{ apiVersion: "metallb.io/v1beta1", kind, metadata: { name, namespace: "metallb-system" }, spec },
});
const pool = (...addresses: readonly string[]): object => metallb("IPAddressPool", "lan", { addresses });

/** What every version of the CRDs has in common. */
function crd(plural: string, kind: string): object {
  const group = "metallb.io";
  const schema = { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } };
  const version = { ...{ name: "v1beta1", served: true, storage: true, schema }, subresources: { status: {} } };
  return {
    ...{
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: `${plural}.${group}` },
    },
    spec: { group, scope: "Namespaced", names: { plural, kind, singular: kind.toLowerCase() }, versions: [version] },
  };
}
const CRDS = [
  crd("ipaddresspools", "IPAddressPool"),
  crd("l2advertisements", "L2Advertisement"),
  crd("servicel2statuses", "ServiceL2Status"),
];

interface Status {
  readonly node: string;
  readonly serviceName: string;
  readonly interfaces: readonly { readonly name: string }[];
}

describe.sequential("pools and advertisements of the API", () => {
  let cluster: Cluster;
  let real: RealCluster;

  beforeAll(async () => {
    const agentFlags = ["--announcer-secret", SECRET];
    cluster = await startCluster({ name: NAME, proxy: "millrace", nodes: 2, agentFlags, replace: true });
    real = new RealCluster(cluster);
    const ports = [{ port: 80, targetPort: 80 }];
    const objects = [serverOnEachNode({ name: NAME }), serviceOf({ name: NAME }, { type: "LoadBalancer", ports })];
    expect(await real.apply(objects as KubernetesObject[])).toEqual([]);
    const path = `/api/v1/namespaces/default/services/${NAME}/status`;
    const ingress = ADDRESSES.map((ip) => ({ ip, ipMode: "VIP" }));
    await cluster.api.ask({ method: "PATCH", path, body: { status: { loadBalancer: { ingress } } } });
  }, 300_000);

  afterAll(() => cluster?.down());

  const view = async (node: string): Promise<ServiceView | undefined> =>
    (await agentServices(cluster, node)).find(({ name }) => name === NAME);

  /** Waits until every node says this of the Service. */
  async function allSay(what: string, test: (view: ServiceView) => boolean, timeoutMs = 20_000): Promise<void> {
    for (const node of NODES) {
      const says = async () => {
        const found = await view(node);
        return found !== undefined && test(found) ? true : undefined;
      };
      await waitUntil(`${node} to say ${what}`, says, { timeoutMs });
    }
  }

  /** "address node" of all that is announced. */
  async function announced(): Promise<string[]> {
    const all = await Promise.all(
      NODES.map(async (node) => ({ node, list: (await agentStatus(cluster, node)).announced })),
    );
    return all.flatMap(({ node, list }) => list.map(({ address }) => `${address} ${node}`)).sort();
  }

  async function statuses(): Promise<readonly Status[]> {
    const { items } = await cluster.api.ask<{ items: readonly { readonly status?: Status }[] }>(STATUSES);
    return items.flatMap(({ status = [] }) => status);
  }

  it("are none where their CRDs are not installed: an address is served, and not announced, and that is said", async () => {
    await allSay("not-from-pool", ({ unannounced }) => unannounced === "not-from-pool");
    for (const node of NODES) {
      const { notices, source } = await agentStatus(cluster, node);
      expect(source.synced).toBe(true);
      expect(notices.filter(({ reason }) => reason === "resource-absent")).toHaveLength(1);
    }
    expect(await announced()).toEqual([]);
  });

  it("are found when they are installed while agents run, and make one node announce each address", async () => {
    await cluster.apply(
      manifest(...CRDS, { apiVersion: "v1", kind: "Namespace", metadata: { name: "metallb-system" } }),
    );
    await waitUntil("the CRDs to be served", async () =>
      (await cluster.api.send({ path: STATUSES })).status === 200 ? true : undefined,
    );
    await cluster.apply(
      manifest(
        pool("192.168.122.110-192.168.122.119", "fd00:192:168:122::110-fd00:192:168:122::119"),
        metallb("L2Advertisement", "all", {}),
      ),
    );
    await allSay(
      "the pool",
      ({ pools, announcer }) => pools.join() === "metallb-system/lan" && announcer !== "",
      75_000,
    );
    await waitUntil("both addresses announced", async () => ((await announced()).length === 2 ? true : undefined));
    expect((await announced()).map((line) => line.split(" ")[0])).toEqual([...ADDRESSES].sort());
    for (const host of ADDRESSES) {
      const order = { via: "tcp", host, port: 80, count: 20, untilError: true } as const;
      const { errors } = await real.probe("client1", order);
      expect(errors, host).toEqual([]);
    }
  });

  it("are followed by a ServiceL2Status of each announcing node, and an event that kubectl shows", async () => {
    const nodes = [...new Set((await announced()).map((line) => line.split(" ")[1]))].sort();
    const written = await waitUntil("the statuses", async () => {
      const found = await statuses();
      return found.length === nodes.length ? found : undefined;
    });
    expect(written.map(({ node }) => node).sort()).toEqual(nodes);
    for (const { serviceName, interfaces } of written) {
      expect(serviceName).toBe(NAME);
      expect(interfaces).toHaveLength(1);
    }
    const described = async () => {
      const { stdout } = await cluster.kubectl(["describe", "service", NAME]);
      return nodes.every((node) => stdout.includes(`announcing from node "${node}"`)) ? stdout : undefined;
    };
    expect(await waitUntil("kubectl describe to show the event", described)).toMatch(
      /Normal +nodeAssigned .* millrace/,
    );
  });

  it("are warned about while nodes cannot ask each other whether they live, until their secret comes", async () => {
    const warnings = async (node: string): Promise<readonly Notice[]> =>
      (await agentStatus(cluster, node)).notices.filter(({ severity }) => severity !== "info");
    for (const node of NODES) {
      const reasons = (await warnings(node)).map(({ reason }) => reason);
      expect([...new Set(reasons)].sort(), node).toEqual(["announcer-secret", "no-liveness"]);
    }
    for (const { files } of cluster.nodes) {
      const directory = join(files, SECRET.replace("/var/", ""));
      mkdirSync(directory);
      writeFileSync(join(directory, "current"), "0123456789abcdef".repeat(2), { mode: 0o600 });
    }
    for (const node of NODES) {
      const areOver = async () => {
        const found = await warnings(node);
        if (found.length > 0) throw new Error(found.map(({ message }) => message).join("; "));
        const { peers } = (await agentStatus(cluster, node)).announcer;
        return peers.length === 1 && peers[0]?.state === "alive" ? true : undefined;
      };
      await waitUntil(`${node} to warn of nothing and hear from the other node`, areOver);
    }
  });

  it("of policy Local are announced by a node that has an endpoint, which moves with it, and the client's address is kept", async () => {
    const name = "near";
    const ip = "192.168.122.118";
    const pod = (node: string) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: `${name}-${node}`, namespace: "default", labels: { app: name } },
      spec: { nodeName: node, terminationGracePeriodSeconds: 1, containers: [serverContainer(80)] },
    });
    const ports = [{ port: 80, targetPort: 80 }];
    const spec = { type: "LoadBalancer", externalTrafficPolicy: "Local", ipFamilyPolicy: "SingleStack", ports };
    expect(await real.apply([serviceOf({ name }, spec)] as KubernetesObject[])).toEqual([]);
    const path = `/api/v1/namespaces/default/services/${name}/status`;
    await cluster.api.ask({
      method: "PATCH",
      path,
      body: { status: { loadBalancer: { ingress: [{ ip, ipMode: "VIP" }] } } },
    });
    const of = async () => (await announced()).filter((line) => line.startsWith(`${ip} `)).join();
    for (const node of NODES) {
      await cluster.apply(manifest(pod(node)));
      const there = async () => ((await of()) === `${ip} ${node}` ? true : undefined);
      await waitUntil(`${node}, which has the only endpoint, to announce ${ip}`, there, { timeoutMs: 60_000 });
      const asked = async () => {
        const { stdout } = await cluster.exec("client1", ["curl", "-s", "-m", "2", `http://${ip}/clientip`]);
        return stdout.startsWith(`${LAN_PREFIX}.51:`) ? true : undefined;
      };
      await waitUntil(`an answer from ${node} that shows the client's address`, asked, { timeoutMs: 30_000 });
      await cluster.kubectl(["delete", "pod", `${name}-${node}`]);
    }
    const silent = async () => ((await of()) === "" ? true : undefined);
    await waitUntil("nobody to announce it without an endpoint", silent, { timeoutMs: 30_000 });
    await cluster.kubectl(["delete", "service", name]);
  });

  it("that make no sense change nothing, and are named; a pool that covers a node is told of, and gives nothing there", async () => {
    const before = await announced();
    await cluster.apply(manifest(pool("192.168.122.300/28")));
    const named = async () =>
      (await agentStatus(cluster, "node1")).notices.find(({ object }) => object === "IPAddressPool metallb-system/lan");
    expect(await waitUntil("the malformed pool to be named", named)).toMatchObject({
      field: "spec.addresses[0]",
      severity: "error",
    });
    expect(await announced()).toEqual(before);
    await cluster.apply(manifest(pool("192.168.122.0/24", "fd00:192:168:122::110-fd00:192:168:122::119")));
    const covers = async () =>
      (await agentStatus(cluster, "node1")).notices.find(({ reason }) => reason === "pool-covers-reserved");
    expect((await waitUntil("the pool to be told of", covers)).message).toMatch(
      /covers (an address of the API server|the address of node node\d):/,
    );
    expect(await announced()).toEqual(before);
    const events = async () => {
      const { stdout } = await cluster.kubectl([
        "-n",
        "metallb-system",
        "get",
        "events",
        "-o",
        "jsonpath={.items[*].reason}",
      ]);
      return stdout.split(" ").includes("PoolCoversReserved") ? stdout : undefined;
    };
    const told = await waitUntil("the event on the pool", events);
    expect(told.split(" ").filter((reason) => reason === "PoolCoversReserved")).toHaveLength(1);
  });

  it("that go take announcements and statuses with them; the address is served on", async () => {
    await cluster.kubectl(["-n", "metallb-system", "delete", "ipaddresspool", "lan"]);
    await allSay("not-from-pool", ({ unannounced, pools }) => unannounced === "not-from-pool" && pools.length === 0);
    await waitUntil("nothing announced", async () => ((await announced()).length === 0 ? true : undefined));
    await waitUntil("no status", async () => ((await statuses()).length === 0 ? true : undefined));
    expect((await view("node1"))?.externalIPs).toEqual(ADDRESSES);
  });
});
