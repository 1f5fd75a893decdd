// Flows as people ask for them: those of packets and those that sockets were pointed at, filtered, the newest first.
import type { Dataplane } from "../datapath/dataplane.ts";
import {
  type FlowEnd,
  type FlowRecord,
  listFlows,
  listSocketPeers,
  type SocketRecord,
} from "../datapath/flow-table.ts";
import { hostAndPort, type Prefix, prefixContains } from "../lib/address.ts";
import { Failure } from "../lib/errors.ts";
import { didYouMean } from "../lib/suggest.ts";
import type { Model } from "../model/model-interface.ts";
import type { FlowFilter, FlowView } from "./view.ts";

/** Of what is over the limit so much is kept until it is sorted and cut. */
const SPARE = 256;

type Record_ = FlowRecord | SocketRecord;

/**
 * At most `filter.limit`, the newest first: by idleness, then sockets by the order of their making. undefined where a reader may
 * pause. Returns how many there are. Throws Failure "not_found" for a pod or node that nobody knows.
 */
export function* flowViews(
  { dataplane, model, hz }: { readonly dataplane: Dataplane; readonly model: Model; readonly hz: number },
  filter: FlowFilter,
): Generator<FlowView | undefined, number> {
  const names = createNames(model);
  const isWanted = wantedBy(filter, model, names);
  const { limit, path } = filter;
  let kept: Record_[] = [];
  let matched = 0;
  const cut = (): void => {
    kept.sort(byAge);
    if (limit > 0) kept = kept.slice(0, limit);
  };
  function* records(): Generator<Record_ | undefined> {
    if (path !== "socket") yield* listFlows(dataplane, hz, isWanted);
    if (path !== "packet") yield* listSocketPeers(dataplane);
  }
  for (const record of records()) {
    if (record === undefined) {
      yield undefined;
      continue;
    }
    if (record.table === "socket_peers" && !isWanted(record)) continue;
    matched++;
    kept.push(record);
    if (limit > 0 && kept.length >= 2 * limit + SPARE) cut();
  }
  cut();
  for (const record of kept) yield viewOf(record, names);
  return matched;
}

function byAge(a: Record_, b: Record_): number {
  if (a.table === "socket_peers" || b.table === "socket_peers") {
    if (a.table === "socket_peers" && b.table === "socket_peers") return b.cookie > a.cookie ? 1 : -1;
    return a.table === "socket_peers" ? 1 : -1;
  }
  return a.idleMs - b.idleMs;
}

interface ServiceName {
  readonly key: string;
  /** "namespace/name:port" */
  readonly text: string;
}

function createNames(model: Model): (serviceId: number) => ServiceName {
  const names = new Map<number, ServiceName>();
  return (id) => {
    const known = names.get(id);
    if (known !== undefined) return known;
    const view = model.serviceById(id);
    const name =
      view === undefined
        ? { key: "", text: `#${id}` }
        : { key: view.service, text: `${view.service}:${view.portName === "" ? view.port : view.portName}` };
    names.set(id, name);
    return name;
  };
}

function wantedBy(
  filter: FlowFilter,
  model: Model,
  nameOf: (serviceId: number) => ServiceName,
): (record: Record_) => boolean {
  const services = filter.services && new Set(filter.services);
  const pod = filter.pod === undefined ? undefined : addressesOf(model, "pod", filter.pod);
  const node = filter.backendNode === undefined ? undefined : addressesOf(model, "nodeName", filter.backendNode);
  const { address, client, backend, port, state, protocol, namespace } = filter;
  return (record) => {
    const ends = [record.client, record.frontend, record.backend];
    if (protocol !== undefined && record.protocol !== protocol) return false;
    if (state !== undefined && record.state !== state) return false;
    if (port !== undefined && !ends.some((end) => end?.port === port)) return false;
    if (client !== undefined && !isIn(record.client, client)) return false;
    if (backend !== undefined && !isIn(record.backend, backend)) return false;
    if (address !== undefined && !ends.some((end) => isIn(end, address))) return false;
    if (pod !== undefined && !ends.some((end) => end !== undefined && pod.has(end.address))) return false;
    if (node !== undefined && !node.has(record.backend.address)) return false;
    if (services === undefined && namespace === undefined) return true;
    const { key } = nameOf(record.serviceId);
    return (services?.has(key) ?? true) && (namespace === undefined || key.startsWith(`${namespace}/`));
  };
}

function isIn(end: FlowEnd | undefined, prefix: Prefix): boolean {
  if (end === undefined) return false;
  const isWhole = prefix.length === (prefix.address.includes(":") ? 128 : 32);
  return isWhole ? end.address === prefix.address : prefixContains(prefix, end.address);
}

/** Addresses of the endpoints of a pod, or on a node: none on one that only has no endpoint. */
function addressesOf(model: Model, field: "pod" | "nodeName", name: string): ReadonlySet<string> {
  const found = new Set<string>();
  const known = new Set(field === "nodeName" ? model.nodes().keys() : []);
  for (const { endpoints } of model.slices().values()) {
    for (const endpoint of endpoints) {
      if (endpoint[field] !== "") known.add(endpoint[field]);
      if (endpoint[field] === name) for (const address of endpoint.addresses) found.add(address);
    }
  }
  if (known.has(name)) return found;
  const what = field === "pod" ? "pod" : "node";
  const reason =
    known.size > 0 || field === "nodeName"
      ? `no endpoint is of it${didYouMean(name, known)}`
      : "this agent is not told of pods: ask by address";
  throw new Failure("not_found", name, `could not find the ${what} ${name}: ${reason}`);
}

function viewOf(record: Record_, nameOf: (serviceId: number) => ServiceName): FlowView {
  const common = {
    protocol: record.protocol,
    frontend: endText(record.frontend),
    backend: endText(record.backend),
    service: nameOf(record.serviceId).text,
    state: record.state,
    table: record.table,
  };
  if (record.table === "socket_peers")
    return { ...common, path: "socket", client: `socket ${record.cookie}`, sourceTranslation: "" };
  return {
    ...common,
    path: "packet",
    client: endText(record.client),
    sourceTranslation: record.source === undefined ? "" : endText(record.source),
    idleMs: record.idleMs,
  };
}

const endText = ({ address, port }: FlowEnd): string => hostAndPort(address, port);
