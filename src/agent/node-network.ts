// Keeps the datapath's knowledge of this node's devices true: programs on uplinks and pod devices, and the `devices` map (bridge,
// MTU, MAC, SNAT source). Which device is to have what is decided elsewhere.
import type { Attachments, TcPrograms } from "../datapath/attach.ts";
import type { Dataplane } from "../datapath/dataplane.ts";
import { DEVICE, DEVICE_FLAG_VALUES, writeDevice } from "../datapath/layout.gen.ts";
import type { DesiredDevice, DesiredDevices } from "../decide/decide.ts";
import type { DeviceRole, XdpOption } from "../decide/device-roles.ts";
import { machineNotice } from "../decide/machine-notice.ts";
import type { Device } from "../decide/network.ts";
import type { Log } from "../lib/log.ts";
import { type BpfProgram, XDP_TRANSMIT, xdpFeatures } from "../libbpf/mod.ts";
import type { Notice } from "../model/objects.ts";
import type { FarEnds } from "./far-end.ts";

export interface NodeNetworkOptions {
  readonly xdp: XdpOption;
  readonly farEnds: FarEnds;
}

/** What is wanted of devices. */
export interface WantedDevices {
  readonly devices: DesiredDevices;
  /** Programs are to be attached, and what somebody took off is put back. */
  readonly attach: boolean;
}

export interface NodeNetwork {
  /** Brings the `devices` map and the programs in line. @throws what a row of the map failed with, when all else is done */
  apply(wanted: WantedDevices): void;
  isAttached(ifindex: number): boolean;
  /** No device lacks programs that it was to have, so that none has those of another build. */
  isWhole(): boolean;
  notices(): readonly Notice[];
}

const UNSET = "::";
const NOT_ATTACHED = "not-attached";

