// How many source ports are in use toward each backend, counted by a sweep: who runs out of them is named before and while it does.
import type { Address } from "../lib/address.ts";

/** Below this part of the ports hardly any flow finds 32 of them taken: one in ten thousand at 75 %, one in a thousand at 81 %. */
export const SCARCE = 0.8;

/** A backend toward which source ports are scarce. */
export interface ScarcePorts {
  readonly address: Address;
  readonly port: number;
  readonly protocol: string;
  readonly serviceId: number;
  readonly used: number;
}

export interface PortUse {
  /** An entry of answers with a translated source. `backend` tells who it is, should it be the one that is told of. */
  add(index: number, backend: () => Omit<ScarcePorts, "used">): void;
  scarce(): readonly ScarcePorts[];
  /** Ports in use toward the backend where most are; 0 without any. */
  most(): number;
}

/** `backends`: the map's size. `ports`: how many there are. */
export function createPortUse(backends: number, ports: number): PortUse {
  const counts = new Uint32Array(backends);
  const least = Math.max(1, Math.ceil(ports * SCARCE));
  const told = new Map<number, Omit<ScarcePorts, "used">>();
  return {
    add(index, backend) {
      if (index < backends && ++counts[index]! === least) told.set(index, backend());
    },
    most: () => counts.reduce((most, count) => Math.max(most, count), 0),
    scarce: () => [...told].map(([index, backend]) => ({ ...backend, used: counts[index]! })),
  };
}
