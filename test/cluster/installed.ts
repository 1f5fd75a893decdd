// Millrace as people install it: the image as `make image` leaves it, and deploy/millrace.yaml. What differs from a real cluster is
// that its nodes share one machine, so each agent is told which cgroup holds its node's processes; and where the API server is.
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseAllDocuments, stringify } from "yaml";
import { Failure } from "../../src/lib/errors.ts";
import { VERSION } from "../../src/lib/version.ts";
import { API_URL } from "./addressing.ts";
import { AGENT_CONTAINER } from "./agent-pod.ts";
import type { ClusterConfig } from "./cluster.ts";
import { imageStore, makeStoreWithAgent, storeWithAgent } from "./image-store.ts";
import type { ClusterPaths } from "./paths.ts";
import type { Progress } from "./progress.ts";

const REPOSITORY = resolve(import.meta.dirname, "../..");
export const MANIFEST = resolve(REPOSITORY, "deploy/millrace.yaml");
const ARCHITECTURE = process.arch === "arm64" ? "arm64" : "amd64";
/** Its name in deploy/millrace.yaml, and in the archive. */
export const AGENT_IMAGE = `localhost/millrace:${VERSION}`;
/** Where `make image` leaves it. */
export const AGENT_IMAGE_ARCHIVE = resolve(REPOSITORY, `build/millrace-image-${ARCHITECTURE}.tar`);
/** Where the agent's container sees the machine's file system of that path. */
const HOST = "/host";

interface Installed {
  readonly kind?: string;
  readonly spec?: { readonly template: { readonly spec: { readonly containers: Container[] } } };
}

interface Container {
  readonly name: string;
  args?: string[];
}

/** Whether LoadBalancer Services of this cluster get addresses from Millrace. */
export function hasController(config: ClusterConfig): boolean {
  return isInstalled(config) && config.images === "cluster";
}

function isInstalled({ proxy, through }: ClusterConfig): boolean {
  return proxy === "millrace" && through === "daemonset";
}

/** By set of images: what was prepared last, also when the image has been made anew since. */
const prepared = new Map<ClusterConfig["images"], string>();

/** The directory that the images of a cluster's nodes come from. */
export function storeOf(config: ClusterConfig): string {
  if (!isInstalled(config)) return imageStore(config.images);
  return prepared.get(config.images) ?? storeWithAgent(config.images, AGENT_IMAGE_ARCHIVE);
}

/** Makes what of it is not built with the cluster's programs. @throws machine when the image has not been made */
export async function prepareStore(config: ClusterConfig, progress: Progress): Promise<void> {
  if (!isInstalled(config)) return;
  if (!existsSync(AGENT_IMAGE_ARCHIVE)) {
    const why = `${AGENT_IMAGE_ARCHIVE} is missing, \`make image\` builds it`;
    throw new Failure("machine", AGENT_IMAGE_ARCHIVE, `could not start a cluster: ${why}`);
  }
  prepared.set(config.images, await makeStoreWithAgent(progress, config.images, AGENT_IMAGE_ARCHIVE));
}

/** deploy/millrace.yaml for the nodes of this cluster; "" where agents do not come by it. */
export function installedManifest(config: ClusterConfig, paths: ClusterPaths): string {
  if (!isInstalled(config)) return "";
  const flags = [
    `--cgroup=${HOST}${paths.cgroup}/$(MILLRACE_NODE_NAME)`,
    `--apiserver=${API_URL}`,
    ...config.agentFlags,
  ];
  const objects = parseAllDocuments(readFileSync(MANIFEST, "utf8"))
    .map((document) => document.toJS() as Installed | null)
    .filter((object) => object !== null);
  const containers = objects
    .filter(({ kind }) => kind === "DaemonSet")
    .flatMap(({ spec }) => spec?.template.spec.containers ?? []);
  const agent = containers.find(({ name }) => name === AGENT_CONTAINER);
  if (agent === undefined) {
    throw new Failure("invalid_object", MANIFEST, `could not find the container '${AGENT_CONTAINER}' in ${MANIFEST}`);
  }
  agent.args = [...(agent.args ?? []), ...flags];
  const wanted = objects.filter(({ kind }) => kind !== "Deployment" || hasController(config));
  return wanted.map((object) => stringify(object)).join("---\n");
}
