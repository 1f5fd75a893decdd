// Reads all manifests once, as an agent without rights to write anything would. Leaves nothing behind.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ObjectEvent } from "../../model/objects.ts";
import type { OwnNode } from "../../model/source.ts";
import { type AgentOptions, clusterRangesOf } from "../options.ts";
import type { ObjectFacts } from "./objects.ts";

export async function readManifests(
  options: AgentOptions,
  ownNode: OwnNode,
): Promise<Omit<ObjectFacts, "heldNetworks">> {
  const { createManifestSource } = await import("../../standalone/manifest-source.ts");
  // What it allocates is thrown away; an agent goes on with what it gave before, which is not read here.
  const stateDir = await mkdtemp(join(tmpdir(), "millrace-doctor-"));
  const events: ObjectEvent[] = [];
  try {
    const source = createManifestSource({
      paths: options.manifests,
      readOnly: options.readOnly,
      stateDir,
      serviceClusterIpRange: clusterRangesOf(options),
      serviceNodePortRange: options.serviceNodePortRange,
      ownNode,
      dns: undefined,
    });
    await source.start((batch) => events.push(...batch));
    const sourceNotices = source.notices();
    await source.stop();
    return { source: "manifests", events, sourceNotices, absent: [], complete: true, bgp: {} };
  } finally {
    await rm(stateDir, { recursive: true, force: true });
  }
}
