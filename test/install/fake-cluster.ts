// A cluster in memory for the installer: an API server (reads, server-side apply with owners of fields, merge patches, creates, deletes), the
// DaemonSet controller, and nodes whose kubelets run pods. Each node's kernel is modelled as far as it counts here: has it kube-proxy's rules,
// and does Millrace serve it?
import type { ClusterObject } from "../../src/kube/cluster-objects.ts";
import { KINDS } from "../../src/kube/cluster-objects.ts";
import type { Demand } from "../../src/kube/request-head.ts";
import type { ApiResponse } from "../../src/kube/transport.ts";
import { createKubelets, type Kubelets, START_TURNS } from "./kubelets.ts";
import { merged } from "./merged.ts";

// biome-ignore lint/suspicious/noExplicitAny: tests look into objects as JSON has them
type Json = any;

export interface FakeCluster extends Kubelets {
  send(demand: Demand, path: string): Promise<ApiResponse>;
  put(object: Json): void;
  get(kind: string, name: string, namespace?: string): Json;
  list(kind: string, namespace?: string): Json[];
  delete(kind: string, name: string, namespace?: string): void;
  addNode(name: string, more?: Json): void;
  /** All pods that were made run. */
  settle(): void;
  /** A status that a request is answered with instead. */
  fault: (method: string, path: string) => number | undefined;
  version: string;
  /** Pods of every DaemonSet that are not available. */
  unavailable: number;
  /** No pod of a Deployment's template becomes available; those of the template before stay. */
  isDeploymentStuck: boolean;
  /** "verb resource" that the user may not. */
  readonly denied: Set<string>;
  readonly requests: string[];
  readonly logs: Map<string, string>;
}

class Refused extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

const PATH = /^\/(?:api\/v1|apis\/([^/]+\/[^/]+))(?:\/namespaces\/([^/]+))?\/([a-z0-9]+)(?:\/([^/]+))?(?:\/([a-z]+))?$/;

function placeOf(path: string): { kind: string; namespace: string | undefined; name: string; sub: string } {
  const namespaces = /^\/api\/v1\/namespaces(?:\/([^/]+))?$/.exec(path);
  if (namespaces !== null) return { kind: "Namespace", namespace: undefined, name: namespaces[1] ?? "", sub: "" };
  const [, version = "v1", namespace, plural = "", name = "", sub = ""] = PATH.exec(path) ?? [];
  const found = Object.entries(KINDS).find(([, one]) => one.plural === plural && one.apiVersion === version);
  if (found === undefined) throw new Refused(404, "404 page not found");
  return { kind: found[0], namespace, name: decodeURIComponent(name), sub };
}

const keyOf = (kind: string, name: string, namespace: string | undefined): string =>
  `${kind} ${namespace ?? ""}/${name}`;

const isMap = (value: unknown): value is Record<string, Json> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const mergedJson = (target: Json, patch: Json): Json => merged(target, patch);

/** Leaves by path; lists are leaves. */
function leaves(value: Json, path = ""): Map<string, Json> {
  if (!isMap(value)) return new Map([[path, value]]);
  return new Map(Object.entries(value).flatMap(([name, one]) => [...leaves(one, `${path}.${name}`)]));
}

function without(value: Json, gone: ReadonlySet<string>, path = ""): Json {
  if (!isMap(value)) return value;
  const rest = Object.entries(value)
    .filter(([name]) => !gone.has(`${path}.${name}`))
    .map(([name, one]) => [name, without(one, gone, `${path}.${name}`)]);
  return Object.fromEntries(rest);
}

function selects(selector: string, labels: Record<string, string> = {}): boolean {
  return selector
    .split(",")
    .filter(Boolean)
    .every((one) => {
      const [name = "", value] = one.split("=");
      return labels[name] === value;
    });
}

function matchesFields(selector: string, object: Json): boolean {
  return selector
    .split(",")
    .filter(Boolean)
    .every((one) => {
      const [path = "", value] = one.split("=");
      return path.split(".").reduce((found: Json, part) => found?.[part], object) === value;
    });
}

function runsOn(daemonSet: Json, node: Json): boolean {
  const terms: Json[] | undefined =
    daemonSet.spec.template.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
      ?.nodeSelectorTerms;
  if (terms === undefined) return true;
  const labels = { "kubernetes.io/os": "linux", ...node.metadata.labels };
  return terms.some((term) =>
    (term.matchExpressions ?? []).every(({ key, operator, values }: Json) => {
      const isOne = values.includes(labels[key] ?? "");
      return operator === "In" ? isOne : !isOne;
    }),
  );
}

