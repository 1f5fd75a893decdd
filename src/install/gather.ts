// Asks a cluster for what the installer has to know, and whether its user may do what is to be done.
import type { ClusterObject, ClusterObjects } from "../kube/cluster-objects.ts";
import { field } from "../kube/fields.ts";
import type { ClusterObjectsRead } from "./cluster-facts.ts";
import { configMapOfKubeProxy } from "./kube-proxy.ts";
import { CONFIG_MAP, CONTROLLER, NAMESPACE, TEST_NAMESPACE } from "./names.ts";

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
  const configMap = (name: string, namespace = NAMESPACE) => api.get("ConfigMap", { namespace, name });
  const [
    kubeadmConfig,
    kubeProxyConfig,
    kubeProxySettings,
    ciliumConfig,
    millraceConfig,
    clusterInfo,
    endpointSlices,
    controllerLease,
  ] = await Promise.all([
    configMap("kubeadm-config"),
    configMap("kube-proxy"),
    settings && configMap(settings.name, settings.namespace),
    configMap("cilium-config"),
    configMap(CONFIG_MAP),
    configMap("cluster-info", "kube-public"),
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
    millraceConfig,
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

/** Of what is applied: an apply that makes an object is a patch and a create. */
const APPLIED = "create patch delete";

/** What `install` and `uninstall` do beside reading. Roles can only be granted by who has their rights, or may escalate. */
export const RIGHTS: readonly Right[] = [
  ...rightsTo("patch", "", "nodes"),
  ...rightsTo(APPLIED, "apps", "daemonsets deployments", NAMESPACE),
  ...rightsTo(APPLIED, "", "serviceaccounts configmaps", NAMESPACE),
  ...rightsTo("create delete", "", "pods", NAMESPACE),
  ...rightsTo(APPLIED, "rbac.authorization.k8s.io", "clusterroles clusterrolebindings"),
  ...rightsTo(APPLIED, "rbac.authorization.k8s.io", "roles rolebindings", NAMESPACE),
  ...rightsTo(APPLIED, "apiextensions.k8s.io", "customresourcedefinitions"),
  ...rightsTo(APPLIED, "policy", "poddisruptionbudgets", NAMESPACE),
  // What the controllers and the agents made.
  ...rightsTo("delete", "", "secrets", NAMESPACE),
  ...rightsTo("delete", "coordination.k8s.io", "leases", NAMESPACE),
  ...rightsTo("delete", "metallb.io", "configurationstates servicel2statuses", NAMESPACE),
];

/** What the self-test does beside that. */
export const TEST_RIGHTS: readonly Right[] = [
  ...rightsTo("create delete", "", "namespaces"),
  ...rightsTo("create", "apps", "daemonsets", TEST_NAMESPACE),
  ...rightsTo("create", "", "services pods", TEST_NAMESPACE),
];

/** Those that the API server says the user has not, as "patch nodes". */
export async function missingRights(api: ClusterObjects, rights: readonly Right[]): Promise<string[]> {
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
