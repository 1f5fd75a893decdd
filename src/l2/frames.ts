// The frames that tell a network who has an address: gratuitous ARP in both forms (RFC 5227 section 3, RFC 2002 section 4.6)
// and unsolicited neighbour advertisements (RFC 4861 section 7.2.6). And those that ask whether anybody has one, before it is claimed.
// Bytes out; never sends.
import { type Address, addressBytes, familyOf } from "../lib/address.ts";

const BROADCAST = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
const ALL_NODES_MAC = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
const ARP_REQUEST = 1;
const ARP_REPLY = 2;

function ethernet(destination: Uint8Array, source: Uint8Array, type: number, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(Math.max(60, 14 + payload.length));
  frame.set(destination, 0);
  frame.set(source, 6);
  frame[12] = type >> 8;
  frame[13] = type & 0xff;
  frame.set(payload, 14);
  return frame;
}

/** `sender`: whose address it claims, 0.0.0.0 for nobody's. */
function arp(operation: number, mac: Uint8Array, address: Address, sender = address): Uint8Array {
  const packet = new Uint8Array(28);
  packet.set([0, 1, 8, 0, 6, 4, 0, operation]);
  packet.set(mac, 8);
  packet.set(addressBytes(sender).subarray(12), 14);
  packet.set(operation === ARP_REPLY ? mac : new Uint8Array(6), 18);
  packet.set(addressBytes(address).subarray(12), 24);
  return packet;
}

function checksum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) for (let i = 0; i < part.length; i += 2) sum += (part[i]! << 8) | (part[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** An IPv6 packet with this message of ICMPv6, whose checksum is written into it. */
function icmp6(from: Address, to: Address, message: Uint8Array): Uint8Array {
  const source = addressBytes(from);
  const destination = addressBytes(to);
  const pseudo = Uint8Array.of(0, 0, 0, message.length, 0, 0, 0, 58);
  const sum = checksum(source, destination, pseudo, message);
  message[2] = sum >> 8;
  message[3] = sum & 0xff;
  const packet = new Uint8Array(40 + message.length);
  packet.set([0x60, 0, 0, 0, 0, message.length, 58, 255]);
  packet.set(source, 8);
  packet.set(destination, 24);
  packet.set(message, 40);
  return packet;
}

function advertisement(mac: Uint8Array, address: Address): Uint8Array {
  const message = new Uint8Array(32);
  message[0] = 136;
  message[4] = 0x20; // override
  message.set(addressBytes(address), 8);
  message.set([2, 1], 24);
  message.set(mac, 26);
  return icmp6(address, "ff02::1", message);
}

/** Without an option: who asks from no address tells no MAC there. */
function duplicateSolicitation(address: Address): Uint8Array {
  const message = new Uint8Array(24);
  message[0] = 135;
  message.set(addressBytes(address), 8);
  return icmp6("::", solicitedNodeGroup(address), message);
}

/**
 * The Ethernet frame by which `mac` asks whether anybody has `address`, before it is claimed: an ARP probe (RFC 5227 section 2.1.1), or the
 * neighbour solicitation of duplicate address detection (RFC 4862 section 5.4.2). Who has it answers the first to `mac`, the second to
 * all nodes.
 */
export function probeFrame(address: Address, mac: Uint8Array): Uint8Array {
  if (familyOf(address) === "IPv4") return ethernet(BROADCAST, mac, 0x0806, arp(ARP_REQUEST, mac, address, "0.0.0.0"));
  const last = addressBytes(address).subarray(13);
  const group = Uint8Array.of(0x33, 0x33, 0xff, ...last);
  return ethernet(group, mac, 0x86dd, duplicateSolicitation(address));
}

/** Ethernet frames that announce `address` at `mac`: for IPv4 a request and a reply, as hosts heed one or the other. */
export function announcementFrames(address: Address, mac: Uint8Array): Uint8Array[] {
  if (familyOf(address) === "IPv6") return [ethernet(ALL_NODES_MAC, mac, 0x86dd, advertisement(mac, address))];
  return [ARP_REQUEST, ARP_REPLY].map((operation) => ethernet(BROADCAST, mac, 0x0806, arp(operation, mac, address)));
}

/** The solicited-node group of an IPv6 address (RFC 4291 section 2.7.1), which a device must listen to for requests to arrive. */
export function solicitedNodeGroup(address: Address): Address {
  const bytes = addressBytes(address);
  const last = (bytes[14]! << 8) | bytes[15]!;
  return `ff02::1:ff${bytes[13]!.toString(16).padStart(2, "0")}:${last.toString(16)}`;
}
