// What an agent of this node would say of the objects, as they are now: they are compiled once, over maps that nobody has. Pure.
import { absentResourceNotices } from "../../decide/absent-resources.ts";
import { advertisementNotices } from "../../decide/advertisement-notices.ts";
import { type Prefix, parsePrefix } from "../../lib/address.ts";
import { saidOnce } from "../../lib/text.ts";
import { createModel } from "../../model/model.ts";
import type { ModelConfig } from "../../model/model-interface.ts";
import { DEFAULT_NODE_PORT_ADDRESSES, parseNodePortAddresses } from "../../model/node-port-addresses.ts";
import type { AddressPool, Node, Notice, ObjectEvent, Service, ServiceCIDR } from "../../model/objects.ts";
import { createProvenance } from "../../model/provenance.ts";
import { type AgentOptions, clusterRangesOf } from "../options.ts";
import { error, type Finding, type Level, ok, someOf, warning } from "./finding.ts";

export interface ObjectFacts {
  readonly source: "manifests" | "kubernetes";
  readonly events: readonly ObjectEvent[];
  /** Of the source itself: what it refused, what it could not read. */
  readonly sourceNotices: readonly Notice[];
  /** Names of resources that the API server does not have. */
  readonly absent: readonly string[];
  readonly complete: boolean;
  readonly bgp: Readonly<Record<string, number>>;
  /** What this node's devices have. */
  readonly heldNetworks: readonly Prefix[];
}

/** The objects as a model of this node sees them, and its notices. */
export interface Compiled {
  readonly services: readonly Service[];
  readonly nodes: readonly Node[];
  readonly pools: readonly AddressPool[];
  readonly serviceCIDRs: readonly ServiceCIDR[];
  readonly endpoints: number;
  readonly notices: readonly Notice[];
}

type Options = Pick<
  AgentOptions,
  | "nodeName"
  | "mapSizes"
  | "balancing"
  | "externalIpCidrs"
  | "nodePortAddresses"
  | "loadBalancerClass"
  | "serviceClusterIpRange"
  | "manifests"
>;

/** Of bpf/maps.h: those that no option changes. */
const FIXED = { serviceRanges: 16, devices: 4096, announced: 4096 } as const;

export function compileObjects(facts: ObjectFacts, options: Options): Compiled {
  const { mapSizes, loadBalancerClass, nodeName, balancing } = options;
  const ranges = clusterRangesOf(options);
  const config: ModelConfig = {
    nodeName,
    balancing,
    capacity: {
      ...FIXED,
      ...{ services: mapSizes.services, backends: mapSizes.backends, slots: mapSizes.slots },
      ...{ frontends: mapSizes.frontends, rows: mapSizes.frontends },
      ...{ sourceRanges: mapSizes.frontends, addresses: mapSizes.frontends },
    },
    serviceRanges: ranges.flatMap((text) => parsePrefix(text) ?? []),
    externalIPRanges: options.externalIpCidrs.flatMap((text) => parsePrefix(text) ?? []),
    nodePortAddresses: parseNodePortAddresses(options.nodePortAddresses) ?? DEFAULT_NODE_PORT_ADDRESSES,
  };
  const provenance = createProvenance({ loadBalancerClass, serviceRanges: ranges });
  const model = createModel(config);
  model.setNetworks(facts.heldNetworks);
  model.update(provenance.judge(facts.events));
  while (model.isDirty()) model.plan();
  const absent = facts.absent.map((resource) => ({ resource, absent: true }) as never);
  return {
    services: [...model.services().values()],
    nodes: [...model.nodes().values()],
    pools: [...model.pools().values()],
    serviceCIDRs: facts.events.flatMap(({ kind, object }) => (kind === "ServiceCIDR" && object ? object : [])),
    endpoints: [...model.slices().values()].reduce((sum, { endpoints }) => sum + endpoints.length, 0),
    notices: [
      ...facts.sourceNotices,
      ...provenance.notices(),
      ...model.notices(),
      ...advertisementNotices(model.l2Advertisements().values(), model.pools().values()),
      ...absentResourceNotices(absent, provenance.services()),
    ],
  };
}

export function judgeObjects(facts: ObjectFacts, compiled: Compiled, loadBalancerClass: string): Finding[] {
  const { services } = compiled;
  return [
    read(facts, compiled),
    ...notices(compiled.notices),
    ...limits(services),
    ...classes(services, loadBalancerClass),
    ...addresses(services, loadBalancerClass),
    ...bgp(facts.bgp),
  ];
}

