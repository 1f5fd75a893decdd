// What the maps have at an address and port, as a packet finds it: the program's own way is frontend_find() of bpf/frontend.h.
import { type Address, addressBytes, familyOf } from "../lib/address.ts";
import type { Dataplane } from "./dataplane.ts";
import { ADDRESS_ROLE_VALUES, FRONTEND_KEY, ROW, readFrontend, writeFrontendKey } from "./layout.gen.ts";
import { viewOf } from "./row-codec.ts";

const { ADDRESS_NODE, ADDRESS_REFUSE } = ADDRESS_ROLE_VALUES;
const UNSPECIFIED = { IPv4: "0.0.0.0", IPv6: "::" } as const;

/** An address that is a Service's, where nobody defined this port. */
export const NO_SERVICE = 0;

/** The service id behind a frontend, NO_SERVICE for an undefined port of an address that refuses; undefined: nothing of ours is there. */
export function serviceAt(
  { map }: Pick<Dataplane, "map">,
  address: Address,
  port: number,
  proto: number,
): number | undefined {
  const serviceOf = (at: Address): number | undefined => {
    const key = new Uint8Array(FRONTEND_KEY.size);
    writeFrontendKey(key, 0, { address: at, port, proto });
    const found = map("frontends").lookup(key);
    if (found === undefined) return undefined;
    const { row, generation } = readFrontend(found, 0);
    const index = new Uint8Array(Uint32Array.of(row).buffer);
    const content = map("rows").lookup(index);
    if (content === undefined) return undefined;
    const view = viewOf(content);
    return view.getUint32(ROW.generation, true) === generation ? view.getUint32(ROW.service, true) : undefined;
  };
  const exact = serviceOf(address);
  if (exact !== undefined) return exact;
  const roles = map("addresses").lookup(addressBytes(address))?.[0] ?? 0;
  const ofNode = (roles & ADDRESS_NODE) === 0 ? undefined : serviceOf(UNSPECIFIED[familyOf(address)]);
  return ofNode ?? ((roles & ADDRESS_REFUSE) === 0 ? undefined : NO_SERVICE);
}
