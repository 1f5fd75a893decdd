// The mirroring controller: EndpointSlices from the Endpoints objects that people write for Services without selector, as
// Kubernetes' endpointslicemirroring controller makes them. Pure.
import { type Address, canonicalAddress, type Family, familyOf } from "../lib/address.ts";
import {
  type EndpointSliceObject,
  type EndpointsAddress,
  type EndpointsObject,
  MANAGED_BY_LABEL,
  MIRRORING_CONTROLLER,
  own,
  SERVICE_NAME_LABEL,
  SKIP_MIRROR_LABEL,
  type SliceEndpoint,
  type SlicePort,
} from "../wire/kubernetes.ts";
import { type RefusedAddress, refusal } from "../wire/normalise.ts";
import { MAX_ENDPOINTS_PER_SLICE, sliceName } from "./endpoint-slices.ts";

/** Whether its author wants it left alone. */
export function isExemptFromMirroring(endpoints: EndpointsObject): boolean {
  const { labels, annotations } = endpoints.metadata;
  return (
    own(labels, SKIP_MIRROR_LABEL) === "true" ||
    own(annotations, "control-plane.alpha.kubernetes.io/leader") !== undefined
  );
}

function endpointOf(entry: EndpointsAddress, address: Address, ready: boolean): SliceEndpoint {
  const endpoint: SliceEndpoint = { addresses: [address], conditions: { ready } };
  if (entry.hostname) endpoint.hostname = entry.hostname;
  if (entry.nodeName) endpoint.nodeName = entry.nodeName;
  if (entry.targetRef) endpoint.targetRef = entry.targetRef;
  return endpoint;
}

/** The slices of one Endpoints object, by family and ports, at most 100 endpoints each. Refused addresses are left out one by one. */
export function mirrorEndpoints(
  object: EndpointsObject,
  isFrontend: (address: Address) => boolean,
): { readonly slices: readonly EndpointSliceObject[]; readonly refused: readonly RefusedAddress[] } {
  const refused: RefusedAddress[] = [];
  const groups = new Map<
    string,
    { readonly family: Family; readonly ports: SlicePort[]; readonly endpoints: SliceEndpoint[] }
  >();
  for (const [i, subset] of (object.subsets ?? []).entries()) {
    const ports = (subset.ports ?? []).map(
      (port): SlicePort => ({ ...port, name: port.name ?? "", protocol: port.protocol ?? "TCP" }),
    );
    for (const list of ["addresses", "notReadyAddresses"] as const) {
      for (const [j, entry] of (subset[list] ?? []).entries()) {
        const address = canonicalAddress(entry.ip);
        if (address === undefined) continue;
        const why = refusal(address, isFrontend);
        if (why !== undefined) {
          refused.push({ field: `subsets[${i}].${list}[${j}].ip`, address, why });
          continue;
        }
        const family = familyOf(address);
        const id = `${family} ${JSON.stringify(ports)}`;
        const group = groups.get(id) ?? { family, ports, endpoints: [] };
        groups.set(id, group);
        group.endpoints.push(endpointOf(entry, address, list === "addresses"));
      }
    }
  }
  const slices: EndpointSliceObject[] = [];
  for (const [id, { family, ports, endpoints }] of groups) {
    for (let first = 0; first < endpoints.length; first += MAX_ENDPOINTS_PER_SLICE) {
      slices.push({
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        metadata: {
          name: sliceName(object.metadata.name, `mirror ${id} ${first}`),
          namespace: object.metadata.namespace ?? "default",
          labels: {
            ...object.metadata.labels,
            [SERVICE_NAME_LABEL]: object.metadata.name,
            [MANAGED_BY_LABEL]: MIRRORING_CONTROLLER,
          },
        },
        addressType: family,
        endpoints: endpoints.slice(first, first + MAX_ENDPOINTS_PER_SLICE),
        ports,
      });
    }
  }
  return { slices, refused };
}
