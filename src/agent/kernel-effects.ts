// The effects of an agent on its kernel, made of the loaded programs and maps: what the reconciler hands each of them.
import type { Attachments } from "../datapath/attach.ts";
import type { Dataplane } from "../datapath/dataplane.ts";
import { SETTING_FLAG_VALUES, SOCKETS_MODE_VALUES } from "../datapath/layout.gen.ts";
import type { Loaded } from "../datapath/load.ts";
import type { DesiredSettings } from "../decide/decide.ts";
import type { Log } from "../lib/log.ts";
import { hasFeature, isConntrackLoaded, resetFeatures } from "../libbpf/mod.ts";
import { parseNodePortAddresses } from "../model/node-port-addresses.ts";
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
    otherProxy: (flags & SETTING_FLAG_VALUES.SETTING_OTHER_PROXY) !== 0,
    tcpFullUntil,
    udpFullUntil,
    crowdedUntil,
  };
}

export interface KernelEffectsParts {
  readonly options: AgentOptions;
  readonly loaded: Pick<Loaded, "dataplane" | "loadL3" | "reloadTc">;
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
  const onLoopback = parseNodePortAddresses(options.nodePortAddresses)?.localhost === true;
  let hasL3 = parts.hasL3;
  let latest: WantedDevices | undefined;
  let asksConntrack = hasFeature("ct_lookup");
  /** What is loaded now was asked for what it has. */
  let knownConntrack = false;

  /** Programs may ask conntrack, and none does yet: it was loaded after them. */
  function conntrackCame(): boolean {
    if (!asksConntrack && !knownConntrack && isConntrackLoaded()) {
      knownConntrack = true;
      resetFeatures("ct_lookup");
    }
    return !asksConntrack && hasFeature("ct_lookup");
  }

  /** Loads what is needed besides, during which what was attached goes on. */
  async function loadMore(wanted: WantedDevices, l3: boolean, conntrack: boolean): Promise<void> {
    if (l3) await loaded.loadL3();
    hasL3 ||= l3;
    const before = conntrack ? await loaded.reloadTc() : [];
    network.apply(latest ?? wanted);
    for (const program of before) program.close();
    asksConntrack ||= conntrack;
    if (conntrack) parts.log.info("conntrack was loaded: programs ask it now whose an answer is");
  }

  return {
    settings({ sockets, uplink, tunnel, sourceRoutes, forwardMark, handover, otherProxy, ...deadlines }) {
      dataplane.writeSettings({
        ...{ nodeCookie, hz, uplink, tunnel, forwardMark, replies: options.replyLimit },
        ...deadlines,
        sockets: sockets === "host-only" ? SOCKETS_MODE_VALUES.SOCKETS_HOST_ONLY : SOCKETS_MODE_VALUES.SOCKETS_ALL,
        snatFirst: first,
        snatCount: last - first + 1,
        handover: handover ? 1 : 0,
        flags:
          (sourceRoutes ? SETTING_FLAG_VALUES.SETTING_SOURCE_ROUTES : 0) |
          (otherProxy ? SETTING_FLAG_VALUES.SETTING_OTHER_PROXY : 0) |
          (options.externalClusterIPs ? 0 : SETTING_FLAG_VALUES.SETTING_CLUSTER_IPS_INSIDE) |
          (onLoopback ? 0 : SETTING_FLAG_VALUES.SETTING_LOOPBACK_WITHOUT_NODE_PORTS),
      });
    },
    devices(wanted) {
      latest = wanted;
      network.apply(wanted);
      // Until they are loaded such a device alone is not served.
      const l3 = !hasL3 && wanted.devices.needsL3;
      const conntrack = wanted.attach && conntrackCame();
      return l3 || conntrack ? loadMore(wanted, l3, conntrack) : undefined;
    },
    sockets() {
      const programs = SOCKET_PROGRAMS.map((name) => dataplane.program(`sock_${name}`));
      attachments.attachSockets(options.cgroup, programs);
    },
  };
}
