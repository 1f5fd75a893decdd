// What an agent claims, by the program that people ask it with, held against what kubectl shows, and what its maps hold.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { AgentStatus, BackendView, ServiceView } from "../../../src/agent/view.ts";
import { getJson } from "../../../src/lab/lab-node.ts";
import { millraceCommand } from "../../../src/lab/programs.ts";
import { runChecked } from "../../../src/lab/shell.ts";
import { openPinnedMap } from "../../../src/libbpf/mod.ts";
import type { EndpointSliceObject, ServiceObject } from "../../../src/wire/kubernetes.ts";
import type { Cluster } from "../cluster.ts";
import { differences, expectedLines, saidLines } from "./expected-state.ts";

const DIST = join(import.meta.dirname, "../../../dist");

/** Where `millrace services` and `millrace backends` differ from kubectl's Services and EndpointSlices, on any node. */
export async function disagreements(cluster: Cluster): Promise<string[]> {
  const expected = await kubectlLines(cluster);
  const ofNodes = cluster.nodes.map(async ({ name }) => {
    const said = await claimedLines(cluster, name);
    return differences(expected, said).map((line) => `${name}: ${line}`);
  });
  return (await Promise.all(ofNodes)).flat();
}

async function kubectlLines(cluster: Cluster): Promise<readonly string[]> {
  const { stdout } = await cluster.kubectl(["get", "services,endpointslices", "-A", "-o", "json"]);
  const { items } = JSON.parse(stdout) as { items: (ServiceObject | EndpointSliceObject)[] };
  return expectedLines(
    items.filter((object): object is ServiceObject => object.kind === "Service"),
    items.filter((object): object is EndpointSliceObject => object.kind === "EndpointSlice"),
  );
}

async function claimedLines(cluster: Cluster, node: string): Promise<readonly string[]> {
  const ask = async (what: string): Promise<unknown> => {
    const [file = "", ...args] = millraceCommand([what, "-o", "json", "--socket", cluster.agentSocket(node)], DIST);
    return JSON.parse(await runChecked(file, args));
  };
  const [services, backends] = await Promise.all([ask("services"), ask("backends")]);
  return saidLines(services as ServiceView[], backends as BackendView[]);
}

/** Maps that hold something for every Service; the others hold flows. */
const SERVICE_MAPS = ["frontends", "rows", "slots", "backends", "service_stats"];

/** How many entries each of a node's maps has for Services, as the agent counts them; frontends as the kernel does, too. */
export async function serviceEntries(cluster: Cluster, node: string): Promise<Readonly<Record<string, number>>> {
  const { capacity } = (await getJson(cluster.agentSocket(node), "/api/v1/status", 5000)) as AgentStatus;
  const counted = capacity.filter(({ map }) => SERVICE_MAPS.includes(map)).map(({ map, used }) => [map, used]);
  return { ...Object.fromEntries(counted), "frontends in the kernel": kernelFrontends(cluster, node) };
}

function kernelFrontends(cluster: Cluster, node: string): number {
  // Maps are pinned in the node's own bpffs, by an agent in a pod too.
  const pins = `${cluster.node(node).root}/sys/fs/bpf/millrace`;
  const maps = readdirSync(pins).find((entry) => entry.startsWith("maps-"))!;
  const frontends = openPinnedMap(join(pins, maps, "frontends"));
  try {
    return frontends.countRows();
  } finally {
    frontends.close();
  }
}
