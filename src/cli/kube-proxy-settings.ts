// kube-proxy's flags and the fields of its KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), those of 1.37 and what kubeadm has
// written since 1.28: as which setting of ours each is taken, or why it is ignored. Data alone: documentation and checks are made of it.

/**
 * How a value is written. "switch": true or false; "duration": as in Go, "30s"; "texts": a list; "gates": a mapping of names to true or
 * false; "any": whatever it is, it is not looked into.
 */
export type ValueForm = "text" | "switch" | "number" | "duration" | "texts" | "gates" | "any";

export interface KubeProxySetting {
  /** Without dashes; absent: there is none. */
  readonly flag?: string;
  /** Path in the configuration, with dots; absent: it is a flag alone. */
  readonly field?: string;
  readonly form: ValueForm;
  /** Values that there are; absent: any. "" is always one. */
  readonly choices?: readonly string[];
  /** Name of our setting. */
  readonly takenAs?: string;
  /** It is no setting of ours, and yet counts for one. */
  readonly decides?: "nodeport-addresses";
  /** What is different about it here, as a sentence; of one that is ignored the reason, as a clause. */
  readonly note?: string;
  /** It is ignored, and somebody who asks for it will miss it. */
  readonly missed?: boolean;
  /** kube-proxy's own default, where that is neither false nor nothing. */
  readonly usual?: string | number | boolean;
}

/** From this verbosity on Kubernetes' components tell what only developers want to know. */
export const DEBUG_VERBOSITY = 4;

const SAME_WAY =
  "Millrace translates in eBPF programs, whatever the mode; it says on which addresses node ports answer when none are named";
const NO_MASQUERADE =
  "answers come back to where the request was translated, by whatever way the CNI leads them: nothing has to be masqueraded";
const NO_MARK = "nothing is marked to be masqueraded; the mark for firewalls is --forward-mark";
const BY_DEVICE = "which traffic comes from pods is told by the devices it comes from";
const AT_ONCE = "changes are in force within milliseconds, and what somebody took away is looked for every ten seconds";
const NO_IPVS =
  "there is no IPVS; --load-balancing chooses how flows are balanced, --flow-timeout how long they are kept";
const JSON_READING = "objects are read as JSON, by lists and watches alone";
const OWN_RATES = "reading is one list and one watch of each resource, and writes have rates of their own";
const OWN_LOG = "the log is not Kubernetes' own; see --log-level and --log-format";
const WINDOWS = "it is for Windows";
const LISTENS_ON = "is its port when the address has none; 0: nothing is served";

const logging = (flag: string, field: string, form: ValueForm): KubeProxySetting => ({
  flag,
  field: `logging.${field}`,
  form,
  note: OWN_LOG,
});

