// A lab as the checks of the examples see it.
import { spawn } from "node:child_process";
import type { Address } from "../lib/address.ts";
import { patience } from "../lib/patience.ts";
import type { EndpointSliceObject, KubernetesObject, PodObject } from "../wire/kubernetes.ts";
import { uplinkMac } from "./addressing.ts";
import type { CheckedCluster } from "./checked-cluster.ts";
import type { LabSession } from "./lab-session.ts";
import { CheckFailure, demoPod } from "./seed-story.ts";

/** Those that example 11 names: pods at addresses of their own choice, and a host on the internet. */
const FIXED_PODS = [
  { name: "demo-fixed-1", address: "10.244.36.82", nodeName: "node1" },
  { name: "demo-fixed-2", address: "10.244.169.141", nodeName: "node3" },
];
const OUTSIDE_HOST = { name: "outside-web", address: "110.242.68.3" };

const LISTEN_MS = 10_000;

/** Of a lab of three nodes that is up. */
export function checkedLab(session: LabSession): CheckedCluster {
  const apply = async (objects: readonly KubernetesObject[]): Promise<readonly string[]> => {
    const { notices } = await session.apply(session.manifest(objects));
    return notices.filter(({ severity }) => severity === "error").map(({ message }) => message);
  };
  const remove = async (objects: readonly KubernetesObject[]): Promise<void> => {
    await session.delete(session.manifest(objects));
  };
  const objectsOf = async <T extends KubernetesObject>(kind: string): Promise<readonly T[]> =>
    (await session.objects<T>(kind)).filter(({ metadata }) => metadata.namespace === "default");
  return {
    inForceMs: 1000,
    namesInForceMs: 0,
    endedPodsStay: false,
    loadBalancing: { holders: (client, address) => arpHolders(session, client, address) },
    takes: () => true,
    apply,
    delete: remove,
    scale: async (target, replicas) => void (await session.scale(target, replicas)),
    ready: session.ready,
    kill: session.kill,
    join: session.join,
    notices: session.notices.bind(session),
    agentServices: session.agentServices,
    agentBackends: session.agentBackends,
    exec: (from, command) => session.exec(from, command),
    probe: (from, order) => session.probe(from, order),
    service: (name) => session.service(`default/${name}`),
    pods: () => objectsOf<PodObject>("Pod"),
    nodes: async () => (await session.status()).nodes,
    async slices(service) {
      const slices = await objectsOf<EndpointSliceObject>("EndpointSlice");
      return slices.filter(({ metadata }) => metadata.labels?.["kubernetes.io/service-name"] === service);
    },
    async handMadeBackends() {
      const pods = FIXED_PODS.map(({ name, address, nodeName }) =>
        demoPod(name, nodeName, { annotations: { "millrace.io/pod-ip": address } }),
      );
      await apply(pods);
      const { hosts } = await session.status();
      if (!hosts.some(({ name }) => name === OUTSIDE_HOST.name))
        await session.host(OUTSIDE_HOST.name, OUTSIDE_HOST.address);
      const all = [...FIXED_PODS, OUTSIDE_HOST];
      return {
        names: all.map(({ name }) => name),
        addresses: all.map(({ address }) => address),
        remove: () => remove(pods),
      };
    },
  };
}

async function arpHolders(session: LabSession, client: string, address: Address): Promise<readonly string[]> {
  const filter = "arp and arp[6:2] = 2";
  const [file, ...args] = await session.command(client, [
    ...["tcpdump", "-n", "-e", "-l", "--immediate-mode", "-i", "eth0"],
    filter,
  ]);
  const listener = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
  let heard = "";
  listener.stdout.on("data", (data: Buffer) => {
    heard += data.toString();
  });
  let limit: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const withinMs = patience(LISTEN_MS);
      limit = setTimeout(
        () => reject(new CheckFailure(`tcpdump did not listen within ${withinMs / 1000} s`)),
        withinMs,
      );
      listener.stderr.on("data", (data: Buffer) => {
        if (data.includes("listening on")) resolve();
      });
      listener.on("error", reject);
      listener.on("exit", (code) => reject(new CheckFailure(`tcpdump ended with status ${code}`)));
    });
    await session.exec(client, ["ip", "neigh", "flush", "dev", "eth0"]);
    await session.exec(client, ["ping", "-n", "-q", "-c", "2", "-i", "0.3", "-W", "1", address]);
  } finally {
    clearTimeout(limit);
    listener.kill("SIGKILL");
  }
  const macs = [...heard.matchAll(/Reply (\S+) is-at ([0-9a-f:]{17})/g)]
    .filter((match) => match[1] === address)
    .map((match) => match[2]);
  const { nodes } = await session.status();
  return nodes
    .map(({ name }) => name)
    .filter((name) => macs.includes(uplinkMac("node", Number(name.slice("node".length)))));
}