export function createNodeNetwork(
  dataplane: Dataplane,
  attachments: Attachments,
  options: NodeNetworkOptions,
  log: Log,
): NodeNetwork {
  const { farEnds } = options;
  const devices = dataplane.map("devices");
  let wanted: DesiredDevices | undefined;
  const attached = new Map<
    number,
    { readonly name: string; readonly role: DeviceRole; readonly xdp: boolean; readonly ingress: BpfProgram }
  >();
  const failures = new Map<number, Notice>();
  /** Devices that programs were put on, or taken off. */
  const looked = new Set<number>();
  /** Programs that somebody took off and that could not be brought back, by object. */
  let missing: ReadonlyMap<string, Notice> = new Map();
  const written = new Map<number, string>();

  const index = (ifindex: number): Uint8Array => {
    const key = new Uint8Array(4);
    new DataView(key.buffer).setUint32(0, ifindex, true);
    return key;
  };

  /**
   * A frame that XDP takes from a veth does not say that its checksum is still to be completed: it would go on with a wrong one. Until
   * its far end has been asked such a device stays as it is: one that an agent before put XDP on had been asked.
   */
  function wantsXdp({ device, xdp }: DesiredDevice): boolean {
    if (!xdp || device.kind !== "veth") return xdp;
    const checksums = farEnds.look(device, wanted?.basis.network.devices ?? []);
    return checksums === undefined ? attachments.hasXdp(device.name, device.ifindex) : checksums === "whole";
  }

  function vethNotices({ device, xdp }: DesiredDevice): readonly Notice[] {
    const checksums = farEnds.known(device.ifindex) ?? "whole";
    if (!xdp || device.kind !== "veth" || checksums === "whole") return [];
    const what = checksums === "partial" ? "leaves checksums to be completed" : "cannot be asked about checksums";
    const message = `XDP is not used on ${device.name}, tc does its work: the far end of this veth ${what}, and XDP would forward frames with wrong ones; turn that off there (ethtool -K DEVICE tx off), or leave --xdp=auto`;
    return [noXdp(device, message)];
  }

  const noXdp = (device: Device, message: string): Notice => machineNotice(`Device ${device.name}`, "no-xdp", message);
  const notAttached = (object: string, error: unknown): Notice =>
    machineNotice(object, NOT_ATTACHED, error instanceof Error ? error.message : String(error), "error");

  /** The driver sends frames that XDP redirects to the device: often only while it has an XDP program itself. */
  function canTransmit({ device, xdp }: DesiredDevice): boolean {
    return xdp && ((xdpFeatures(device.ifindex) ?? 0) & XDP_TRANSMIT) !== 0;
  }

  function writeRow(desired: DesiredDevice): void {
    const { device, bridge, accepts, sources, pods } = desired;
    const value = new Uint8Array(DEVICE.size);
    writeDevice(value, 0, {
      master: bridge,
      flags:
        (device.linkType === "ether" ? 0 : DEVICE_FLAG_VALUES.DEVICE_NO_LINK_HEADER) |
        (canTransmit(desired) ? DEVICE_FLAG_VALUES.DEVICE_XDP_TARGET : 0),
      mtu: device.mtu,
      mac: device.mac,
      accepts,
      source4: sources.IPv4 || UNSET,
      source6: sources.IPv6 || UNSET,
      pod4: pods.IPv4 || UNSET,
      pod6: pods.IPv6 || UNSET,
    });
    const text = Buffer.from(value).toString("hex");
    if (written.get(device.ifindex) === text) return;
    // A replaced element of a hash can be read in pieces: what an agent before this one wrote stays when it is right.
    const before = devices.lookup(index(device.ifindex));
    if (before === undefined || Buffer.compare(before, value) !== 0) devices.update(index(device.ifindex), value);
    written.set(device.ifindex, text);
  }

  /** Returns the first failure: one device does not keep the others from being written. */
  function writeDevices({ list, isWhole }: DesiredDevices): unknown {
    const present = new Set<number>();
    let failure: unknown;
    if (isWhole) {
      for (const { device } of list) present.add(device.ifindex);
      for (const [key] of [...devices.entries()]) {
        const ifindex = new DataView(key.buffer, key.byteOffset).getUint32(0, true);
        if (present.has(ifindex)) continue;
        devices.delete(key);
        written.delete(ifindex);
      }
    }
    for (const desired of list) {
      try {
        writeRow(desired);
      } catch (error) {
        failure ??= error;
      }
    }
    return failure;
  }

  function programsFor(device: Device, role: DeviceRole): TcPrograms {
    const names =
      role === "pod"
        ? (["tc_pod_ingress", "tc_pod_egress"] as const)
        : device.linkType === "ether"
          ? (["tc_uplink_ingress", "tc_uplink_egress"] as const)
          : (["tc_uplink_in_l3", "tc_uplink_out_l3"] as const);
    return { ingress: dataplane.program(names[0]), egress: dataplane.program(names[1]) };
  }

  /** XDP only takes work off tc: a driver that cannot run the program natively goes without. */
  function attachXdpTo(device: Device, xdp: boolean): void {
    if (!xdp) {
      attachments.detachXdp(device.name, device.ifindex);
      return;
    }
    try {
      attachments.attachXdp(device.name, device.ifindex, dataplane.program("xdp_uplink"));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      log.debug({ device: device.name, reason }, "no XDP on this device: tc does its work");
      // Of a build before there may be one, over maps that nobody fills any more.
      attachments.detachXdp(device.name, device.ifindex);
      if (options.xdp !== "on") return;
      const message = `could not run XDP on ${device.name}, tc does its work: ${reason}`;
      failures.set(device.ifindex, noXdp(device, message));
    }
  }

  function attachAll({ list, isWhole }: DesiredDevices): void {
    if (isWhole) {
      const present = new Set(list.map(({ device }) => device.ifindex));
      attachments.sweep(present);
      farEnds.keep(present);
      for (const known of [attached, failures, looked])
        for (const ifindex of known.keys()) if (!present.has(ifindex)) known.delete(ifindex);
    }
    for (const desired of list) {
      const { device, role } = desired;
      if (desired.keep) continue;
      const before = attached.get(device.ifindex);
      const xdp = wantsXdp(desired);
      // Of one that is seen for the first time an agent before may have left programs.
      const isNew = !looked.has(device.ifindex);
      const isReplaced = before !== undefined && dataplane.program(before.ingress.name) !== before.ingress;
      if (!isNew && role === before?.role && xdp === (before?.xdp ?? false) && !isReplaced) continue;
      try {
        if (role === undefined) {
          attachments.detachDevice(device.name, device.ifindex);
          attached.delete(device.ifindex);
        } else if (role !== before?.role || isReplaced) {
          attachments.attachDevice(device.name, device.ifindex, programsFor(device, role));
        }
        failures.delete(device.ifindex);
        looked.add(device.ifindex);
        if (role !== undefined) {
          attachXdpTo(device, xdp);
          const { ingress } = programsFor(device, role);
          attached.set(device.ifindex, { name: device.name, role, xdp, ingress });
        }
        log.debug({ device: device.name, role: role ?? "none" }, role === undefined ? "detached" : "attached");
      } catch (error) {
        failures.set(device.ifindex, notAttached(`Device ${device.name}`, error));
      }
    }
    reassert();
  }

  function reassert(): void {
    const before = missing;
    const found = new Map<string, Notice>();
    for (const { device, restored, error } of attachments.reassert()) {
      if (restored.length > 0) log.warn({ device, programs: restored }, "somebody took programs off: they are back");
      if (error === undefined) continue;
      const object = device === "" ? "Programs of sockets" : `Device ${device}`;
      if (!before.has(object)) log.error({ device, err: error }, "somebody took programs off: they cannot be put back");
      found.set(object, notAttached(object, error));
    }
    missing = found;
  }

  return {
    apply(next) {
      wanted = next.devices;
      let failure = writeDevices(next.devices);
      if (next.attach) {
        attachAll(next.devices);
        // What a driver can transmit may depend on the program that it has now.
        failure = writeDevices(next.devices);
      }
      if (failure !== undefined) throw failure;
    },
    isAttached(ifindex) {
      const found = attached.get(ifindex);
      return found !== undefined && !missing.has(`Device ${found.name}`);
    },
    isWhole: () => missing.size === 0 && ![...failures.values()].some(({ reason }) => reason === NOT_ATTACHED),
    notices: () => [...failures.values(), ...(wanted?.list ?? []).flatMap(vethNotices), ...missing.values()],
  };
}
