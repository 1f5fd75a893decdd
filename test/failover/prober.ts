// Runs in an outside client: asks for each address every 20 ms who has it, by an ARP request or a neighbour solicitation of its
// own, and once more through the client's stack, by a datagram and by a connection. Argument: JSON Probing. Orders on standard
// input: watch NAME ADDRESS, forget NAME, mark NAME (what was noted is forgotten), report NAME. Ends when that does.
import { connect } from "node:net";
import { type Address, addressBytes, familyOf } from "../../src/lib/address.ts";
import { ETHERTYPE, macText, packet } from "../kernel/datapath/packet.ts";
import { openFrameSocket } from "../kernel/datapath/raw-sockets.ts";
import { say, takeOrders, udpSocketFor } from "../lab/traffic/numbered.ts";
import { outageOf, type Resolution, severalSpeakersMs, speakersInOrder } from "./figures.ts";
import { PERIOD_MS, type ProbeReport, type Probing, SLOTS, slotAddress } from "./probe-words.ts";

/** A question without an answer for so long has none. Less than a second: a SYN that is sent again is no answer to the first. */
const LIMIT_MS = 900;
const POLL_MS = 4;
const BROADCAST = "ff:ff:ff:ff:ff:ff";

interface Pending {
  readonly atMs: number;
  isAnswered: boolean;
}

interface Asked {
  readonly atMs: number;
  readonly macs: string[];
}

interface Watched {
  readonly address: Address;
  resolutions: Asked[];
  datagrams: Pending[];
  connections: Pending[];
  /** Of the request that went out last by each slot. */
  readonly bySlot: (Asked | undefined)[];
}

const { ifindex, mac, port } = JSON.parse(process.argv[2] ?? "{}") as Probing;
const watched = new Map<string, Watched>();
const arp = openFrameSocket(ifindex, ETHERTYPE.arp);
const ipv6 = openFrameSocket(ifindex, ETHERTYPE.ipv6);

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
/** An address as its family's packets hold it. */
const onWire = (address: Address): string =>
  hex(familyOf(address) === "IPv4" ? addressBytes(address).subarray(12) : addressBytes(address));

/** RFC 4291 section 2.7.1, RFC 2464 section 7. */
function solicited(address: Address): { readonly group: string; readonly mac: string } {
  const [a = "", b = "", c = ""] = hex(addressBytes(address).subarray(13)).match(/../g) ?? [];
  return { group: `ff02::1:ff${a}:${b}${c}`, mac: `33:33:ff:${a}:${b}:${c}` };
}

/** Each slot asks for another address of its own, so that an answer says which request it belongs to. */
function request(address: Address, slot: number): Uint8Array {
  const sender = slotAddress(familyOf(address), slot);
  if (familyOf(address) === "IPv4")
    return packet().eth(mac, BROADCAST).arp({ operation: "request", senderMac: mac, sender, target: address }).bytes();
  const to = solicited(address);
  return packet().eth(mac, to.mac).ip(sender, to.group, { ttl: 255 }).neighbour(135, address, mac).bytes();
}

/** Slots by their address on the wire. */
const slots = new Map<string, number>();
for (let slot = 0; slot < SLOTS; slot++) {
  for (const family of ["IPv4", "IPv6"] as const) slots.set(onWire(slotAddress(family, slot)), slot);
}

/** `from` has `target`, says an answer to the slot `to`. */
function heard(target: Uint8Array, to: Uint8Array, from: string): void {
  const slot = slots.get(hex(to));
  if (slot === undefined) return;
  for (const one of watched.values()) {
    if (onWire(one.address) !== hex(target)) continue;
    const asked = one.bySlot[slot];
    if (asked !== undefined && !asked.macs.includes(from)) asked.macs.push(from);
  }
}

