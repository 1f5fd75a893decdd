// What an agent does now and then: a turn and a renewal of what it announces each second, a sweep of the flow tables, a look at the
// firewall.
import type { Dataplane } from "../datapath/dataplane.ts";
import { SWEEP_MS } from "../datapath/flow-fullness.ts";
import { type SweepResult, sweepFlows } from "../datapath/flow-sweep.ts";
import { TABLES } from "../datapath/flow-table.ts";
import type { FlowTimeouts } from "../datapath/flow-timeouts.ts";
import type { ScarcePorts } from "../datapath/source-ports.ts";
import type { DesiredDevice } from "../decide/decide.ts";
import type { Soundness } from "../l2/announcer-machine.ts";
import type { Announcements } from "./announcements.ts";
import type { Announcer } from "./announcer.ts";
import { readFlowTimeouts } from "./conntrack-timeouts.ts";
import type { Liveness } from "./liveness.ts";
import type { NodeNetwork } from "./node-network.ts";
import type { Reconciler } from "./reconciler.ts";
import type { Timers } from "./timers.ts";

export interface PeriodicParts {
  readonly dataplane: Dataplane;
  readonly hz: number;
  readonly network: Pick<NodeNetwork, "isAttached">;
  readonly announcements: Pick<Announcements, "lacking">;
  readonly announcer: Pick<Announcer, "renew">;
  readonly liveness: Pick<Liveness, "setMacs" | "renew">;
  readonly reconciler: Reconciler;
  readonly timers: Timers;
  readonly timeouts: FlowTimeouts;
}

export interface Periodic {
  start(): void;
  /** What is wanted of devices is another: a link that lost its carrier is not waited for until the second is over. */
  noteLinks(devices: readonly Pick<DesiredDevice, "device">[]): void;
  /** As the last sweep found them. */
  flowEntries(): Readonly<Record<string, number>>;
  /** Entries that sweeps have taken out since the start, by table and why. */
  flowsTaken(): readonly { readonly table: string; readonly reason: "over" | "given-up"; readonly entries: number }[];
  /** Backends toward which source ports are scarce. */
  scarcePorts(): readonly ScarcePorts[];
  /** Part of the source ports that is in use toward the backend where most are, 0 to 1. */
  sourcePortsUsed(): number;
}

const FIREWALL_MS = 30_000;
/** Another proxy is looked for so often while it has something here, and every sixth time while it has nothing. */
const OTHER_PROXY_MS = 10_000;
const OTHER_PROXY_REST = 6;
const RENEW_MS = 1_000;
/** Soon: an agent that is started again and again takes out what is over all the same. */
const FIRST_SWEEP_MS = 2_000;

export function createPeriodic(parts: PeriodicParts): Periodic {
  const { dataplane, hz, network, announcements, announcer, liveness, reconciler, timers, timeouts } = parts;
  let swept: SweepResult | undefined;
  /** Devices that had a carrier when it was renewed last. */
  let carried: ReadonlySet<number> = new Set();
  let taken = TABLES.map((table) => ({ table, removed: 0, givenUp: 0 }));

  async function sweep(): Promise<void> {
    let nextMs = SWEEP_MS;
    try {
      const found = await sweepFlows(dataplane, hz, readFlowTimeouts(timeouts), swept);
      if (timers.isStopped()) return;
      swept = found;
      taken = taken.map(({ table, removed, givenUp }) => ({
        table,
        removed: removed + found.taken[table].removed,
        givenUp: givenUp + found.taken[table].givenUp,
      }));
      nextMs = found.nextMs;
      reconciler.takeFlows(found.deadlines);
    } finally {
      timers.after(nextMs, sweep);
    }
  }

  function renew(): void {
    const sound = new Map<number, Soundness>();
    const uplinks: Uint8Array[] = [];
    const works = reconciler.works("maps");
    const { list, roles } = reconciler.desired().devices;
    carried = new Set(list.flatMap(({ device: { ifindex, running } }) => (running ? ifindex : [])));
    for (const { device } of list) {
      if (!device.running) sound.set(device.ifindex, "no-carrier");
      else if (network.isAttached(device.ifindex)) sound.set(device.ifindex, works ? "sound" : "impaired");
      if (roles.get(device.ifindex) === "uplink") uplinks.push(device.mac);
    }
    // Before the first probe: one of our own that comes back is no other machine's.
    liveness.setMacs(uplinks);
    const state = announcer.renew(sound);
    liveness.renew({ ...state, sound: state.sound && announcements.lacking().length === 0 });
  }

  return {
    noteLinks(devices) {
      if (devices.some(({ device }) => !device.running && carried.has(device.ifindex))) timers.soon(renew);
    },
    start() {
      timers.every(RENEW_MS, () => {
        reconciler.turn();
        renew();
      });
      timers.after(FIRST_SWEEP_MS, sweep);
      reconciler.lookAt("firewall");
      timers.every(FIREWALL_MS, () => reconciler.lookAt("firewall"));
      reconciler.lookAt("otherProxy");
      let rest = 0;
      timers.every(OTHER_PROXY_MS, () => {
        if (reconciler.desired().settings.otherProxy || ++rest % OTHER_PROXY_REST === 0)
          reconciler.lookAt("otherProxy");
      });
    },
    flowsTaken: () =>
      taken.flatMap(({ table, removed, givenUp }) => [
        { table, reason: "over", entries: removed },
        { table, reason: "given-up", entries: givenUp },
      ]),
    scarcePorts: () => swept?.scarcePorts ?? [],
    sourcePortsUsed: () => swept?.sourcePortsUsed ?? 0,
    flowEntries: () => swept?.entries ?? { tcp_flows: 0, udp_flows: 0, openings: 0 },
  };
}
