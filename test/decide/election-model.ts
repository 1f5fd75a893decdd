// A model as the election reads it: the objects alone, by their keys.
import type { ElectionModel } from "../../src/decide/election.ts";
import type {
  AddressPool,
  EndpointSlice,
  L2Advertisement,
  Node,
  ObjectEvent,
  Service,
} from "../../src/model/objects.ts";

export interface Objects {
  readonly nodes?: readonly Node[];
  readonly services?: readonly Service[];
  readonly slices?: readonly EndpointSlice[];
  readonly pools?: readonly AddressPool[];
  readonly advertisements?: readonly L2Advertisement[];
}

export interface FedModel extends ElectionModel {
  update(events: readonly ObjectEvent[]): void;
}

const keyOf = ({ namespace, name }: { readonly namespace: string; readonly name: string }): string =>
  `${namespace}/${name}`;

export function electionModel(objects: Objects): FedModel {
  const nodes = new Map((objects.nodes ?? []).map((one) => [one.name, one]));
  const services = new Map((objects.services ?? []).map((one) => [keyOf(one), one]));
  const slices = new Map((objects.slices ?? []).map((one) => [keyOf(one), one]));
  const pools = new Map((objects.pools ?? []).map((one) => [keyOf(one), one]));
  const advertisements = new Map((objects.advertisements ?? []).map((one) => [keyOf(one), one]));
  const byKind: Partial<Record<ObjectEvent["kind"], Map<string, unknown>>> = {
    Node: nodes,
    Service: services,
    EndpointSlice: slices,
    AddressPool: pools,
    L2Advertisement: advertisements,
  };
  return {
    nodes: () => nodes,
    services: () => services,
    slices: () => slices,
    slicesOf: (key) => [...slices.values()].filter(({ namespace, service }) => `${namespace}/${service}` === key),
    pools: () => pools,
    l2Advertisements: () => advertisements,
    update(events) {
      for (const { kind, key, object } of events) {
        if (object === undefined) byKind[kind]?.delete(key);
        else byKind[kind]?.set(key, object);
      }
    },
  };
}
