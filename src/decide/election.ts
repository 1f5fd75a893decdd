// Which node ought to announce each LoadBalancer address, and which ones in its stead. Work grows with what changed: those eligible
// by the same advertisements are found once, and a node that comes or goes is compared with the first ones alone. Pure.
import { type Address, familyOf } from "../lib/address.ts";
import { matchesSelector } from "../model/label-selector.ts";
import type { Model } from "../model/model-interface.ts";
import type {
  EndpointSlice,
  L2Advertisement,
  LabelSelector,
  Node,
  ObjectEvent,
  ObjectKey,
  Service,
} from "../model/objects.ts";
import {
  coveringAdvertisements,
  INELIGIBLE,
  type Ineligible,
  interfacesOn,
  placesThatServe,
  preferenceOf,
} from "./eligibility.ts";
import { type Hash, hashOf, score } from "./ranking.ts";

/** Places of an order that are kept: who ought to announce an address, and three that stand next in line. */
const PLACES = 4;

export interface Outcome {
  /** "" when no node may announce the address. */
  readonly node: string;
  /** Devices that it may announce on; empty: wherever the address belongs. */
  readonly interfaces: readonly string[];
  /** The Service in whose name: of several that share the address, the first by key. */
  readonly service: ObjectKey;
  /** `node` and those that announce the address when all before them cannot: four at most. */
  readonly order: readonly string[];
}

/** That a node may announce an address. */
export interface Standing {
  /** As of an `Outcome`, on this node. */
  readonly interfaces: readonly string[];
  /** Those that come before it, best first: of more than four the first four. */
  readonly above: readonly string[];
}

export interface Election {
  /** To be told of events before the model is. */
  note(events: readonly ObjectEvent[]): void;
  /**
   * Holds what is due, with the model as it is now. Returns the addresses whose outcome is another than at the last call, and those
   * where the standing of `self` may be.
   */
  settle(): ReadonlySet<Address>;
  /** As of the last settle(); undefined when no Service has the address from a pool. */
  outcome(address: Address): Outcome | undefined;
  /** As of the last settle(); undefined when the node may not announce it. */
  standing(address: Address, node: string): Standing | undefined;
  /** Why no node may announce it: what the nearest to it lacks. Undefined when one does. Asks every node. */
  whyNobody(address: Address): Ineligible | undefined;
  /** Addresses that the node ought to announce, as of the last settle(), and in whose name. */
  wonBy(node: string): readonly { readonly address: Address; readonly service: ObjectKey }[];
  /** How many addresses no node may announce, by why. */
  unannounced(): ReadonlyMap<Ineligible, number>;
}

/** A node that may announce. */
interface Candidate {
  readonly name: string;
  readonly hash: Hash;
  readonly ready: boolean;
  /** Of L2Advertisements' preferredNodeSelectors: the higher is preferred. */
  readonly preference: number;
  readonly interfaces: readonly string[];
}

/** The candidates by one set of advertisements. */
interface Electorate {
  readonly covering: readonly L2Advertisement[];
  readonly candidates: Map<string, Candidate>;
}

/** Services that have one address, and who announces it. */
interface Contest {
  readonly address: Address;
  readonly hash: Hash;
  /** Policy Local by Service. */
  readonly sharers: Map<ObjectKey, boolean>;
  electorate: Electorate | Ineligible | undefined;
  /** Names and addresses of nodes that serve those with policy Local. */
  places: ReadonlySet<string>;
  /** Those that stand, when not all candidates do. */
  serving: readonly Candidate[] | undefined;
  /** The first of them, best first. */
  order: readonly Candidate[];
  outcome: Outcome | undefined;
}

export type ElectionModel = Pick<Model, "services" | "slices" | "slicesOf" | "nodes" | "pools" | "l2Advertisements">;

/** Addresses of a Service that came from a pool of ours: only these are announced. */
export function pooledAddresses(service: Service | undefined): Address[] {
  return (service?.grants.addresses ?? [])
    .filter(({ by, ipMode }) => by === "pool" && ipMode === "VIP")
    .map(({ address }) => address);
}

