// The settings of `millrace run`: one table from which come the flags, the environment variables, the keys of the
// configuration file, the checks and the documentation. Never reads a file and never looks at the machine.
import type { AgentOptions } from "../agent/options.ts";
import { flowEntriesFor } from "../datapath/flow-sizes.ts";
import { FLOW_TIMEOUT_NAMES } from "../datapath/flow-timeouts.ts";
import { withPort } from "../lib/bind-address.ts";
import { DEFAULT_API_SOCKET } from "../lib/paths.ts";
import { parseNodePortAddresses } from "../model/node-port-addresses.ts";
import { type Balancing, BY_HASH, TABLE_SIZES } from "../model/spread.ts";
import {
  absolutePath,
  bindAddress,
  clusterRanges,
  deviceNames,
  dnsName,
  flowTimeouts,
  items,
  loadBalancerClass,
  mark,
  namespaceName,
  oneOf,
  portRange,
  prefixes,
  seconds,
  serverUrl,
  snatPortRange,
  unlessEmpty,
  WrongValue,
  wholeNumber,
} from "./setting-values.ts";

/** Defaults that only the machine can tell. */
export interface MachineDefaults {
  readonly nodeName: string;
  /** Where cgroup2 is mounted, "" when nowhere. */
  readonly cgroup: string;
  /** That this process may use. */
  readonly memoryBytes: number;
  readonly cpus: number;
}

/** A setting of `millrace run`, or of another command with options of its own. */
export interface Setting<Options = AgentOptions> {
  /** The flag without dashes, and the key in the configuration file. */
  readonly name: string;
  /** Placeholder in the help; "" for a switch, which takes true or false in the file and may stand alone as a flag. */
  readonly placeholder: string;
  /** It takes several values: comma-separated, a list in the file, the flag repeated. */
  readonly list: boolean;
  /** As the help shows it; "" when there is none. */
  readonly defaultText: string;
  readonly help: string;
  /** The value of the default, in the form of a flag. */
  defaultValue(machine: MachineDefaults): string;
  /** The part of the options that `text` stands for. @throws WrongValue */
  read(text: string): Partial<Options>;
}

/** Of a port that kube-proxy has too: an address alone takes it. */
const HEALTHZ_PORT = 10256;
const METRICS_PORT = 10249;

const conntrackEntries = (text: string): number => wholeNumber(text, 0, 100_000_000);

type Plain = Omit<Setting, "list" | "defaultText" | "defaultValue" | "placeholder"> &
  Partial<Pick<Setting, "list" | "defaultText" | "defaultValue" | "placeholder">> & { readonly default?: string };

function setting({ default: value = "", ...rest }: Plain): Setting {
  return {
    placeholder: "",
    list: false,
    defaultText: value,
    defaultValue: () => value,
    ...rest,
  };
}

/** One of the map sizes: they are merged key by key. */
function mapSize(key: keyof AgentOptions["mapSizes"], value: number, help: string): Setting {
  return setting({
    name: `max-${key}`,
    placeholder: "N",
    default: String(value),
    help,
    read: (text) => ({ mapSizes: { [key]: wholeNumber(text, 64, 16_777_216) } as unknown as AgentOptions["mapSizes"] }),
  });
}

/** The size of a flow table: by the machine. */
function flowSize(key: "flows" | "openings", help: string): Setting {
  return {
    ...mapSize(key, 0, help),
    defaultText: "by memory and processors, 262144 with 4 GiB",
    defaultValue: ({ memoryBytes, cpus }) => String(flowEntriesFor(memoryBytes, cpus)),
  };
}

