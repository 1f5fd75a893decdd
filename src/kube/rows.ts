// Changes as they cross from the thread that reads the API to the main loop: EndpointSlices of one message in common columns,
// for a structured clone of ten thousand small objects costs ten times as much; the rest as one JSON text.
import type { Address } from "../lib/address.ts";
import { type EndpointColumns, EndpointList } from "../model/endpoint-list.ts";
import type { EndpointHints, EndpointPort, ObjectEvent, ObjectKey, Service } from "../model/objects.ts";
import { type Change, hintsId, type ObjectChange, type SliceChange } from "./row.ts";

export interface PackedChanges {
  /** JSON of ObjectEvent[], "" when there are none. */
  readonly objects: string;
  readonly slices: PackedSlices | undefined;
}

/** Columns by slice, then columns by endpoint, in the order of the slices. */
export interface PackedSlices {
  readonly keys: readonly ObjectKey[];
  /** Endpoints of each slice; GONE: the slice is gone. */
  readonly counts: Uint32Array<ArrayBuffer>;
  readonly services: readonly string[];
  readonly isIPv6: Uint8Array<ArrayBuffer>;
  /** Which of `portLists`, by slice. */
  readonly ports: Uint32Array<ArrayBuffer>;
  readonly portLists: readonly (readonly EndpointPort[])[];
  readonly triggersMs: Float64Array<ArrayBuffer>;
  readonly addresses: readonly Address[];
  /** As EndpointColumns has them, for all endpoints of the message. */
  readonly conditions: string;
  /** Which of `nodeNames`, by endpoint, as EndpointColumns has them. */
  readonly nodes: string;
  readonly nodeNames: readonly string[];
  /** Which of `hintSets`, by endpoint; "" when no slice of the message has hints. The first set is that of endpoints without. */
  readonly hints: string;
  readonly hintSets: readonly (EndpointHints | undefined)[];
  /** Those of the few slices that have weights, by slice. */
  readonly weights: ReadonlyMap<number, string>;
}

const GONE = 0xffff_ffff;

/** Numbers texts in the order in which they first come. */
function createTable<T>(): { number(id: string, value: T): number; readonly values: T[] } {
  const numbers = new Map<string, number>();
  const values: T[] = [];
  return {
    number(id, value) {
      let number = numbers.get(id);
      if (number === undefined) {
        number = values.push(value) - 1;
        numbers.set(id, number);
      }
      return number;
    },
    values,
  };
}

function portsId(ports: readonly Pick<EndpointPort, "name" | "protocol" | "port">[]): string {
  return ports.map(({ name, protocol, port }) => `${name}/${protocol}/${port}`).join(",");
}

function packSlices(changes: readonly SliceChange[]): PackedSlices {
  const counts = new Uint32Array(changes.length);
  const isIPv6 = new Uint8Array(changes.length);
  const ports = new Uint32Array(changes.length);
  const triggersMs = new Float64Array(changes.length);
  const conditions: string[] = [];
  const nodes: string[] = [];
  const addresses: Address[] = [];
  const weights = new Map<number, string>();
  const nodeTable = createTable<string>();
  const portTable = createTable<readonly EndpointPort[]>();
  const hintTable = createTable<EndpointHints | undefined>();
  const numberOfHints = (one: EndpointHints | undefined): number =>
    hintTable.number(one === undefined ? "" : hintsId(one), one);
  numberOfHints(undefined);
  const hasHints = changes.some(({ content }) => content?.hints !== undefined);
  const hints: string[] = [];
  for (const [i, { content, triggerMs }] of changes.entries()) {
    triggersMs[i] = triggerMs;
    counts[i] = content?.addresses.length ?? GONE;
    if (content === undefined) continue;
    if (content.weights !== undefined) weights.set(i, content.weights);
    isIPv6[i] = content.family === "IPv6" ? 1 : 0;
    ports[i] = portTable.number(portsId(content.ports), content.ports);
    for (let j = 0; j < content.addresses.length; j++) {
      const node = content.nodes[j]!;
      nodes.push(String.fromCharCode(nodeTable.number(node, node)));
      conditions.push(String.fromCharCode(content.conditions[j]!));
      addresses.push(content.addresses[j]!);
      if (hasHints) hints.push(String.fromCharCode(numberOfHints(content.hints?.[j])));
    }
  }
  return {
    keys: changes.map(({ key }) => key),
    counts,
    services: changes.map(({ content }) => content?.service ?? ""),
    isIPv6,
    ports,
    portLists: portTable.values,
    triggersMs,
    addresses,
    conditions: conditions.join(""),
    nodes: nodes.join(""),
    nodeNames: nodeTable.values,
    hints: hints.join(""),
    hintSets: hintTable.values,
    weights,
  };
}

const eventText = ({ kind, key, content, text }: ObjectChange): string =>
  text ?? JSON.stringify({ kind, key, object: content });

/** Changes of one key keep their order; those of different kinds do not. */
export function packChanges(changes: readonly Change[]): PackedChanges {
  const slices: SliceChange[] = [];
  const objects: ObjectChange[] = [];
  for (const change of changes) {
    if (change.kind === "EndpointSlice") slices.push(change);
    else objects.push(change);
  }
  return {
    objects: objects.length === 0 ? "" : `[${objects.map(eventText).join()}]`,
    slices: slices.length === 0 ? undefined : packSlices(slices),
  };
}

/** The buffers of a message that may be moved instead of copied. */
export function buffersOf({ slices }: PackedChanges): ArrayBuffer[] {
  if (slices === undefined) return [];
  const { counts, isIPv6, ports, triggersMs } = slices;
  return [counts, isIPv6, ports, triggersMs].map(({ buffer }) => buffer);
}

