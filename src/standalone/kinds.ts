// What becomes of each kind that may stand in a manifest: used here, started by the lab, skipped, or unknown. A table.
import { dns1035Problem, dnsLabelProblem, pathSegmentProblem, subdomainProblem } from "../wire/names.ts";

export type KindUse = "used" | "workload" | "skipped";

export interface KindInfo {
  readonly use: KindUse;
  readonly namespaced: boolean;
  /** Whether a name is allowed for this kind; returns what is wrong. */
  readonly nameProblem: (name: string) => string | undefined;
}

interface Row {
  readonly groups: readonly string[];
  readonly kinds: string;
  readonly use: KindUse;
  /** True when its objects are in no namespace. */
  readonly cluster?: true;
  readonly nameProblem?: (name: string) => string | undefined;
}

const APPS = ["apps/v1", "apps/v1beta1", "apps/v1beta2", "extensions/v1beta1"];
const BATCH = ["batch/v1", "batch/v1beta1", "batch/v2alpha1", "extensions/v1beta1"];
const RBAC = ["rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io/v1beta1"];
const METALLB = ["metallb.io/v1beta1", "metallb.io/v1beta2", "metallb.io/v1alpha1"];
const ANY_VERSION = ["v1", "v1beta1", "v1beta2", "v1beta3", "v1alpha1", "v2", "v2beta1", "v2beta2"];
const every = (group: string): readonly string[] => ANY_VERSION.map((version) => `${group}/${version}`);

const TABLE: readonly Row[] = [
  { groups: ["v1"], kinds: "Service", use: "used", nameProblem: dns1035Problem },
  { groups: ["v1"], kinds: "Endpoints Pod", use: "used" },
  { groups: ["v1"], kinds: "Node", use: "used", cluster: true },
  { groups: ["discovery.k8s.io/v1"], kinds: "EndpointSlice", use: "used" },
  { groups: ["metallb.io/v1beta1"], kinds: "IPAddressPool L2Advertisement", use: "used" },
  { groups: ["v1"], kinds: "ReplicationController", use: "workload" },
  { groups: APPS, kinds: "Deployment DaemonSet ReplicaSet StatefulSet", use: "workload" },
  { groups: BATCH, kinds: "Job CronJob", use: "workload" },
  { groups: ["v1"], kinds: "Namespace", use: "skipped", cluster: true, nameProblem: dnsLabelProblem },
  { groups: ["v1"], kinds: "PersistentVolume ComponentStatus", use: "skipped", cluster: true },
  {
    groups: ["v1"],
    kinds: "ConfigMap Secret ServiceAccount PersistentVolumeClaim LimitRange ResourceQuota Event PodTemplate Binding",
    use: "skipped",
  },
  {
    groups: RBAC,
    kinds: "ClusterRole ClusterRoleBinding",
    use: "skipped",
    cluster: true,
    nameProblem: pathSegmentProblem,
  },
  { groups: RBAC, kinds: "Role RoleBinding", use: "skipped", nameProblem: pathSegmentProblem },
  { groups: every("apiextensions.k8s.io"), kinds: "CustomResourceDefinition", use: "skipped", cluster: true },
  {
    groups: every("admissionregistration.k8s.io"),
    kinds:
      "ValidatingWebhookConfiguration MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding MutatingAdmissionPolicy MutatingAdmissionPolicyBinding",
    use: "skipped",
    cluster: true,
  },
  { groups: every("apiregistration.k8s.io"), kinds: "APIService", use: "skipped", cluster: true },
  { groups: every("networking.k8s.io"), kinds: "IngressClass IPAddress ServiceCIDR", use: "skipped", cluster: true },
  { groups: [...every("networking.k8s.io"), "extensions/v1beta1"], kinds: "Ingress NetworkPolicy", use: "skipped" },
  { groups: [...every("policy"), "extensions/v1beta1"], kinds: "PodSecurityPolicy", use: "skipped", cluster: true },
  { groups: every("policy"), kinds: "PodDisruptionBudget", use: "skipped" },
  { groups: every("autoscaling"), kinds: "HorizontalPodAutoscaler", use: "skipped" },
  {
    groups: every("storage.k8s.io"),
    kinds: "StorageClass CSIDriver CSINode VolumeAttachment VolumeAttributesClass",
    use: "skipped",
    cluster: true,
  },
  { groups: every("storage.k8s.io"), kinds: "CSIStorageCapacity", use: "skipped" },
  { groups: every("scheduling.k8s.io"), kinds: "PriorityClass", use: "skipped", cluster: true },
  { groups: every("node.k8s.io"), kinds: "RuntimeClass", use: "skipped", cluster: true },
  { groups: every("coordination.k8s.io"), kinds: "Lease", use: "skipped" },
  { groups: every("events.k8s.io"), kinds: "Event", use: "skipped" },
  {
    groups: every("certificates.k8s.io"),
    kinds: "CertificateSigningRequest",
    use: "skipped",
    cluster: true,
    nameProblem: pathSegmentProblem,
  },
  {
    groups: every("flowcontrol.apiserver.k8s.io"),
    kinds: "FlowSchema PriorityLevelConfiguration",
    use: "skipped",
    cluster: true,
  },
  { groups: ["apps/v1"], kinds: "ControllerRevision", use: "skipped" },
  {
    groups: METALLB,
    kinds:
      "AddressPool BGPPeer BGPAdvertisement BFDProfile Community ServiceL2Status ServiceBGPStatus ConfigurationState",
    use: "skipped",
  },
];

const KINDS: ReadonlyMap<string, KindInfo> = new Map(
  TABLE.flatMap(({ groups, kinds, use, cluster, nameProblem }) =>
    groups.flatMap((group) =>
      kinds
        .split(" ")
        .map((kind): [string, KindInfo] => [
          `${group} ${kind}`,
          { use, namespaced: cluster !== true, nameProblem: nameProblem ?? subdomainProblem },
        ]),
    ),
  ),
);

const KIND_NAMES: ReadonlySet<string> = new Set([...KINDS.keys()].map((key) => key.slice(key.indexOf(" ") + 1)));

/** What is known of a kind, undefined when nothing is. */
export function kindInfo(apiVersion: string, kind: string): KindInfo | undefined {
  return KINDS.get(`${apiVersion} ${kind}`);
}

/** Whether the kind is known in some other API version. */
export function isKnownKindName(kind: string): boolean {
  return KIND_NAMES.has(kind);
}

/** MetalLB's controller and speakers, whose work Millrace does itself: never started. */
export function isMetalLbWorkload(kind: string, namespace: string): boolean {
  return namespace === "metallb-system" && (kind === "Deployment" || kind === "DaemonSet" || kind === "ReplicaSet");
}
