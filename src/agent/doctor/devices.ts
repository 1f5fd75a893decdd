// What is said of this node's devices, by the very rules that an agent attaches its programs by. Pure.
import {
  deviceRoles,
  isXdpDevice,
  type RolesQuestion,
  tunnelOfRoutes,
  uplinkReason,
  type XdpOption,
} from "../../decide/device-roles.ts";
import type { Device, Network } from "../../decide/network.ts";
import type { NetFamily } from "../../decide/served-families.ts";
import { uplinkNotices } from "../../decide/uplink-notices.ts";
import { error, type Finding, ok, someOf, warning } from "./finding.ts";

export interface DeviceFacts {
  readonly question: RolesQuestion & { readonly network: Network };
  readonly xdp: XdpOption;
  /** Families that Services have; undefined where that is not known. */
  readonly families: readonly NetFamily[] | undefined;
  /** net.FAMILY.conf.DEVICE.forwarding, by "FAMILY DEVICE"; undefined where there is none. */
  readonly forwarding: ReadonlyMap<string, boolean>;
  /** The larger of net.ipv4.conf.all.rp_filter and the device's own, by name. */
  readonly rpFilter: ReadonlyMap<string, number>;
  /** enum netdev_xdp_act by name; 0: none, undefined: the kernel does not say. */
  readonly xdpFeatures: ReadonlyMap<string, number | undefined>;
}

export function judgeDevices(facts: DeviceFacts): Finding[] {
  const { network, named } = facts.question;
  const roles = deviceRoles(facts.question);
  const of = (role: string): Device[] => network.devices.filter(({ ifindex }) => roles.get(ifindex) === role);
  const uplinks = of("uplink");
  const pods = of("pod");
  return [
    ...uplinkFindings(facts, uplinks),
    ok("devices.pods", pods.length === 0 ? "no pod device yet" : `${count(pods.length, "pod device")}: ${names(pods)}`),
    ...others(network, roles),
    ...(named.length === 0 ? [] : namedFindings(facts, roles)),
    forwarding(facts, [...uplinks, ...pods]),
    rpFilter(facts, uplinks),
    mtu(uplinks),
    xdp(facts, uplinks),
    ...stacked(network, uplinks),
    ...encapsulation(network),
  ];
}