export interface Unpacker {
  unpack(packed: PackedChanges): ObjectEvent[];
  /** How many lists of ports it keeps for slices and Services to come. */
  portLists(): number;
}

const MOST_SHARED_TEXTS = 10_000;
/** Whoever may write a slice can make new ones for ever: those least used go. */
const MOST_PORT_LISTS = 1_000;
/** What one character of a list's column can tell apart. */
const MOST_IN_COLUMN = 0x1_0000;

/** Numbers that fit in one character of a column. Those who hold the values of before keep them when it begins anew. */
function createColumnTable<T>(): {
  /** So many more may come. */
  makeRoom(count: number): void;
  character(id: string, value: T): string;
  values(): readonly T[];
} {
  let table = createTable<T>();
  return {
    makeRoom(count) {
      if (table.values.length + count > MOST_IN_COLUMN) table = createTable<T>();
    },
    character: (id, value) => String.fromCharCode(table.number(id, value)),
    values: () => table.values,
  };
}

const NONE: readonly never[] = [];
const NO_LABELS: Readonly<Record<string, string>> = {};

/** Keeps one copy of what many slices and Services share: names of nodes and namespaces, lists of ports, hints, what is empty. */
export function createUnpacker(): Unpacker {
  const texts = new Map<string, string>();
  const portLists = new Map<string, readonly unknown[]>();
  const nodeNames = createColumnTable<string>();
  const hintSets = createColumnTable<EndpointHints | undefined>();

  /** One copy of a text of which there are few: a namespace, the conditions of endpoints that are all ready. */
  function sharedText(text: string): string {
    const one = texts.get(text);
    if (one !== undefined) return one;
    if (texts.size < MOST_SHARED_TEXTS) texts.set(text, text);
    return text;
  }

  /** Lists of one id are equal. */
  function sharedList<T>(id: string, list: readonly T[]): readonly T[] {
    const one = (portLists.get(id) as readonly T[] | undefined) ?? list;
    // Its place is now behind all others.
    portLists.delete(id);
    portLists.set(id, one);
    if (portLists.size > MOST_PORT_LISTS) portLists.delete(portLists.keys().next().value!);
    return one;
  }

  /** The column of a slice's hints; none when no endpoint of it has any. */
  function hintsOf(hints: string, charactersOf: readonly string[]): Pick<EndpointColumns, "hints" | "hintSets"> {
    if (hints === "" || !/[^\0]/.test(hints)) return {};
    const characters = Array.from(hints, (one) => charactersOf[one.charCodeAt(0)]!);
    return { hints: sharedText(characters.join("")), hintSets: hintSets.values() };
  }

  function* sliceEvents(packed: PackedSlices): Generator<ObjectEvent> {
    // Nodes come and go: lists that exist keep the table that they were made with.
    nodeNames.makeRoom(packed.nodeNames.length);
    hintSets.makeRoom(packed.hintSets.length);
    const nodeOf = packed.nodeNames.map((name) => nodeNames.character(name, name));
    const hintOf = packed.hintSets.map((one) => hintSets.character(one === undefined ? "" : hintsId(one), one));
    const portsOf = packed.portLists.map((ports) => sharedList(portsId(ports), ports));
    let at = 0;
    for (const [i, key] of packed.keys.entries()) {
      const count = packed.counts[i]!;
      if (count === GONE) {
        yield { kind: "EndpointSlice", key, object: undefined };
        continue;
      }
      const nodes: string[] = [];
      for (let j = 0; j < count; j++) nodes.push(nodeOf[packed.nodes.charCodeAt(at + j)]!);
      const endpoints = new EndpointList({
        addresses: packed.addresses.slice(at, at + count),
        conditions: sharedText(packed.conditions.slice(at, at + count)),
        nodes: nodes.join(""),
        nodeNames: nodeNames.values(),
        ...hintsOf(packed.hints.slice(at, at + count), hintOf),
      });
      at += count;
      const slash = key.indexOf("/");
      const weights = packed.weights.get(i);
      const object = {
        namespace: sharedText(key.slice(0, slash)),
        name: key.slice(slash + 1),
        service: packed.services[i]!,
        family: packed.isIPv6[i] === 1 ? ("IPv6" as const) : ("IPv4" as const),
        ports: portsOf[packed.ports[i]!]!,
        endpoints,
        ...(weights === undefined ? {} : { weights }),
      };
      const triggerMs = packed.triggersMs[i]!;
      yield { kind: "EndpointSlice", key, object, ...(triggerMs > 0 ? { triggerMs } : {}) };
    }
  }

  /** It was just parsed, and nobody else has it: most of it is what most Services have. */
  function shareInService(service: { -readonly [K in keyof Service]: Service[K] }): void {
    const { ports, grants } = service;
    service.namespace = sharedText(service.namespace);
    if (Object.keys(service.labels).length === 0) service.labels = NO_LABELS;
    if (service.externalIPs.length === 0) service.externalIPs = NONE;
    if (service.sourceRanges.length === 0) service.sourceRanges = NONE;
    if (grants.addresses.length === 0) service.grants = { age: grants.age, addresses: NONE };
    // Node ports are nobody else's.
    if (ports.some(({ nodePort }) => nodePort !== 0)) return;
    const targets = ports.map(({ targetPort }) => `${typeof targetPort}/${targetPort}`);
    service.ports = sharedList(`Service ${portsId(ports)} ${targets.join()}`, ports);
  }

  return {
    portLists: () => portLists.size,
    unpack({ objects, slices }) {
      const events: ObjectEvent[] = objects === "" ? [] : JSON.parse(objects);
      for (const { kind, object } of events) if (kind === "Service" && object !== undefined) shareInService(object);
      if (slices !== undefined) for (const event of sliceEvents(slices)) events.push(event);
      return events;
    },
  };
}