export const KUBE_PROXY_SETTINGS: readonly KubeProxySetting[] = [
  // --- taken ------------------------------------------------------------------------------------------------------------
  {
    flag: "kubeconfig",
    field: "clientConnection.kubeconfig",
    form: "text",
    takenAs: "kubeconfig",
    note: "In a configuration: when there is no such file, the one of that name beside the configuration, or in the same ConfigMap.",
  },
  { flag: "master", form: "text", takenAs: "apiserver", note: "An URL, with https://." },
  {
    flag: "hostname-override",
    field: "hostnameOverride",
    form: "text",
    takenAs: "node-name",
    note: "In lower case.",
  },
  {
    flag: "healthz-bind-address",
    field: "healthzBindAddress",
    form: "text",
    takenAs: "healthz-bind-address",
    note: "An empty flag: none; an empty field: the default, [::]:10256 when bindAddress is IPv6.",
  },
  {
    flag: "metrics-bind-address",
    field: "metricsBindAddress",
    form: "text",
    takenAs: "metrics-bind-address",
    note: "An empty flag: none; an empty field: the default, [::1]:10249 when bindAddress is IPv6.",
  },
  { flag: "healthz-port", form: "number", takenAs: "healthz-bind-address", note: `It ${LISTENS_ON}.` },
  { flag: "metrics-port", form: "number", takenAs: "metrics-bind-address", note: `It ${LISTENS_ON}.` },
  {
    flag: "nodeport-addresses",
    field: "nodePortAddresses",
    form: "texts",
    takenAs: "nodeport-addresses",
    note: "Our own default is primary,localhost. A KubeProxyConfiguration that names none, and flags with --proxy-mode or --iptables-localhost-nodeports=false, mean what they mean to kube-proxy: all,localhost in mode iptables, all in mode ipvs, primary in mode nftables. `primary` is every InternalIP of the Node, not the first of each family.",
  },
  {
    flag: "conntrack-max-per-core",
    field: "conntrack.maxPerCore",
    form: "number",
    takenAs: "conntrack-max-per-core",
  },
  { flag: "conntrack-min", field: "conntrack.min", form: "number", takenAs: "conntrack-min" },
  {
    flag: "conntrack-tcp-timeout-established",
    field: "conntrack.tcpEstablishedTimeout",
    form: "duration",
    takenAs: "conntrack-tcp-timeout-established",
  },
  {
    flag: "conntrack-tcp-timeout-close-wait",
    field: "conntrack.tcpCloseWaitTimeout",
    form: "duration",
    takenAs: "conntrack-tcp-timeout-close-wait",
  },
  {
    flag: "conntrack-tcp-be-liberal",
    field: "conntrack.tcpBeLiberal",
    form: "switch",
    takenAs: "conntrack-tcp-be-liberal",
  },
  { flag: "conntrack-udp-timeout", field: "conntrack.udpTimeout", form: "duration", takenAs: "conntrack-udp-timeout" },
  {
    flag: "conntrack-udp-timeout-stream",
    field: "conntrack.udpStreamTimeout",
    form: "duration",
    takenAs: "conntrack-udp-timeout-stream",
  },
  {
    flag: "v",
    field: "logging.verbosity",
    form: "number",
    takenAs: "log-level",
    note: "From 4 on debug, below the default.",
  },
  {
    flag: "logging-format",
    field: "logging.format",
    form: "text",
    choices: ["text", "json"],
    takenAs: "log-format",
  },

  // --- ignored ----------------------------------------------------------------------------------------------------------
  {
    flag: "bind-address",
    field: "bindAddress",
    form: "text",
    note: "the node's addresses are those of its Node object and its devices; of a configuration's its family counts, for the defaults of the addresses that are listened on",
  },
  {
    flag: "bind-address-hard-fail",
    field: "bindAddressHardFail",
    form: "switch",
    missed: true,
    note: "a port that another process has is tried again every five seconds, and a notice says so; the agent never ends for it",
  },
  {
    flag: "cluster-cidr",
    field: "clusterCIDR",
    form: "text",
    note: BY_DEVICE,
  },
  {
    flag: "detect-local-mode",
    field: "detectLocalMode",
    form: "text",
    usual: "ClusterCIDR",
    choices: ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"],
    note: BY_DEVICE,
  },
  { flag: "pod-bridge-interface", field: "detectLocal.bridgeInterface", form: "text", note: BY_DEVICE },
  { flag: "pod-interface-name-prefix", field: "detectLocal.interfaceNamePrefix", form: "text", note: BY_DEVICE },
  {
    flag: "proxy-mode",
    field: "mode",
    form: "text",
    choices: ["iptables", "ipvs", "nftables", "userspace", "kernelspace"],
    decides: "nodeport-addresses",
    note: SAME_WAY,
  },
  {
    flag: "iptables-localhost-nodeports",
    field: "iptables.localhostNodePorts",
    form: "switch",
    usual: true,
    decides: "nodeport-addresses",
    note: "in mode iptables false takes localhost out of the addresses that node ports answer on",
  },
  { flag: "masquerade-all", field: "iptables.masqueradeAll", form: "switch", note: NO_MASQUERADE },
  { flag: "iptables-masquerade-bit", field: "iptables.masqueradeBit", form: "number", usual: 14, note: NO_MARK },
  { flag: "iptables-sync-period", field: "iptables.syncPeriod", form: "duration", usual: "30s", note: AT_ONCE },
  { flag: "iptables-min-sync-period", field: "iptables.minSyncPeriod", form: "duration", usual: "1s", note: AT_ONCE },
  { field: "nftables.masqueradeAll", form: "switch", note: NO_MASQUERADE },
  { field: "nftables.masqueradeBit", form: "number", usual: 14, note: NO_MARK },
  { field: "nftables.syncPeriod", form: "duration", usual: "30s", note: AT_ONCE },
  { field: "nftables.minSyncPeriod", form: "duration", usual: "1s", note: AT_ONCE },
  { flag: "ipvs-sync-period", field: "ipvs.syncPeriod", form: "duration", usual: "30s", note: AT_ONCE },
  { flag: "ipvs-min-sync-period", field: "ipvs.minSyncPeriod", form: "duration", note: AT_ONCE },
  { flag: "ipvs-scheduler", field: "ipvs.scheduler", form: "text", note: NO_IPVS },
  { flag: "ipvs-exclude-cidrs", field: "ipvs.excludeCIDRs", form: "texts", note: NO_IPVS },
  {
    flag: "ipvs-strict-arp",
    field: "ipvs.strictARP",
    form: "switch",
    note: "no device holds the addresses of Services, and ARP is answered for announced ones alone",
  },
  { flag: "ipvs-tcp-timeout", field: "ipvs.tcpTimeout", form: "duration", note: NO_IPVS },
  { flag: "ipvs-tcpfin-timeout", field: "ipvs.tcpFinTimeout", form: "duration", note: NO_IPVS },
  { flag: "ipvs-udp-timeout", field: "ipvs.udpTimeout", form: "duration", note: NO_IPVS },
  { flag: "config-sync-period", field: "configSyncPeriod", form: "duration", usual: "15m0s", note: AT_ONCE },
  { field: "clientConnection.acceptContentTypes", form: "text", note: JSON_READING },
  {
    flag: "kube-api-content-type",
    field: "clientConnection.contentType",
    form: "text",
    usual: "application/vnd.kubernetes.protobuf",
    note: JSON_READING,
  },
  { flag: "kube-api-qps", field: "clientConnection.qps", form: "number", usual: 5, note: OWN_RATES },
  { flag: "kube-api-burst", field: "clientConnection.burst", form: "number", usual: 10, note: OWN_RATES },
  {
    flag: "feature-gates",
    field: "featureGates",
    form: "gates",
    note: "kube-proxy's features are not Millrace's; what this kernel can do is found out",
  },
  {
    flag: "profiling",
    field: "enableProfiling",
    form: "switch",
    missed: true,
    note: "there is no /debug/pprof: this is no Go program",
  },
  {
    flag: "show-hidden-metrics-for-version",
    field: "showHiddenMetricsForVersion",
    form: "text",
    note: "no metric is hidden",
  },
  {
    flag: "oom-score-adj",
    field: "oomScoreAdj",
    form: "number",
    usual: -999,
    note: "whoever starts the agent sets it: the kubelet by the pod's priority class and requests, systemd by OOMScoreAdjust",
  },
  { field: "portRange", form: "text", note: "it was for the userspace proxy; kube-proxy does not use it either" },
  { field: "windowsRunAsService", form: "switch", note: WINDOWS },
  { field: "winkernel.networkName", form: "text", note: WINDOWS },
  { field: "winkernel.sourceVip", form: "text", note: WINDOWS },
  { field: "winkernel.enableDSR", form: "switch", note: WINDOWS },
  { field: "winkernel.rootHnsEndpointName", form: "text", note: WINDOWS },
  { field: "winkernel.forwardHealthCheckVip", form: "switch", note: WINDOWS },
  { ...logging("log-flush-frequency", "flushFrequency", "any"), usual: "5s" },
  logging("vmodule", "vmodule", "any"),
  logging("log-text-split-stream", "options.text.splitStream", "switch"),
  logging("log-text-info-buffer-size", "options.text.infoBufferSize", "any"),
  logging("log-json-split-stream", "options.json.splitStream", "switch"),
  logging("log-json-info-buffer-size", "options.json.infoBufferSize", "any"),
  {
    flag: "cleanup",
    form: "switch",
    missed: true,
    note: "millrace cleanup --kube-proxy takes kube-proxy's rules out of this node, millrace cleanup Millrace's own",
  },
  {
    flag: "init-only",
    form: "switch",
    missed: true,
    note: "millrace prepare does what needs more rights than the agent, and ends",
  },
  {
    flag: "write-config-to",
    form: "text",
    missed: true,
    note: "every key and its default is in deploy/config-reference.yaml",
  },
];

