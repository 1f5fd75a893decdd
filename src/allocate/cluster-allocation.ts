// The addresses of all LoadBalancer Services of a cluster: what each is to have, and what must be written for that. Pure. An
// address is nobody else's while it is decided, under way in a write, or still to be seen with a Service.
import { type Address, type Family, familyOf } from "../lib/address.ts";
import type { AddressWrite, AllocationInput, AllocationNews, PoolCounts, ServiceRecord } from "./allocation-records.ts";
import { createPoolBook, type PoolBook, poolSize } from "./pool-book.ts";
import { type Refusal, type Use, useOf } from "./pool-request.ts";
import { assignFrom, type PoolClient, type PoolHolding, type PoolOutcome } from "./pools.ts";
import type { ServiceRequest } from "./service-request.ts";

export interface ClusterAllocation {
  /** Every Service is looked at again. */
  configure(input: AllocationInput): void;
  put(record: ServiceRecord): void;
  remove(key: string): void;
  /**
   * Decides about all that changed. Returns the Services for which something other than before is to be written or to be told. Before
   * the first `configure` nothing is decided.
   */
  settle(): { readonly writes: readonly string[]; readonly news: readonly AllocationNews[] };
  /** The write that is wanted now for a Service, which counts as under way from here on; undefined: none, or one is under way. */
  begin(key: string): AddressWrite | undefined;
  /**
   * What became of a write that was begun. "failed": for certain it has not been and will not be applied. "unknown": it may be, also
   * later; `begin` gives the same one again. A conflict is unknown: of two attempts the first may have been applied.
   */
  end(write: AddressWrite, result: "written" | "failed" | "unknown"): void;
  /** Something is to be written, or under way. */
  isBusy(key: string): boolean;
  outcome(key: string): PoolOutcome | undefined;
  pools(): readonly PoolCounts[];
  /** Services that are ours, of them with addresses, and those without by reason. */
  counts(): {
    readonly services: number;
    readonly assigned: number;
    readonly pending: Readonly<Record<string, number>>;
  };
  refusals(most: number): readonly { readonly key: string; readonly refusal: Refusal }[];
}

interface UnderWay {
  readonly write: AddressWrite;
  /** doubtful: an attempt may have been applied; written: one was, and is still to be seen. */
  state: "sent" | "doubtful" | "written";
  /** Of an attempt before this one nobody knows what became. */
  hasDoubt: boolean;
}

const sameSet = (a: readonly Address[], b: readonly Address[]): boolean =>
  a.length === b.length && a.every((one) => b.includes(one));

function familiesOf({ spec }: ServiceRequest): readonly Family[] {
  const families = spec.ipFamilies ?? [];
  if (families.length > 0) return families;
  const addresses = spec.clusterIPs ?? (spec.clusterIP === undefined ? [] : [spec.clusterIP]);
  return [...new Set(addresses.filter((one) => one !== "" && one !== "None").map(familyOf))];
}

function clientOf({ key, request }: ServiceRecord): PoolClient {
  const needsAllFamilies = request.spec.ipFamilyPolicy === "RequireDualStack";
  return { key, service: request, families: familiesOf(request), needsAllFamilies };
}

