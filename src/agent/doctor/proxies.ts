// What is said of others that serve Services here, or did: kube-proxy and what it left, dataplanes on the same hooks, balancers that
// answer for the same addresses. Pure.
import { error, type Finding, ok, someOf, warning } from "./finding.ts";

export interface ProxyFacts {
  /** Command lines of processes in this network namespace, words apart by spaces. */
  readonly processes: readonly string[];
  /** Those in other ones: of pods, and of clusters in containers. */
  readonly processesElsewhere: readonly string[];
  /** The machine's processes are seen, not a container's alone. */
  readonly seesProcesses: boolean;
  readonly devices: readonly string[];
  /** "ip nat KUBE-SERVICES": chains of nftables, those that iptables made there included; undefined when they cannot be listed. */
  readonly nftChains: readonly string[] | undefined;
  /** The same of iptables' own tables (legacy); empty where there are none. */
  readonly legacyChains: readonly string[];
  /** Virtual servers of IPVS. */
  readonly ipvsServers: number;
  /** Names in /sys/fs/bpf and its directory tc/globals. */
  readonly pins: readonly string[];
  /** TCP ports that somebody listens on. */
  readonly tcpPorts: ReadonlySet<number>;
  /** An agent of ours answers: the ports of kube-proxy are its. */
  readonly agentAnswers: boolean;
  /** Programs of others on devices that are uplinks or pods'; undefined where they cannot be listed. */
  readonly programs:
    | readonly { readonly device: string; readonly hook: string; readonly program: string }[]
    | undefined;
}

interface Sign {
  readonly name: string;
  readonly process?: RegExp;
  readonly device?: RegExp;
  readonly pin?: RegExp;
  readonly port?: number;
  /** It runs in pods with a network of their own. */
  readonly inPods?: true;
  readonly level: "warning" | "error";
  readonly says: string;
  readonly do: string;
}

/** The file name of the program, or an argument of a program that has many. */
const program = (names: string): RegExp => new RegExp(`^(?:\\S*/)?(?:${names})(?: |$)`);

const DATAPLANES: readonly Sign[] = [
  {
    ...{
      name: "Cilium",
      process: program("cilium-agent"),
      device: /^(cilium_host|cilium_net|cilium_vxlan)$/,
      pin: /^cilium/,
    },
    level: "error",
    says: "it translates Services at sockets and on the same devices",
    do: "keep one of the two: Cilium with kubeProxyReplacement=false and bpf.masquerade=false, or no Millrace",
  },
  {
    ...{ name: "Calico's eBPF dataplane", device: /^bpf(in|out)\.cali$/, pin: /^cali_/ },
    level: "error",
    says: "it translates Services on the same devices",
    do: "use another of Calico's dataplanes (linuxDataplane: Iptables or Nftables)",
  },
  {
    ...{ name: "Antrea", process: program("antrea-agent"), device: /^antrea-gw\d*$/ },
    level: "warning",
    says: "its AntreaProxy serves Services of pods in Open vSwitch, before our programs",
    do: "turn AntreaProxy off (antreaProxy.enable: false)",
  },
  {
    ...{ name: "kube-router", process: program("kube-router"), device: /^(kube-bridge|kube-dummy-if)$/ },
    level: "warning",
    says: "it may serve Services by IPVS",
    do: "run it with --run-service-proxy=false",
  },
  {
    ...{ name: "Kube-OVN", process: program("kube-ovn-daemon"), device: /^ovn0$/ },
    level: "warning",
    says: "its load balancer serves Services of pods in OVN, before our programs",
    do: "turn it off (ENABLE_LB=false)",
  },
  {
    ...{ name: "OVN-Kubernetes", process: program("ovnkube(-node)?"), device: /^ovn-k8s-mp0$/ },
    level: "error",
    says: "it serves Services in OVN itself, and cannot be told not to",
    do: "use no Millrace on this cluster",
  },
];

const BALANCERS: readonly Sign[] = [
  {
    ...{ name: "MetalLB's speaker", process: program("speaker"), port: 7946 },
    level: "error",
    says: "it answers ARP and NDP for the same addresses",
    do: "take MetalLB's speaker and controller out before Millrace announces addresses; its custom resources stay and are read",
  },
  {
    ...{ name: "kube-vip", process: program("kube-vip") },
    level: "warning",
    says: "it may answer ARP for addresses of LoadBalancer Services",
    do: "run it for the control plane alone (without --services)",
  },
  {
    ...{ name: "PureLB", process: program("lbnodeagent") },
    level: "warning",
    says: "it puts LoadBalancer addresses on devices of nodes",
    do: "give Services to one of the two by loadBalancerClass (--load-balancer-class)",
  },
  {
    ...{ name: "OpenELB", process: program("openelb(-speaker|-manager)?") },
    level: "warning",
    says: "it answers ARP for addresses of LoadBalancer Services",
    do: "give Services to one of the two by loadBalancerClass (--load-balancer-class)",
  },
  {
    ...{ name: "klipper-lb (servicelb of k3s)", process: /^(\S*\/)?sh \/usr\/bin\/entry( |$)/ },
    inPods: true,
    level: "warning",
    says: "it gives nodes' addresses to LoadBalancer Services, and may have host ports for them",
    do: "start k3s with --disable=servicelb",
  },
];

