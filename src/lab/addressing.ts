// Which address belongs to what in a lab: node K is 192.168.122.(10+K), client K .(50+K), host K .(200+K); node K's pods
// are 10.244.K.0/24. IPv6 repeats IPv4's decimal digits as text: 10.244.2.7 is fd00:10:244:2::7. Pure.
import { type Address, addressToBigInt, canonicalAddress, familyOf } from "../lib/address.ts";
import { cannot } from "./refusals.ts";

export const LAN_PREFIX = "192.168.122";
export const LAN_PREFIX6 = "fd00:192:168:122:";
export const POD_NETWORK = "10.244.0.0/16";
export const POD_NETWORK6 = "fd00:10:244::/48";
export const DNS_ADDRESS = "10.96.0.10";

const LIMITS = { node: 39, client: 49, host: 49 } as const;
const FIRST = { node: 10, client: 50, host: 200 } as const;

/** Addresses on the LAN of node, client or host `number`, IPv4 first. @throws usage when the LAN has no place for it. */
export function lanAddresses(kind: keyof typeof FIRST, number: number, ipv6: boolean): Address[] {
  if (!Number.isInteger(number) || number < 1 || number > LIMITS[kind])
    throw cannot("usage", "use", `${kind}${number}`, `a lab has ${kind}1 to ${kind}${LIMITS[kind]}`);
  const last = FIRST[kind] + number;
  return ipv6 ? [`${LAN_PREFIX}.${last}`, canonicalAddress(`${LAN_PREFIX6}:${last}`)!] : [`${LAN_PREFIX}.${last}`];
}

export function lanGateways(ipv6: boolean): Address[] {
  return ipv6 ? [`${LAN_PREFIX}.1`, `${LAN_PREFIX6}:1`] : [`${LAN_PREFIX}.1`];
}

/** podCIDRs of node `number`, IPv4 first. */
export function podPrefixes(node: number, ipv6: boolean): string[] {
  return ipv6 ? [`10.244.${node}.0/24`, `fd00:10:244:${node}::/64`] : [`10.244.${node}.0/24`];
}

/** The gateway that pods of node `number` use. */
export function podGateways(node: number, ipv6: boolean): Address[] {
  return ipv6 ? [`10.244.${node}.1`, `fd00:10:244:${node}::1`] : [`10.244.${node}.1`];
}

/** Address of node `number`'s end of the overlay. */
export function overlayAddresses(node: number, ipv6: boolean): Address[] {
  return ipv6 ? [`10.244.${node}.0`, `fd00:10:244:${node}::`] : [`10.244.${node}.0`];
}

export function overlayMac(node: number): string {
  return `02:4d:52:0f:00:${hexByte(node)}`;
}

export function uplinkMac(kind: keyof typeof FIRST, number: number): string {
  return `02:4d:52:0${kind === "node" ? 1 : kind === "client" ? 2 : 3}:00:${hexByte(number)}`;
}

function hexByte(value: number): string {
  return value.toString(16).padStart(2, "0");
}

/** The pod addresses that go with 10.244.x.y. */
export function podAddresses(address4: Address, ipv6: boolean): Address[] {
  const [, , third, last] = address4.split(".");
  return ipv6 ? [address4, canonicalAddress(`fd00:10:244:${third}::${last}`)!] : [address4];
}

/** Addresses asked for by the annotation millrace.io/pod-ip: one IPv4 address of 10.244.0.0/16, whose IPv6 one follows from it. A string says what is wrong. */
export function fixedPodAddresses(annotation: string, ipv6: boolean): Address[] | string {
  const address = canonicalAddress(annotation.trim());
  if (address === undefined || familyOf(address) !== "IPv4") return `'${annotation.slice(0, 64)}' is no IPv4 address`;
  if (!address.startsWith("10.244.")) return `${address} is not in ${POD_NETWORK}`;
  const last = addressToBigInt(address) & 0xffn;
  if (last === 0n || last === 1n || last === 255n) return `${address} is kept for the network itself`;
  return podAddresses(address, ipv6);
}

/** The next free IPv4 pod address of a node after `previous` (its last octet), in turn, so that an address is not used again at once. */
export function nextPodAddress(
  node: number,
  previous: number,
  used: ReadonlySet<Address>,
): { address: Address; last: number } | undefined {
  for (let step = 1; step <= 253; step++) {
    const last = 2 + ((previous - 2 + step + 253) % 253);
    const address = `10.244.${node}.${last}`;
    if (!used.has(address)) return { address, last };
  }
  return undefined;
}

/** Prefix length of a single address. */
export function hostLength(address: Address): number {
  return familyOf(address) === "IPv4" ? 32 : 128;
}
