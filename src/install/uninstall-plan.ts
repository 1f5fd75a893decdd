// What `millrace uninstall` does to a cluster: the way back of install-plan.ts. Pure: uninstall.ts carries it out.
import type { ClusterFacts, KubeProxyFacts } from "./cluster-facts.ts";
import { counted, named } from "./install-plan.ts";
import { NAMESPACE, NODE_LABEL } from "./names.ts";
import { PLATFORMS } from "./platform.ts";

export interface UninstallOptions {
  /** As a flag: 5m, 0. */
  readonly drainTimeout: string;
  readonly deleteCrds: boolean;
  /** Go on where nobody would serve Services afterwards. */
  readonly withoutProxy: boolean;
  readonly parallel: number;
}

export interface UninstallPlan {
  readonly refusals: readonly string[];
  readonly warnings: readonly string[];
  readonly found: readonly string[];
  readonly steps: readonly string[];
  readonly image: string;
  readonly kubeProxy: KubeProxyFacts | undefined;
  /** That are given back and drained, in this order. */
  readonly nodes: readonly string[];
  /** Names of the manifest's CustomResourceDefinitions that go. */
  readonly crds: readonly string[];
  /** There is nothing to do. */
  readonly isEmpty: boolean;
}

export interface UninstallInputs {
  readonly facts: ClusterFacts;
  readonly options: UninstallOptions;
  /** The manifest's image, where the cluster does not say which one runs. */
  readonly image: string;
  /** Of the manifest's CustomResourceDefinitions: how many objects of people each has. */
  readonly crds: ReadonlyMap<string, number>;
}

export function planUninstall({ facts, options, image: ours, crds }: UninstallInputs): UninstallPlan {
  const { kubeProxy, platform, millrace } = facts;
  const isThere = millrace !== undefined;
  const due = facts.nodes.filter(({ label, isDraining }) => isDraining || (isThere && label !== "kube-proxy"));
  const silent = due.filter(({ ready }) => ready === "unknown").map(({ name }) => name);
  const nodes = due
    .filter(({ ready, os }) => ready !== "unknown" && (os === "" || os === "linux"))
    .toSorted((a, b) => Number(a.isControlPlane) - Number(b.isControlPlane))
    .map(({ name }) => name);
  const labelled = facts.nodes.filter(({ label }) => label !== "");
  const going = [...crds].filter(([name]) => facts.crds.get(name)?.isOurs === true);
  const gone = going.filter(([, objects]) => objects === 0 || options.deleteCrds).map(([name]) => name);
  const kept = going.filter(([name]) => !gone.includes(name));
  const isEmpty = !isThere && labelled.length === 0 && due.length === 0 && kubeProxy?.isHeldBack !== true;
  const refusals: string[] = [];
  if (millrace?.managedBy === "Helm")
    refusals.push(
      "Millrace was installed by Helm here: helm uninstall takes its objects away; label nodes for kube-proxy and run millrace cleanup on each before.",
    );
  if (!isEmpty && kubeProxy === undefined && !options.withoutProxy)
    refusals.push(
      "There is no kube-proxy to hand over to: afterwards nobody serves Services here, DNS among them. Say --without-proxy when that is meant, or bring kube-proxy back first (kubeadm init phase addon kube-proxy).",
    );
  const warnings = [
    ...(silent.length === 0
      ? []
      : [
          `What Millrace has in the kernels of ${named(silent)} stays until they restart: their kubelets do not answer.`,
        ]),
    ...(kept.length === 0
      ? []
      : [
          `${kept.map(([name, objects]) => `${name} (${counted(objects, "object")})`).join(", ")} stay: --delete-crds takes them with all their objects.`,
        ]),
    ...(isThere ? ["LoadBalancer Services keep the addresses in their status; nobody announces them afterwards."] : []),
    ...(platform === "k3s" || platform === "rke2"
      ? [`Start the servers of ${PLATFORMS[platform]} without disable-kube-proxy again, before or after.`]
      : []),
  ];
  const drain = `let connections that it knows go on until they end, for ${options.drainTimeout} at most; take everything out of the kernel`;
  const steps = [
    ...(nodes.length === 0
      ? []
      : kubeProxy === undefined
        ? [`Remove the agents, then on each of ${named(nodes)}: ${drain}.`]
        : [
            `${options.parallel === 1 ? "One after another" : `${options.parallel} at a time`}, for ${named(nodes)}: label ${NODE_LABEL}=kube-proxy; wait until kube-proxy's pod is there with its rules and the agent gone; ${drain}.`,
          ]),
    `Delete Millrace's objects in ${NAMESPACE} and the cluster${gone.length === 0 ? "" : `, ${counted(gone.length, "CustomResourceDefinition")} among them`}.`,
    ...(kubeProxy?.isHeldBack === true
      ? [
          `Take the affinity from DaemonSet ${kubeProxy.namespace}/${kubeProxy.name}: it is as before. Its pods are replaced once by that.`,
        ]
      : []),
    ...(labelled.length > 0 || nodes.length > 0 ? [`Take the label ${NODE_LABEL} from all nodes.`] : []),
  ];
  return {
    refusals,
    warnings: isEmpty ? [] : warnings,
    found: [
      `Kubernetes ${facts.version}, ${PLATFORMS[platform]}, ${counted(facts.nodes.length, "node")}.`,
      isThere ? `Millrace: ${millrace.image}.` : "Millrace is not installed.",
      kubeProxy === undefined ? "No kube-proxy." : `kube-proxy: DaemonSet ${kubeProxy.namespace}/${kubeProxy.name}.`,
    ],
    steps: isEmpty ? [] : steps,
    image: millrace?.image || ours,
    kubeProxy,
    nodes,
    crds: gone,
    isEmpty,
  };
}