/** `loadBalancerClass`: of the Services that are ours; "" those without one. */
export function createClusterAllocation(loadBalancerClass: string): ClusterAllocation {
  const records = new Map<string, ServiceRecord>();
  const outcomes = new Map<string, PoolOutcome>();
  const underWay = new Map<string, UnderWay>();
  const wanted = new Map<string, AddressWrite>();
  const dirty = new Set<string>();
  /** Without an address, or with fewer than they may have. */
  const waiting = new Set<string>();
  /** By address: how many Services show it, and how many have it as cluster address. */
  const shown = new Map<Address, number>();
  const clusterAddresses = new Map<Address, number>();
  const told = new Map<string, string>();
  let input: AllocationInput | undefined;
  let book: PoolBook | undefined;
  let isAnew = false;
  /** When those that wait were last looked at. */
  let openingsSeen = 0;

  const isOurs = ({ request: { spec } }: ServiceRecord): boolean =>
    spec.type === "LoadBalancer" && (spec.loadBalancerClass ?? "") === loadBalancerClass;

  function count(into: Map<Address, number>, addresses: readonly Address[], by: number): void {
    for (const address of addresses) {
      const now = (into.get(address) ?? 0) + by;
      if (now === 0) into.delete(address);
      else into.set(address, now);
    }
  }

  function index(record: ServiceRecord | undefined, by: number): void {
    count(shown, record?.addresses ?? [], by);
    count(clusterAddresses, record?.request.spec.clusterIPs ?? [], by);
  }

  /** What others may not have because of a Service, beside what is decided for it. */
  function lingeringOf(record: ServiceRecord): ReadonlyMap<Address, Use> {
    const use = useOf(record.request);
    const found = new Map(record.addresses.map((one) => [one, { ...use, isLeaving: true } as Use] as const));
    for (const one of underWay.get(record.key)?.write.addresses ?? []) found.set(one, use);
    return found;
  }

  /** What it has by decision or else by what the API shows; the pool by where the addresses lie now. */
  function holdingOf(record: ServiceRecord, from: PoolBook): PoolHolding | undefined {
    const before = outcomes.get(record.key);
    const assigned = before !== undefined && "assigned" in before ? before.assigned : undefined;
    const addresses = assigned?.addresses ?? record.addresses;
    const [first] = addresses;
    const pool = first === undefined ? undefined : from.poolOf(first);
    if (pool === undefined) return undefined;
    const use = assigned?.use ?? record.use;
    return { addresses, pool: pool.name, ...(use === "" ? {} : { use }) };
  }

  /** What lies outside the pools may lie in one that is missing. */
  function mayMove({ addresses }: ServiceRecord, from: PoolBook): boolean {
    return input?.isWhole === true || addresses.every((one) => from.poolOf(one) !== undefined);
  }

  function older(a: ServiceRecord, b: ServiceRecord): number {
    if (a.created !== b.created) return a.created < b.created ? -1 : 1;
    return a.key < b.key ? -1 : 1;
  }

  function assign(into: PoolBook, keys: Iterable<string>, others: Iterable<string>): void {
    const clients: PoolClient[] = [];
    const held = new Map<string, PoolHolding>();
    const lingering = new Map<string, ReturnType<typeof lingeringOf>>();
    for (const key of others) {
      const record = records.get(key);
      if (record !== undefined) lingering.set(key, lingeringOf(record));
    }
    const found = [...keys].flatMap((key) => records.get(key) ?? []).sort(older);
    for (const record of found) {
      const { key } = record;
      const stays = lingeringOf(record);
      lingering.set(key, stays);
      if (isOurs(record) && mayMove(record, into)) {
        clients.push(clientOf(record));
        const holding = holdingOf(record, into);
        if (holding !== undefined) held.set(key, holding);
        continue;
      }
      outcomes.delete(key);
      waiting.delete(key);
      for (const address of into.addressesOf(key)) if (!stays.has(address)) into.leave(key, address);
    }
    for (const [key, outcome] of assignFrom(into, { clients, held, lingering, loadBalancerClass, keepsUnmet: true })) {
      outcomes.set(key, outcome);
      const isShort =
        !("assigned" in outcome) ||
        outcome.unmet !== undefined ||
        outcome.assigned.addresses.length < familiesOf(records.get(key)!.request).length;
      if (isShort) waiting.add(key);
      else waiting.delete(key);
    }
  }

  function wish(record: ServiceRecord): AddressWrite | undefined {
    const outcome = outcomes.get(record.key);
    const isGiven = record.pool !== "" || record.hasFormerAnnotation;
    if (outcome !== undefined && "assigned" in outcome) {
      const { addresses, pool } = outcome.assigned;
      const use = useOf(record.request).sharingKey === "" ? "" : (outcome.assigned.use ?? "");
      const isShown = sameSet(addresses, record.addresses) && record.pool === pool && record.use === use;
      return isShown && !record.hasFormerAnnotation ? undefined : { record, addresses, pool, use };
    }
    // Another allocator's, or nobody's business.
    if (!isGiven && (!isOurs(record) || book?.pools.length === 0)) return undefined;
    const hasOtherClass = record.request.spec.type === "LoadBalancer" && !isOurs(record);
    if (hasOtherClass || !input?.isWhole) return undefined;
    return isGiven || record.addresses.length > 0 ? { record, addresses: [], pool: "", use: "" } : undefined;
  }

  function newsOf(record: ServiceRecord, write: AddressWrite | undefined): AllocationNews | undefined {
    const outcome = outcomes.get(record.key);
    const refusal = outcome === undefined ? undefined : "assigned" in outcome ? outcome.unmet : outcome;
    const lost = write === undefined ? [] : record.addresses.filter((one) => !write.addresses.includes(one));
    if (lost.length > 0) {
      return { record, kind: "cleared", refusal: lossOf(record, lost, refusal) };
    }
    if (refusal === undefined) return undefined;
    return { record, kind: record.addresses.length > 0 ? "unmet" : "refused", refusal };
  }

  /** Why a Service loses addresses; `refusal`: why it has none instead. */
  function lossOf(record: ServiceRecord, lost: readonly Address[], refusal: Refusal | undefined): Refusal {
    if (!isOurs(record))
      return { refused: "wrong-class", field: "spec.type", message: "it is no LoadBalancer any more" };
    const gone = lost.filter((one) => book?.poolOf(one) === undefined);
    if (gone.length > 0)
      return { refused: "not-in-pool", field: "", message: `${gone.join(", ")} is in no IPAddressPool` };
    if (refusal !== undefined) return refusal;
    const outcome = outcomes.get(record.key);
    const pool = outcome !== undefined && "assigned" in outcome ? outcome.assigned.pool : "";
    const apart = lost.filter((one) => pool !== "" && book?.poolOf(one)?.name !== pool);
    if (apart.length > 0) {
      const message = `${apart.join(", ")} is not in the IPAddressPool ${pool} of its other address`;
      if (record.addresses.length > lost.length) return { refused: "not-in-pool", field: "", message };
    }
    const others = lost.flatMap((one) => book?.users(one) ?? []).filter((one) => one !== record.key);
    const why =
      others.length > 0 ? `it is in use by the Service ${[...new Set(others)].join(", ")}` : "it asks for another";
    return { refused: "address-in-use", field: "", message: `${lost.join(", ")}: ${why}` };
  }

  return {
    configure(now) {
      input = now;
      isAnew = true;
    },
    put(record) {
      const before = records.get(record.key);
      index(before, -1);
      index(record, 1);
      records.set(record.key, record);
      dirty.add(record.key);
      // A write is bound to the version that it was decided by: at another it has been applied, or never will be.
      if (underWay.get(record.key)?.write.record.version !== record.version) underWay.delete(record.key);
      // A Service of the same name is another one.
      if (before !== undefined && before.uid !== record.uid) outcomes.delete(record.key);
    },
    remove(key) {
      index(records.get(key), -1);
      for (const from of [records, outcomes, underWay, wanted, told]) from.delete(key);
      waiting.delete(key);
      dirty.delete(key);
      for (const address of book?.addressesOf(key) ?? []) book?.leave(key, address);
    },
    settle() {
      if (input === undefined) return { writes: [], news: [] };
      const { nodeAddresses } = input;
      let changed: Set<string>;
      if (isAnew || book === undefined) {
        isAnew = false;
        openingsSeen = 0;
        book = createPoolBook({
          ...input,
          isForeign: (address) => !shown.has(address) && (nodeAddresses.has(address) || clusterAddresses.has(address)),
        });
        const isFixed = (key: string): boolean => underWay.has(key);
        changed = new Set([...records.keys()].filter((key) => !isFixed(key)));
        assign(book, changed, [...records.keys()].filter(isFixed));
        for (const key of [...dirty]) if (changed.has(key)) dirty.delete(key);
        for (const key of underWay.keys()) dirty.add(key);
      } else {
        changed = new Set([...dirty].filter((key) => !underWay.has(key)));
        for (const key of changed) dirty.delete(key);
        assign(book, changed, []);
      }
      if (book.openings() !== openingsSeen) {
        const again = [...waiting].filter((key) => !underWay.has(key) && !changed.has(key));
        assign(book, again, []);
        for (const key of again) changed.add(key);
        openingsSeen = book.openings();
      }
      const writes: string[] = [];
      const news: AllocationNews[] = [];
      for (const key of changed) {
        const record = records.get(key);
        if (record === undefined) continue;
        const write = wish(record);
        if (write === undefined) wanted.delete(key);
        else {
          wanted.set(key, write);
          writes.push(key);
        }
        const one = newsOf(record, write);
        const text = one === undefined ? "" : `${one.kind} ${one.refusal.message}`;
        if (text === (told.get(key) ?? "")) continue;
        if (one === undefined) told.delete(key);
        else {
          told.set(key, text);
          news.push(one);
        }
      }
      return { writes, news };
    },
    begin(key) {
      const sent = underWay.get(key);
      // What may still be applied is said again, never something else beside it.
      if (sent !== undefined) {
        if (sent.state !== "doubtful") return undefined;
        sent.state = "sent";
        return sent.write;
      }
      const write = dirty.has(key) ? undefined : wanted.get(key);
      if (write !== undefined) underWay.set(key, { write, state: "sent", hasDoubt: false });
      return write;
    },
    end(write, result) {
      const { key } = write.record;
      const sent = underWay.get(key);
      if (sent?.write !== write) return;
      if (result === "failed" && !sent.hasDoubt) {
        underWay.delete(key);
        dirty.add(key);
        return;
      }
      sent.hasDoubt ||= result === "unknown";
      sent.state = result === "written" ? "written" : "doubtful";
    },
    isBusy: (key) => wanted.has(key) || underWay.has(key),
    outcome: (key) => outcomes.get(key),
    pools: () =>
      (book?.pools ?? []).map((pool) => {
        const assigned = book!.assigned(pool.name);
        const size = poolSize(pool);
        const left = (family: Family): number => Math.max(0, size[family] - assigned[family]);
        return { name: pool.name, assigned, available: { IPv4: left("IPv4"), IPv6: left("IPv6") } };
      }),
    counts() {
      const pending: Record<string, number> = {};
      let assigned = 0;
      for (const outcome of outcomes.values()) {
        if ("assigned" in outcome) assigned++;
        else pending[outcome.refused] = (pending[outcome.refused] ?? 0) + 1;
      }
      return { services: outcomes.size, assigned, pending };
    },
    refusals(most) {
      const found: { key: string; refusal: Refusal }[] = [];
      for (const [key, outcome] of outcomes) {
        const refusal = "assigned" in outcome ? outcome.unmet : outcome;
        if (refusal !== undefined) found.push({ key, refusal });
        if (found.length === most) break;
      }
      return found;
    },
  };
}
