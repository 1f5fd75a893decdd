// Millrace in a lab: it reads manifests, so there is no API that could be away.
import { join } from "node:path";
import { processesIn } from "../../src/lab/cgroups.ts";
import { labPaths } from "../../src/lab/lab-paths.ts";
import type { LabNetwork } from "../../src/lab/network.ts";
import { VERSION } from "../../src/lib/version.ts";
import type { TestLab } from "../lab/traffic/test-lab.ts";
import { freezer } from "./freezer.ts";
import { Lan } from "./lan.ts";
import { OtherBuild } from "./other-build.ts";
import { manifests, PORT, poolManifests, type Site, serviceManifest } from "./site.ts";

const SERVER = "node4";
const ANNOUNCERS = ["node1", "node2", "node3"];

/** Brings the lab up; it is taken down at the end of an `await using`, also when it did not come up. */
export async function labSite(lab: TestLab): Promise<Site> {
  const network: LabNetwork = {
    lab: lab.name,
    cni: "ptp",
    ipv6: true,
    netfilter: false,
    bridgeNetfilter: false,
    txOffload: true,
    xdpPassObject: "",
  };
  const lan = new Lan(network);
  const containers = [{ name: "server", image: "server", ports: [{ containerPort: PORT }] }];
  const server = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "server", labels: { app: "server" } },
    spec: { nodeName: SERVER, containers },
  };
  const { cgroup } = labPaths(lab.name);
  const nodeCgroup = (name: string): string => join(cgroup, name);
  /** By the Service that is in it. */
  const files = new Map<string, string>();
  const { freeze, thaw } = freezer(lan, nodeCgroup);
  const build = new OtherBuild();
  const startAgent = (name: string): Promise<unknown> => lab.startAgents([name], build.dist);
  try {
    await lab.up(
      manifests(server, ...poolManifests(ANNOUNCERS)),
      ...["--nodes", "4", "--cni", "ptp", "--ipv6", "--devices", "auto"],
    );
  } catch (error) {
    await lab.down();
    throw error;
  }
  return {
    lan,
    version: VERSION,
    hasEventLoop: true,
    announcers: ANNOUNCERS,
    async expose(services) {
      const objects = [...services].map(([name, address]) => ({ name, object: serviceManifest(name, address) }));
      const [first = ""] = services.keys();
      const path = lab.file(`${first}.yaml`, manifests(...objects.map(({ object }) => object)));
      for (const { name } of objects) files.set(name, path);
      await lab.order("apply", { files: [path] });
    },
    async withdraw(names) {
      const paths = new Set([...names].flatMap((name) => files.get(name) ?? []));
      await lab.order("delete", { files: [...paths] });
    },
    async cutPower(name) {
      // Not by `millrace lab kill`: the lab says at once in the Node object what a cluster learns after 40 s.
      await lan.linkDown(name);
      await freeze(name);
    },
    async restorePower(name) {
      await thaw(name);
      await lan.linkUp(name);
    },
    killAgent: (name) =>
      lan.changes.put(
        `agent of ${name}`,
        () => lab.killAgents([name]),
        () => startAgent(name),
      ),
    startAgent: (name) => lan.changes.take(`agent of ${name}`),
    agentPids: (name) => processesIn(join(nodeCgroup(name), "agent")),
    freeze,
    thaw,
    async upgrade() {
      await build.change();
      for (const name of ANNOUNCERS) {
        await lab.killAgents([name]);
        await startAgent(name);
      }
    },
    api: undefined,
    async settled() {
      await Promise.all([...ANNOUNCERS, SERVER].map((name) => lab.inForce(name)));
    },
    async [Symbol.asyncDispose]() {
      await lan.changes.restore();
      await lab.down();
      await build[Symbol.asyncDispose]();
    },
  };
}