const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? "" : "s"}`;

function read({ source, complete }: ObjectFacts, { services, nodes, endpoints }: Compiled): Finding {
  const what = `${count(services.length, "Service")}, ${count(endpoints, "endpoint")}, ${count(nodes.length, "Node")}`;
  if (complete) return ok("objects.read", `read: ${what}`);
  const todo = source === "manifests" ? "see the lines below" : "see api.rights";
  return error("objects.read", `not everything could be read, only ${what}`, todo);
}

const RANK: Readonly<Record<Notice["severity"], number>> = { error: 2, warning: 1, info: 0 };
const LEVELS: Readonly<Record<Notice["severity"], Level>> = { error: "error", warning: "warning", info: "ok" };
const PAGE = "docs/troubleshooting.md";

/** One line for each reason, the worst first: thousands of Services may have the same fault. */
function notices(list: readonly Notice[]): Finding[] {
  if (list.length === 0) return [ok("objects.notices", "an agent has nothing to say against them")];
  const groups = [...Map.groupBy(list, ({ reason, severity }) => `${severity} ${reason}`).values()];
  const worst = ([one]: Notice[]): number => RANK[one!.severity];
  return groups
    .sort((a, b) => worst(b) - worst(a) || b.length - a.length)
    .map((group): Finding => {
      const [first] = group as [Notice];
      const objects = [...new Set(group.map(({ object }) => object))];
      const rest = objects.length > 1 ? `; the same of ${someOf(objects.slice(1), 3)}` : "";
      const says = `${first.reason}: ${first.object}: ${saidOnce(first)}${rest}`;
      return { check: "objects.notices", level: LEVELS[first.severity], says, do: `see ${PAGE}#${first.reason}` };
    });
}

/** docs/differences.md has them whole. */
function limits(services: readonly Service[]): Finding[] {
  const served = services.filter(({ isForeign }) => !isForeign);
  const sctp = served.filter(({ ports }) => ports.some(({ protocol }) => protocol === "SCTP"));
  const affine = served.filter(({ affinitySeconds }) => affinitySeconds > 0);
  return [
    ...(sctp.length === 0
      ? []
      : [
          ok(
            "objects.limits",
            `${count(sctp.length, "Service")} of SCTP (${someOf(sctp.map(keyOf), 3)}): by packets alone; addresses within INIT are not translated (no multihoming)`,
          ),
        ]),
    ...(affine.length === 0
      ? []
      : [
          ok(
            "objects.limits",
            `${count(affine.length, "Service")} with session affinity (${someOf(affine.map(keyOf), 3)}): a pod's addresses count as one client`,
          ),
        ]),
  ];
}

const isBalanced = (service: Service): boolean => service.type === "LoadBalancer" && !service.isForeign;
const keyOf = ({ namespace, name }: Service): string => `${namespace}/${name}`;

function classes(services: readonly Service[], ours: string): Finding[] {
  const others = services.filter((service) => isBalanced(service) && service.loadBalancerClass !== ours);
  if (others.length === 0) return [];
  const names = [...new Set(others.map(({ loadBalancerClass }) => loadBalancerClass || "none"))];
  const says = `${count(others.length, "LoadBalancer Service")} of another class (${someOf(names)}): served at the addresses that others give, given and announced none by us: ${someOf(others.map(keyOf), 3)}`;
  return [ok("objects.classes", says)];
}

function addresses(services: readonly Service[], ours: string): Finding[] {
  const waiting = services.filter(
    (service) => isBalanced(service) && service.loadBalancerClass === ours && service.grants.addresses.length === 0,
  );
  if (waiting.length === 0) return [];
  return [
    warning(
      "objects.addresses",
      `${count(waiting.length, "LoadBalancer Service")} without an address: ${someOf(waiting.map(keyOf))}`,
      "run 'millrace controller', and give it an IPAddressPool; events of the Service say why it has none",
    ),
  ];
}

function bgp(counts: ObjectFacts["bgp"]): Finding[] {
  const found = Object.entries(counts).filter(([, number]) => number > 0);
  if (found.length === 0) return [];
  const names = found.map(([resource, number]) => `${number} ${resource}`);
  return [
    warning(
      "objects.bgp",
      `${someOf(names)}: Millrace speaks no BGP`,
      "announce their pools by L2Advertisements, or keep a BGP speaker for them",
    ),
  ];
}
