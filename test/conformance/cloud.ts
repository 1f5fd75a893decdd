// Stands in for a cloud's load balancer: gives LoadBalancer Services an address, and routes what is sent to it to the nodes.
// Runs in the LAN's namespace, as the network in front of a cluster does: `node cloud.ts CLUSTER`.
import { setTimeout as delay } from "node:timers/promises";
import { runChecked } from "../../src/lab/shell.ts";
import { type Address, familyOf } from "../../src/lib/address.ts";
import type { ServiceObject } from "../../src/wire/kubernetes.ts";
import { type Cluster, openCluster } from "../cluster/cluster.ts";
import { loadBalancerAddress } from "./outside.ts";

/** As clouds' controllers call it; Kubernetes defines it. */
const FINALIZER = "service.kubernetes.io/load-balancer-cleanup";
const EVERY_MS = 300;
const HEALTH_TIMEOUT_MS = 1000;
const ADDRESSES = 250;

const MULTIPATH = ["net.ipv4.fib_multipath_hash_policy=1", "net.ipv6.fib_multipath_hash_policy=1"];

interface Balancer {
  /** Counts the addresses of each family. */
  readonly number: number;
  /** Where each of its addresses is routed to, as it was written last. */
  readonly routes: Map<Address, string>;
}

class Cloud {
  readonly #cluster: Cluster;
  readonly #balancers = new Map<string, Balancer>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** Brings addresses, routes and finalizers to where the Services want them. */
  async reconcile(): Promise<void> {
    const { items } = await this.#cluster.api.ask<{ items: readonly ServiceObject[] }>("/api/v1/services");
    await Promise.all(
      items.map(async (service) => {
        if (isWanted(service)) await this.#provide(service);
        else if (hasFinalizer(service)) await this.#release(service);
      }),
    );
    const living = new Set(items.map(({ metadata }) => metadata.uid));
    for (const [uid, balancer] of this.#balancers) if (!living.has(uid)) await this.#forget(uid, balancer);
  }

  async #provide(service: ServiceObject): Promise<void> {
    const uid = service.metadata.uid ?? "";
    const balancer = this.#balancers.get(uid) ?? this.#newBalancer(uid, service);
    if (!hasFinalizer(service)) {
      await this.#patch(service, "", { metadata: { finalizers: [...finalizersOf(service), FINALIZER] } });
    }
    const addresses = (service.spec.ipFamilies ?? ["IPv4"]).map((family) =>
      loadBalancerAddress(family as "IPv4" | "IPv6", balancer.number),
    );
    await this.#route(balancer, addresses, await this.#nodesFor(service));
    const given = (service.status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip);
    if (given.join() === addresses.join()) return;
    const ingress = addresses.map((ip) => ({ ip }));
    await this.#patch(service, "/status", { status: { loadBalancer: { ingress } } });
  }

  /** Of a Service that had an address before this process started, the same one. */
  #newBalancer(uid: string, service: ServiceObject): Balancer {
    const taken = new Set([...this.#balancers.values()].map(({ number }) => number));
    const [first] = service.status?.loadBalancer?.ingress ?? [];
    const had = first?.ip === undefined ? undefined : Number.parseInt(/[.:](\w+)$/.exec(first.ip)?.[1] ?? "", 10);
    let number = had ?? 1;
    while (taken.has(number)) number++;
    if (number > ADDRESSES) throw new Error(`there are more than ${ADDRESSES} load balancers`);
    const balancer = { number, routes: new Map<Address, string>() };
    this.#balancers.set(uid, balancer);
    return balancer;
  }

  async #release(service: ServiceObject): Promise<void> {
    const uid = service.metadata.uid ?? "";
    const balancer = this.#balancers.get(uid);
    if (balancer !== undefined) await this.#forget(uid, balancer);
    if (service.status?.loadBalancer?.ingress !== undefined) {
      await this.#patch(service, "/status", { status: { loadBalancer: null } });
    }
    const finalizers = finalizersOf(service).filter((one) => one !== FINALIZER);
    await this.#patch(service, "", { metadata: { finalizers } });
  }

  async #forget(uid: string, balancer: Balancer): Promise<void> {
    await this.#route(balancer, [], []);
    this.#balancers.delete(uid);
  }

  /** The nodes that a cloud would send to: all, or with policy Local those that say they have an endpoint. */
  async #nodesFor({ spec }: ServiceObject): Promise<number[]> {
    const { nodes } = this.#cluster;
    const port = spec.externalTrafficPolicy === "Local" ? spec.healthCheckNodePort : undefined;
    const healthy = await Promise.all(
      nodes.map(async ({ addresses }) => port === undefined || (await isHealthy(addresses[0]!, port))),
    );
    const numbers = nodes.map((_, i) => i).filter((i) => healthy[i]);
    // With affinity one client stays at one node, whose proxy knows it.
    return spec.sessionAffinity === "ClientIP" ? numbers.slice(0, 1) : numbers;
  }

  async #route({ routes }: Balancer, addresses: readonly Address[], nodes: readonly number[]): Promise<void> {
    const wanted = new Map(addresses.map((address) => [address, this.#hops(address, nodes)]));
    for (const address of new Set([...routes.keys(), ...addresses])) {
      const hops = wanted.get(address) ?? "";
      if (hops === (routes.get(address) ?? "")) continue;
      const verb = hops === "" ? "del" : "replace";
      await runChecked("ip", ["route", verb, address, ...hops.split(" ").filter((word) => word !== "")]);
      if (hops === "") routes.delete(address);
      else routes.set(address, hops);
    }
  }

  #hops(address: Address, nodes: readonly number[]): string {
    const family = familyOf(address) === "IPv4" ? 0 : 1;
    return nodes.map((node) => `nexthop via ${this.#cluster.nodes[node]!.addresses[family]} dev lan0`).join(" ");
  }

  async #patch({ metadata }: ServiceObject, subresource: string, body: object): Promise<void> {
    const path = `/api/v1/namespaces/${metadata.namespace}/services/${metadata.name}${subresource}`;
    const { status, body: answer } = await this.#cluster.api.send({ method: "PATCH", path, body });
    // One that went meanwhile needs nothing.
    if (status >= 300 && status !== 404) throw new Error(`PATCH ${path}: ${status} ${JSON.stringify(answer)}`);
  }
}

function isWanted({ metadata, spec }: ServiceObject): boolean {
  const ours = spec.type === "LoadBalancer" && spec.loadBalancerClass === undefined;
  return ours && metadata.deletionTimestamp === undefined;
}

function finalizersOf({ metadata }: ServiceObject): readonly string[] {
  return (metadata as { readonly finalizers?: readonly string[] }).finalizers ?? [];
}

function hasFinalizer(service: ServiceObject): boolean {
  return finalizersOf(service).includes(FINALIZER);
}

async function isHealthy(address: Address, port: number): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(HEALTH_TIMEOUT_MS);
    return (await fetch(`http://${address}:${port}/healthz`, { signal })).status === 200;
  } catch {
    return false;
  }
}

const [name = ""] = process.argv.slice(2);
await runChecked("sysctl", ["-q", "-w", ...MULTIPATH]);
const cloud = new Cloud(openCluster(name));
for (;;) {
  await cloud.reconcile().catch((error: Error) => process.stdout.write(`${error.message}\n`));
  await delay(EVERY_MS);
}
