// Asks a cluster for what the installer has to know, and whether its user may do what is to be done.
import type { ClusterObject, ClusterObjects } from "../kube/cluster-objects.ts";
import type { ClusterObjectsRead } from "./cluster-facts.ts";
import { field } from "./fields.ts";
import { configMapOfKubeProxy } from "./kube-proxy.ts";
import { CONTROLLER, NAMESPACE } from "./names.ts";

/** Rejects with an ApiError, or a RequestRefused for what the user may not read. */
export async function gatherCluster(api: ClusterObjects, kubeconfigServer: string): Promise<ClusterObjectsRead> {
  const [version, nodes, daemonSets, deployments, pods, customResourceDefinitions] = await Promise.all([
    api.version(),
    api.list("Node"),
    api.list("DaemonSet"),
    api.list("Deployment"),
    api.list("Pod", { namespace: NAMESPACE }),
    api.list("CustomResourceDefinition"),
  ]);
  const settings = configMapOfKubeProxy(daemonSets);
  const [
    kubeadmConfig,
    kubeProxyConfig,
    kubeProxySettings,
    ciliumConfig,
    clusterInfo,
    endpointSlices,
    controllerLease,
  ] = await Promise.all([
    api.get("ConfigMap", { namespace: NAMESPACE, name: "kubeadm-config" }),
    api.get("ConfigMap", { namespace: NAMESPACE, name: "kube-proxy" }),
    settings && api.get("ConfigMap", settings),
    api.get("ConfigMap", { namespace: NAMESPACE, name: "cilium-config" }),
    api.get("ConfigMap", { namespace: "kube-public", name: "cluster-info" }),
    api.list("EndpointSlice", { namespace: "default", labelSelector: "kubernetes.io/service-name=kubernetes" }),
    api.get("Lease", { namespace: NAMESPACE, name: CONTROLLER }),
  ]);
  return {
    version,
    nodes,
    daemonSets,
    deployments,
    pods,
    customResourceDefinitions,
    kubeadmConfig,
    kubeProxyConfig,
    kubeProxySettings,
    clusterInfo,
    ciliumConfig,
    endpointSlices,
    controllerLease,
    kubeconfigServer,
  };
}

/** One thing that the user must be allowed to do. */
export interface Right {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  /** Absent: in the whole cluster. */
  readonly namespace?: string;
}

function rightsTo(verbs: string, group: string, resources: string, namespace?: string): Right[] {
  return resources
    .split(" ")
    .flatMap((resource) =>
      verbs.split(" ").map((verb) => ({ verb, group, resource, ...(namespace === undefined ? {} : { namespace }) })),
    );
}

/** What `install` and `uninstall` do beside reading. Roles can only be granted by who has their rights, or may escalate. */
export const RIGHTS: readonly Right[] = [
  ...rightsTo("patch", "", "nodes"),
  ...rightsTo("patch delete", "apps", "daemonsets deployments", NAMESPACE),
  ...rightsTo("patch delete", "", "serviceaccounts configmaps", NAMESPACE),
  ...rightsTo("create delete", "", "pods", NAMESPACE),
  ...rightsTo("create delete", "", "namespaces"),
  ...rightsTo("patch delete", "rbac.authorization.k8s.io", "clusterroles clusterrolebindings"),
  ...rightsTo("patch delete", "rbac.authorization.k8s.io", "roles rolebindings", NAMESPACE),
  ...rightsTo("patch delete", "apiextensions.k8s.io", "customresourcedefinitions"),
  ...rightsTo("patch delete", "policy", "poddisruptionbudgets", NAMESPACE),
];

/** Those that the API server says the user has not, as "patch nodes". */
export async function missingRights(api: ClusterObjects, rights: readonly Right[] = RIGHTS): Promise<string[]> {
  const answers = await Promise.all(rights.map((right) => isAllowed(api, right)));
  return rights
    .filter((_, at) => !answers[at])
    .map(({ verb, group, resource, namespace }) => {
      const what = group === "" ? resource : `${resource}.${group}`;
      return `${verb} ${what}${namespace === undefined ? "" : ` in ${namespace}`}`;
    });
}

async function isAllowed(api: ClusterObjects, right: Right): Promise<boolean> {
  const review = {
    apiVersion: "authorization.k8s.io/v1",
    kind: "SelfSubjectAccessReview",
    metadata: {},
    spec: { resourceAttributes: right },
  } as unknown as ClusterObject;
  return field(await api.create(review), "status", "allowed") === true;
}
