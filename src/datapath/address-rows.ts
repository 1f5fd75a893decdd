// The `addresses` hash: which addresses are somebody's, and what for.
import { type Address, readAddress, writeAddress } from "../lib/address.ts";
import type { BpfMap } from "../libbpf/mod.ts";
import type { AddressRoles, Operation } from "../model/operations.ts";
import { ADDRESS_ROLE_VALUES } from "./layout.gen.ts";
import { NEAR_STEP, type NearBits, type NearFilter } from "./near.ts";
import { viewOf } from "./row-codec.ts";

const ADDRESS_BYTES = 16;
const ROLES_BYTES = 4;
const { ADDRESS_NODE, ADDRESS_REFUSE, ADDRESS_PEER, ADDRESS_WITHOUT_NODE_PORTS } = ADDRESS_ROLE_VALUES;

const rolesByte = ({ node, refuse, peer, withoutNodePorts }: AddressRoles): number =>
  (node ? ADDRESS_NODE : 0) |
  (refuse ? ADDRESS_REFUSE : 0) |
  (peer ? ADDRESS_PEER : 0) |
  (withoutNodePorts ? ADDRESS_WITHOUT_NODE_PORTS : 0);
const rolesOf = (byte: number): AddressRoles => ({
  node: (byte & ADDRESS_NODE) !== 0,
  refuse: (byte & ADDRESS_REFUSE) !== 0,
  peer: (byte & ADDRESS_PEER) !== 0,
  withoutNodePorts: (byte & ADDRESS_WITHOUT_NODE_PORTS) !== 0,
});

type Put = Extract<Operation, { op: "put-address" }>;

export interface AddressRows {
  /** Addresses that come together go in one batch. */
  put(puts: readonly Put[]): void;
  drop(address: Address): void;
  /** All that are there. Tells the filter of each. */
  read(): Map<Address, AddressRoles>;
  /** Tells `needs` of each; yields where others may have their turn. */
  near(needs: NearBits): Generator<void>;
}

export function createAddressRows(addresses: BpfMap, near: NearFilter): AddressRows {
  const addressBytes = new Uint8Array(ADDRESS_BYTES);
  return {
    put(puts) {
      const keys = new Uint8Array(puts.length * ADDRESS_BYTES);
      const values = new Uint8Array(puts.length * ROLES_BYTES);
      const keyView = viewOf(keys);
      for (const [i, { address, roles }] of puts.entries()) {
        writeAddress(address, keys, i * ADDRESS_BYTES);
        near.comes.address(keyView, i * ADDRESS_BYTES, roles);
        values[i * ROLES_BYTES] = rolesByte(roles);
      }
      if (puts.length === 1) addresses.update(keys, values);
      else addresses.updateBatch(keys, values, puts.length);
    },
    drop(address) {
      writeAddress(address, addressBytes);
      addresses.delete(addressBytes);
      // Whatever its roles were.
      near.goes.address(viewOf(addressBytes), 0, { node: true, refuse: true });
    },
    read() {
      const roles = new Map<Address, AddressRoles>();
      for (const [key, value] of addresses.entries()) {
        const found = rolesOf(value[0]!);
        near.comes.address(viewOf(key), 0, found);
        roles.set(readAddress(key), found);
      }
      return roles;
    },
    *near(needs) {
      for (const { keys, values, count } of addresses.batches(NEAR_STEP)) {
        const view = viewOf(keys);
        for (let i = 0; i < count; i++) needs.address(view, i * ADDRESS_BYTES, rolesOf(values[i * ROLES_BYTES]!));
        yield;
      }
    },
  };
}
