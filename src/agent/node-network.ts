// Keeps the datapath's knowledge of this node's devices true: programs on uplinks and pod devices, the `devices` map (bridge,
// MTU, MAC, SNAT source), and what is wrong with the machine's network settings.
import { readFileSync } from "node:fs";
import type { Attachments, TcPrograms } from "../datapath/attach.ts";
import type { Dataplane } from "../datapath/dataplane.ts";
import { DEVICE, DEVICE_FLAG_VALUES, writeDevice } from "../datapath/layout.gen.ts";
import type { Address } from "../lib/address.ts";
import type { Log } from "../lib/log.ts";
import { XDP_TRANSMIT, xdpFeatures } from "../libbpf/mod.ts";
import type { Notice } from "../model/objects.ts";
import {
  acceptedMac,
  type DeviceRole,
  deviceRoles,
  isXdpDevice,
  podAddresses,
  snatSources,
  type XdpOption,
} from "./device-roles.ts";
import { farEndChecksums } from "./far-end.ts";
import type { Device, Network } from "./network.ts";

export interface NodeAddresses {
  readonly own: readonly Address[];
  readonly others: readonly Address[];
  readonly otherPodCIDRs: readonly string[];
}

export interface NodeNetworkOptions {
  readonly named: readonly string[];
  readonly xdp: XdpOption;
}

export interface NodeNetwork {
  /** Brings the maps in line with what was read, and, once `attach` was called, the programs too. */
  update(network: Network, addresses: NodeAddresses): void;
  /** From now on programs are attached. */
  attach(): void;
  network(): Network;
  roles(): ReadonlyMap<number, DeviceRole>;
  isAttached(ifindex: number): boolean;
  notices(): readonly Notice[];
}

const UNSET = "::";
/** What the far end of a veth does with checksums is asked again after so long: it takes a process. */
const FAR_END_MS = 10_000;

function setting(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
}

