// The one loop of an agent: whatever comes is gathered for a moment, one decision is made from all that is known, and each effect
// is told what it is to bring about. Holds inputs and the order of effects; knows no kernel, file or socket.
import { isDeepStrictEqual } from "node:util";
import {
  type Desired,
  type DesiredSettings,
  decide,
  type FirewallFacts,
  type FlowFacts,
  type Input,
  type OtherProxyFacts,
  type Wishes,
} from "../decide/decide.ts";
import { heldNetworks } from "../decide/device-roles.ts";
import type { Network } from "../decide/network.ts";
import { believedEvents, type NodeAddresses, nodeAddresses, rememberedNode } from "../decide/node-addresses.ts";
import { type NetFamily, servedFamilies } from "../decide/served-families.ts";
import type { Candidacy } from "../l2/announcement.ts";
import type { Log } from "../lib/log.ts";
import type { HealthCheck, Model } from "../model/model-interface.ts";
import type { Node, ObjectEvent } from "../model/objects.ts";
import type { Provenance } from "../model/provenance.ts";
import type { Source } from "../model/source.ts";
import type { Announcements } from "./announcements.ts";
import { createEffect, type Effect, type EffectStatus } from "./effect.ts";
import type { Maps } from "./maps.ts";
import type { WantedDevices } from "./node-network.ts";
import type { SyncRecorder } from "./sync-stats.ts";
import type { Timers } from "./timers.ts";

/** What brings decisions about. Each may throw: that is a failure of its own. */
export interface Effects {
  readonly sysctls: (forwarding: Desired["devices"]["forwarding"]) => void;
  readonly settings: (wanted: DesiredSettings) => void;
  readonly devices: (wanted: WantedDevices) => void | Promise<void>;
  readonly sockets: () => void;
  readonly announcer: (candidacies: readonly Candidacy[]) => void;
  /** Tells of what is announced. */
  readonly announced: () => void;
  readonly healthPorts: (list: readonly HealthCheck[], healthy: boolean) => void;
  /** Remembers what the next start cannot wait for. */
  readonly memory: (addresses: NodeAddresses) => Promise<void>;
  /** Reads the network. */
  readonly network: (tell: (network: Network) => void) => Promise<void>;
  readonly firewall: (tell: (facts: FirewallFacts, complete: boolean) => void) => Promise<void>;
  /** Looks for another proxy. */
  readonly otherProxy: (tell: (facts: OtherProxyFacts) => void) => Promise<void>;
}

export interface ReconcilerParts {
  readonly nodeName: string;
  readonly wishes: Wishes;
  readonly mostDevices: number;
  readonly model: Pick<Model, "update" | "setNetworks" | "isDirty" | "nodes" | "healthChecks" | "adopt" | "plan">;
  readonly source: Pick<Source, "bypassesSockets">;
  readonly provenance: Pick<Provenance, "judge">;
  readonly syncs: SyncRecorder;
  /** Made with what it is to call when all is in force. */
  readonly maps: (inForce: () => void, digest: () => string) => Maps;
  readonly effects: Effects;
  /** Reads devices and roles of what was decided last. */
  readonly announcements: Announcements;
  /** The first reading. */
  readonly network: Network;
  readonly remembered: NodeAddresses | undefined;
  /** As the kernel has them. */
  readonly settings: DesiredSettings;
  /** There are rows of an agent before that serve. */
  readonly adopted: boolean;
  readonly timers: Timers;
  readonly log: Log;
  /** A decision could not be made: a defect. */
  readonly broken: (error: unknown) => void;
}

export interface Reconciler {
  /** Takes a batch of the source. */
  take(events: readonly ObjectEvent[], digest: string, synced: boolean): void;
  takeNetwork(network: Network, complete?: boolean): void;
  takeFlows(facts: FlowFacts): void;
  /** Reads the network, the firewall, or what another proxy has here: when that is under way, once more after it. */
  lookAt(what: "network" | "firewall" | "otherProxy"): void;
  /** Between true and false the programs of two builds run one behind the other. */
  setHandover(on: boolean): void;
  /** Decides and hands out at once. */
  turn(): void;
  desired(): Desired;
  readonly announcerOf: Announcements["announcerOf"];
  readonly announcements: Announcements["summary"];
  readonly maps: Maps;
  statuses(): readonly EffectStatus[];
  /** Whether the last attempt of this effect went well. */
  works(name: keyof Effects | "maps"): boolean;
  /** Resolves when nothing is under way but readings, which change nothing any more. */
  settled(): Promise<void>;
}