export function createFakeCluster(): FakeCluster {
  const objects = new Map<string, Json>();
  /** By key and leaf: who owns it. */
  const owners = new Map<string, Map<string, string>>();
  const kubelets = createKubelets();
  let versions = 0;

  function store(object: Json): Json {
    const { kind, metadata } = object;
    const key = keyOf(kind, metadata.name, metadata.namespace);
    const before = objects.get(key);
    const isSpecSame = JSON.stringify(before?.spec) === JSON.stringify(object.spec);
    const stored = {
      ...object,
      metadata: {
        ...metadata,
        uid: before?.metadata.uid ?? `uid-${++versions}`,
        resourceVersion: String(++versions),
        generation: (before?.metadata.generation ?? 0) + (isSpecSame && before !== undefined ? 0 : 1),
        ...(owners.has(key)
          ? { managedFields: [...new Set(owners.get(key)!.values())].map((manager) => ({ manager })) }
          : {}),
      },
    };
    objects.set(key, stored);
    return stored;
  }

  function own(object: Json, manager: string, force: boolean): Json {
    const { kind, metadata, apiVersion: _, ...rest } = object;
    const key = keyOf(kind, metadata.name, metadata.namespace);
    const before = objects.get(key);
    const given = leaves({
      ...rest,
      metadata: { labels: metadata.labels ?? {}, annotations: metadata.annotations ?? {} },
    });
    const owned = owners.get(key) ?? new Map<string, string>();
    const had = before === undefined ? new Map<string, Json>() : leaves(before);
    const conflicts = [...given].filter(
      ([path, value]) =>
        owned.has(path) && owned.get(path) !== manager && JSON.stringify(had.get(path)) !== JSON.stringify(value),
    );
    if (conflicts.length > 0 && !force) {
      const others = conflicts.map(([path]) => `conflict with "${owned.get(path)}": ${path}`).join(", ");
      throw new Refused(409, `Apply failed with ${conflicts.length} conflict: ${others}`);
    }
    const gone = new Set([...owned].filter(([path, by]) => by === manager && !given.has(path)).map(([path]) => path));
    for (const path of gone) owned.delete(path);
    for (const path of given.keys()) owned.set(path, manager);
    owners.set(key, owned);
    return store(mergedJson(without(before ?? {}, gone), object));
  }

  /** A pod of a DaemonSet, or one that was made by hand: its kubelet runs it. */
  function run(pod: Json): void {
    const status = kubelets.play(pod);
    if (status === undefined) return;
    objects.set(keyOf("Pod", pod.metadata.name, pod.metadata.namespace), { ...pod, status });
  }

  function remove(key: string): void {
    const object = objects.get(key);
    objects.delete(key);
    owners.delete(key);
    if (object?.kind === "Namespace") {
      for (const [other, { metadata }] of objects) if (metadata.namespace === object.metadata.name) remove(other);
    }
    if (object?.kind === "DaemonSet") {
      for (const pod of podsOf(object)) remove(keyOf("Pod", pod.metadata.name, pod.metadata.namespace));
    }
  }

  function podsOf(daemonSet: Json): Json[] {
    return cluster
      .list("Pod", daemonSet.metadata.namespace)
      .filter((pod) => pod.metadata.ownerReferences?.some((one: Json) => one.uid === daemonSet.metadata.uid));
  }

  /** What controllers and kubelets do between two requests. */
  function turn(): void {
    for (const daemonSet of cluster.list("DaemonSet")) controlDaemonSet(daemonSet);
    for (const deployment of cluster.list("Deployment")) controlDeployment(deployment);
    for (const pod of cluster.list("Pod")) run(pod);
  }

  function controlDaemonSet(daemonSet: Json): void {
    const { name, namespace, uid } = daemonSet.metadata;
    const template = JSON.stringify(daemonSet.spec.template);
    const wanted = cluster.list("Node").filter((node) => runsOn(daemonSet, node));
    const pods = podsOf(daemonSet);
    for (const pod of pods) {
      const isWanted = wanted.some((node) => node.metadata.name === pod.spec.nodeName);
      const isOld = pod.metadata.annotations?.template !== template;
      if (isWanted && !isOld) continue;
      remove(keyOf("Pod", pod.metadata.name, namespace));
      if (!isWanted) cluster.history.push(`${pod.spec.nodeName} ${name} goes`);
    }
    const left = podsOf(daemonSet).map((pod) => pod.spec.nodeName);
    for (const node of wanted.filter(({ metadata }) => !left.includes(metadata.name))) {
      const { metadata, spec } = daemonSet.spec.template;
      store({
        apiVersion: "v1",
        kind: "Pod",
        metadata: {
          name: `${name}-${node.metadata.name}`,
          namespace,
          labels: metadata?.labels,
          annotations: { ...metadata?.annotations, template },
          ownerReferences: [{ kind: "DaemonSet", name, uid }],
        },
        spec: { ...spec, nodeName: node.metadata.name },
      });
    }
    const status = {
      observedGeneration: daemonSet.metadata.generation,
      desiredNumberScheduled: wanted.length,
      updatedNumberScheduled: wanted.length,
      numberUnavailable: cluster.unavailable,
    };
    objects.set(keyOf("DaemonSet", name, namespace), { ...daemonSet, status });
  }

  /** A pod of the new template comes; the one before goes when that is available. */
  function controlDeployment(deployment: Json): void {
    const { name, namespace, generation } = deployment.metadata;
    const before = deployment.status?.availableReplicas ?? 0;
    const status = cluster.isDeploymentStuck
      ? { replicas: before + 1, updatedReplicas: 1, availableReplicas: before }
      : { replicas: 1, updatedReplicas: 1, availableReplicas: 1 };
    objects.set(keyOf("Deployment", name, namespace), {
      ...deployment,
      status: { observedGeneration: generation, ...status },
    });
  }

  function readLog(name: string, namespace: string, container: string): ApiResponse {
    const { initContainers = [], containers } = existing(keyOf("Pod", name, namespace), "Pod", name).spec;
    if (![...initContainers, ...containers].some((one: Json) => one.name === container))
      throw new Refused(400, `container ${container} is not valid for pod ${name}`);
    return response(200, cluster.logs.get(`${namespace}/${name}`) ?? "");
  }

  function serve(
    method: string,
    target: string,
    body: string | undefined,
    contentType: string | undefined,
  ): ApiResponse {
    const url = new URL(target, "http://fake");
    if (url.pathname === "/version") return answer(200, { gitVersion: cluster.version });
    const { kind, namespace, name, sub } = placeOf(url.pathname);
    const query = (field: string): string => url.searchParams.get(field) ?? "";
    const key = keyOf(kind, name, namespace);
    const given = body === undefined ? undefined : JSON.parse(body);
    if (sub === "log") return readLog(name, namespace ?? "", query("container"));
    if (method === "GET" && name === "") {
      const found = cluster
        .list(kind, namespace)
        .filter((one) => selects(query("labelSelector"), one.metadata.labels))
        .filter((one) => matchesFields(query("fieldSelector"), one));
      const from = Number(query("continue"));
      const limit = Number(query("limit")) || found.length;
      const rest = from + limit < found.length ? { continue: String(from + limit) } : {};
      return answer(200, { kind: "List", metadata: rest, items: found.slice(from, from + limit) });
    }
    if (method === "GET") return answer(200, existing(key, kind, name));
    if (kind === "SelfSubjectAccessReview") {
      const { verb, resource } = given.spec.resourceAttributes;
      return answer(201, { ...given, status: { allowed: !cluster.denied.has(`${verb} ${resource}`) } });
    }
    if (method === "POST") {
      const made = keyOf(kind, given.metadata.name, namespace);
      if (objects.has(made)) throw new Refused(409, `${kind} "${given.metadata.name}" already exists`);
      return answer(
        201,
        store(
          completed({ ...given, metadata: { ...given.metadata, ...(namespace === undefined ? {} : { namespace }) } }),
        ),
      );
    }
    if (method === "DELETE") {
      const found = existing(key, kind, name);
      remove(key);
      return answer(200, found);
    }
    if (contentType === "application/apply-patch+yaml") {
      return answer(200, own(given, query("fieldManager"), query("force") === "true"));
    }
    const before = existing(key, kind, name);
    const { resourceVersion } = given.metadata ?? {};
    if (resourceVersion !== undefined && resourceVersion !== before.metadata.resourceVersion) {
      throw new Refused(409, `Operation cannot be fulfilled on ${kind} "${name}": the object has been modified`);
    }
    const label = given.metadata?.labels?.["millrace.io/service-proxy"];
    if (kind === "Node" && label !== undefined) cluster.history.push(`${name} labelled ${label}`);
    return answer(200, store(mergedJson(before, given)));
  }

  /** What the API server fills in. */
  function completed(object: Json): Json {
    if (object.kind !== "Service") return object;
    const ports = object.spec.ports.map((port: Json, at: number) => ({ ...port, nodePort: 30_000 + at }));
    return { ...object, spec: { ...object.spec, clusterIPs: ["10.96.1.1", "fd00:10:96::1"], ports } };
  }

  function existing(key: string, kind: string, name: string): Json {
    const found = objects.get(key);
    if (found === undefined) throw new Refused(404, `${kind} "${name}" not found`);
    return found;
  }

  function response(status: number, text: string): ApiResponse {
    async function* body(): AsyncGenerator<Uint8Array> {
      yield Buffer.from(text);
    }
    return { status, headers: { "content-type": "application/json" }, body: { [Symbol.asyncIterator]: body } };
  }

  function answer(status: number, object: object): ApiResponse {
    return response(status, JSON.stringify(object));
  }

  const api: Omit<FakeCluster, keyof Kubelets> = {
    async send({ method, body, contentType }, path) {
      const pathname = path.split("?", 1)[0]!;
      cluster.requests.push(`${method} ${pathname}`);
      const status = cluster.fault(method, pathname);
      if (status !== undefined) return answer(status, { kind: "Status", code: status, message: "because of the test" });
      try {
        return serve(method, path, body, contentType);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        return answer(error.code, { kind: "Status", code: error.code, message: error.message });
      } finally {
        turn();
      }
    },
    put(object) {
      store(object);
      turn();
    },
    get: (kind, name, namespace) => objects.get(keyOf(kind, name, namespace)),
    list: (kind, namespace) =>
      [...objects.values()].filter(
        (one) => one.kind === kind && (namespace === undefined || one.metadata.namespace === namespace),
      ),
    delete: (kind, name, namespace) => remove(keyOf(kind, name, namespace)),
    addNode(name, more = {}) {
      kubelets.join(name);
      store(nodeObject(name, more));
      turn();
    },
    settle() {
      for (let at = 0; at <= START_TURNS; at++) turn();
    },
    fault: () => undefined,
    version: "v1.34.4",
    unavailable: 0,
    isDeploymentStuck: false,
    denied: new Set(),
    requests: [],
    logs: new Map(),
  };
  const cluster: FakeCluster = Object.assign(kubelets, api);
  return cluster;
}