/** `self`: the node whose standing is asked for. */
export function createElection(model: ElectionModel, self = ""): Election {
  const contests = new Map<Address, Contest>();
  const addressesOf = new Map<ObjectKey, readonly Address[]>();
  const electorates = new Map<string, Electorate>();
  /** As they were counted last. */
  const nodes = new Map<string, Node>();
  const nodeOfAddress = new Map<Address, string>();
  const due = new Set<Contest>();
  const moved = new Set<Address>();
  let begun = false;
  /** Some advertisement selects Services, or did: their labels may matter. */
  let selectsServices = false;

  /** Those that share it, or their labels, are others. */
  function enterSharers(contest: Contest): void {
    if (selectsServices) contest.electorate = undefined;
    due.add(contest);
  }

  function enterService(key: ObjectKey, service: Service | undefined): void {
    const next = pooledAddresses(service);
    const local = service?.externalTrafficPolicy === "Local";
    for (const address of addressesOf.get(key) ?? []) {
      if (next.includes(address)) continue;
      const contest = contests.get(address)!;
      contest.sharers.delete(key);
      enterSharers(contest);
    }
    for (const address of next) {
      let contest = contests.get(address);
      if (contest === undefined) {
        const hash = hashOf(address);
        contest = {
          ...{ address, hash, sharers: new Map(), electorate: undefined },
          ...{ places: new Set<string>(), serving: undefined, order: [], outcome: undefined },
        };
        contests.set(address, contest);
      }
      if (contest.sharers.get(key) === local && !selectsServices) continue;
      contest.sharers.set(key, local);
      enterSharers(contest);
    }
    if (next.length > 0) addressesOf.set(key, next);
    else addressesOf.delete(key);
  }

  function enterSlice(slice: EndpointSlice | undefined): void {
    if (slice === undefined) return;
    const key = `${slice.namespace}/${slice.service}`;
    for (const address of addressesOf.get(key) ?? []) {
      const contest = contests.get(address)!;
      if (contest.sharers.get(key) === true) due.add(contest);
    }
  }

  function candidateOf(node: Node, { covering }: Electorate): Candidate | undefined {
    const interfaces = interfacesOn(node, covering);
    if (typeof interfaces === "string") return undefined;
    const preference = preferenceOf(node, covering);
    return { name: node.name, hash: hashOf(node.name), ready: node.ready, preference, interfaces };
  }

  function enterNode(name: string, node: Node | undefined): void {
    const before = nodes.get(name);
    const own = new Set([name, ...(before?.internalAddresses ?? []), ...(node?.internalAddresses ?? [])]);
    for (const address of before?.internalAddresses ?? [])
      if (nodeOfAddress.get(address) === name) nodeOfAddress.delete(address);
    for (const address of node?.internalAddresses ?? []) nodeOfAddress.set(address, name);
    if (node === undefined) nodes.delete(name);
    else nodes.set(name, node);

    const changed = new Set(
      [...electorates.values()].filter((electorate) => {
        const old = electorate.candidates.get(name);
        const next = node === undefined ? undefined : candidateOf(node, electorate);
        if (sameCandidate(old, next)) return false;
        if (next === undefined) electorate.candidates.delete(name);
        else electorate.candidates.set(name, next);
        return true;
      }),
    );
    const sameAddresses = before?.internalAddresses.join() === node?.internalAddresses.join();
    if (changed.size === 0 && sameAddresses && before !== undefined) return;
    for (const contest of contests.values()) {
      const { electorate, order } = contest;
      if (intersects(own, contest.places)) due.add(contest);
      else if (contest.serving === undefined && typeof electorate === "object" && changed.has(electorate)) {
        const next = electorate.candidates.get(name);
        // One of the order may be worse now: the others are asked again.
        if (order.some((one) => one.name === name)) due.add(contest);
        else if (next !== undefined) {
          const first = bestOf([...order, next], contest.hash);
          if (first.includes(next)) decide(contest, first);
        }
        if (name === self) moved.add(contest.address);
      }
    }
  }

  function decide(contest: Contest, order: readonly Candidate[]): void {
    const [service = ""] = [...contest.sharers.keys()].sort();
    const [winner] = order;
    const next: Outcome = {
      ...{ node: winner?.name ?? "", interfaces: winner?.interfaces ?? [], service },
      order: order.map(({ name }) => name),
    };
    contest.order = order;
    if (JSON.stringify(next) === JSON.stringify(contest.outcome)) return;
    contest.outcome = next;
    moved.add(contest.address);
  }

  /** Of an address that several Services share, by the advertisements that select all of them. */
  function electorateOf({ address, sharers }: Contest): Electorate | Ineligible {
    const every = coveringAdvertisements(address, model.pools().values(), model.l2Advertisements().values());
    if (every === undefined) return "no-pool";
    const services = model.services();
    const covering = every.filter(({ serviceSelectors }) =>
      [...sharers.keys()].every((key) => selects(serviceSelectors, services.get(key)?.labels)),
    );
    const key = covering.map(({ namespace, name }) => `${namespace}/${name}`).join();
    let electorate = electorates.get(key);
    if (electorate === undefined) {
      electorate = { covering, candidates: new Map() };
      for (const node of nodes.values()) {
        const candidate = candidateOf(node, electorate);
        if (candidate !== undefined) electorate.candidates.set(node.name, candidate);
      }
      electorates.set(key, electorate);
    }
    return electorate;
  }

  /** Those eligible for the most of the Services that share the address: it has one place, whatever their policies. */
  function hold(contest: Contest): void {
    contest.electorate ??= electorateOf(contest);
    const { electorate, sharers } = contest;
    const locals = [...sharers].filter(([, local]) => local).map(([key]) => key);
    const places = new Set<string>();
    const votes = new Map<Candidate, number>();
    for (const key of locals) {
      const serving = placesThatServe(model.slicesOf(key), familyOf(contest.address));
      const names = new Set<string>();
      for (const place of serving) {
        places.add(place);
        names.add(nodes.has(place) ? place : (nodeOfAddress.get(place) ?? ""));
      }
      for (const name of names) {
        const candidate = typeof electorate === "string" ? undefined : electorate.candidates.get(name);
        if (candidate !== undefined) votes.set(candidate, (votes.get(candidate) ?? 0) + 1);
      }
    }
    contest.places = places;
    const isOpen = votes.size === 0 && locals.length < sharers.size;
    const most = Math.max(...votes.values());
    contest.serving = isOpen ? undefined : [...votes].filter(([, count]) => count === most).map(([one]) => one);
    if (typeof electorate === "string") decide(contest, []);
    else decide(contest, bestOf(contest.serving ?? electorate.candidates.values(), contest.hash));
    if (self !== "") moved.add(contest.address);
  }

  /** Pools or advertisements are others. */
  function restart(): void {
    electorates.clear();
    for (const contest of contests.values()) {
      contest.electorate = undefined;
      due.add(contest);
    }
  }

  /** `asked`: electorates whose nodes were asked already, as all of them are for one. */
  function whyNot(contest: Contest | undefined, asked: Map<Electorate, Ineligible>): Ineligible | undefined {
    if (contest?.outcome?.node !== "" || contest.electorate === undefined) return undefined;
    const { electorate } = contest;
    if (typeof electorate === "string") return electorate;
    if (electorate.candidates.size > 0) return "no-local-endpoint";
    let reason = asked.get(electorate);
    if (reason === undefined) {
      const found = new Set([...nodes.values()].map((node) => interfacesOn(node, electorate.covering)));
      reason = INELIGIBLE.findLast((one) => found.has(one)) ?? "not-advertised";
      asked.set(electorate, reason);
    }
    return reason;
  }

  return {
    note(events) {
      // What comes before is read from the model.
      if (!begun) return;
      for (const { kind, key, object } of events) {
        if (kind === "Service") enterService(key, object);
        else if (kind === "EndpointSlice") {
          enterSlice(model.slices().get(key));
          enterSlice(object);
        } else if (kind === "Node") enterNode(key, object);
        else if (kind === "AddressPool") {
          if (JSON.stringify(object) !== JSON.stringify(model.pools().get(key))) restart();
        } else if (kind === "L2Advertisement") {
          if (JSON.stringify(object) !== JSON.stringify(model.l2Advertisements().get(key))) restart();
          selectsServices ||= (object?.serviceSelectors.length ?? 0) > 0;
        }
      }
    },
    settle() {
      if (!begun) {
        begun = true;
        for (const { serviceSelectors } of model.l2Advertisements().values())
          selectsServices ||= serviceSelectors.length > 0;
        for (const [name, node] of model.nodes()) enterNode(name, node);
        for (const [key, service] of model.services()) enterService(key, service);
      }
      for (const contest of due) {
        if (contest.sharers.size > 0) hold(contest);
        else {
          contests.delete(contest.address);
          moved.add(contest.address);
        }
      }
      due.clear();
      const answer = new Set(moved);
      moved.clear();
      return answer;
    },
    outcome: (address) => contests.get(address)?.outcome,
    standing(address, node) {
      const contest = contests.get(address);
      if (contest === undefined || typeof contest.electorate !== "object") return undefined;
      const { serving, electorate, order } = contest;
      const own = serving?.find(({ name }) => name === node) ?? (serving ? undefined : electorate.candidates.get(node));
      if (own === undefined) return undefined;
      const names = order.map(({ name }) => name);
      const place = names.indexOf(node);
      return { interfaces: own.interfaces, above: place === -1 ? names : names.slice(0, place) };
    },
    whyNobody: (address) => whyNot(contests.get(address), new Map()),
    wonBy: (node) =>
      [...contests.values()].flatMap(({ address, outcome }) =>
        outcome?.node === node ? [{ address, service: outcome.service }] : [],
      ),
    unannounced() {
      const counts = new Map<Ineligible, number>();
      const asked = new Map<Electorate, Ineligible>();
      for (const contest of contests.values()) {
        const reason = whyNot(contest, asked);
        if (reason !== undefined) counts.set(reason, (counts.get(reason) ?? 0) + 1);
      }
      return counts;
    },
  };
}

