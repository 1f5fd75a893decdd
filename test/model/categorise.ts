// The endpoints of the unnamed TCP port of one Service that each policy uses, as the model lays them out: what kube-proxy's
// CategorizeEndpoints answers.
import { familyOf } from "../../src/lib/address.ts";
import { type Surroundings, selectEndpoints } from "../../src/model/endpoints.ts";
import type { EndpointSlice } from "../../src/model/objects.ts";
import { layOut } from "../../src/model/windows.ts";

/** Nothing is known of any address. */
const NOWHERE: Omit<Surroundings, "nodeName" | "zone"> = {
  isOwnAddress: () => false,
  isNodeAddress: () => false,
  isDeviceAddress: () => false,
  mayBeExternal: () => false,
  podNetworkOf: () => undefined,
  isControlPlane: () => false,
  isClusterIP: () => false,
  isClaimed: () => false,
  isFrontend: () => false,
};

/** "address:port" of the endpoints in the cluster window, and in the local one. Slices are of one family. */
export function categorise(
  slices: readonly EndpointSlice[],
  place: { readonly node: string; readonly zone: string },
  port: { readonly name: string; readonly protocol: "TCP" | "UDP" } = { name: "", protocol: "TCP" },
): { readonly cluster: readonly string[]; readonly local: readonly string[] } {
  const around = { ...NOWHERE, nodeName: place.node, zone: place.zone };
  const family = slices[0]?.family ?? "IPv4";
  const { candidates } = selectEndpoints(slices, family, port.name, port.protocol, around);
  const { slots, localCount, clusterCount } = layOut(candidates, true);
  const texts = slots.map(({ address, port: number }) =>
    familyOf(address) === "IPv4" ? `${address}:${number}` : `[${address}]:${number}`,
  );
  return { cluster: texts.slice(slots.length - clusterCount).sort(), local: texts.slice(0, localCount).sort() };
}
