// What an agent in its pod has resident when the API has 10,000 Services with ten endpoints each: limits in the chart come from that.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { residentMemory } from "../../bench/memory.ts";
import { patience } from "../../src/lib/patience.ts";
import { pause, show } from "../lab/traffic/test-lab.ts";
import type { Cluster } from "./cluster.ts";
import { agentStatus, inForce } from "./load/ask-cluster.ts";
import { createOthers, ENDPOINTS } from "./load/bare-services.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";

const NODES = ["node1", "node2"];
const SERVICES = 10_000;
const GOAL_MB = 160;
const MEGABYTE = 1e6;
/** The collector gives back what reading them took. */
const REST_MS = 30_000;
/** It rests twice, and agents start anew with all of it. */
const LIMIT_MS = patience(600_000);
/** The API server takes 5 to 15 Services a second on a machine that is busy elsewhere. */
const WRITTEN_MS = patience(1_800_000);

describe(`agents in pods, with ${SERVICES} Services of ${ENDPOINTS} endpoints`, () => {
  let cluster: Cluster;

  function resident(): Readonly<Record<string, number>> {
    return Object.fromEntries(
      NODES.map((node) => {
        const { residentBytes, mappedArrayBytes } = residentMemory(cluster.agent(node).pid!);
        return [node, Math.round((residentBytes - mappedArrayBytes) / MEGABYTE)];
      }),
    );
  }

  beforeAll(async () => {
    cluster = await startCluster({ name: "many", through: "daemonset", nodes: NODES.length, replace: true });
    await createOthers(cluster, { count: SERVICES, nodes: NODES.length });
  }, WRITTEN_MS);

  afterAll(() => cluster?.down());

  it(`have them all in force, and at most ${GOAL_MB} MB resident, after a restart too`, {
    timeout: LIMIT_MS,
  }, async () => {
    const figures: Record<string, Readonly<Record<string, number>>> = {};
    const agents = NODES.map((node) => cluster.agent(node).pid);
    const measure = async (when: string): Promise<void> => {
      for (const node of NODES) {
        await waitUntil(`the agent of ${node} to serve all`, async () => {
          const { capacity } = await agentStatus(cluster, node);
          const { used = 0 } = capacity.find(({ map }) => map === "frontends") ?? {};
          return used >= SERVICES ? true : undefined;
        });
        await inForce(cluster, node);
      }
      await pause(REST_MS);
      figures[when] = resident();
      show("\nMB resident, mapped arrays of the kernel apart", { [when]: figures[when] });
    };
    await measure("as they were written");
    // Nobody ran out of what its pod may have.
    expect(NODES.map((node) => cluster.agent(node).pid)).toEqual(agents);
    const began = Date.now();
    for (const node of NODES) {
      await cluster.agent(node).restart();
      await inForce(cluster, node, began);
    }
    await measure("after a restart");
    for (const [when, nodes] of Object.entries(figures))
      for (const [node, megabytes] of Object.entries(nodes))
        expect.soft(megabytes, `${node}, ${when}`).toBeLessThanOrEqual(GOAL_MB);
  });
});