/** Every setting, in the order of the help. */
export const SETTINGS: readonly Setting[] = [
  setting({
    name: "manifests",
    placeholder: "PATH",
    list: true,
    defaultText: "none: objects come from the Kubernetes API",
    help: "directory of Kubernetes manifests (YAML or JSON), or a single file, to use instead of the API; may be repeated",
    read: (text) => {
      const paths = items(text);
      if (paths.includes("")) throw new WrongValue("directories or files");
      return { manifests: paths };
    },
  }),
  setting({
    name: "kubeconfig",
    placeholder: "FILE",
    defaultText: "the pod's service account",
    help: "kubeconfig with the credentials for the Kubernetes API, and its address where --apiserver gives none",
    read: (text) => ({ kubeconfig: text === "" ? "" : absolutePath(text) }),
  }),
  setting({
    name: "apiserver",
    placeholder: "URL",
    defaultText: "the kubeconfig's, the last known endpoints of default/kubernetes, or its cluster address",
    help: "address of the Kubernetes API server",
    read: (text) => ({ apiServer: serverUrl(text) }),
  }),
  setting({
    name: "trust-lists",
    default: "false",
    help: "believe a list from the API at once that takes away more than half of the frontends; else a second one is awaited",
    read: (text) => ({ trustLists: oneOf(text, ["true", "false"]) === "true" }),
  }),
  setting({
    name: "namespace",
    placeholder: "NAME",
    default: "kube-system",
    help: "namespace in which this node writes its ServiceL2Status objects",
    read: (text) => ({ namespace: namespaceName(text) }),
  }),
  setting({
    name: "load-balancer-class",
    placeholder: "CLASS",
    defaultText: "Services without a class",
    help: "spec.loadBalancerClass of the Services whose addresses from pools are announced; those of others are only served",
    read: (text) => ({ loadBalancerClass: loadBalancerClass(text) }),
  }),
  setting({
    name: "with-controller",
    default: "false",
    help: "run `millrace controller` too, in this process and with its account: for clusters of one node",
    read: (text) => ({ withController: oneOf(text, ["true", "false"]) === "true" }),
  }),
  setting({
    name: "state-dir",
    placeholder: "DIR",
    default: "/var/lib/millrace",
    help: "where allocated addresses, ports and ids are kept",
    read: (text) => ({ stateDir: absolutePath(text) }),
  }),
  setting({
    name: "node-name",
    placeholder: "NAME",
    defaultText: "the host name",
    defaultValue: (machine) => machine.nodeName,
    help: "name of this machine's Node object",
    read: (text) => ({ nodeName: dnsName(text, "the name of a Node") }),
  }),
  setting({
    name: "cgroup",
    placeholder: "DIR",
    defaultText: "where cgroup2 is mounted, that of the host at /host/sys/fs/cgroup first",
    defaultValue: (machine) => machine.cgroup,
    help: "cgroup2 directory that holds all processes and pods of this node",
    read: (text) => ({ cgroup: absolutePath(text) }),
  }),
  setting({
    name: "pin-dir",
    placeholder: "DIR",
    default: "/sys/fs/bpf/millrace",
    help: "directory on a bpffs for programs, maps and links; made when absent",
    read: (text) => ({ pinDir: absolutePath(text) }),
  }),
  setting({
    name: "devices",
    placeholder: "NAME",
    list: true,
    defaultText: "found by addresses and routes",
    help: "uplinks by name; may be repeated",
    read: (text) => ({ devices: deviceNames(text) }),
  }),
  setting({
    name: "service-cluster-ip-range",
    placeholder: "CIDR",
    list: true,
    defaultText: "with manifests 10.96.0.0/12, else what the API's ServiceCIDRs say",
    help: "range of the cluster addresses, one for each family; its addresses that no Service has are nobody's",
    read: (text) => ({ serviceClusterIpRange: clusterRanges(text) }),
  }),
  setting({
    name: "service-node-port-range",
    placeholder: "FIRST-LAST",
    default: "30000-32767",
    help: "range of the node ports",
    read: (text) => ({ serviceNodePortRange: portRange(text) }),
  }),
  setting({
    name: "external-ip-cidrs",
    placeholder: "CIDR",
    list: true,
    defaultText: "none",
    help: "ranges in which externalIPs of Services are served; whoever may write a Service takes traffic to any address there",
    read: (text) => ({ externalIpCidrs: prefixes(text) }),
  }),
  setting({
    name: "nodeport-addresses",
    placeholder: "WHICH",
    list: true,
    default: "primary,localhost",
    help: "addresses of this node that node ports answer on: primary (the InternalIPs of its Node object), localhost (for its own processes), all, CIDRs; a family of which nothing is named has all",
    read: (text) => {
      const nodePortAddresses = items(text);
      if (nodePortAddresses.length === 0 || parseNodePortAddresses(nodePortAddresses) === undefined) {
        throw new WrongValue("primary, localhost, all and CIDRs");
      }
      return { nodePortAddresses };
    },
  }),
  setting({
    name: "cluster-domain",
    placeholder: "DOMAIN",
    default: "cluster.local",
    help: "domain of the cluster's names",
    read: (text) => ({ clusterDomain: dnsName(text, "a domain name") }),
  }),
  setting({
    name: "read-only",
    default: "false",
    help: "take addresses and node ports as the objects carry them: allocate and write nothing",
    read: (text) => ({ readOnly: oneOf(text, ["true", "false"]) === "true" }),
  }),
  setting({
    name: "sockets",
    placeholder: "MODE",
    default: "auto",
    help: "who is translated at the socket: all, host-only (processes outside pods), auto",
    read: (text) => ({ sockets: oneOf(text, ["all", "host-only", "auto"]) }),
  }),
  setting({
    name: "xdp",
    placeholder: "MODE",
    default: "auto",
    help: "XDP on the uplinks: on, off, auto (on where the device's driver has it and can transmit)",
    read: (text) => ({ xdp: oneOf(text, ["auto", "on", "off"]) }),
  }),
  setting({
    name: "external-cluster-ips",
    placeholder: "MODE",
    default: "on",
    help: "whether clients outside the node are served on cluster addresses: on, off (their packets are dropped)",
    read: (text) => ({ externalClusterIPs: oneOf(text, ["on", "off"]) === "on" }),
  }),
  setting({
    name: "reply-limit",
    placeholder: "N",
    default: "1000",
    help: "resets, ICMP errors and echo replies that each CPU makes in a second; more are dropped, and counted",
    read: (text) => ({ replyLimit: wholeNumber(text, 1, 1_000_000) }),
  }),
  setting({
    name: "announcer-secret",
    placeholder: "DIR",
    defaultText: "none",
    help: "directory of the keys by which the nodes of a cluster believe each other that they live, as a mounted Secret has them: files of 32 hex digits, of which `current` is the one to send by",
    read: (text) => ({ announcerSecret: text === "" ? "" : absolutePath(text) }),
  }),
  setting({
    name: "liveness-port",
    placeholder: "PORT",
    default: "7948",
    help: "UDP port at which nodes ask each other whether they live, the same on all of them; 0: they do not ask",
    read: (text) => ({ livenessPort: wholeNumber(text, 0, 65_535) }),
  }),
  setting({
    name: "gratuitous-arp-interval",
    placeholder: "SECONDS",
    default: "60",
    help: "seconds between two unasked announcements (gratuitous ARP, unsolicited neighbour advertisement) of an address that nothing happens to; 0: none but the six in 4.4 seconds after a claim",
    read: (text) => ({ gratuitousArpSeconds: wholeNumber(text, 0, 2_147_483_647) }),
  }),
  setting({
    name: "destroy-tcp-sockets",
    default: "false",
    help: "end TCP connections of the host's processes to a backend that left its Service, as is done for UDP",
    read: (text) => ({ destroyTcpSockets: oneOf(text, ["true", "false"]) === "true" }),
  }),
  setting({
    name: "snat-port-range",
    placeholder: "FIRST-LAST",
    default: "49152-65535",
    help: "source ports of translated connections to other nodes; reserved in ip_local_reserved_ports",
    read: (text) => ({ snatPortRange: snatPortRange(text) }),
  }),
  setting({
    name: "conntrack-max-per-core",
    placeholder: "N",
    defaultText: "32768, with manifests 0",
    help: "least nf_conntrack_max of the node for each of its CPUs; a higher one stays; 0 leaves it as it is",
    read: (text) => ({ conntrackMaxPerCore: unlessEmpty(text, conntrackEntries) }),
  }),
  setting({
    name: "conntrack-min",
    placeholder: "N",
    defaultText: "131072, with manifests 0",
    help: "least nf_conntrack_max however few CPUs there are, unless --conntrack-max-per-core is 0",
    read: (text) => ({ conntrackMin: unlessEmpty(text, conntrackEntries) }),
  }),
  setting({
    name: "conntrack-tcp-timeout-established",
    placeholder: "TIME",
    defaultText: "24h, with manifests 0",
    help: "how long netfilter of the node keeps an idle TCP connection, such as 24h0m0s; 0 leaves it as it is",
    read: (text) => ({ conntrackEstablishedSeconds: unlessEmpty(text, seconds) }),
  }),
  setting({
    name: "conntrack-tcp-timeout-close-wait",
    placeholder: "TIME",
    defaultText: "1h, with manifests 0",
    help: "how long netfilter of the node keeps a TCP connection that one end closed; 0 leaves it as it is",
    read: (text) => ({ conntrackCloseWaitSeconds: unlessEmpty(text, seconds) }),
  }),
  setting({
    name: "conntrack-udp-timeout",
    placeholder: "TIME",
    default: "0",
    help: "how long netfilter of the node keeps UDP without an answer; 0 leaves it as it is",
    read: (text) => ({ conntrackUdpSeconds: seconds(text) }),
  }),
  setting({
    name: "conntrack-udp-timeout-stream",
    placeholder: "TIME",
    default: "0",
    help: "how long netfilter of the node keeps UDP with answers; 0 leaves it as it is",
    read: (text) => ({ conntrackUdpStreamSeconds: seconds(text) }),
  }),
  setting({
    name: "conntrack-tcp-be-liberal",
    default: "false",
    help: "let netfilter of the node take TCP segments out of their window for valid (nf_conntrack_tcp_be_liberal); false leaves it as it is",
    read: (text) => ({ conntrackTcpBeLiberal: oneOf(text, ["true", "false"]) === "true" }),
  }),
  setting({
    name: "forward-mark",
    placeholder: "MARK",
    default: "0x1000",
    help: "mark bit of translated packets, accepted where iptables' FORWARD policy is DROP; 0 leaves the firewall alone",
    read: (text) => ({ forwardMark: mark(text) }),
  }),
  setting({
    name: "api-socket",
    placeholder: "PATH",
    default: DEFAULT_API_SOCKET,
    help: "unix socket of the API",
    read: (text) => {
      const path = absolutePath(text);
      // sockaddr_un.sun_path, with its terminating zero.
      if (Buffer.byteLength(path) > 107) throw new WrongValue("an absolute path of at most 107 bytes");
      return { apiSocket: path };
    },
  }),
  setting({
    name: "api-address",
    placeholder: "ADDRESS:PORT",
    defaultText: "none",
    help: "serve the API over TCP too; it has no authentication: keep it on loopback",
    read: (text) => ({ apiAddress: bindAddress(text) }),
  }),
  setting({
    name: "healthz-bind-address",
    placeholder: "ADDRESS:PORT",
    default: "0.0.0.0:10256",
    help: "/healthz and /livez; empty: none",
    read: (text) => ({ healthzBindAddress: bindAddress(withPort(text, HEALTHZ_PORT)) }),
  }),
  setting({
    name: "metrics-bind-address",
    placeholder: "ADDRESS:PORT",
    default: "127.0.0.1:10249",
    help: "/metrics; empty: none",
    read: (text) => ({ metricsBindAddress: bindAddress(withPort(text, METRICS_PORT)) }),
  }),
  setting({
    name: "log-format",
    placeholder: "FORMAT",
    default: "auto",
    help: "of the log on standard error: text, json, auto (text on a terminal)",
    read: (text) => ({ logFormat: oneOf(text, ["auto", "text", "json"]) }),
  }),
  setting({
    name: "log-level",
    placeholder: "LEVEL",
    default: "info",
    help: "least level that is logged: debug, info, warn, error",
    read: (text) => ({ logLevel: oneOf(text, ["debug", "info", "warn", "error"]) }),
  }),
  setting({
    name: "load-balancing",
    placeholder: "WAY",
    default: BY_HASH.byDefault,
    help: "how flows of a Service are balanced that does not say (annotation millrace.io/load-balancing): hash, maglev",
    read: (text) => ({ balancing: { byDefault: oneOf(text, ["hash", "maglev"]) } as Balancing }),
  }),
  setting({
    name: "maglev-table-size",
    placeholder: "N",
    default: String(BY_HASH.tableSize),
    help: `least number of slots of a Maglev table, the same on all nodes: ${TABLE_SIZES.join(", ")}`,
    read(text) {
      const tableSize = TABLE_SIZES.find((size) => String(size) === text);
      if (tableSize === undefined) throw new WrongValue(`one of ${TABLE_SIZES.join(", ")}`);
      return { balancing: { tableSize } as Balancing };
    },
  }),
  setting({
    name: "flow-timeout",
    placeholder: "NAME=DURATION",
    list: true,
    defaultText: "conntrack's",
    help:
      "how long an idle flow is kept, never longer than netfilter keeps its own: NAME is " +
      `${Object.keys(FLOW_TIMEOUT_NAMES).join(", ")}; may be repeated`,
    read: (text) => ({ flowTimeouts: flowTimeouts(text) }),
  }),
  mapSize("services", 16_384, "Service ports that the maps have room for"),
  mapSize("frontends", 65_536, "frontends: address, port and protocol"),
  mapSize("backends", 131_072, "backends: address and port behind a Service port"),
  mapSize("slots", 524_288, "slots: a Service that changes needs its old and its new ones for a moment"),
  flowSize("flows", "entries of TCP flows, two for each, and half as many of UDP flows"),
  flowSize("openings", "entries of flows that were not yet answered, two for each flow"),
];

/** The environment variable of a setting: MILLRACE_STATE_DIR for `state-dir`. */
export function environmentName(name: string): string {
  return `MILLRACE_${name.toUpperCase().replaceAll("-", "_")}`;
}
