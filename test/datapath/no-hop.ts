// The next hop of a flow that never asked for a route.
import type { NextHop } from "../../src/datapath/layout.gen.ts";

export const NO_HOP: NextHop = {
  ifindex: 0,
  asked: 0,
  destinationMac: new Uint8Array(6),
  mtu: 0,
  sourceMac: new Uint8Array(6),
  flags: 0,
  valid: 0,
};
