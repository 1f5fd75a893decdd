// Who is served what: brings the tables to what owners ask for, in rounds, of which each later one uses what those before it
// freed. It is told which owners to look at, and knows no objects.
import { type OwnerKey, ownerOf } from "./address-claims.ts";
import { adoptTables } from "./adopt.ts";
import { type Compiled, type LocalEndpoints, NO_LOCAL_ENDPOINTS, type PortSpec } from "./compile.ts";
import type { Shortage } from "./fit.ts";
import type { Notice } from "./objects.ts";
import type { Capacity, FrontendKey, KernelState, Operation } from "./operations.ts";
import { applyPort, beginRound, dropBroken, endRound, type Round, removeGroup } from "./plan.ts";
import { createShares, demandOf, divideAmongPorts } from "./shares.ts";
import { MOST_BACKENDS, type NoSpread, TABLE_SIZES } from "./spread.ts";
import { createTables, type Group, spreadRoom, type Tables } from "./tables.ts";

export interface OwnerState {
  groups: readonly Group[];
  readonly notices: readonly Notice[];
  readonly localEndpoints: LocalEndpoints;
}

/** What else belongs to a round, once the owners' part of it is known. */
export interface RoundPart {
  readonly puts: readonly Operation[];
  readonly drops: readonly Operation[];
  /** Every owner has been looked at: what is nobody's by now goes. */
  readonly finish: boolean;
  /** There is more that another round has room for. */
  readonly again: boolean;
}

export interface Planner {
  tables(): Tables;
  owners(): ReadonlyMap<OwnerKey, OwnerState>;
  adopt(state: KernelState): void;
  /** What leads to it now. */
  frontendsOf(owner: OwnerKey): Iterable<FrontendKey>;
  /** It asks for frontends and has none, for want of room. */
  isStarved(owner: OwnerKey): boolean;
  /**
   * `isLast`: no owner is left out, so that what is scarce can be divided; whose part of it is another is planned too, or, with
   * `defer`, told. `part` is asked once a round.
   */
  plan(
    owners: readonly OwnerKey[],
    isLast: boolean,
    defer: ((owner: OwnerKey) => void) | undefined,
    part: () => RoundPart,
  ): Operation[];
}

/** A bound, should owners ever give room to each other in turns. */
const ROUNDS = 8;

/** So many shortages of an owner are told: one with a thousand ports has the same trouble with all of them. */
const NOTICES = 10;

