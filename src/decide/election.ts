// Which node ought to announce each LoadBalancer address. Work grows with what changed: those eligible by the same
// advertisements are found once, and a node that comes or goes is compared with the winners alone. Pure.
import { type Address, familyOf } from "../lib/address.ts";
import type { Model } from "../model/model.ts";
import type { EndpointSlice, L2Advertisement, Node, ObjectEvent, ObjectKey, Service } from "../model/objects.ts";
import { coveringAdvertisements, INELIGIBLE, type Ineligible, interfacesOn, placesThatServe } from "./eligibility.ts";
import { type Hash, hashOf, score } from "./ranking.ts";

export interface Outcome {
  /** "" when no node may announce the address. */
  readonly node: string;
  /** Devices that it may announce on; empty: wherever the address belongs. */
  readonly interfaces: readonly string[];
  /** The Service in whose name: of several that share the address, the first by key. */
  readonly service: ObjectKey;
}

export interface Election {
  /** To be told of events before the model is. */
  note(events: readonly ObjectEvent[]): void;
  /** Holds what is due, with the model as it is now. Returns the addresses whose outcome is another than at the last call. */
  settle(): ReadonlySet<Address>;
  /** As of the last settle(); undefined when no Service has the address from a pool. */
  outcome(address: Address): Outcome | undefined;
  /** Why no node may announce it: what the nearest to it lacks. Undefined when one does. Asks every node. */
  whyNobody(address: Address): Ineligible | undefined;
}

/** A node that may announce. */
interface Candidate {
  readonly name: string;
  readonly hash: Hash;
  readonly ready: boolean;
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
  /** All candidates stand, not those alone that serve. */
  isOpen: boolean;
  winner: Candidate | undefined;
  outcome: Outcome | undefined;
}

export type ElectionModel = Pick<Model, "services" | "slices" | "slicesOf" | "nodes" | "pools" | "l2Advertisements">;

/** Addresses of a Service that came from a pool of ours: only these are announced. */
export function pooledAddresses(service: Service | undefined): Address[] {
  return (service?.grants.addresses ?? [])
    .filter(({ by, ipMode }) => by === "pool" && ipMode === "VIP")
    .map(({ address }) => address);
}

export function createElection(model: ElectionModel): Election {
  const contests = new Map<Address, Contest>();
  const addressesOf = new Map<ObjectKey, readonly Address[]>();
  const electorates = new Map<string, Electorate>();
  /** As they were counted last. */
  const nodes = new Map<string, Node>();
  const nodeOfAddress = new Map<Address, string>();
  const due = new Set<Contest>();
  const moved = new Set<Address>();
  let begun = false;

  function enterService(key: ObjectKey, service: Service | undefined): void {
    const next = pooledAddresses(service);
    const local = service?.externalTrafficPolicy === "Local";
    for (const address of addressesOf.get(key) ?? []) {
      if (next.includes(address)) continue;
      const contest = contests.get(address)!;
      contest.sharers.delete(key);
      due.add(contest);
    }
    for (const address of next) {
      let contest = contests.get(address);
      if (contest === undefined) {
        const hash = hashOf(address);
        contest = {
          ...{ address, hash, sharers: new Map(), electorate: undefined },
          ...{ places: new Set<string>(), isOpen: true, winner: undefined, outcome: undefined },
        };
        contests.set(address, contest);
      }
      if (contest.sharers.get(key) === local) continue;
      contest.sharers.set(key, local);
      due.add(contest);
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
    return { name: node.name, hash: hashOf(node.name), ready: node.ready, interfaces };
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
      const { electorate, winner } = contest;
      if (intersects(own, contest.places)) due.add(contest);
      else if (contest.isOpen && typeof electorate === "object" && changed.has(electorate)) {
        const next = electorate.candidates.get(name);
        // A winner may be worse now: the others are asked again.
        if (winner?.name === name) due.add(contest);
        else if (next !== undefined && (winner === undefined || bestOf([winner, next], contest.hash) === next))
          decide(contest, next);
      }
    }
  }

  function decide(contest: Contest, winner: Candidate | undefined): void {
    const [service = ""] = [...contest.sharers.keys()].sort();
    const next: Outcome = { node: winner?.name ?? "", interfaces: winner?.interfaces ?? [], service };
    contest.winner = winner;
    if (JSON.stringify(next) === JSON.stringify(contest.outcome)) return;
    contest.outcome = next;
    moved.add(contest.address);
  }

  function electorateOf(address: Address): Electorate | Ineligible {
    const covering = coveringAdvertisements(address, model.pools().values(), model.l2Advertisements().values());
    if (covering === undefined) return "no-pool";
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
    contest.electorate ??= electorateOf(contest.address);
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
    contest.isOpen = votes.size === 0 && locals.length < sharers.size;
    if (typeof electorate === "string") decide(contest, undefined);
    else if (contest.isOpen) decide(contest, bestOf(electorate.candidates.values(), contest.hash));
    else {
      const most = Math.max(...votes.values());
      const serving = [...votes].filter(([, count]) => count === most).map(([candidate]) => candidate);
      decide(contest, bestOf(serving, contest.hash));
    }
  }

  /** Pools or advertisements are others. */
  function restart(): void {
    electorates.clear();
    for (const contest of contests.values()) {
      contest.electorate = undefined;
      due.add(contest);
    }
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
        }
      }
    },
    settle() {
      if (!begun) {
        begun = true;
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
    whyNobody(address) {
      const contest = contests.get(address);
      if (contest?.outcome?.node !== "" || contest.electorate === undefined) return undefined;
      if (typeof contest.electorate === "string") return contest.electorate;
      const { covering, candidates } = contest.electorate;
      if (candidates.size > 0) return "no-local-endpoint";
      const found = new Set([...nodes.values()].map((node) => interfacesOn(node, covering)));
      return INELIGIBLE.findLast((reason) => found.has(reason)) ?? "not-advertised";
    },
  };
}

/** A node that is not ready ranks behind all that are. Of equals the first by name. */
function bestOf(candidates: Iterable<Candidate>, address: Hash): Candidate | undefined {
  let best: Candidate | undefined;
  let highest = -1;
  for (const candidate of candidates) {
    const rank = score(candidate.hash, address) + (candidate.ready ? 2 ** 52 : 0);
    if (rank < highest || (rank === highest && candidate.name > best!.name)) continue;
    best = candidate;
    highest = rank;
  }
  return best;
}

function sameCandidate(a: Candidate | undefined, b: Candidate | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.ready === b.ready && a.interfaces.join() === b.interfaces.join();
}

function intersects(few: ReadonlySet<string>, many: ReadonlySet<string>): boolean {
  for (const one of few) if (many.has(one)) return true;
  return false;
}