const GATHER_MS = 3;
/** Each device has sysctls of its own to be read: at once when devices changed, unless they just did. */
const SYSCTLS_MS = 10_000;
const SYSCTLS_CHANGED_MS = 1_000;
const NO_FLOWS: FlowFacts = { tcpFullUntil: 0n, udpFullUntil: 0n, crowdedUntil: 0n };
const NO_FIREWALL: FirewallFacts = { marks: false, problem: "", ipsec: "" };
const NO_OTHER_PROXY: OtherProxyFacts = { running: "", rules: [], connections: 0 };

const first = <T>(value: T, complete: boolean): Input<T> => ({ generation: 0, complete, value });

export function createReconciler(parts: ReconcilerParts): Reconciler {
  const { nodeName, model, source, provenance, syncs, announcements, effects, timers, log, remembered } = parts;

  // --- inputs -----------------------------------------------------------------------------------------------------------
  let synced = false;
  let digest = "";
  let objectsRead = 0;
  let ownNode: Node | undefined;
  let addresses = nodeAddresses([], nodeName, remembered);
  let families: readonly NetFamily[] = [];
  let network = first(parts.network, true);
  let firewall = first(NO_FIREWALL, false);
  let otherProxy = first(NO_OTHER_PROXY, false);
  let flows = first(NO_FLOWS, false);
  /** Raised by each reading of the network: what somebody took off devices is put back then, also when the reading is the same. */
  let looks = 0;

  // --- what is believed -------------------------------------------------------------------------------------------------
  let filled = false;
  let handingOver = false;
  let desired: Desired | undefined;

  const maps = parts.maps(
    () => {
      filled = true;
      turn();
    },
    () => digest,
  );
  const common = { timers, log, onResult: () => poke() };
  const doers = {
    sysctls: createEffect({ name: "sysctls", apply: effects.sysctls, ...common }),
    settings: createEffect({ name: "settings", apply: effects.settings, ...common }),
    maps: createEffect({ name: "maps", apply: () => maps.apply(), ...common }),
    devices: createEffect({ name: "devices", apply: effects.devices, once: true, ...common }),
    sockets: createEffect({ name: "sockets", apply: (_wanted: true) => effects.sockets(), once: true, ...common }),
    announcer: createEffect({ name: "announcer", apply: effects.announcer, once: true, ...common }),
    announced: createEffect({ name: "announced", apply: (_wanted: true) => effects.announced(), ...common }),
    healthPorts: createEffect({
      name: "health ports",
      apply: ([list, healthy]: readonly [readonly HealthCheck[], boolean]) => effects.healthPorts(list, healthy),
      ...common,
    }),
    memory: createEffect({ name: "memory", apply: effects.memory, once: true, ...common }),
    network: createEffect({ name: "network", apply: () => effects.network(takeNetwork), ...common }),
    firewall: createEffect({
      name: "firewall",
      apply: () =>
        effects.firewall((facts, complete) => {
          firewall = { generation: firewall.generation + 1, complete, value: facts };
        }),
      ...common,
    }),
    otherProxy: createEffect({
      name: "other proxy",
      apply: () =>
        effects.otherProxy((facts) => {
          otherProxy = { generation: otherProxy.generation + 1, complete: true, value: facts };
        }),
      ...common,
    }),
  };
  const all: readonly Effect<never>[] = Object.values(doers);

  // --- decide and apply -------------------------------------------------------------------------------------------------
  let wantedDevices: (WantedDevices & { readonly look: number }) | undefined;
  let sysctlsAt = Number.NEGATIVE_INFINITY;
  let sysctlsOf: Desired["devices"] | undefined;

  function handOut({ devices, attach, ...wanted }: Desired): void {
    const sinceMs = timers.now() - sysctlsAt;
    if (sinceMs >= SYSCTLS_MS || (sysctlsOf !== devices && sinceMs >= SYSCTLS_CHANGED_MS)) {
      sysctlsAt = timers.now();
      sysctlsOf = devices;
      doers.sysctls.want(devices.forwarding);
    }
    doers.settings.want(wanted.settings);
    if (wanted.maps) {
      if (model.isDirty()) doers.maps.want(undefined);
      else if (filled && !doers.maps.isBusy() && doers.maps.status().ok) {
        // What came changes nothing here: it is in force already.
        syncs.unchanged();
        maps.state.appliedDigest = digest;
      }
    }
    if (wantedDevices?.devices !== devices || wantedDevices.attach !== attach || wantedDevices.look !== looks) {
      if (wantedDevices?.devices !== devices) announcements.noteNetwork();
      wantedDevices = { devices, attach, look: looks };
    }
    doers.devices.want(wantedDevices);
    if (attach) doers.sockets.want(true);
    if (wanted.maps) doers.memory.want(addresses);
    if (wanted.announce) {
      doers.announcer.want(announcements.current());
      doers.announced.want(true);
    }
    if (wanted.healthPorts !== undefined) doers.healthPorts.want([wanted.healthPorts, wanted.health.healthy]);
  }

  let turning = false;
  let again = false;
  let poked: (() => void) | undefined;

  function turn(): void {
    poked?.();
    poked = undefined;
    again = true;
    // What is in force at once ends inside a turn.
    if (turning || timers.isStopped()) return;
    turning = true;
    try {
      while (again) {
        again = false;
        desired = decide(
          {
            wishes: parts.wishes,
            mostDevices: parts.mostDevices,
            objects: {
              generation: objectsRead,
              complete: synced,
              value: {
                addresses,
                families,
                goingAway: ownNode?.goingAway ?? false,
                bypassesSockets: source.bypassesSockets(nodeName),
                healthChecks: model.healthChecks(),
                waitingSinceMs: syncs.stats.waitingSinceMs,
              },
            },
            network,
            firewall,
            otherProxy,
            flows,
            nowMs: Date.now(),
          },
          {
            filled,
            serves: filled || parts.adopted,
            handingOver,
            effects: statuses(),
            settings: desired?.settings ?? parts.settings,
            previous: desired,
          },
        );
        handOut(desired);
      }
    } catch (error) {
      parts.broken(error);
    } finally {
      turning = false;
    }
  }

  function poke(): void {
    poked ??= timers.after(GATHER_MS, turn);
  }

  const statuses = (): readonly EffectStatus[] => all.map((one) => one.status());

  function noteNodes(): void {
    const now = nodeAddresses(model.nodes().values(), nodeName, synced ? undefined : remembered);
    if (!isDeepStrictEqual(now, addresses)) addresses = now;
  }

  function takeNetwork(read: Network, complete = true): void {
    looks++;
    if (complete !== network.complete || !isDeepStrictEqual(read, network.value)) {
      const before = complete ? [] : heldNetworks(network.value);
      network = { generation: network.generation + 1, complete, value: read };
      model.setNetworks([...heldNetworks(read), ...before]);
    }
    turn();
  }

  model.setNetworks(heldNetworks(network.value));

  return {
    take(batch, newDigest, isSynced) {
      const isFirst = isSynced && !synced;
      const believed = believedEvents(batch, nodeName, ownNode);
      let { events } = believed;
      ownNode = believed.own;
      if (isFirst && ownNode === undefined && (remembered?.own.length ?? 0) > 0) {
        // The agent before knew this node, whose object is gone for now.
        ownNode = rememberedNode(nodeName, remembered?.own ?? []);
        events = [...events, { kind: "Node", key: nodeName, object: ownNode }];
      }
      events = provenance.judge(events);
      digest = newDigest;
      objectsRead++;
      announcements.note(events);
      model.update(events);
      families = servedFamilies(families, events);
      syncs.queued(synced ? events : withoutTriggers(events), Date.now());
      synced ||= isSynced;
      if (isFirst || events.some(({ kind }) => kind === "Node")) noteNodes();
      poke();
    },
    takeNetwork,
    takeFlows(facts) {
      flows = { generation: flows.generation + 1, complete: true, value: facts };
      turn();
    },
    lookAt: (what) => doers[what].want(undefined),
    setHandover(on) {
      handingOver = on;
    },
    turn,
    desired() {
      if (desired === undefined) turn();
      return desired!;
    },
    announcerOf: announcements.announcerOf,
    announcements: announcements.summary,
    maps,
    statuses,
    works: (name) => doers[name].status().ok,
    async settled() {
      for (const { settled } of [doers.maps, doers.devices, doers.memory]) await settled();
    },
  };
}

/** Of objects that were there before this agent nobody waits to see them in force. */
function withoutTriggers(events: readonly ObjectEvent[]): readonly ObjectEvent[] {
  return events.map((event) => (event.kind === "EndpointSlice" ? { ...event, triggerMs: 0 } : event));
}