export function createNodeNetwork(
  dataplane: Dataplane,
  attachments: Attachments,
  options: NodeNetworkOptions,
  log: Log,
): NodeNetwork {
  const devices = dataplane.map("devices");
  let network: Network = { devices: [], routes: [], routesBySource: false };
  let addresses: NodeAddresses = { own: [], others: [], otherPodCIDRs: [] };
  let roles: ReadonlyMap<number, DeviceRole> = new Map();
  let attaching = false;
  const attached = new Map<number, { readonly name: string; readonly role: DeviceRole; readonly xdp: boolean }>();
  const failures = new Map<number, Notice>();
  /** Devices that XDP was asked for and refused to. */
  const unfit = new Map<number, { readonly askedMs: number; readonly notice: Notice | undefined }>();
  /** Programs that somebody took off and that could not be brought back, by object. */
  let missing: ReadonlyMap<string, Notice> = new Map();
  const written = new Map<number, string>();
  let settings: Notice[] = [];

  const index = (ifindex: number): Uint8Array => {
    const key = new Uint8Array(4);
    new DataView(key.buffer).setUint32(0, ifindex, true);
    return key;
  };

  function mayHaveXdp(device: Device): boolean {
    return roles.get(device.ifindex) === "uplink" && isXdpDevice(device, network, options.xdp);
  }

  function wantsXdp(device: Device): boolean {
    return mayHaveXdp(device) && (device.kind !== "veth" || vethProblem(device) === undefined);
  }

  /** A frame that XDP takes from a veth does not say that its checksum is still to be completed: it would go on with a wrong one. */
  function vethProblem(device: Device): Notice | undefined {
    const known = unfit.get(device.ifindex);
    const now = performance.now();
    if (known !== undefined && now - known.askedMs < FAR_END_MS) return known.notice;
    const checksums = farEndChecksums(device, network.devices);
    const what = checksums === "partial" ? "leaves checksums to be completed" : "cannot be asked about checksums";
    const message = `XDP is not used on ${device.name}, tc does its work: the far end of this veth ${what}, and XDP would forward frames with wrong ones; turn that off there (ethtool -K DEVICE tx off), or leave --xdp=auto`;
    const notice = checksums === "whole" ? undefined : noXdp(device, message);
    if (notice !== undefined && notice.message !== known?.notice?.message) log.warn(message);
    unfit.set(device.ifindex, { askedMs: now, notice });
    return notice;
  }

  function noXdp(device: Device, message: string): Notice {
    const object = `Device ${device.name}`;
    return { object, file: "", field: "", reason: "no-xdp", message, severity: "warning" };
  }

  /** The driver sends frames that XDP redirects to the device: often only while it has an XDP program itself. */
  function canTransmit(device: Device): boolean {
    return mayHaveXdp(device) && ((xdpFeatures(device.ifindex) ?? 0) & XDP_TRANSMIT) !== 0;
  }

  function writeDevices(): void {
    const present = new Set<number>();
    const bridges = new Map(
      network.devices.filter(({ kind }) => kind === "bridge").map(({ name, ifindex }) => [name, ifindex]),
    );
    for (const device of network.devices) {
      if (device.linkType === "loopback") continue;
      present.add(device.ifindex);
      const sources = snatSources(device, network, addresses.own);
      const pods = roles.get(device.ifindex) === "pod" ? podAddresses(device, network) : { IPv4: "", IPv6: "" };
      const value = new Uint8Array(DEVICE.size);
      writeDevice(value, 0, {
        master: bridges.get(device.master) ?? 0,
        flags:
          (device.linkType === "ether" ? 0 : DEVICE_FLAG_VALUES.DEVICE_NO_LINK_HEADER) |
          (canTransmit(device) ? DEVICE_FLAG_VALUES.DEVICE_XDP_TARGET : 0),
        mtu: device.mtu,
        mac: device.mac,
        accepts: acceptedMac(device, network),
        source4: sources.IPv4 || UNSET,
        source6: sources.IPv6 || UNSET,
        pod4: pods.IPv4 || UNSET,
        pod6: pods.IPv6 || UNSET,
      });
      const text = Buffer.from(value).toString("hex");
      if (written.get(device.ifindex) === text) continue;
      // A replaced element of a hash can be read in pieces: what an agent before this one wrote stays when it is right.
      const before = devices.lookup(index(device.ifindex));
      if (before === undefined || Buffer.compare(before, value) !== 0) devices.update(index(device.ifindex), value);
      written.set(device.ifindex, text);
    }
    for (const [key] of [...devices.entries()]) {
      const ifindex = new DataView(key.buffer, key.byteOffset).getUint32(0, true);
      if (present.has(ifindex)) continue;
      devices.delete(key);
      written.delete(ifindex);
    }
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
  function attachXdpTo(device: Device): void {
    if (!wantsXdp(device)) {
      attachments.detachXdp(device.name, device.ifindex);
      return;
    }
    try {
      attachments.attachXdp(device.name, device.ifindex, dataplane.program("xdp_uplink"));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      log.info({ device: device.name, reason }, "no XDP on this device");
      if (options.xdp !== "on") return;
      const message = `could not run XDP on ${device.name}, tc does its work: ${reason}`;
      failures.set(device.ifindex, noXdp(device, message));
    }
  }

  function attachAll(): void {
    const present = new Set(network.devices.map(({ ifindex }) => ifindex));
    attachments.sweep(present);
    for (const ifindex of [...attached.keys(), ...failures.keys(), ...unfit.keys()]) {
      if (present.has(ifindex)) continue;
      attached.delete(ifindex);
      failures.delete(ifindex);
      unfit.delete(ifindex);
    }
    for (const device of network.devices) {
      const role = roles.get(device.ifindex);
      const before = attached.get(device.ifindex);
      const xdp = wantsXdp(device);
      if (role === before?.role && xdp === (before?.xdp ?? false)) continue;
      try {
        if (role === undefined) {
          attachments.detachDevice(device.name, device.ifindex);
          attached.delete(device.ifindex);
        } else if (role !== before?.role) {
          attachments.attachDevice(device.name, device.ifindex, programsFor(device, role));
        }
        failures.delete(device.ifindex);
        if (role !== undefined) {
          attachXdpTo(device);
          attached.set(device.ifindex, { name: device.name, role, xdp });
        }
        log.debug({ device: device.name, role: role ?? "none" }, "attached");
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        if (!failures.has(device.ifindex)) log.error({ device: device.name, err: error }, "could not attach");
        failures.set(device.ifindex, {
          object: `Device ${device.name}`,
          file: "",
          field: "",
          reason: "not-attached",
          message,
          severity: "error",
        });
      }
    }
    reassert();
    // What a driver can transmit may depend on the program that it has now.
    writeDevices();
  }

  function reassert(): void {
    const before = missing;
    const found = new Map<string, Notice>();
    for (const { device, restored, error } of attachments.reassert()) {
      if (restored.length > 0) log.warn({ device, programs: restored }, "somebody took programs off: they are back");
      if (error === undefined) continue;
      const object = device === "" ? "Programs of sockets" : `Device ${device}`;
      if (!before.has(object)) log.error({ device, err: error }, "somebody took programs off: they cannot be put back");
      const message = error instanceof Error ? error.message : String(error);
      found.set(object, { object, file: "", field: "", reason: "not-attached", message, severity: "error" });
    }
    missing = found;
  }

  /** Without forwarding on the device that a packet came in by, no route is found for it. */
  function checkSettings(): void {
    settings = [];
    for (const device of network.devices) {
      if (!roles.has(device.ifindex)) continue;
      for (const family of ["ipv4", "ipv6"] as const) {
        const isUsed = addresses.own.some((address) => address.includes(":") === (family === "ipv6"));
        const path = `/proc/sys/net/${family}/conf/${device.name}/forwarding`;
        if (!isUsed || setting(path) !== "0") continue;
        if (device.master !== "") continue;
        settings.push({
          object: `Device ${device.name}`,
          file: "",
          field: `net.${family}.conf.${device.name}.forwarding`,
          reason: "forwarding-off",
          message: `${family === "ipv4" ? "IPv4" : "IPv6"} forwarding is off on ${device.name}: packets for backends on other nodes are dropped; set net.${family}.conf.${device.name}.forwarding=1`,
          severity: "error",
        });
      }
    }
  }

  function apply(): void {
    roles = deviceRoles({
      network,
      named: options.named,
      ownAddresses: addresses.own,
      otherAddresses: addresses.others,
      otherPodCIDRs: addresses.otherPodCIDRs,
    });
    writeDevices();
    checkSettings();
    if (attaching) attachAll();
  }

  return {
    update(read, known) {
      network = read;
      addresses = known;
      apply();
    },
    attach() {
      attaching = true;
      attachAll();
    },
    network: () => network,
    roles: () => roles,
    isAttached(ifindex) {
      const found = attached.get(ifindex);
      return found !== undefined && !missing.has(`Device ${found.name}`);
    },
    notices: () => [
      ...failures.values(),
      ...network.devices.flatMap((device) => (mayHaveXdp(device) ? (unfit.get(device.ifindex)?.notice ?? []) : [])),
      ...missing.values(),
      ...settings,
    ],
  };
}