/** What says where kube-proxy's node ports answer. */
export interface NodePortWish {
  /** Empty: nobody says it. */
  readonly named: readonly string[];
  /** "": iptables. */
  readonly mode: string;
  readonly onLoopback: boolean;
}

/** Where node ports answer, as kube-proxy has it: when nobody says it, by mode. */
export function nodePortAddresses({ named, mode, onLoopback }: NodePortWish): string {
  if (mode === "nftables") return named.length > 0 ? named.join(",") : "primary";
  if (mode === "ipvs") return named.length > 0 ? named.join(",") : "all";
  const all = named.length > 0 ? named : ["all", "localhost"];
  const kept = onLoopback ? all : all.filter((one) => one !== "localhost");
  return (kept.length > 0 ? kept : all).join(",");
}

/** Whether a value is the one that a field or flag has when nobody set it: it asks for nothing. */
export function asksForNothing({ form, usual }: Pick<KubeProxySetting, "form" | "usual">, value: unknown): boolean {
  if (value === undefined || value === null || value === usual) return true;
  return (form !== "switch" || usual === undefined) && isNothing(value);
}

function isNothing(value: unknown): boolean {
  if (value === null || value === false || value === 0) return true;
  if (Array.isArray(value)) return value.length === 0;
  if (typeof value === "object") return Object.values(value).every(isNothing);
  // Durations and quantities of nothing, and the unspecified addresses.
  return typeof value === "string" && /^(|0([hmns]|ms|us|µs)?|0h0m0s|0m0s|0\.0\.0\.0|::)$/.test(value);
}