/** `compile`: undefined when there is no such owner any more. `onStarved`: isStarved() of it changed. */
export function createPlanner(
  capacity: Capacity,
  on: { compile(owner: OwnerKey): Compiled | undefined; onStarved(owner: OwnerKey): void },
): Planner {
  const owners = new Map<OwnerKey, OwnerState>();
  /** Owners for which a table had no room; looked at again when something was freed. */
  const waiting = new Set<OwnerKey>();
  /** Those that wait for a table alone, and are served without. */
  const tableless = new Set<OwnerKey>();
  const starved = new Set<OwnerKey>();
  const shares = createShares(capacity);
  let tables = createTables(capacity);

  /** The group that goes on as `spec`: the same port's, else one that nobody else continues and that has one of its frontends. */
  function groupFor(
    spec: PortSpec,
    owner: OwnerKey,
    byKey: Map<string, Group>,
    specKeys: Set<string>,
  ): Group | undefined {
    const same = byKey.get(spec.key);
    if (same !== undefined) return same;
    for (const { text } of spec.frontends) {
      const installed = tables.frontends.get(text);
      if (installed === undefined || installed.leaving) continue;
      const { group } = installed;
      if (group.owner === undefined) return group;
      if (group.owner === owner && byKey.get(group.key) === group && !specKeys.has(group.key)) return group;
    }
    return undefined;
  }

  function planOwner(owner: OwnerKey, compiled: Compiled | undefined, round: Round): void {
    const specs = compiled?.ports ?? [];
    const byKey = new Map<string, Group>();
    for (const group of owners.get(owner)?.groups ?? []) byKey.set(group.key, group);
    const specKeys = new Set(specs.map((spec) => spec.key));
    const limitOf = divideAmongPorts(specs, shares.limitOf(owner), {
      port: (spec) => byKey.has(spec.key),
      frontend: ({ text }) => tables.frontends.get(text)?.group.owner === owner,
    });
    const groups: Group[] = [];
    const notices: Notice[] = [];
    waiting.delete(owner);
    tableless.delete(owner);
    for (const spec of specs) {
      const old = groupFor(spec, owner, byKey, specKeys);
      const oldKey = old?.key;
      const limit = limitOf(spec);
      const { group, shortages } =
        limit.frontends.length === 0
          ? { group: undefined, shortages: [] }
          : applyPort(tables, round, owner, spec, old, limit);
      if (shortages.some((one) => "table" in one && !one.share)) waiting.add(owner);
      else if (shortages.some((one) => "why" in one && "slots" in one.why)) tableless.add(owner);
      const [served, asked] = [limit.frontends.length, spec.frontends.length];
      const table = limit.table === "frontends" && capacity.rows < capacity.frontends ? "rows" : limit.table;
      if (served < asked) shortages.push({ table, served, asked, share: true });
      for (const shortage of shortages) {
        if (notices.length < NOTICES) notices.push(shortageNotice(owner, spec, shortage));
      }
      if (group === undefined) continue;
      if (oldKey !== undefined) byKey.delete(oldKey);
      groups.push(group);
    }
    for (const group of byKey.values()) removeGroup(tables, round, group);
    setStarved(owner, specs.length > 0 && groups.length === 0);
    if (compiled === undefined) {
      owners.delete(owner);
      return;
    }
    const all = notices.length === 0 ? compiled.notices : [...compiled.notices, ...notices];
    // Copies have no spare room. Where nothing is served nobody is to be sent.
    const localEndpoints = groups.length === 0 ? NO_LOCAL_ENDPOINTS : compiled.localEndpoints;
    owners.set(owner, { groups: groups.slice(), notices: all, localEndpoints });
  }

  /** Those that wait for a table, as many as there may be room for: nobody is looked at in vain again and again. */
  function whoFits(): OwnerKey[] {
    const most = Math.floor(Math.min(spreadRoom(tables), tables.slots.longest) / TABLE_SIZES[0]);
    return [...tableless].slice(0, Math.max(0, most));
  }

  function setStarved(owner: OwnerKey, now: boolean): void {
    if (starved.has(owner) === now) return;
    if (now) starved.add(owner);
    else starved.delete(owner);
    on.onStarved(owner);
  }

  return {
    tables: () => tables,
    owners: () => owners,
    *frontendsOf(owner) {
      for (const { rows } of owners.get(owner)?.groups ?? []) for (const { key } of rows) yield key;
    },
    isStarved: (owner) => starved.has(owner),
    adopt(state) {
      tables = adoptTables(state, capacity);
      for (const owner of owners.values()) owner.groups = [];
      waiting.clear();
      tableless.clear();
    },
    plan(list, isLast, defer, part) {
      const compiled = new Map<OwnerKey, Compiled | undefined>();
      const look = (owner: OwnerKey): void => {
        if (compiled.has(owner)) return;
        const found = on.compile(owner);
        compiled.set(owner, found);
        shares.ask(owner, found === undefined ? undefined : demandOf(found.ports));
      };
      for (const owner of list) look(owner);
      const others = isLast ? shares.settle((owner) => !!owners.get(owner)?.groups.length) : [];
      for (const owner of others) if (!compiled.has(owner)) (defer ?? look)(owner);
      let todo = [...compiled.keys()];
      const operations: Operation[] = [];
      for (let rounds = 0, again = true; again && rounds < ROUNDS; rounds++) {
        const round = beginRound();
        for (const owner of todo) {
          look(owner);
          planOwner(owner, compiled.get(owner), round);
        }
        const { puts, drops, finish, again: more } = part();
        if (finish) {
          for (const group of [...tables.groups.values()]) {
            if (group.owner === undefined) removeGroup(tables, round, group);
          }
          dropBroken(tables, round);
        }
        const ended = endRound(tables, round, puts, drops);
        for (const operation of ended.operations) operations.push(operation);
        // What was freed may be what somebody waits for.
        todo = ended.freed ? [...waiting, ...whoFits()] : [];
        again = more || todo.length > 0;
      }
      return operations;
    },
  };
}

/** What a table holds for a port, and the option that sizes it. */
const TABLES = {
  frontends: ["addresses", "--max-frontends"],
  rows: ["addresses", "--max-frontends"],
  services: ["addresses", "--max-services"],
  slots: ["endpoints", "--max-slots"],
  backends: ["endpoints", "--max-backends"],
  source_ranges: ["source ranges", "--max-frontends"],
} as const;

function spreadNotice(object: string, { protocol, port, family, tableSize }: PortSpec, why: NoSpread): Notice {
  const how = tableSize > 0 ? "by Maglev" : "by weight";
  const message = `could not balance ${protocol} port ${port} (${family}) ${how}, but by hash: `;
  const notice = { object, file: "", field: "", severity: "warning" } as const;
  if ("endpoints" in why) {
    const most = `no table is for more than ${MOST_BACKENDS} endpoints, and it has ${why.endpoints}`;
    return { ...notice, reason: "too-many-for-maglev", message: `${message}${most}` };
  }
  const lower = why.least < why.slots ? ", or lower --maglev-table-size" : "";
  const lack = `map "slots" has no room for ${why.slots} slots; raise --max-slots${lower}`;
  return { ...notice, reason: "table-full", message: `${message}${lack}` };
}

function shortageNotice(owner: OwnerKey, spec: PortSpec, shortage: Shortage): Notice {
  const { kind, key } = ownerOf(owner);
  const object = `${kind === "service" ? "Service" : "Pod"} ${key}`;
  if ("why" in shortage) return spreadNotice(object, spec, shortage.why);
  const { table, served, asked, share } = shortage;
  const [what, option] = TABLES[table];
  const full = `map "${table}" is full${share ? " for its namespace" : ""}; raise ${option}`;
  const message = `could serve only ${served} of ${asked} ${what} of ${spec.protocol} port ${spec.port} (${spec.family}): ${full}`;
  return { object, file: "", field: "", reason: "table-full", message, severity: "error" };
}
