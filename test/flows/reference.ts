// A model of the datapath over fake maps: what becomes of one flow, decided as the programs decide it, with the steps it
// took. It reads maps only: objects and the model have done their part before.
import { type Address, familyOf, prefixContains, unusableReason } from "../../src/lib/address.ts";
import { frontendText } from "../../src/model/compile.ts";
import { createModel } from "../../src/model/model.ts";
import type { Model } from "../../src/model/model-interface.ts";
import type { Row, RowProtocol, Window } from "../../src/model/operations.ts";
import { createFakeMaps, endpointText, type FakeBackend, type FakeMaps } from "../fakes/fake-maps.ts";
import { CAPACITY } from "../model/setup.ts";
import { eventsOf } from "./builders.ts";
import { type FlowCase, modelOptions, NODES, SERVICE_RANGES, type Verdict } from "./flow-case.ts";

export interface Flow {
  readonly client: FlowCase["from"];
  readonly clientPort: number;
  readonly destination: FlowCase["to"];
  readonly packet?: FlowCase["packet"];
  readonly clusterIPsInside?: boolean;
  /** Node ports do not answer on loopback addresses. */
  readonly loopbackWithoutNodePorts?: boolean;
}

export interface Outcome {
  /** undefined when it is served. */
  readonly verdict: Verdict | undefined;
  /** "address:port" of the backend. */
  readonly backend: string | undefined;
  readonly source: "kept" | "translated" | undefined;
  /** What was looked up and found, in order. */
  readonly steps: readonly string[];
}

/** The maps of the case's node, and the model that filled them. */
export function mapsOf(given: FlowCase["given"]): { maps: FakeMaps; model: Model } {
  const capacity = { ...CAPACITY, slots: 4096 };
  const maps = createFakeMaps(capacity);
  const nodeName = given.thisNode ?? "node1";
  const model = createModel({
    ...{ nodeName, capacity, serviceRanges: SERVICE_RANGES },
    ...modelOptions(given),
  });
  model.adopt(maps.readState());
  model.update(eventsOf({ ...given, nodes: given.nodes ?? NODES }));
  model.setNetworks(given.networks ?? []);
  maps.apply(model.plan());
  return { maps, model };
}

/** What becomes of the first packet of a flow. */
export function trace(maps: FakeMaps, flow: Flow): Outcome {
  const steps: string[] = [];
  const { destination, client, packet } = flow;
  const unserved = (verdict: Verdict, why: string): Outcome => {
    steps.push(`${why}: ${verdict}`);
    return { verdict, backend: undefined, source: undefined, steps };
  };
  if (packet === "another-mac") return unserved("pass", "the frame is another machine's");
  if (unusableReason(destination.address) === "unspecified") return unserved("pass", "no address at all");
  const isLoopback = unusableReason(destination.address) === "loopback";
  if (isLoopback && client.kind !== "host") return unserved("pass", "loopback is whose own it is");
  if (packet === "echo") return unserved(verdictOfEcho(maps, destination.address), "ports do not matter");
  const row = findRow(maps, flow, steps);
  if (row === undefined) return unserved(verdictWithoutFrontend(maps, destination.address), "nobody answers");
  if (packet === "syn-ack") {
    const nodeLevel =
      row.kind === "node-port" || row.kind === "host-port" || maps.addresses.get(destination.address)?.node === true;
    return unserved(nodeLevel ? "pass" : "drop", "an answer opens nothing");
  }
  if (row.restricted && !maps.letsIn(row.serviceId, client.address)) return unserved("drop", "not in a source range");
  if (row.kind === "cluster-ip" && client.kind === "outside" && flow.clusterIPsInside === true)
    return unserved("drop", "cluster addresses are for inside");
  const window = windowFor(row, client.kind);
  if (window.count === 0) return unserved(window.whenEmpty, "window is empty");
  const backend = choose(maps, row, window, hashOf(flow, row.affinity > 0), steps);
  const translated = client.kind === "outside" ? !backend.local : isHairpin(client, backend);
  return {
    verdict: undefined,
    backend: endpointText(backend.address, backend.port),
    source: translated ? "translated" : "kept",
    steps,
  };
}

