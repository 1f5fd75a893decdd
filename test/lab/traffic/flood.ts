// Runs in an outside client: so many SYNs and as many UDP datagrams from random sources to one address and port, by a raw socket,
// and no more. Argument: JSON Flood. Says {flooded} when all are out, and sends as many others when it is told to start again; ends
// when standard input does.
import { execFileSync } from "node:child_process";
import { packet } from "../../kernel/datapath/packet.ts";
import { openFrameSocket } from "../../kernel/datapath/raw-sockets.ts";
import { createRandom } from "../../model/random.ts";
import { say, takeOrders } from "./numbered.ts";

export interface Flood {
  /** Of each protocol. */
  readonly count: number;
  readonly device: string;
  /** The machine that is to have them. */
  readonly mac: string;
  readonly address: string;
  readonly port: number;
  readonly seed: number;
}

const { count, device, mac, address, port, seed } = JSON.parse(process.argv[2] ?? "{}") as Flood;
// /sys is the machine's, not the namespace's.
const [link] = JSON.parse(execFileSync("ip", ["-j", "link", "show", "dev", device], { encoding: "utf8" })) as [
  { readonly ifindex: number; readonly address: string },
];
const start = packet().eth(link.address, mac);
/** Frames that are sent before others of this process may run. */
const AT_ONCE = 64;
const random = createRandom(seed);

/** Of the address's family, not in the cluster. */
function source(): string {
  if (address.includes(":")) {
    const word = (): string => random.below(0x10000).toString(16);
    return `2001:db8:${word()}:${word()}::${1 + random.below(254)}`;
  }
  return `${11 + random.below(80)}.${random.below(256)}.${random.below(256)}.${1 + random.below(254)}`;
}

async function flood(): Promise<void> {
  using socket = openFrameSocket(link.ifindex);
  for (let sent = 0; sent < 2 * count; sent++) {
    const from = 1024 + random.below(60_000);
    const built = start.ip(source(), address).payload(sent % 2 === 0 ? 0 : 12);
    const frame = (sent % 2 === 0 ? built.tcp(from, port, { flags: "S" }) : built.udp(from, port)).bytes();
    while (!socket.send(frame)) await new Promise((resolve) => setTimeout(resolve, 1));
    if (sent % AT_ONCE === 0) await new Promise((resolve) => setImmediate(resolve));
  }
}

takeOrders({
  start: () => void flood().then(() => say({ flooded: 2 * count })),
  report: () => say({ flows: {} }),
});
say({ ready: true });
