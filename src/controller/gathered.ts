// What one term has read of the cluster beside its Services: MetalLB's objects, Nodes' addresses, labels of namespaces.

import type { ControllerResource } from "../kube/controller-resources.ts";
import type { FedObject } from "../kube/object-feed.ts";
import { type Address, canonicalAddress } from "../lib/address.ts";
import type { NodeObject } from "../wire/kubernetes.ts";
import type { ListedObject, MetallbObjects } from "./configuration.ts";
import type { ObjectRef } from "./object-ref.ts";

export interface Gathered {
  /** True: `version` went up. */
  put(resource: ControllerResource, key: string, ref: ObjectRef, object: FedObject): boolean;
  remove(resource: ControllerResource, key: string): void;
  objects(): MetallbObjects;
  namespaceLabels(namespace: string): Readonly<Record<string, string>>;
  /** The object of a pool, by its name. */
  pool(name: string): ListedObject | undefined;
  /** Goes up when something is another, statuses apart; and of it when labels of namespaces are. */
  version(): number;
  labelsVersion(): number;
}

const BGP = ["bgpAdvertisements", "bgpPeers", "bfdProfiles", "communities"] as const;
type Kept = "pools" | "advertisements" | (typeof BGP)[number];

/** What the configuration depends on: a Node's heartbeat and a pool's counters are none of it. */
function contentOf({ metadata, spec }: FedObject): string {
  return JSON.stringify([metadata["labels"], spec]);
}

export function createGathered(): Gathered {
  const kept = new Map<Kept, Map<string, ListedObject>>();
  const nodes = new Map<string, readonly Address[]>();
  const labels = new Map<string, Readonly<Record<string, string>>>();
  let version = 0;
  let labelsVersion = 0;

  const of = (resource: Kept): Map<string, ListedObject> => {
    const found = kept.get(resource) ?? new Map<string, ListedObject>();
    kept.set(resource, found);
    return found;
  };

  function addressesOf(object: FedObject): readonly Address[] {
    const { status } = object as unknown as Partial<NodeObject>;
    return (status?.addresses ?? []).flatMap(({ type, address }) =>
      type === "Hostname" ? [] : (canonicalAddress(address) ?? []),
    );
  }

  return {
    put(resource, key, ref, object) {
      const before = version;
      switch (resource) {
        case "services":
          break;
        case "nodes": {
          const addresses = addressesOf(object);
          if (nodes.get(key)?.join() !== addresses.join()) version++;
          nodes.set(key, addresses);
          break;
        }
        case "namespaces": {
          const now = (object.metadata["labels"] ?? {}) as Record<string, string>;
          if (JSON.stringify(labels.get(key)) === JSON.stringify(now)) break;
          version++;
          labelsVersion++;
          labels.set(key, now);
          break;
        }
        default: {
          const known = of(resource).get(key)?.object as FedObject | undefined;
          if (known === undefined || contentOf(known) !== contentOf(object)) version++;
          of(resource).set(key, { ref, object });
        }
      }
      return version !== before;
    },
    remove(resource, key) {
      if (resource === "services") return;
      version++;
      if (resource === "nodes") nodes.delete(key);
      else if (resource === "namespaces") {
        labels.delete(key);
        labelsVersion++;
      } else of(resource).delete(key);
    },
    objects() {
      const sorted = (resource: Kept): readonly ListedObject[] =>
        [...of(resource)].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
      return {
        pools: sorted("pools"),
        advertisements: sorted("advertisements"),
        bgp: BGP.flatMap(sorted),
        nodeAddresses: new Map([...nodes].flatMap(([name, addresses]) => addresses.map((one) => [one, name] as const))),
      };
    },
    namespaceLabels: (namespace) => ({ ...labels.get(namespace), "kubernetes.io/metadata.name": namespace }),
    pool: (name) => [...of("pools").values()].find(({ ref }) => ref.name === name),
    version: () => version,
    labelsVersion: () => labelsVersion,
  };
}
