// The agent over a directory of manifests: how soon it has everything in force, and what it has resident when it then has
// nothing to do.
import fs from "node:fs";
import path from "node:path";
import { createAgentPlace, pause } from "./agent-process.ts";
import { clusterManifests, ENDPOINTS } from "./cluster.ts";
import { type ResidentMemory, residentMemory } from "./memory.ts";

export interface AgentResult extends ResidentMemory {
  readonly services: number;
  /** From the start of the process until all is in force. */
  readonly startMs: number;
  /** Its own part: resident less the mapped arrays. */
  readonly ownBytes: number;
}

const START_LIMIT_MS = 120_000;
/** The engine gives memory back some seconds after the work; then the smallest of a few readings counts. */
const IDLE_MS = 30_000;
const IDLE_POLL_MS = 1_000;

/** Starts an agent over a directory that holds `services` Services, waits until it is idle, and takes it away again. */
export async function benchAgent(services: number): Promise<AgentResult> {
  await using place = createAgentPlace();
  const manifests = path.join(place.directory, "manifests");
  fs.mkdirSync(manifests);
  const files = services === 0 ? [] : clusterManifests(services);
  files.forEach((text, i) => {
    fs.writeFileSync(path.join(manifests, `${i}.json`), text);
  });
  // With nothing to read it is allocator and DNS server too.
  const agent = place.start([`--manifests=${manifests}`, ...(services === 0 ? [] : ["--read-only"])]);
  const { lastApply } = await agent.until(({ healthy, capacity }) => {
    const backends = capacity.find(({ map }) => map === "backends")?.used ?? -1;
    // The allocator has its own DNS Service besides.
    return healthy && backends >= services * ENDPOINTS;
  }, START_LIMIT_MS);
  const startMs = lastApply.atMs - (performance.timeOrigin + agent.startedMs);
  let best = residentMemory(agent.pid);
  for (const end = performance.now() + IDLE_MS; performance.now() < end; await pause(IDLE_POLL_MS)) {
    const now = residentMemory(agent.pid);
    if (now.residentBytes < best.residentBytes) best = now;
  }
  return { services, startMs, ...best, ownBytes: best.residentBytes - best.mappedArrayBytes };
}
