// A node without a kernel: the effects that the reconciler hands its decisions to, as small real things. They hold what they were
// given, refuse what would break traffic, and fail when they are told to.

import { createAnnouncements } from "../../src/agent/announcements.ts";
import { createMaps } from "../../src/agent/maps.ts";
import { createReconciler, type Effects, type Reconciler } from "../../src/agent/reconciler.ts";
import { createSyncRecorder } from "../../src/agent/sync-stats.ts";
import { createTimers, type Timers } from "../../src/agent/timers.ts";
import type { FirewallFacts, Wishes } from "../../src/decide/decide.ts";
import type { Network } from "../../src/decide/network.ts";
import type { NodeAddresses } from "../../src/decide/node-addresses.ts";
import type { Candidacy } from "../../src/l2/announcement.ts";
import { Failure } from "../../src/lib/errors.ts";
import { createModel } from "../../src/model/model.ts";
import type { HealthCheck, Model } from "../../src/model/model-interface.ts";
import type { ObjectEvent } from "../../src/model/objects.ts";
import type { Capacity } from "../../src/model/operations.ts";
import { createProvenance } from "../../src/model/provenance.ts";
import { NETWORK, SETTINGS } from "../decide/inputs.ts";
import { createFakeMaps, type FakeMaps } from "./fake-maps.ts";

export type Failing = keyof Effects | "apply" | "readState";

export interface FakeNode {
  readonly reconciler: Reconciler;
  readonly model: Model;
  readonly maps: FakeMaps;
  readonly timers: Timers;
  /** What was done outside, in order. */
  readonly steps: string[];
  /** Fails from now on, with this. Undefined: works. */
  fail(what: Failing, error: unknown): void;
  /** Attempts so far. */
  attempts(what: Failing): number;
  /** Programs by device name. */
  programs(): Readonly<Record<string, string>>;
  readonly announced: () => readonly string[];
  readonly healthPorts: () => string;
  readonly remembered: () => NodeAddresses | undefined;
  readonly broken: () => unknown;
  /** What the firewall and the network answer next; a promise that never resolves hangs. */
  firewall: () => Promise<readonly [FirewallFacts, boolean]>;
  network: () => Promise<Network>;
  take(events: readonly ObjectEvent[], digest?: string, synced?: boolean): void;
}

export interface FakeNodeOptions {
  readonly network?: Network;
  readonly wishes?: Partial<Wishes>;
  readonly remembered?: NodeAddresses;
  /** An agent before left these maps, and programs on these devices. */
  readonly before?: { readonly maps: FakeMaps; readonly programs: Readonly<Record<string, string>> };
  readonly capacity?: Capacity;
  readonly bypassesSockets?: () => boolean;
}

const ROOM: Capacity = {
  frontends: 8192,
  rows: 8192,
  slots: 16384,
  backends: 8192,
  services: 8192,
  serviceRanges: 8,
  sourceRanges: 8192,
  addresses: 8192,
  devices: 256,
  announced: 256,
};

