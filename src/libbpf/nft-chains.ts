// Whether tables and chains of nftables are there, by netlink (linux/netfilter/nf_tables.h), of the calling thread's network namespace. One
// question for each name: nothing is listed, as there may be tens of thousands of rules.
import { askNetlink, attribute, NETLINK_NETFILTER, nfnetlinkType } from "./netlink.ts";

const SUBSYSTEM = 10;
const GET_TABLE = 1;
const GET_CHAIN = 4;
const FAMILIES = { ip: 2, ip6: 10 } as const;
const TABLE_NAME = 1;
const CHAIN = { table: 1, name: 3 } as const;

export type NftFamily = keyof typeof FAMILIES;

const text = (value: string): Uint8Array => Buffer.from(`${value}\0`, "utf8");

/** Where the kernel knows no nftables there is none. */
function isThere(message: number, family: NftFamily, attributes: readonly Uint8Array[], subject: string): boolean {
  const payload = Buffer.concat([Uint8Array.of(FAMILIES[family], 0, 0, 0), ...attributes]);
  return askNetlink(NETLINK_NETFILTER, nfnetlinkType(SUBSYSTEM, message), payload, subject).errno === 0;
}

/** Throws KernelError when there is no talking to the kernel. */
export function hasNftTable(family: NftFamily, table: string): boolean {
  return isThere(GET_TABLE, family, [attribute(TABLE_NAME, text(table))], `the nftables table ${family} ${table}`);
}

/** iptables in its nftables variant has its tables under their own names there, "nat" and so on. Throws KernelError. */
export function hasNftChain(family: NftFamily, table: string, chain: string): boolean {
  const attributes = [attribute(CHAIN.table, text(table)), attribute(CHAIN.name, text(chain))];
  return isThere(GET_CHAIN, family, attributes, `the nftables chain ${family} ${table} ${chain}`);
}
