// The effects of an agent on its kernel, made of the loaded programs and maps: what the reconciler hands each of them.
import type { Attachments } from "../datapath/attach.ts";
import type { Dataplane } from "../datapath/dataplane.ts";
import { SETTING_FLAG_VALUES, SOCKETS_MODE_VALUES } from "../datapath/layout.gen.ts";
import type { Loaded } from "../datapath/load.ts";
import type { DesiredSettings } from "../decide/decide.ts";
import type { Log } from "../lib/log.ts";
import type { NodeNetwork, WantedDevices } from "./node-network.ts";
import type { AgentOptions } from "./options.ts";
import { ownCookie } from "./own-cookie.ts";
import type { Effects } from "./reconciler.ts";

/** Programs that translate answers come before those that send. */
const SOCKET_PROGRAMS = [
  "recvmsg4",
  "recvmsg6",
  "peername4",
  "peername6",
  "connect4",
  "connect6",
  "sendmsg4",
  "sendmsg6",
];

/** The settings as the maps have them: an agent before wrote them. */
export function settingsOf(dataplane: Dataplane): DesiredSettings {
  const { sockets, uplink, tunnel, flags, forwardMark, tcpFullUntil, udpFullUntil, crowdedUntil } =
    dataplane.readSettings();
  return {
    sockets: sockets === SOCKETS_MODE_VALUES.SOCKETS_HOST_ONLY ? "host-only" : "all",
    uplink,
    tunnel,
    sourceRoutes: (flags & SETTING_FLAG_VALUES.SETTING_SOURCE_ROUTES) !== 0,
    forwardMark,
    handover: false,
    tcpFullUntil,
    udpFullUntil,
    crowdedUntil,
  };
}

export interface KernelEffectsParts {
  readonly options: AgentOptions;
  readonly loaded: Pick<Loaded, "dataplane" | "loadL3">;
  /** The programs for devices without a link header are loaded. */
  readonly hasL3: boolean;
  readonly network: Pick<NodeNetwork, "apply">;
  readonly attachments: Attachments;
  readonly hz: number;
  readonly log: Log;
}

export function createKernelEffects(parts: KernelEffectsParts): Pick<Effects, "settings" | "devices" | "sockets"> {
  const { options, loaded, network, attachments, hz } = parts;
  const { dataplane } = loaded;
  const nodeCookie = ownCookie(parts.log);
  const { first, last } = options.snatPortRange;
  let hasL3 = parts.hasL3;
  let latest: WantedDevices | undefined;
  return {
    settings({ sockets, uplink, tunnel, sourceRoutes, forwardMark, handover, ...deadlines }) {
      dataplane.writeSettings({
        ...{ nodeCookie, hz, uplink, tunnel, forwardMark, replies: options.replyLimit },
        ...deadlines,
        sockets: sockets === "host-only" ? SOCKETS_MODE_VALUES.SOCKETS_HOST_ONLY : SOCKETS_MODE_VALUES.SOCKETS_ALL,
        snatFirst: first,
        snatCount: last - first + 1,
        udpTimeout: options.flowTimeouts.udpSeconds,
        handover: handover ? 1 : 0,
        flags:
          (sourceRoutes ? SETTING_FLAG_VALUES.SETTING_SOURCE_ROUTES : 0) |
          (options.externalClusterIPs ? 0 : SETTING_FLAG_VALUES.SETTING_CLUSTER_IPS_INSIDE),
      });
    },
    devices(wanted) {
      latest = wanted;
      network.apply(wanted);
      if (hasL3 || !wanted.devices.needsL3) return undefined;
      // Until they are loaded such a device alone is not served.
      return loaded.loadL3().then(() => {
        hasL3 = true;
        network.apply(latest ?? wanted);
      });
    },
    sockets() {
      const programs = SOCKET_PROGRAMS.map((name) => dataplane.program(`sock_${name}`));
      attachments.attachSockets(options.cgroup, programs);
    },
  };
}
