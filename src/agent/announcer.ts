// Keeps `announced` equal to what this node ought to speak for, renews it every second after a self-check, and sends the
// gratuitous announcements. The kernel program answers requests; here nothing is received.
//
//   renewed  every second by this process, while it is sound
//   stale    3 s later: still answered, but given up when another MAC claims the address
//   silent   60 s later: no answer
import type { Dataplane } from "../datapath/dataplane.ts";
import {
  ANNOUNCED_KEY,
  ANNOUNCEMENT,
  readAnnouncedKey,
  readAnnouncement,
  writeAnnouncedKey,
  writeAnnouncement,
} from "../datapath/layout.gen.ts";
import { announcementFrames, solicitedNodeGroup } from "../l2/frames.ts";
import { type Address, familyOf } from "../lib/address.ts";
import type { Log } from "../lib/log.ts";
import { clockBoottimeNs, joinGroup, leaveGroup } from "../libbpf/mod.ts";
import type { Notice } from "../model/objects.ts";

/** An address that this node ought to announce on a device. */
export interface Claim {
  readonly address: Address;
  readonly service: string;
  readonly device: string;
  readonly ifindex: number;
  readonly mac: Uint8Array;
}

export interface Announcer {
  /** What ought to be announced from now on. Lost claims are withdrawn at once. */
  set(claims: readonly Claim[]): void;
  /** One second has passed. `sound`: devices whose self-check passed. */
  renew(sound: (claim: Claim) => boolean): void;
  claims(): readonly Claim[];
  notices(): readonly Notice[];
  /** Stops the timers; withdraws nothing. */
  stop(): void;
}

const SECOND_NS = 1_000_000_000n;
const STALE_NS = 3n * SECOND_NS;
const SILENT_NS = 60n * SECOND_NS;
const REPEAT_MS = [0, 200, 1_100, 2_200, 3_300, 4_400];
const REFRESH_MS = 60_000;

const ifindexContext = (ifindex: number): Uint8Array => {
  // struct __sk_buff: ifindex is its eleventh word.
  const context = new Uint8Array(192);
  new DataView(context.buffer).setUint32(40, ifindex, true);
  return context;
};

interface Spoken extends Claim {
  timers: NodeJS.Timeout[];
}

export function createAnnouncer(dataplane: Dataplane, log: Log): Announcer {
  const announced = dataplane.map("announced");
  const spoken = new Map<string, Spoken>();
  const conflicts = new Map<string, Notice>();
  const keyText = (claim: { readonly address: Address; readonly ifindex: number }): string =>
    `${claim.address}%${claim.ifindex}`;

  const keyBytes = (address: Address, ifindex: number): Uint8Array => {
    const key = new Uint8Array(ANNOUNCED_KEY.size);
    writeAnnouncedKey(key, 0, { address, ifindex });
    return key;
  };

  function write(claim: Claim): void {
    const now = clockBoottimeNs();
    const value = new Uint8Array(ANNOUNCEMENT.size);
    writeAnnouncement(value, 0, { renewed: now, stale: now + STALE_NS, silent: now + SILENT_NS, conflict: 0n });
    announced.update(keyBytes(claim.address, claim.ifindex), value);
  }

  function send(claim: Claim): void {
    try {
      for (const frame of announcementFrames(claim.address, claim.mac)) {
        dataplane.program("tc_send").testRun({ data: frame, context: ifindexContext(claim.ifindex) });
      }
    } catch (error) {
      log.warn(
        { address: claim.address, device: claim.device, err: error },
        "could not send a gratuitous announcement",
      );
    }
  }

  function group(claim: Pick<Claim, "address" | "ifindex">, change: typeof joinGroup): void {
    if (familyOf(claim.address) !== "IPv6") return;
    try {
      change(claim.ifindex, solicitedNodeGroup(claim.address));
    } catch (error) {
      log.warn(
        { address: claim.address, device: claim.ifindex, err: error },
        "could not change the solicited-node group",
      );
    }
  }

  function speak(claim: Claim): void {
    const record: Spoken = { ...claim, timers: [] };
    spoken.set(keyText(claim), record);
    group(claim, joinGroup);
    write(claim);
    record.timers = REPEAT_MS.map((delay) => setTimeout(() => send(claim), delay));
    record.timers.push(setInterval(() => send(claim), REFRESH_MS));
    log.info({ address: claim.address, device: claim.device, service: claim.service }, "announcing");
  }

  const silence = (record: Spoken): void => record.timers.forEach((timer) => void clearTimeout(timer));

  function withdraw(text: string, record: Spoken): void {
    silence(record);
    spoken.delete(text);
    announced.delete(keyBytes(record.address, record.ifindex));
    group(record, leaveGroup);
    log.info({ address: record.address, device: record.device }, "withdrawn");
  }

  return {
    set(claims) {
      const wanted = new Map(claims.map((claim) => [keyText(claim), claim]));
      for (const [text, record] of [...spoken]) if (!wanted.has(text)) withdraw(text, record);
      // Rows that an agent before us left and that are not ours any more.
      for (const [key] of [...announced.entries()]) {
        const { address, ifindex } = readAnnouncedKey(key);
        if (wanted.has(keyText({ address, ifindex }))) continue;
        announced.delete(key);
        group({ address, ifindex }, leaveGroup);
      }
      for (const [text, claim] of wanted) if (!spoken.has(text)) speak(claim);
    },
    renew(sound) {
      for (const claim of spoken.values()) {
        const current = announced.lookup(keyBytes(claim.address, claim.ifindex));
        if (current !== undefined && readAnnouncement(current).conflict !== 0n) {
          conflicts.set(claim.address, {
            object: `Service ${claim.service}`,
            file: "",
            field: "status.loadBalancer",
            reason: "address-in-use",
            message: `${claim.address} was claimed by another MAC on ${claim.device} while this agent was away; announcing it again`,
            severity: "warning",
          });
          write(claim);
          send(claim);
          continue;
        }
        if (sound(claim)) write(claim);
      }
    },
    claims: () => [...spoken.values()],
    notices: () => [...conflicts.values()],
    stop() {
      for (const record of spoken.values()) silence(record);
    },
  };
}
