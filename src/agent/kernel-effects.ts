// The effects of an agent on its kernel, made of the loaded programs and maps: what the reconciler hands each of them.
import type { Attachments } from "../datapath/attach.ts";
import type { Dataplane } from "../datapath/dataplane.ts";
import { FLOW_TIMEOUTS } from "../datapath/flow-timeouts.ts";
import { SETTING_FLAG_VALUES, SOCKETS_MODE_VALUES } from "../datapath/layout.gen.ts";
import type { Loaded } from "../datapath/load.ts";
import type { DesiredSettings } from "../decide/decide.ts";
import type { Log } from "../lib/log.ts";
import type { NodeNetwork, WantedDevices } from "./node-network.ts";
import type { AgentOptions } from "./options.ts";
import { ownCookie } from "./own-cookie.ts";

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

export function createSettingsWriter(
  options: AgentOptions,
  dataplane: Dataplane,
  hz: number,
  log: Log,
): (wanted: DesiredSettings) => void {
  const nodeCookie = ownCookie(log);
  const { first, last } = options.snatPortRange;
  return ({ sockets, uplink, tunnel, sourceRoutes, forwardMark, handover, ...deadlines }) =>
    dataplane.writeSettings({
      nodeCookie,
      sockets: sockets === "host-only" ? SOCKETS_MODE_VALUES.SOCKETS_HOST_ONLY : SOCKETS_MODE_VALUES.SOCKETS_ALL,
      hz,
      snatFirst: first,
      snatCount: last - first + 1,
      udpTimeout: FLOW_TIMEOUTS.udpSeconds,
      ...deadlines,
      uplink,
      forwardMark,
      handover: handover ? 1 : 0,
      tunnel,
      replies: options.replyLimit,
      flags:
        (sourceRoutes ? SETTING_FLAG_VALUES.SETTING_SOURCE_ROUTES : 0) |
        (options.externalClusterIPs ? 0 : SETTING_FLAG_VALUES.SETTING_CLUSTER_IPS_INSIDE),
    });
}

/** Programs for devices without a link header are loaded when the first of those comes: until then such a device alone is not served. */
export function createDevicesEffect(
  network: Pick<NodeNetwork, "apply">,
  loaded: Pick<Loaded, "loadL3">,
  hasL3: boolean,
): (wanted: WantedDevices) => void | Promise<void> {
  let ready = hasL3;
  return (wanted) => {
    network.apply(wanted);
    if (ready || !wanted.devices.needsL3) return undefined;
    return loaded.loadL3().then(() => {
      ready = true;
      network.apply(wanted);
    });
  };
}

export function createSocketsEffect(attachments: Attachments, dataplane: Dataplane, cgroup: string): () => void {
  return () =>
    attachments.attachSockets(
      cgroup,
      SOCKET_PROGRAMS.map((name) => dataplane.program(`sock_${name}`)),
    );
}