function receive(): void {
  for (let frame = arp.receive(); frame !== undefined; frame = arp.receive()) {
    // An ARP reply (RFC 826): who has what, told to whom.
    if (frame.length < 42 || frame[21] !== 2 || macText(frame, 6) === mac) continue;
    heard(frame.subarray(28, 32), frame.subarray(38, 42), macText(frame, 22));
  }
  for (let frame = ipv6.receive(); frame !== undefined; frame = ipv6.receive()) {
    // A neighbour advertisement (RFC 4861 section 4.4), not behind an extension header.
    if (frame.length < 78 || frame[20] !== 58 || frame[54] !== 136 || macText(frame, 6) === mac) continue;
    const hasOption = frame.length >= 86 && frame[78] === 2 && frame[79] === 1;
    heard(frame.subarray(62, 78), frame.subarray(38, 54), macText(frame, hasOption ? 80 : 6));
  }
}

function sendDatagram(one: Watched, now: number): void {
  const pending = { atMs: now, isAnswered: false };
  one.datagrams.push(pending);
  const socket = udpSocketFor(one.address);
  const end = (isAnswered: boolean): void => {
    clearTimeout(timer);
    pending.isAnswered ||= isAnswered;
    socket.removeAllListeners("message");
    socket.close();
  };
  const timer = setTimeout(end, LIMIT_MS, false);
  // An ICMP error is told of; the answer may yet come to nobody.
  socket.on("error", () => {});
  socket.once("message", () => end(true));
  socket.send("echo asked", port, one.address, () => {});
}

function openConnection(one: Watched, now: number): void {
  const pending = { atMs: now, isAnswered: false };
  one.connections.push(pending);
  const socket = connect({ host: one.address, port });
  const timer = setTimeout(() => socket.destroy(), LIMIT_MS);
  socket.on("error", () => {});
  socket.on("close", () => clearTimeout(timer));
  socket.on("connect", () => {
    pending.isAnswered = true;
    socket.resetAndDestroy();
  });
}

let turn = 0;
const began = performance.now();
setInterval(() => {
  receive();
  const now = performance.now();
  if (now - began < turn * PERIOD_MS) return;
  // A turn that comes late is not made up for: two questions at one moment tell no more than one.
  turn = Math.floor((now - began) / PERIOD_MS) + 1;
  const slot = turn % SLOTS;
  for (const one of watched.values()) {
    const frame = request(one.address, slot);
    const asked = { atMs: now, macs: [] };
    one.bySlot[slot] = asked;
    one.resolutions.push(asked);
    (familyOf(one.address) === "IPv4" ? arp : ipv6).send(frame);
    sendDatagram(one, now);
    openConnection(one, now);
  }
}, POLL_MS);

function report({ resolutions, datagrams, connections }: Watched): ProbeReport {
  const now = performance.now();
  const isKnown = ({ atMs }: { readonly atMs: number }): boolean => now - atMs > LIMIT_MS;
  const attempts = (pending: readonly Pending[]) =>
    pending.filter((one) => one.isAnswered || isKnown(one)).map(({ atMs, isAnswered }) => ({ atMs, isAnswered }));
  const asked: readonly Resolution[] = resolutions.filter((one) => one.macs.length > 0 || isKnown(one));
  const end = now - LIMIT_MS;
  return {
    questions: resolutions.length,
    resolution: outageOf(
      asked.map(({ atMs, macs }) => ({ atMs, isAnswered: macs.length > 0 })),
      end,
    ),
    datagrams: outageOf(attempts(datagrams), end),
    connections: outageOf(attempts(connections), end),
    severalMs: severalSpeakersMs(asked, PERIOD_MS),
    speakers: speakersInOrder(asked),
    speaking: [...new Set(resolutions.filter(({ atMs }) => now - atMs < 500).flatMap(({ macs }) => macs))],
  };
}

const none = (): Omit<Watched, "address" | "bySlot"> => ({ resolutions: [], datagrams: [], connections: [] });

takeOrders({
  watch(words) {
    const [name = "", address = ""] = words.split(" ");
    watched.set(name, { address, ...none(), bySlot: [] });
  },
  forget(name) {
    watched.delete(name);
  },
  mark(name) {
    const one = watched.get(name);
    if (one !== undefined) Object.assign(one, none());
  },
  report(name) {
    const one = watched.get(name);
    say(one === undefined ? {} : report(one));
  },
});
say({ ready: true });