export function createFakeNode(options: FakeNodeOptions = {}): FakeNode {
  const { network = NETWORK, before, capacity = ROOM } = options;
  const maps = before?.maps ?? createFakeMaps(capacity);
  const steps: string[] = [];
  const failing = new Map<Failing, unknown>();
  const attempts = new Map<Failing, number>();
  const programs = new Map<string, string>(Object.entries(before?.programs ?? {}));
  let announced: readonly Candidacy[] = [];
  let healthPorts = "none";
  let remembered: NodeAddresses | undefined;
  let broken: unknown;
  let isFilled = before !== undefined;
  let settingsWritten = false;
  const busy = new Set<Failing>();

  function attempt(what: Failing): void {
    attempts.set(what, (attempts.get(what) ?? 0) + 1);
    const error = failing.get(what);
    if (error !== undefined) throw error;
  }
  function refuse(why: string): never {
    throw new Error(`misuse: ${why}`);
  }
  /** One attempt at a time. */
  async function alone<T>(what: Failing, run: () => Promise<T>): Promise<T> {
    if (busy.has(what)) refuse(`two attempts at ${what} at once`);
    busy.add(what);
    try {
      attempt(what);
      return await run();
    } finally {
      busy.delete(what);
    }
  }

  const timers = createTimers((error) => {
    broken ??= error;
  });
  const model = createModel({ nodeName: "node1", capacity, serviceRanges: [] });
  const syncs = createSyncRecorder();
  const dataplane = {
    readState() {
      attempt("readState");
      return maps.readState();
    },
    async apply(operations: Parameters<FakeMaps["apply"]>[0], inForce?: () => void) {
      await alone("apply", async () => {
        // What is before the first grace period is in force before it.
        const grace = operations.findIndex(({ op }) => op === "grace");
        const split = grace < 0 ? operations.length : grace;
        maps.apply(operations.slice(0, split));
        isFilled = true;
        steps.push("maps");
        inForce?.();
        await Promise.resolve();
        maps.apply(operations.slice(split));
      });
    },
  };
  model.adopt(maps.readState());

  const node = {
    firewall: async () => [{ marks: false, problem: "", ipsec: "" }, true] as const,
    network: async () => network,
  } as Pick<FakeNode, "firewall" | "network">;

  const reconciler: Reconciler = createReconciler({
    nodeName: "node1",
    wishes: { devices: [], xdp: "off", sockets: "all", forwardMark: 0x1000, ...options.wishes },
    mostDevices: 4096,
    model,
    provenance: createProvenance({ loadBalancerClass: "", serviceRanges: [] }),
    source: { bypassesSockets: options.bypassesSockets ?? (() => false) },
    syncs,
    maps: (inForce, digest) =>
      createMaps({
        ...{ model, dataplane, syncs, digest, inForce },
        retired: () => undefined,
        firstDone: () => undefined,
        broken: (error) => {
          broken ??= error;
        },
      }),
    effects: {
      sysctls: () => attempt("sysctls"),
      settings() {
        attempt("settings");
        settingsWritten = true;
      },
      devices({ devices, attach }) {
        attempt("devices");
        if (!settingsWritten) refuse("programs would read settings that were never written");
        if (!attach) return;
        if (!isFilled) refuse("programs over rows that do not serve yet");
        const names = new Set(devices.list.map(({ device }) => device.name));
        for (const name of programs.keys()) if (devices.isWhole && !names.has(name)) programs.delete(name);
        for (const { device, role, keep } of devices.list) {
          const had = programs.get(device.name);
          if (role !== undefined && had !== role) steps.push(`${device.name} ${role}`);
          if (role !== undefined) programs.set(device.name, role);
          else if (!keep && programs.delete(device.name)) steps.push(`${device.name} none`);
        }
      },
      sockets() {
        attempt("sockets");
        if (!isFilled) refuse("socket programs over rows that do not serve yet");
        steps.push("sockets");
      },
      announcer(candidacies) {
        attempt("announcer");
        const places = candidacies.map(({ address, ifindex }) => `${address}%${ifindex}`);
        if (new Set(places).size !== places.length) refuse("an address twice on a device");
        for (const { device } of candidacies) if (programs.get(device) !== "uplink") refuse(`no answer on ${device}`);
        announced = candidacies.filter(({ above }) => above.length === 0);
        steps.push("announcer");
      },
      announced: () => attempt("announced"),
      healthPorts(list: readonly HealthCheck[], healthy) {
        attempt("healthPorts");
        if (new Set(list.map(({ port }) => port)).size !== list.length) refuse("two Services on one port");
        healthPorts = `${healthy ? "healthy" : "unhealthy"} ${list.map(({ port, localEndpoints: { IPv4 } }) => `${port}:${IPv4}`).join(" ")}`;
      },
      memory: (addresses) =>
        alone("memory", async () => {
          remembered = addresses;
        }),
      network: (tell) => alone("network", async () => tell(await node.network())),
      otherProxy: (tell) => alone("otherProxy", async () => tell({ running: "", rules: [], connections: 0 })),
      firewall: (tell) =>
        alone("firewall", async () => {
          const [facts, complete] = await node.firewall();
          tell(facts, complete);
          if (!complete) throw new Failure("timeout", "firewall", "nobody answered");
        }),
    },
    announcements: createAnnouncements("node1", model, {
      network: () => reconciler.desired().devices.basis.network,
      roles: () => reconciler.desired().devices.roles,
    }),
    network,
    remembered: options.remembered,
    settings: SETTINGS,
    adopted: before !== undefined,
    timers,
    log: { debug() {}, info() {}, warn() {}, error() {} },
    broken: (error) => {
      broken ??= error;
    },
  });

  return Object.assign(node, {
    ...{ reconciler, model, maps, timers, steps },
    fail(what: Failing, error: unknown) {
      if (error === undefined) failing.delete(what);
      else failing.set(what, error);
    },
    attempts: (what: Failing) => attempts.get(what) ?? 0,
    programs: () => Object.fromEntries([...programs].sort()),
    announced: () => announced.map(({ address, device }) => `${address} ${device}`),
    healthPorts: () => healthPorts,
    remembered: () => remembered,
    broken: () => broken,
    take: (events: readonly ObjectEvent[], digest = "d", synced = true) => reconciler.take(events, digest, synced),
  });
}