/** kube-proxy's in every mode; the kubelet's own (KUBE-KUBELET-CANARY, KUBE-FIREWALL, KUBE-MARK-…) are not among them. */
const KUBE_PROXY_CHAIN =
  /^KUBE-(SERVICES|NODEPORTS|NODE-PORT|EXTERNAL-SERVICES|PROXY-FIREWALL|SVC-|SEP-|SVL-|EXT-|FW-|LOAD-BALANCER)/;

export function judgeProxies(facts: ProxyFacts): Finding[] {
  return [
    kubeProxy(facts),
    rules(facts),
    ...signs(facts, "proxies.dataplanes", DATAPLANES, "no other dataplane that serves Services is seen"),
    ...signs(facts, "proxies.balancers", BALANCERS, "nobody else is seen that answers for LoadBalancer addresses"),
    ...programs(facts),
  ];
}

function kubeProxy({ processes, seesProcesses, tcpPorts, agentAnswers }: ProxyFacts): Finding {
  const check = "proxies.kube-proxy";
  const stop =
    "take it out of service: 'millrace install' does so on a cluster; else stop it, then 'millrace cleanup --kube-proxy'";
  if (processes.some((line) => program("kube-proxy").test(line))) {
    return warning(
      check,
      "a kube-proxy runs on this node: both serve Services, and its health and metrics ports are taken",
      stop,
    );
  }
  const within = processes.find((line) => program("k3s|kubelite|rke2").test(line));
  if (within !== undefined && !/disable-kube-proxy/.test(within) && tcpPorts.has(10249) && !agentAnswers) {
    const name = within.split(" ", 1)[0]?.split("/").at(-1) ?? "";
    return warning(
      check,
      `kube-proxy runs within ${name}`,
      "turn it off there (k3s, RKE2: --disable-kube-proxy); see platform.name",
    );
  }
  const hasPorts = [10249, 10256].filter((port) => tcpPorts.has(port));
  if (hasPorts.length > 0 && !agentAnswers) {
    return warning(
      check,
      `somebody listens on kube-proxy's port${hasPorts.length > 1 ? "s" : ""} ${hasPorts.join(" and ")}: a kube-proxy, most likely`,
      stop,
    );
  }
  return ok(
    check,
    seesProcesses
      ? "no kube-proxy runs"
      : "nobody has kube-proxy's ports (the machine's processes are not seen from here)",
  );
}

function rules({ nftChains, legacyChains, ipvsServers, devices }: ProxyFacts): Finding {
  const check = "proxies.rules";
  const found: string[] = [];
  const inNft = (nftChains ?? []).map((chain) => chain.split(" "));
  const count = (chains: readonly (readonly string[])[]): number =>
    chains.filter(([, table, name = ""]) => table !== "kube-proxy" && KUBE_PROXY_CHAIN.test(name)).length;
  const ofIptables = count(inNft) + count(legacyChains.map((chain) => chain.split(" ")));
  if (ofIptables > 0) found.push(`${ofIptables} chains of iptables`);
  const ofNft = inNft.filter(([, table]) => table === "kube-proxy").length;
  if (ofNft > 0) found.push(`${ofNft} chains of nftables`);
  // Without that device virtual servers are of others, and no cleanup takes them out.
  if (devices.includes("kube-ipvs0")) found.push(`${ipvsServers} virtual servers of IPVS`);
  if (found.length > 0)
    return warning(
      check,
      `kube-proxy's rules are here: ${someOf(found)}`,
      "remove them when kube-proxy is gone: millrace cleanup --kube-proxy",
    );
  return nftChains === undefined
    ? ok(check, "no IPVS and no iptables of the old kind; nftables cannot be listed here (nft)")
    : ok(check, "kube-proxy left no rules");
}

function signs(
  facts: ProxyFacts,
  check: "proxies.dataplanes" | "proxies.balancers",
  list: readonly Sign[],
  none: string,
): Finding[] {
  const found = list.flatMap((sign) => {
    const { name, process, device, pin, port, level, says, do: todo } = sign;
    const running =
      process !== undefined &&
      (sign.inPods === true ? [...facts.processes, ...facts.processesElsewhere] : facts.processes).some((line) =>
        process.test(line),
      );
    const left = [
      ...facts.devices.filter((one) => device?.test(one)).map((one) => `device ${one}`),
      ...facts.pins.filter((one) => pin?.test(one)).map((one) => `pin ${one}`),
      ...(port !== undefined && facts.tcpPorts.has(port) ? [`port ${port}`] : []),
    ];
    if (!running && left.length === 0) return [];
    const seen = running ? "runs" : `has left ${someOf([...new Set(left)], 3)}, or runs unseen`;
    const text = `${name} ${seen}: ${says}`;
    return level === "error" && running ? error(check, text, todo) : warning(check, text, todo);
  });
  return found.length > 0 ? found : [ok(check, none)];
}

function programs({ programs: list }: ProxyFacts): Finding[] {
  const check = "proxies.programs";
  if (list === undefined) return [];
  if (list.length === 0) return [ok(check, "no tc or XDP program of others is on our devices")];
  return [...Map.groupBy(list, ({ program: name, hook }) => `${name} ${hook}`).values()].map((group) => {
    const [{ program: name, hook }] = group as [(typeof group)[0]];
    const where = someOf(group.map(({ device }) => device));
    return hook === "xdp"
      ? warning(
          check,
          `the XDP program ${name} is on ${where}: XDP of ours is left out there, and it sees packets before us`,
          "nothing, unless it drops or redirects Services' packets",
        )
      : ok(check, `the program ${name} is on ${where} (${hook}): ours runs before it at ingress, behind it at egress`);
  });
}
