// LoadBalancer Services where Millrace's controller runs: what it and the agents have still to do, and who answers for an address.
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { AgentStatus } from "../../../src/agent/view.ts";
import { uplinkMac } from "../../../src/lab/addressing.ts";
import { inCgroup } from "../../../src/lab/cgroups.ts";
import { getJson } from "../../../src/lab/lab-node.ts";
import { CheckFailure } from "../../../src/lab/seed-story.ts";
import type { Address } from "../../../src/lib/address.ts";
import type { ServiceObject } from "../../../src/wire/kubernetes.ts";
import type { Cluster } from "../cluster.ts";
import type { ClusterNode } from "../cluster-node.ts";
import { agentSocket } from "../proxy.ts";

const POOLS = "/apis/metallb.io/v1beta1/ipaddresspools";
const FAILURES = `/api/v1/events?fieldSelector=${encodeURIComponent("reason=AllocationFailed,involvedObject.kind=Service")}`;

interface Timed {
  readonly metadata: { readonly creationTimestamp: string };
}

interface EventObject {
  readonly involvedObject: { readonly uid: string };
  readonly lastTimestamp: string;
}

const addressesOf = ({ status }: ServiceObject): readonly Address[] =>
  (status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) => ip ?? []);

/**
 * What is to happen yet, one line each: Services that wait for an address though there are pools and nobody has refused them, and
 * addresses that are given and not announced, or the other way round.
 */
export async function openAddresses(
  cluster: Cluster,
  nodes: readonly ClusterNode[],
  services: readonly ServiceObject[],
): Promise<readonly string[]> {
  const list = async <T>(path: string) => (await cluster.api.ask<{ items: readonly T[] }>(path)).items;
  const [pools, failures, ...announced] = await Promise.all([
    list<Timed>(POOLS),
    list<EventObject>(FAILURES),
    ...nodes.map(async (node) => (await getJson(agentSocket(node), "/api/v1/status", 5000)) as AgentStatus),
  ]);
  const since = pools
    .map(({ metadata }) => metadata.creationTimestamp)
    .sort()
    .at(-1);
  const isRefused = ({ metadata }: ServiceObject): boolean =>
    failures.some(
      ({ involvedObject, lastTimestamp }) => involvedObject.uid === metadata.uid && lastTimestamp > (since ?? ""),
    );
  const balanced = services.filter(({ spec }) => spec.type === "LoadBalancer" && spec.loadBalancerClass === undefined);
  const waiting = balanced.filter(
    (service) => since !== undefined && addressesOf(service).length === 0 && !isRefused(service),
  );
  const given = new Set(balanced.flatMap(addressesOf));
  const spoken = new Set(announced.flatMap((status) => status.announced.map(({ address }) => address)));
  return [
    ...waiting.map(({ metadata }) => `${metadata.name} has no address`),
    ...[...given].filter((address) => !spoken.has(address)).map((address) => `nobody announces ${address}`),
    ...[...spoken].filter((address) => !given.has(address)).map((address) => `${address} is still announced`),
  ];
}

/** Nodes that answer ARP for an address when the client outside asks. */
export async function arpHolders(
  { client }: Cluster,
  nodes: readonly ClusterNode[],
  address: Address,
): Promise<readonly string[]> {
  const filter = "arp and arp[6:2] = 2";
  const capture = ["tcpdump", "-n", "-e", "-l", "--immediate-mode", "-i", "eth0", filter];
  const [file, ...args] = inCgroup(client.cgroup, client.enter(capture));
  const listener = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
  let heard = "";
  listener.stdout.on("data", (data: Buffer) => {
    heard += data.toString();
  });
  const ended = once(listener, "exit");
  try {
    await new Promise<void>((resolve, reject) => {
      listener.stderr.on("data", (data: Buffer) => {
        if (data.includes("listening on")) resolve();
      });
      listener.on("error", reject);
      listener.on("exit", (code) => reject(new CheckFailure(`tcpdump ended with status ${code}`)));
    });
    await client.exec(["ip", "neigh", "flush", "dev", "eth0"]);
    await client.exec(["ping", "-n", "-q", "-c", "2", "-i", "0.3", "-W", "1", address]);
  } finally {
    listener.kill("SIGKILL");
    await ended;
  }
  const macs = [...heard.matchAll(/Reply (\S+) is-at ([0-9a-f:]{17})/g)]
    .filter((match) => match[1] === address)
    .map((match) => match[2]);
  return nodes.filter(({ number }) => macs.includes(uplinkMac("node", number))).map(({ name }) => name);
}
