// What `millrace uninstall` does to a cluster: the way back of install-plan.ts. Pure: uninstall.ts carries it out.
import type { ClusterFacts } from "./cluster-facts.ts";
import { counted, named, unable } from "./install-plan.ts";
import { imageToKeep, NOTHING_KEPT } from "./kept-options.ts";
import type { KubeProxyFacts } from "./kube-proxy.ts";
import { NAMESPACE, NODE_LABEL } from "./names.ts";
import { PLATFORMS } from "./platform.ts";

export interface UninstallOptions {
  /** As a flag: 5m, 0. */
  readonly drainTimeout: string;
  readonly deleteCrds: boolean;
  /** Go on where nobody would serve Services afterwards. */
  readonly withoutProxy: boolean;
  readonly parallel: number;
  /** Only these are given back, and nothing is deleted. Empty: the whole cluster. */
  readonly only: readonly string[];
}

export interface UninstallPlan {
  readonly refusals: readonly string[];
  readonly warnings: readonly string[];
  readonly found: readonly string[];
  readonly steps: readonly string[];
  readonly image: string;
  /** Names of Secrets with credentials of a registry. */
  readonly pullSecrets: readonly string[];
  readonly kubeProxy: KubeProxyFacts | undefined;
  /** That are given back and drained, in this order. */
  readonly nodes: readonly string[];
  /** Of those: that kube-proxy serves by their label, so that an agent may never have been there, nor its image. */
  readonly unsure: ReadonlySet<string>;
  /** Millrace stays on the other nodes. */
  readonly isPartial: boolean;
  /** Names of the manifest's CustomResourceDefinitions that go. */
  readonly crds: readonly string[];
  /** Also objects of kinds of MetalLB's that report what Millrace did: nobody else writes any there. */
  readonly hasReports: boolean;
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

/** "One after another, for a, b". */
function paceOf({ parallel }: UninstallOptions, nodes: readonly string[]): string {
  return `${parallel === 1 ? "One after another" : `${parallel} at a time`}, for ${named(nodes)}`;
}

export function planUninstall({ facts, options, image: ours, crds }: UninstallInputs): UninstallPlan {
  const { kubeProxy, platform, millrace } = facts;
  const told = facts.millraceConfig?.kept ?? NOTHING_KEPT;
  const isThere = millrace !== undefined;
  const isPartial = options.only.length > 0;
  const isEmpty = !facts.hasTraces && !isPartial;
  // Programs stay in a kernel when an agent ends, however it was ended: a node that looks like kube-proxy's may have them.
  const due = isEmpty
    ? []
    : facts.nodes.filter((node) => unable(node) === "" && (!isPartial || options.only.includes(node.name)));
  const silent = due.filter(({ ready }) => ready === "unknown").map(({ name }) => name);
  const nodes = due
    .filter(({ ready }) => ready !== "unknown")
    .toSorted((a, b) => Number(a.isControlPlane) - Number(b.isControlPlane))
    .map(({ name }) => name);
  const labelled = facts.nodes.filter(({ label }) => label !== "");
  const unsure = due.filter(({ label, isDraining }) => label === "kube-proxy" && !isDraining).map(({ name }) => name);
  const managed = isPartial ? [] : [...crds].filter(([name]) => facts.crds.get(name)?.isOurs === true);
  const isMetallbs = (name: string): boolean => facts.metallb.length > 0 && name.endsWith(".metallb.io");
  const isOthersToo = (name: string): boolean => isMetallbs(name) || facts.crds.get(name)?.isShared === true;
  const going = managed.filter(([name]) => !isOthersToo(name));
  const shared = managed.map(([name]) => name).filter(isOthersToo);
  const gone = going.filter(([, objects]) => objects === 0 || options.deleteCrds).map(([name]) => name);
  const kept = going.filter(([name]) => !gone.includes(name));
  const refusals: string[] = [];
  for (const name of options.only) {
    const node = facts.nodes.find((one) => one.name === name);
    if (node === undefined) refusals.push(`--node ${name}: there is no such node.`);
    else if (unable(node) !== "") refusals.push(`--node ${name}: ${unable(node)}, so Millrace was never there.`);
    else if (node.ready === "unknown") refusals.push(`--node ${name}: its kubelet does not answer.`);
  }
  if (millrace?.managedBy === "Helm" && !isPartial)
    refusals.push(
      "Millrace was installed by Helm here: give node after node back by millrace uninstall --node NODE, then helm uninstall, which takes its objects away; millrace uninstall after that takes out what is left.",
    );
  if (!isEmpty && kubeProxy === undefined && !options.withoutProxy)
    refusals.push(
      `There is no kube-proxy to hand over to: afterwards nobody serves Services ${isPartial ? "there" : "here"}, DNS among them. Say --without-proxy when that is meant, or bring kube-proxy back first (kubeadm init phase addon kube-proxy).`,
    );
  const warnings = [
    ...(silent.length === 0
      ? []
      : [
          `What Millrace has in the kernels of ${named(silent)} stays until they restart: their kubelets do not answer.`,
        ]),
    ...(shared.length === 0
      ? []
      : [
          `${named(shared)} stay: ${facts.metallb.length > 0 ? `MetalLB runs (${named(facts.metallb)})` : "others have written to them too"}.`,
        ]),
    ...(kept.length === 0
      ? []
      : [
          `${kept.map(([name, objects]) => `${name} (${counted(objects, "object")})`).join(", ")} stay: --delete-crds takes them with all their objects.`,
        ]),
    ...(isThere && !isPartial
      ? ["LoadBalancer Services keep the addresses in their status; nobody announces them afterwards."]
      : []),
    ...(!isPartial && (platform === "k3s" || platform === "rke2")
      ? [`Start the servers of ${PLATFORMS[platform]} without disable-kube-proxy again, before or after.`]
      : []),
  ];
  const drain = `let connections that it knows go on until they end, for ${options.drainTimeout} at most; take everything out of the kernel`;
  const stepsPartial = [
    `${paceOf(options, nodes)}: label ${NODE_LABEL}=kube-proxy, which stays; wait until ${kubeProxy === undefined ? "" : "kube-proxy's pod is there with its rules and "}the agent gone; ${drain}.`,
  ];
  const stepsAll = [
    ...(nodes.length === 0
      ? []
      : kubeProxy === undefined
        ? [`Remove the agents, then on each of ${named(nodes)}: ${drain}.`]
        : [
            `${paceOf(options, nodes)}: label ${NODE_LABEL}=kube-proxy; wait until kube-proxy's pod is there with its rules and the agent gone; ${drain}.`,
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
    steps: isEmpty ? [] : isPartial ? stepsPartial : stepsAll,
    image: millrace?.image || imageToKeep(told, ours) || ours,
    pullSecrets: millrace?.pullSecrets ?? told.imagePullSecrets,
    kubeProxy,
    nodes,
    unsure: new Set(unsure),
    isPartial,
    crds: gone,
    hasReports: !facts.metallb.some((title) => title.includes(` ${NAMESPACE}/`)),
    isEmpty,
  };
}