/** A Node as its kubelet reports it. */
export function nodeObject(name: string, more: Json = {}): Json {
  return mergedJson(
    {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name, labels: { "kubernetes.io/os": "linux" }, annotations: {} },
      spec: {},
      status: {
        nodeInfo: {
          kernelVersion: "6.1.0-18-amd64",
          architecture: "amd64",
          operatingSystem: "linux",
          osImage: "Debian GNU/Linux 12 (bookworm)",
          kubeletVersion: "v1.34.4",
          containerRuntimeVersion: "containerd://2.1.0",
        },
        addresses: [{ type: "InternalIP", address: `192.168.0.${name.length + name.charCodeAt(name.length - 1)}` }],
        conditions: [{ type: "Ready", status: "True" }],
      },
    },
    more,
  );
}

/** kubeadm's kube-proxy: DaemonSet and ConfigMap. */
export function kubeProxyObjects(more: Json = {}): ClusterObject[] {
  const labels = { "k8s-app": "kube-proxy" };
  const daemonSet = mergedJson(
    {
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata: { name: "kube-proxy", namespace: "kube-system", labels },
      spec: {
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            containers: [
              {
                name: "kube-proxy",
                image: "registry.k8s.io/kube-proxy:v1.34.4",
                command: [
                  "/usr/local/bin/kube-proxy",
                  "--config=/var/lib/kube-proxy/config.conf",
                  "--hostname-override=$(NODE_NAME)",
                ],
                env: [{ name: "NODE_NAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } }],
                volumeMounts: [{ name: "kube-proxy", mountPath: "/var/lib/kube-proxy" }],
              },
            ],
            volumes: [{ name: "kube-proxy", configMap: { name: "kube-proxy" } }],
          },
        },
      },
    },
    more,
  );
  const configuration = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf}
clusterCIDR: 10.244.0.0/16
conntrack: {maxPerCore: 0, min: null, tcpEstablishedTimeout: 1h0m0s}
mode: iptables
nodePortAddresses: [192.168.0.0/24]
`;
  const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: default, cluster: {server: "https://mr-control-plane:6443"}}]
`;
  const configMap = {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "kube-proxy", namespace: "kube-system" },
    data: { "config.conf": configuration, "kubeconfig.conf": kubeconfig },
  };
  return [configMap, daemonSet];
}
