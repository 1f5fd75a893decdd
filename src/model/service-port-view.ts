// What is served under a service id, for the CLI, the API and metrics. Computed when it is read, never kept.
import type { Address, Family } from "../lib/address.ts";
import { ownerOf } from "./address-claims.ts";
import { type Surroundings, selectEndpoints } from "./endpoints.ts";
import type { EndpointSlice, ObjectKey } from "./objects.ts";
import type { FrontendKey, RowProtocol, Window } from "./operations.ts";
import type { Group, Tables } from "./tables.ts";

export interface BackendInUse {
  readonly index: number;
  readonly generation: number;
  readonly address: Address;
  readonly port: number;
  /** "" when unknown. */
  readonly node: string;
  readonly local: boolean;
  /** "terminating": it serves still and no ready one is left in its window. "serving": its endpoint is gone meanwhile. */
  readonly state: "ready" | "serving" | "terminating";
}

export interface ServicePortView {
  readonly serviceId: number;
  readonly kind: "service" | "host-port";
  /** The Service; the host-port record's key (its pod) for a host port. */
  readonly service: ObjectKey;
  readonly portName: string;
  readonly protocol: RowProtocol;
  readonly family: Family;
  readonly port: number;
  /** 0 when there is none. */
  readonly nodePort: number;
  readonly frontends: readonly FrontendKey[];
  readonly backendCount: number;
  /** A policy Local finds no endpoint on this node, though there are some elsewhere: internalTrafficPolicy, externalTrafficPolicy. */
  readonly withoutLocal: { readonly internal: boolean; readonly external: boolean };
  /** In the order of their slots. Each read computes it anew. */
  readonly backends: readonly BackendInUse[];
}

const dropsAll = ({ count, whenEmpty }: Window): boolean => count === 0 && whenEmpty === "drop";

/** The view of a group that has an owner. */
export function viewOf(
  group: Group,
  tables: Tables,
  slicesOf: (service: ObjectKey) => readonly EndpointSlice[],
  around: Surroundings,
): ServicePortView {
  const { kind, key } = ownerOf(group.owner ?? "");
  const isHostPort = kind === "host-port";
  return {
    serviceId: group.serviceId,
    kind,
    service: key,
    portName: group.portName,
    protocol: group.protocol,
    family: group.family,
    port: group.port,
    nodePort: group.nodePort,
    frontends: group.rows.map((row) => row.key),
    backendCount: group.layouts.reduce((count, layout) => count + new Set(layout.backends).size, 0),
    withoutLocal: {
      internal: group.rows.some(({ kind: of, windows }) => of === "cluster-ip" && dropsAll(windows.internal)),
      external: group.rows.some(({ kind: of, windows }) => of !== "cluster-ip" && dropsAll(windows.external)),
    },
    get backends() {
      const { family, portName, protocol } = group;
      const slices = isHostPort ? [] : slicesOf(key);
      const { candidates } = selectEndpoints(slices, family, portName, protocol, around);
      const found = new Map(candidates.map((candidate) => [`${candidate.address} ${candidate.port}`, candidate]));
      return group.layouts.flatMap((layout) =>
        Array.from(new Set(layout.backends), (index): BackendInUse => {
          const address = tables.backendAddresses[index]!;
          const port = tables.backendPorts[index]!;
          const candidate = found.get(`${address} ${port}`);
          return {
            index,
            generation: tables.backendGenerations[index]!,
            address,
            port,
            node: isHostPort ? around.nodeName : (candidate?.node ?? ""),
            local: tables.backendLocal[index] === 1,
            state:
              isHostPort || candidate?.ready === true ? "ready" : candidate === undefined ? "serving" : "terminating",
          };
        }),
      );
    },
  };
}
