// Where the things of the kind clusters are. Names only: it makes and removes nothing.
import { join, resolve } from "node:path";
import { namespacePath } from "../../src/lab/lab-paths.ts";

export const REPOSITORY = resolve(import.meta.dirname, "../..");

/** What is built once and kept: programs, the node image, and Docker's images. Ignored by git, and `make clean` leaves it. */
export const CACHE = join(REPOSITORY, ".cache/kind");

export const PROGRAMS = join(CACHE, "bin");
/** Docker keeps images here, and everything else that is gone when a container is. */
export const DOCKER_DATA = join(CACHE, "docker");

/** What is there only while Docker runs. */
export const STATE = "/var/lib/millrace-kind";
export const DOCKER_SOCKET = join(STATE, "docker.sock");
export const DOCKER_PID = join(STATE, "docker.pid");
export const DOCKER_LOG = join(STATE, "docker.log");

/** Each cluster has one of its own, so that nobody changes another's current context. */
export function kubeconfigOf(cluster: string): string {
  return join(STATE, `${cluster}.kubeconfig`);
}

/** The network namespace that is the machine to Docker and to who uses the clusters: bridges, rules and routes go with it. */
export const HOST = "millrace-kind";
export const HOST_NAMESPACE = namespacePath(HOST);

/** Docker's network of the clusters. Its IPv4 prefix is that of the examples, so that their pools can be used as they are. */
export const NETWORK = "kind";
export const SUBNETS = ["192.168.122.0/24", "fd00:192:168:122::/64"] as const;
/** Of the networks, the addresses that Docker gives; what is above is for pools. */
export const DOCKER_RANGE = "192.168.122.0/26";