/**
 * The first places of the order, best first. A node that is not ready ranks behind all that are; of equally ready ones preferred nodes
 * come first, then those of higher score, then by name: nothing of it depends on who else stands.
 */
function bestOf(candidates: Iterable<Candidate>, address: Hash): Candidate[] {
  const best: { readonly candidate: Candidate; readonly points: number }[] = [];
  for (const candidate of candidates) {
    const points = score(candidate.hash, address);
    let place = best.length;
    while (place > 0 && comesBefore(candidate, points, best[place - 1]!)) place--;
    if (place === PLACES) continue;
    best.splice(place, 0, { candidate, points });
    best.length = Math.min(best.length, PLACES);
  }
  return best.map(({ candidate }) => candidate);
}

function comesBefore(
  one: Candidate,
  points: number,
  other: { readonly candidate: Candidate; readonly points: number },
): boolean {
  const { ready, preference, name } = other.candidate;
  if (one.ready !== ready) return one.ready;
  if (one.preference !== preference) return one.preference > preference;
  return points === other.points ? one.name < name : points > other.points;
}

function sameCandidate(a: Candidate | undefined, b: Candidate | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.ready === b.ready && a.preference === b.preference && a.interfaces.join() === b.interfaces.join();
}

function selects(selectors: readonly LabelSelector[], labels: Service["labels"] | undefined): boolean {
  return selectors.length === 0 || selectors.some((selector) => matchesSelector(selector, labels));
}

function intersects(few: ReadonlySet<string>, many: ReadonlySet<string>): boolean {
  for (const one of few) if (many.has(one)) return true;
  return false;
}
