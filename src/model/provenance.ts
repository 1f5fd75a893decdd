// Where a Service's LoadBalancer address is from: it counts as given from a pool of ours when it lies in an IPAddressPool that was
// read, whoever wrote it into the status; nothing that a Service's author can write counts. What a node, pods, the API server or
// Services of the cluster have is never given. Both sources are judged here, batch by batch, before anybody else sees them. Pure.
import { type Address, addressToBigInt, type Family, familyOf, parseRange, unusableReason } from "../lib/address.ts";
import type { EndpointSlice, GrantedAddress, Node, Notice, ObjectEvent, ObjectKey, Service } from "./objects.ts";
import { createSpanIndex, type Owned } from "./span-index.ts";

export interface ProvenanceConfig {
  /** Ours are the Services of this class; "": those without one. */
  readonly loadBalancerClass: string;
  /** Ranges of Services that hold as long as there are no ServiceCIDR objects, in CIDR notation. */
  readonly serviceRanges: readonly string[];
}

export interface Provenance {
  /** The batch with grants as they are now; Services whose grants became others by it follow. To be asked once for each batch, in order. */
  judge(events: readonly ObjectEvent[]): readonly ObjectEvent[];
  /** LoadBalancer Services of our class, with and without an address. */
  services(): number;
  /** Services that have the address from a pool. */
  servicesAt(address: Address): readonly ObjectKey[];
  /** Another number when grants may be others. */
  version(): number;
  /** Addresses that are in a pool and given to nobody, and pools that hold such. */
  notices(): readonly Notice[];
}

interface Verdict {
  /** "" when it is in none, or may not be given. */
  readonly pool: ObjectKey;
  /** Why it may not be given though it is in a pool: goes on after "it is". "" when it may, or is in none. */
  readonly why: string;
  /** The pool that it is in. */
  readonly within: ObjectKey;
}

/** An address that LoadBalancer Services of our class have in their status. */
interface Holding {
  readonly value: bigint;
  readonly family: Family;
  readonly users: Set<ObjectKey>;
  verdict: Verdict;
}

export function createProvenance({ loadBalancerClass, serviceRanges }: ProvenanceConfig): Provenance {
  const pools = new Map<ObjectKey, Facts>();
  /** What is nobody's to give, by the objects that say so. */
  const nodes = new Map<string, Facts>();
  const serviceCIDRs = new Map<ObjectKey, Facts>();
  const apiServers = new Map<ObjectKey, Facts>();
  const configured = clusterRanges(serviceRanges);
  /** Of holdings, those in a pool that may not be given. */
  const refused = new Set<Address>();
  /** As they were handed out last: only those with an address in their status. */
  const served = new Map<ObjectKey, Service>();
  const ours = new Set<ObjectKey>();
  const holdings = new Map<Address, Holding>();
  let inPool = createSpanIndex([]);
  let reserved = createSpanIndex(configured);
  let version = 0;
  let poolNotices: readonly Notice[] | undefined;

  const isOurs = (service: Service | undefined): service is Service =>
    service?.type === "LoadBalancer" && service.loadBalancerClass === loadBalancerClass;

  function judgeAddress(address: Address, value: bigint, family: Family): Verdict {
    const within = inPool.ownerOf(value, family) ?? "";
    const why = within === "" ? "" : (unusableReason(address) ?? reserved.ownerOf(value, family) ?? "");
    if (why === "") refused.delete(address);
    else refused.add(address);
    return { pool: why === "" ? within : "", why, within };
  }

  /** The Service with grants as they are now; the same object where they are the same. */
  function judged(service: Service): Service {
    const { addresses } = service.grants;
    if (addresses.length === 0) return service;
    const next = addresses.map((granted): GrantedAddress => {
      const { address, ipMode } = granted;
      const pool = isOurs(service) ? (holdings.get(address)?.verdict.pool ?? "") : "";
      if (granted.by === (pool === "" ? "status" : "pool") && (granted.pool ?? "") === pool) return granted;
      return pool === "" ? { address, ipMode, by: "status" } : { address, ipMode, by: "pool", pool };
    });
    if (next.every((one, i) => one === addresses[i])) return service;
    return { ...service, grants: { ...service.grants, addresses: next } };
  }

  function leave(key: ObjectKey): void {
    for (const { address } of served.get(key)?.grants.addresses ?? []) {
      const holding = holdings.get(address);
      holding?.users.delete(key);
      if (holding?.users.size !== 0) continue;
      holdings.delete(address);
      refused.delete(address);
    }
    served.delete(key);
  }

  function enter(key: ObjectKey, service: Service | undefined): void {
    leave(key);
    if (!isOurs(service)) {
      ours.delete(key);
      return;
    }
    ours.add(key);
    if (service.grants.addresses.length === 0) return;
    served.set(key, service);
    for (const { address } of service.grants.addresses) {
      let holding = holdings.get(address);
      if (holding === undefined) {
        const value = addressToBigInt(address);
        const family = familyOf(address);
        holding = { value, family, users: new Set(), verdict: judgeAddress(address, value, family) };
        holdings.set(address, holding);
      }
      holding.users.add(key);
    }
  }

  /** Which index is another now, "" for neither. */
  function learn(event: ObjectEvent): "pools" | "reserved" | "" {
    switch (event.kind) {
      case "AddressPool":
        return put(pools, event, event.object?.ranges, (texts) => ranges(texts, () => event.key)) ? "pools" : "";
      case "ServiceCIDR":
        return put(serviceCIDRs, event, event.object?.cidrs, clusterRanges) ? "reserved" : "";
      case "Node":
        return put(nodes, event, nodeTexts(event.object), nodeRanges) ? "reserved" : "";
      case "EndpointSlice":
        return put(apiServers, event, apiServersOf(event.object), apiRanges) ? "reserved" : "";
      default:
        return "";
    }
  }

  function index(changed: ReadonlySet<string>): void {
    const all = (facts: ReadonlyMap<string, Facts>): Owned[] => [...facts.values()].flatMap(({ owned }) => owned);
    if (changed.has("pools")) inPool = createSpanIndex(all(pools));
    if (!changed.has("reserved")) return;
    const cluster = serviceCIDRs.size > 0 ? all(serviceCIDRs) : configured;
    reserved = createSpanIndex([...all(nodes), ...all(apiServers), ...cluster]);
  }

  /** Holds all addresses against what is known now. Returns the Services of those that are judged otherwise. */
  function reconsider(): ReadonlySet<ObjectKey> {
    const changed = new Set<ObjectKey>();
    for (const [address, holding] of holdings) {
      const { value, family, verdict, users } = holding;
      holding.verdict = judgeAddress(address, value, family);
      if (holding.verdict.pool !== verdict.pool) for (const key of users) changed.add(key);
    }
    return changed;
  }

  function addressNotices(): Notice[] {
    return [...refused].flatMap((address) => {
      const { users, verdict } = holdings.get(address)!;
      return [...users].sort().map((key) => {
        const i = served.get(key)!.grants.addresses.findIndex((granted) => granted.address === address);
        const field = `status.loadBalancer.ingress[${i}].ip`;
        const message = `${field}: ${address} of IPAddressPool ${verdict.within} is ${verdict.why}: it is not announced`;
        return notice(`Service ${key}`, field, "address-reserved", message);
      });
    });
  }

  /** One of each pool: the first range in which something lies. */
  function noticesOfPools(): Notice[] {
    return [...pools].flatMap(([key, { texts }]) => {
      for (const [i, text] of texts.entries()) {
        const range = parseRange(text);
        const what = range && reserved.ownerWithin(range);
        if (what === undefined) continue;
        const field = `spec.addresses[${i}]`;
        const message = `${field}: ${text} covers ${what}: such addresses are not announced`;
        return [notice(`IPAddressPool ${key}`, field, "pool-covers-reserved", message)];
      }
      return [];
    });
  }

  return {
    judge(events) {
      const other = new Set(events.map(learn));
      const isOther = other.has("pools") || other.has("reserved");
      if (isOther) index(other);
      for (const event of events) if (event.kind === "Service") enter(event.key, event.object);
      const changed = isOther ? reconsider() : new Set<ObjectKey>();
      const told = new Set<ObjectKey>();
      const judgedEvents = events.map((event): ObjectEvent => {
        if (event.kind !== "Service") return event;
        told.add(event.key);
        version++;
        if (event.object === undefined) return event;
        const object = judged(event.object);
        if (served.get(event.key) === event.object) served.set(event.key, object);
        return object === event.object ? event : { ...event, object };
      });
      for (const key of changed) {
        const before = served.get(key);
        if (told.has(key) || before === undefined) continue;
        const object = judged(before);
        served.set(key, object);
        version++;
        judgedEvents.push({ kind: "Service", key, object });
      }
      if (isOther) poolNotices = undefined;
      return judgedEvents;
    },
    services: () => ours.size,
    servicesAt: (address) => {
      const { users, verdict } = holdings.get(address) ?? {};
      return verdict === undefined || verdict.pool === "" ? [] : [...(users ?? [])].sort();
    },
    version: () => version,
    notices() {
      poolNotices ??= noticesOfPools();
      return [...poolNotices, ...addressNotices()];
    },
  };
}