const names = (devices: readonly Device[]): string => someOf(devices.map(({ name }) => name));
const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? "" : "s"}`;

function uplinkFindings({ question }: DeviceFacts, uplinks: readonly Device[]): Finding[] {
  const check = "devices.uplinks";
  if (uplinks.length === 0) {
    const there = names(question.network.devices.filter(({ linkType }) => linkType !== "loopback"));
    return [
      error(
        check,
        `no device is an uplink, so nothing from outside this node is served; there is ${there || "no device but loopback"}`,
        "give one an address of this node or a default route, or name it with --devices",
      ),
    ];
  }
  return uplinks.map((device) => {
    const says = `${device.name} is an uplink: ${uplinkReason(question, device)}`;
    return device.running
      ? ok(check, says)
      : warning(check, `${says}; it is down`, `bring it up (ip link set ${device.name} up), and look at its carrier`);
  });
}

/** What is enslaved has its programs on what it is a part of. */
function others({ devices }: Network, roles: ReturnType<typeof deviceRoles>): Finding[] {
  const list = devices.filter(
    ({ ifindex, linkType, master }) => !roles.has(ifindex) && linkType !== "loopback" && master === "",
  );
  if (list.length === 0) return [];
  const are = list.length === 1 ? "is neither uplink nor a pod's" : "are neither uplinks nor pods'";
  return [
    ok(
      "devices.others",
      `${names(list)} ${are}: without an address of this Node, a default route, or a route to another node or a pod`,
    ),
  ];
}

function namedFindings(
  { question: { network, named } }: DeviceFacts,
  roles: ReturnType<typeof deviceRoles>,
): Finding[] {
  const missing = uplinkNotices(network, named, roles).filter(({ reason }) => reason === "no-such-device");
  if (missing.length === 0) return [ok("devices.named", `every device of --devices is there: ${someOf(named)}`)];
  return missing.map(({ message }) => error("devices.named", message, "correct --devices"));
}

function forwarding({ question, families, forwarding: on }: DeviceFacts, devices: readonly Device[]): Finding {
  const check = "devices.forwarding";
  const own = new Set(question.ownAddresses.map((address): NetFamily => (address.includes(":") ? "ipv6" : "ipv4")));
  const wanted = (families ?? (["ipv4", "ipv6"] as const)).filter((family) => own.size === 0 || own.has(family));
  if (wanted.length === 0) return ok(check, "no family is served that this node has");
  const off = wanted.flatMap((family) =>
    devices
      .filter(({ master, name }) => master === "" && on.get(`${family} ${name}`) === false)
      .map(({ name }) => ({ family, name })),
  );
  if (off.length === 0) return ok(check, `forwarding is on for ${wanted.map(title).join(" and ")}`);
  const where = off.map(({ family, name }) => `${title(family)} on ${name}`);
  const sysctls = off.map(({ family, name }) => `net.${family}.conf.${name}.forwarding=1`);
  const says = `forwarding is off: ${someOf(where)}; packets for backends elsewhere are dropped`;
  // A family that no Service has costs nobody a packet.
  return families === undefined
    ? warning(check, says, `set ${someOf(sysctls, 3)}, for the families that the cluster has`)
    : error(check, says, `set ${someOf(sysctls, 3)}`);
}

const title = (family: NetFamily): string => (family === "ipv4" ? "IPv4" : "IPv6");

function rpFilter({ rpFilter: modes }: DeviceFacts, uplinks: readonly Device[]): Finding {
  const check = "devices.rp-filter";
  const strict = uplinks.filter(({ name }) => modes.get(name) === 1);
  if (strict.length === 0 || uplinks.length < 2)
    return ok(
      check,
      strict.length === 0 ? "no uplink filters strictly by reverse path" : "strict, with one way in and out",
    );
  return warning(
    check,
    `rp_filter is strict on ${names(strict)}, and there is more than one uplink: packets of clients whose way back is another device are dropped`,
    "set net.ipv4.conf.all.rp_filter and that of these devices to 2 (loose) or 0",
  );
}

/** Overlays have less, and that is no accident. */
const ON_THE_WIRE: ReadonlySet<string> = new Set(["", "veth", "bond", "bridge", "vlan"]);

function mtu(uplinks: readonly Device[]): Finding {
  const wired = uplinks.filter(({ kind }) => ON_THE_WIRE.has(kind));
  const sizes = [...new Set(wired.map((device) => device.mtu))];
  if (sizes.length < 2) return ok("devices.mtu", sizes.length === 0 ? "no uplink on a wire" : `MTU ${sizes[0]}`);
  const each = wired.map((device) => `${device.name} ${device.mtu}`);
  return warning(
    "devices.mtu",
    `uplinks differ in MTU (${someOf(each)}): larger packets between them are answered "fragmentation needed", which clients behind firewalls may not get`,
    "give them one MTU where that is possible",
  );
}

function xdp({ question: { network }, xdp: option, xdpFeatures }: DeviceFacts, uplinks: readonly Device[]): Finding {
  const check = "devices.xdp";
  if (option === "off") return ok(check, "off by --xdp: tc does the work");
  const able = uplinks.filter((device) => isXdpDevice(device, network, option));
  const veths = able.filter(({ kind }) => kind === "veth");
  const native = able.filter(({ name, kind }) => kind !== "veth" && (xdpFeatures.get(name) ?? 1) !== 0);
  if (option === "on" && native.length === 0) {
    const why =
      veths.length > 0
        ? `${names(veths)} is a veth, used only where its far end completes checksums (ethtool -K DEVICE tx off)`
        : "no uplink's driver has it";
    return warning(check, `--xdp=on is asked for: ${why}; tc does the work`, "leave --xdp=auto");
  }
  return ok(check, native.length === 0 ? "no uplink's driver has it: tc does the work" : `tried on ${names(native)}`);
}

const STACKED: Readonly<Record<string, string>> = {
  bond: "programs are on the bond, not on its members",
  team: "programs are on the team device, not on its members",
  bridge: "programs are on the bridge, not on its ports",
  vlan: "programs are on the VLAN device, and see no frames of other VLANs; XDP is off on what it lies on",
  macvlan: "programs are on it and on what it lies on",
  ipvlan: "programs are on it and on what it lies on",
};

function stacked(network: Network, uplinks: readonly Device[]): Finding[] {
  return uplinks.flatMap(({ name, kind, lower }) => {
    const what = STACKED[kind];
    if (what === undefined) return [];
    const members = network.devices.filter(({ master }) => master === name);
    const below = members.length > 0 ? ` over ${names(members)}` : lower === "" ? "" : ` over ${lower}`;
    return ok("devices.stacked", `${name} is a ${kind}${below}: ${what}`);
  });
}

function encapsulation(network: Network): Finding[] {
  const routes = network.routes.filter((route) => route.encapsulation !== "");
  if (routes.length === 0) return [];
  const { problem } = tunnelOfRoutes(network);
  const [says = "", todo = ""] = problem.split("; ");
  return [
    problem === ""
      ? ok(
          "devices.encapsulation",
          `routes wrap packets for ${someOf([...new Set(routes.map(({ device }) => device))])}`,
        )
      : error("devices.encapsulation", says, todo),
  ];
}
