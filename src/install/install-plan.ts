// What `millrace install` does to a cluster, decided from what is known of it. Pure: rollout.ts carries it out.
import type { ApiWay } from "./api-way.ts";
import type { ClusterFacts, NodeFacts } from "./cluster-facts.ts";
import {
  type Chosen,
  type ChosenOptions,
  chooseOptions,
  imageParts,
  keptText,
  lostBy,
  NOTHING_KEPT,
  type SaidOptions,
  type SysAdminChoice,
} from "./kept-options.ts";
import type { KubeProxyFacts } from "./kube-proxy.ts";
import { chosenConfig } from "./manifest.ts";
import { CONFIG_MAP, NAMESPACE, NODE_LABEL, OPTIONS_ANNOTATION } from "./names.ts";
import { PLATFORMS } from "./platform.ts";

export interface InstallOptions extends SaidOptions {
  readonly besideMetallb: boolean;
  readonly selfTest: boolean;
  /** Fields that others have written are taken over. */
  readonly force: boolean;
  /** Nodes that change hands at once. */
  readonly parallel: number;
}

/** What kube-proxy's configuration becomes: keys of ours, and sentences about what has no counterpart. */
export interface TakenSettings {
  /** Undefined: there is no such configuration, or none that can be taken over. */
  readonly config: Readonly<Record<string, string>> | undefined;
  readonly remarks: readonly string[];
  /** Why it cannot be taken over, sentences too; absent: it can. */
  readonly refusals?: readonly string[];
}

export interface InstallPlan {
  /** Why it cannot be done, and what would have to be: nothing is done then. */
  readonly refusals: readonly string[];
  readonly warnings: readonly string[];
  /** How it is: for people. */
  readonly found: readonly string[];
  /** What is done, in this order: for people. */
  readonly steps: readonly string[];
  readonly image: string;
  readonly apiServer: string;
  readonly loadBalancerClass: string;
  readonly config: Readonly<Record<string, string>>;
  readonly sysAdmin: SysAdminChoice;
  /** Names of Secrets, for the pods that stay. */
  readonly imagePullSecrets: readonly string[];
  /** Likewise, for the installer's own pods: those of the agents that are there, too. */
  readonly ownPullSecrets: readonly string[];
  /** For the annotation. */
  readonly kept: string;
  readonly kubeProxy: KubeProxyFacts | undefined;
  /** That get an agent, in the order in which they change hands: control planes last. */
  readonly nodes: readonly string[];
  /** Of those, where there is a kube-proxy: that are not known to be done. */
  readonly due: readonly string[];
  /** That keep kube-proxy. */
  readonly left: readonly { readonly node: string; readonly why: string }[];
  /** CustomResourceDefinitions of the manifest that others have made: they stay as they are. */
  readonly keptCrds: ReadonlySet<string>;
  readonly isUpgrade: boolean;
  /** The objects get no field that came with Kubernetes 1.30. */
  readonly isBefore130: boolean;
}

const CLASS_BESIDE_METALLB = "millrace.io/l2";
const LEAST_KERNEL = [5, 10] as const;
/** The chart's kubeVersion. */
export const LEAST_KUBERNETES = [1, 25] as const;
const ARCHITECTURES = ["amd64", "arm64"];
const MOST_NAMED = 8;

/** "a, b and 3 more". */
export function named(names: readonly string[]): string {
  if (names.length <= MOST_NAMED) return names.join(", ");
  return `${names.slice(0, MOST_NAMED).join(", ")} and ${names.length - MOST_NAMED} more`;
}