function findRow(maps: FakeMaps, flow: Flow, steps: string[]): Row | undefined {
  const { address, port, protocol } = flow.destination;
  const exact = rowAt(maps, address, port, protocol, steps);
  if (exact !== undefined) return exact;
  // Loopback belongs to whoever has it: only the host's own is the node's.
  const isLoopback = flow.client.kind === "host" && unusableReason(address) === "loopback";
  const roles = maps.addresses.get(address);
  if (!isLoopback && roles?.node !== true) return undefined;
  steps.push(`${address} is the node's`);
  const row = rowAt(maps, familyOf(address) === "IPv4" ? "0.0.0.0" : "::", port, protocol, steps);
  const withoutNodePorts = isLoopback ? flow.loopbackWithoutNodePorts === true : roles?.withoutNodePorts === true;
  return row?.kind === "node-port" && withoutNodePorts ? undefined : row;
}

function rowAt(
  maps: FakeMaps,
  address: Address,
  port: number,
  protocol: RowProtocol,
  steps: string[],
): Row | undefined {
  const text = frontendText({ address, port, protocol });
  const frontend = maps.frontends.get(text);
  if (frontend === undefined) {
    steps.push(`no frontend ${text}`);
    return undefined;
  }
  const row = maps.rows.get(frontend.row);
  if (row === undefined || row.generation !== frontend.generation || frontendText(row.key) !== text) {
    throw new Error(`frontend ${text} points to row ${frontend.row}, which is another's`);
  }
  steps.push(`frontend ${text}: ${row.kind}, service ${row.serviceId}`);
  return row;
}

function verdictWithoutFrontend(maps: FakeMaps, address: Address): Verdict {
  const roles = maps.addresses.get(address);
  if (roles?.refuse) return "refuse";
  const range = maps.serviceRanges.find((one) => prefixContains(one, address));
  return roles === undefined && range !== undefined && range.exempt !== true ? "drop" : "pass";
}

/** Answered where ports are refused. */
function verdictOfEcho(maps: FakeMaps, address: Address): Verdict {
  const roles = maps.addresses.get(address);
  if (roles?.refuse === true) return roles.node || roles.peer ? "pass" : "echo";
  return verdictWithoutFrontend(maps, address);
}

function windowFor(row: Row, client: FlowCase["from"]["kind"]): Window {
  if (row.kind === "cluster-ip") return row.windows.internal;
  return client === "outside" ? row.windows.external : row.windows.cluster;
}

function choose(maps: FakeMaps, row: Row, window: Window, hash: number, steps: string[]): FakeBackend {
  const slot = maps.slot(window.first + (hash % window.count));
  const backend = maps.backends.get(slot.backend);
  const isLive = backend?.state === "live" && backend.generation === slot.generation;
  if (!isLive || backend.serviceId !== row.serviceId) {
    throw new Error(
      `a window of service ${row.serviceId} shows backend ${slot.backend}.${slot.generation}, which is not its`,
    );
  }
  steps.push(`window ${window.first}+${window.count}, backend ${slot.backend}: ${backend.address}`);
  return backend;
}

function isHairpin(client: FlowCase["from"], backend: FakeBackend): boolean {
  return client.kind === "pod" && client.address === backend.address;
}

/** FNV-1a over the flow's text, or its client's: any hash will do, the same for the same flow. */
function hashOf({ client, clientPort, destination }: Flow, ofClient: boolean): number {
  let hash = 0x811c9dc5;
  const rest = ofClient ? "" : ` ${clientPort} ${destination.address} ${destination.port}`;
  for (const char of `${client.address}${rest}`) {
    hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193) >>> 0;
  }
  return (hash ^ (hash >>> 15)) >>> 0;
}