/** What an object says of ranges, and those. */
interface Facts {
  readonly texts: readonly string[];
  readonly owned: readonly Owned[];
}

/** True when it is another one than before. */
function put(
  known: Map<string, Facts>,
  { key }: ObjectEvent,
  texts: readonly string[] | undefined,
  ownedBy: (texts: readonly string[], key: string) => readonly Owned[],
): boolean {
  if (texts === undefined) return known.delete(key);
  const before = known.get(key)?.texts;
  if (before?.length === texts.length && texts.every((text, i) => text === before[i])) return false;
  known.set(key, { texts, owned: ownedBy(texts, key) });
  return true;
}

/** Addresses and networks. */
function nodeTexts(node: Node | undefined): readonly string[] | undefined {
  return node && [...node.internalAddresses, ...node.externalAddresses, ...node.podCIDRs];
}

function nodeRanges(texts: readonly string[], name: string): Owned[] {
  return ranges(texts, (text) =>
    text.includes("/") ? `an address of pods, in ${text}` : `the address of node ${name}`,
  );
}

/** The API server's own Service. */
function apiServersOf(slice: EndpointSlice | undefined): readonly string[] | undefined {
  // By its name, which the API server keeps for itself: anybody may label another slice of that namespace so.
  if (slice?.service !== "kubernetes" || slice.name !== "kubernetes" || slice.namespace !== "default") return undefined;
  return [...slice.endpoints].flatMap(({ addresses }) => addresses);
}

const apiRanges = (texts: readonly string[]): Owned[] => ranges(texts, () => "an address of the API server");

const clusterRanges = (texts: readonly string[]): Owned[] =>
  ranges(texts, (text) => `an address of the cluster's Services, in ${text}`);

/** Of ranges, networks and single addresses; what is none of them is left out. */
function ranges(texts: readonly string[], ownerOf: (text: string) => string): Owned[] {
  return texts.flatMap((text) => {
    const range = parseRange(/[-/]/.test(text) ? text : `${text}-${text}`);
    return range === undefined ? [] : [{ range, owner: ownerOf(text) }];
  });
}

function notice(object: string, field: string, reason: string, message: string): Notice {
  return { object, file: "", field, reason, message, severity: "warning" };
}