export function counted(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

/** `release`: 6.1.0-18-amd64, v1.34.4. What is none is not older. */
function isOlder(release: string, [leastMajor, leastMinor]: readonly [number, number]): boolean {
  const match = /^v?(\d+)\.(\d+)/.exec(release);
  if (match === null) return false;
  const [major, minor] = [Number(match[1]), Number(match[2])];
  return major < leastMajor || (major === leastMajor && minor < leastMinor);
}

/** Why no agent can run on a node, nor ever did. */
export function unable({ os, arch }: NodeFacts): string {
  if (os !== "" && os !== "linux") return `it runs ${os}`;
  return arch === "" || ARCHITECTURES.includes(arch) ? "" : `there is no image for ${arch}`;
}

/** Why a node gets no agent whatever is asked for. */
function unfit(node: NodeFacts): string {
  const { ready } = node;
  return unable(node) || (ready === "unknown" ? "its kubelet does not answer" : "");
}

const AS_ASKED = "as asked for";

interface NodeChoice {
  readonly nodes: readonly NodeFacts[];
  readonly left: readonly { readonly node: string; readonly why: string }[];
}

function chooseNodes({ nodes }: ClusterFacts, except: readonly string[]): NodeChoice {
  const left = nodes.flatMap((node) => {
    const why = except.includes(node.name) ? AS_ASKED : unfit(node);
    return why === "" ? [] : [{ node: node.name, why }];
  });
  const isLeft = new Set(left.map(({ node }) => node));
  const order = (node: NodeFacts): number => Number(node.isControlPlane);
  return { nodes: nodes.filter(({ name }) => !isLeft.has(name)).toSorted((a, b) => order(a) - order(b)), left };
}

/** It was part of the node's own program. */
export function hadEmbeddedKubeProxy({ platform }: Pick<ClusterFacts, "platform">): boolean {
  return platform === "k3s" || platform === "rke2";
}

const FLAGS_OF: Partial<Record<string, string>> = {
  k3s: "start every server with --disable-kube-proxy (or disable-kube-proxy: true in /etc/rancher/k3s/config.yaml), restart it, then its agents",
  rke2: "set disable-kube-proxy: true in /etc/rancher/rke2/config.yaml of every server, restart rke2-server, then the agents",
};

function refusalsOf(
  facts: ClusterFacts,
  options: Pick<ChosenOptions, "except" | "loadBalancerClass">,
  chosen: NodeChoice,
  apiServer: string,
): string[] {
  const refusals: string[] = [];
  const { platform } = facts;
  if (isOlder(facts.version, LEAST_KUBERNETES))
    refusals.push(`Kubernetes ${LEAST_KUBERNETES.join(".")} or later is needed: this is ${facts.version}.`);
  if (facts.nodes.length === 0) refusals.push("The cluster has no node.");
  for (const name of options.except)
    if (!facts.nodes.some((node) => node.name === name)) refusals.push(`--except ${name}: there is no such node.`);
  for (const { name, label } of facts.nodes)
    if (label === "millrace" && options.except.includes(name))
      refusals.push(
        `--except ${name}: Millrace serves it already. millrace uninstall --node ${name} gives it back to kube-proxy, and takes what Millrace has in its kernel out.`,
      );
  if (facts.embeddedKubeProxies.length > 0)
    refusals.push(
      `kube-proxy is part of ${PLATFORMS[platform]} and runs on ${named(facts.embeddedKubeProxies)}: ${FLAGS_OF[platform]}. Then run this again: it takes out the rules that are left.`,
    );
  if (facts.staticKubeProxies.length > 0)
    refusals.push(
      `kube-proxy runs as a static pod on ${named(facts.staticKubeProxies)}: only who manages those nodes can take it away. Then run this again.`,
    );
  if (facts.otherProxies.length > 0)
    refusals.push(
      `Services are served by ${named(facts.otherProxies)}: turn that off first. Two would be in each other's way.`,
    );
  if (facts.metallb.length > 0 && options.loadBalancerClass === "")
    refusals.push(
      `MetalLB runs (${named(facts.metallb)}): two would give and announce the same addresses. Take it away (kubectl delete its controller and speakers; its CRDs and pools stay, they are read), or say --beside-metallb: then only Services with spec.loadBalancerClass ${CLASS_BESIDE_METALLB} are ours.`,
    );
  const old = chosen.nodes.filter(({ kernel }) => isOlder(kernel, LEAST_KERNEL));
  if (old.length > 0)
    refusals.push(
      `Linux ${LEAST_KERNEL.join(".")} or later is needed; older are ${named(old.map(({ name, kernel }) => `${name} (${kernel})`))}. ${facts.kubeProxy === undefined ? "Upgrade them." : "Upgrade them, or leave them to kube-proxy by --except NODE."}`,
    );
  if (facts.nodes.length > 0 && chosen.nodes.length === 0)
    refusals.push(`No node is left: ${chosen.left.map(({ node, why }) => `${node}: ${why}`).join("; ")}.`);
  if (facts.millrace?.managedBy === "Helm")
    refusals.push("Millrace was installed by Helm here: use helm upgrade, or helm uninstall it first.");
  if (facts.millraceElsewhere.length > 0)
    refusals.push(
      `Millrace runs here already, of another installation (${named(facts.millraceElsewhere)}): upgrade that, or take it away first (helm uninstall, or kubectl delete -k).`,
    );
  if (apiServer === "")
    refusals.push(
      "No address of the API server was found that nodes could reach without Services: say --apiserver https://HOST:PORT.",
    );
  return refusals;
}

function warningsOf(facts: ClusterFacts, chosen: NodeChoice): string[] {
  const warnings: string[] = [];
  const { platform, kubeProxy } = facts;
  if (kubeProxy !== undefined && ["eks", "gke", "aks"].includes(platform))
    warnings.push(
      `${PLATFORMS[platform]} manages kube-proxy: its add-on manager may undo the affinity. Tell it not to (an add-on of your own, or none), or kube-proxy comes back beside Millrace.`,
    );
  if (["eks", "gke", "aks"].includes(platform))
    warnings.push(
      `${PLATFORMS[platform]}'s network delivers no address that it did not give itself: LoadBalancer addresses of pools are not reached from outside.`,
    );
  if (platform === "talos" && kubeProxy !== undefined)
    warnings.push(
      "Talos Linux applies its manifest of kube-proxy again at each upgrade of Kubernetes: set cluster.proxy.disabled in the machine configuration, and it stays away.",
    );
  if (platform === "openshift")
    warnings.push(
      "OpenShift: the service accounts need the privileged security context constraint (oc adm policy add-scc-to-user privileged -z millrace -n kube-system).",
    );
  if (platform === "unknown")
    warnings.push("What kind of cluster this is was not recognised; what follows supposes an ordinary one.");
  if (facts.serviceLoadBalancers.length > 0)
    warnings.push(
      `${PLATFORMS[platform]}'s own load balancer runs (${named(facts.serviceLoadBalancers)}): with pools of ours, start the servers with --disable=servicelb too.`,
    );
  const pending = chosen.nodes.filter(({ ready }) => ready === "no").map(({ name }) => name);
  if (pending.length > 0)
    warnings.push(
      `Not ready: ${named(pending)}. Agents are started there too; what they serve is not tested if no pod runs.`,
    );
  for (const { node, why } of chosen.left) {
    const what = kubeProxy === undefined ? "gets no agent" : "keeps kube-proxy";
    const until = why === AS_ASKED ? 'A run with --except "" takes it' : "Run this again when that has changed";
    warnings.push(`Node ${node} ${what}: ${why}. ${until}.`);
  }
  return warnings;
}

export interface PlanInputs {
  readonly facts: ClusterFacts;
  readonly options: InstallOptions;
  /** The manifest's. */
  readonly image: string;
  /** How many objects the manifest has. */
  readonly objects: number;
  /** CustomResourceDefinitions in the manifest. */
  readonly crds: readonly string[];
  /** The manifest's configuration of the agents. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly taken: TakenSettings;
  /** Why agents cannot have this setting, "" when they can. */
  readonly settingProblem: (name: string, value: string) => string;
}

/** What this run says, and what is kept of those before it. */
export function chosenOptions({
  facts,
  options,
  image,
  settingProblem,
}: Pick<PlanInputs, "facts" | "options" | "image" | "settingProblem">): Chosen {
  const kept = facts.millraceConfig?.kept ?? NOTHING_KEPT;
  const isClassless = (options.loadBalancerClass ?? kept.loadBalancerClass) === "";
  return chooseOptions({
    said: isClassless && options.besideMetallb ? { ...options, loadBalancerClass: CLASS_BESIDE_METALLB } : options,
    kept,
    ours: image,
    settingProblem,
    canBeLeft: (name) => facts.nodes.some((node) => node.name === name && node.label !== "millrace"),
  });
}

/** What is asked for, else what is found; where nothing is found any more, what agents have. */
function apiWayOf(facts: ClusterFacts, { apiServer }: ChosenOptions, isKept: boolean): ApiWay | undefined {
  if (apiServer !== "") return { url: apiServer, from: isKept ? "--apiserver of before" : "--apiserver" };
  const [found] = facts.apiWays;
  const before = facts.millraceConfig?.config["apiserver"];
  if (found !== undefined || typeof before !== "string" || before === "") return found;
  return { url: before, from: `as ConfigMap ${NAMESPACE}/${CONFIG_MAP} has it` };
}

/** What an installation that kept nothing would lose: of another hand, or of an earlier version. */
function lossOf(
  { facts, config: base }: PlanInputs,
  plan: Pick<InstallPlan, "image" | "apiServer" | "loadBalancerClass" | "config">,
): string[] {
  const { millrace, millraceConfig } = facts;
  if (millraceConfig?.kept !== undefined || millrace?.managedBy === "Helm") return [];
  const before = { config: millraceConfig?.config ?? {}, image: millrace?.image ?? "" };
  return lostBy(before, { config: chosenConfig(base, plan), image: plan.image }, base);
}

function lossText(lost: readonly string[]): string {
  return `ConfigMap ${NAMESPACE}/${CONFIG_MAP} has no annotation ${OPTIONS_ANNOTATION}: something else set Millrace up, or an earlier version did. This run would undo: ${lost.join("; ")}.`;
}

/** From kube-proxy's configuration, as it is or as it was. */
function takenSettings({ facts, taken, settingProblem }: PlanInputs): Readonly<Record<string, string>> {
  if (taken.config !== undefined) return taken.config;
  const before = Object.entries(facts.millraceConfig?.kept?.taken ?? {});
  return Object.fromEntries(before.filter(([name, value]) => settingProblem(name, value) === ""));
}

export function planInstall(inputs: PlanInputs): InstallPlan {
  const { facts, options: said, image: ours, objects, crds, taken } = inputs;
  const { kubeProxy, platform } = facts;
  const { options, flags, remarks } = chosenOptions(inputs);
  const { image, loadBalancerClass, imagePullSecrets } = options;
  const chosen = chooseNodes(facts, options.except);
  const way = apiWayOf(facts, options, said.apiServer === undefined);
  const isUpgrade = facts.millrace !== undefined;
  const settings = takenSettings(inputs);
  const config = { ...settings, ...options.set };
  const apiServer = way?.url ?? "";
  const lost = lossOf(inputs, { image, apiServer, loadBalancerClass, config });
  const keptCrds = new Set(crds.filter((name) => facts.crds.get(name)?.isOurs === false));
  const names = chosen.nodes.map(({ name }) => name);
  // Where kube-proxy's DaemonSet lost its affinity, it came back to every node, and its rules with it.
  const isDone = ({ label, isCleaned }: NodeFacts): boolean =>
    label === "millrace" && isCleaned && kubeProxy?.isHeldBack === true;
  const due = chosen.nodes.filter((node) => !isDone(node)).map(({ name }) => name);

  const found = [
    `Kubernetes ${facts.version}, ${PLATFORMS[platform]}, ${counted(facts.nodes.length, "node")}${facts.cni === "" ? "" : `, pods by ${facts.cni}`}.`,
    kubeProxy === undefined
      ? "No kube-proxy: nobody serves Services yet, or something that is not known here."
      : `kube-proxy${kubeProxy.mode === "" ? "" : ` (${kubeProxy.mode})`}: DaemonSet ${kubeProxy.namespace}/${kubeProxy.name}${kubeProxy.isHeldBack ? ", held back by an earlier run" : ""}.`,
    ...(facts.millrace === undefined ? [] : [`Millrace is there: ${facts.millrace.image}.`]),
    ...(way === undefined ? [] : [`Agents reach the API server at ${way.url} (${way.from}).`]),
    ...(flags.length === 0 ? [] : [`Kept from before: ${flags.join(" ")}.`]),
    ...(keptCrds.size === 0
      ? []
      : [`${counted(keptCrds.size, "CustomResourceDefinition")} of others stay as they are: ${named([...keptCrds])}.`]),
  ];
  const takeover =
    kubeProxy === undefined || due.length === 0
      ? []
      : [
          `Give DaemonSet ${kubeProxy.namespace}/${kubeProxy.name} an affinity: kube-proxy stays on nodes with the label ${NODE_LABEL}=kube-proxy, which all have for now. Its pods are replaced once by that. Nothing of it is deleted.`,
        ];
  const nodeByNode =
    kubeProxy === undefined || due.length === 0
      ? [
          `Wait until an agent is ready on ${named(names)}.`,
          ...(hadEmbeddedKubeProxy(facts) ? ["Take out the rules that its kube-proxy left on each node."] : []),
        ]
      : [
          `${said.parallel === 1 ? "One after another" : `${said.parallel} at a time`}, for ${named(due)}: label ${NODE_LABEL}=millrace; wait until the agent is ready and kube-proxy's pod gone; take kube-proxy's rules out; ask the API server by its Service. The first node that fails stops it all.`,
        ];
  const steps = [
    `Run a pod of ${image} on each of ${counted(names.length, "node")}, which looks at it and changes nothing.`,
    `${isUpgrade ? "Bring up to date" : "Create"} up to ${counted(objects - keptCrds.size, "object")} in ${NAMESPACE} and the cluster: accounts, rights, configuration, the controller.`,
    ...takeover,
    `${isUpgrade ? "Bring up to date" : "Create"} DaemonSet ${NAMESPACE}/millrace${isUpgrade ? ": its agents are replaced one after another; packets flow meanwhile" : ""}.`,
    ...nodeByNode,
    ...(said.selfTest
      ? [
          "Test it, in a namespace of its own that is removed again: a Service, its name, its node ports, from pods and from nodes.",
        ]
      : []),
  ];
  return {
    refusals: [
      ...refusalsOf(facts, options, chosen, apiServer),
      ...(taken.refusals ?? []),
      ...(lost.length === 0 || said.force
        ? []
        : [`${lossText(lost)} Say what is to stay by the flags that are named; --force goes on without the rest.`]),
    ],
    warnings: [
      ...warningsOf(facts, chosen),
      ...taken.remarks,
      ...remarks,
      ...(lost.length > 0 && said.force ? [lossText(lost)] : []),
    ],
    found,
    steps,
    image,
    apiServer,
    loadBalancerClass,
    config,
    sysAdmin: options.sysAdmin,
    imagePullSecrets,
    ownPullSecrets: [...new Set([...imagePullSecrets, ...(facts.millrace?.pullSecrets ?? [])])],
    kept: keptText({
      ...options,
      image: image === ours ? "" : image,
      version: imageParts(ours).tag,
      taken: settings,
    }),
    kubeProxy,
    nodes: names,
    due,
    left: chosen.left,
    keptCrds,
    isUpgrade,
    isBefore130: isOlder(facts.version, [1, 30]),
  };
}

/** How to go back, as one sentence. */
export const WAY_BACK = "To go back: millrace uninstall.";
