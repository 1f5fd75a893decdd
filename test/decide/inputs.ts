// Inputs of a decision with everything filled in: a node with one uplink in the lab's network, synced, with nothing to do.
import type { Believed, DesiredSettings, Inputs, ObjectFacts } from "../../src/decide/decide.ts";
import type { Device, Network, Route } from "../../src/decide/network.ts";

export function device(name: string, ifindex: number, given: Partial<Device> = {}): Device {
  return {
    name,
    ifindex,
    mac: new Uint8Array(6),
    mtu: 1500,
    up: true,
    running: true,
    master: "",
    lower: "",
    kind: "",
    linkType: "ether",
    addresses: [],
    farEnd: undefined,
    ...given,
  };
}

export function route(text: string, through: string, given: Partial<Route> = {}): Route {
  const [address = "", length = "0"] = text.split("/");
  return {
    address,
    length: Number(length),
    isDefault: text.endsWith("/0"),
    device: through,
    viaGateway: false,
    encapsulation: "",
    source: "",
    metric: 0,
    ...given,
  };
}

export const at = (...list: string[]): Device["addresses"] =>
  list.map((text) => ({ address: text.split("/")[0]!, length: Number(text.split("/")[1]) }));

export const ETH0 = device("eth0", 2, { addresses: at("192.168.122.11/24") });
export const NETWORK: Network = {
  devices: [device("lo", 1, { linkType: "loopback" }), ETH0],
  routes: [route("0.0.0.0/0", "eth0", { viaGateway: true }), route("192.168.122.0/24", "eth0")],
  routesBySource: false,
};

export const SETTINGS: DesiredSettings = {
  sockets: "all",
  uplink: 0,
  tunnel: 0,
  sourceRoutes: false,
  forwardMark: 0,
  handover: false,
  otherProxy: false,
  tcpFullUntil: 0n,
  udpFullUntil: 0n,
  crowdedUntil: 0n,
};

export interface Given {
  readonly mostDevices?: number;
  readonly wishes?: Partial<Inputs["wishes"]>;
  readonly objects?: Partial<ObjectFacts>;
  readonly synced?: boolean;
  readonly network?: Network;
  readonly networkWhole?: boolean;
  readonly firewall?: Partial<Inputs["firewall"]["value"]>;
  readonly firewallWhole?: boolean;
  readonly otherProxy?: Partial<Inputs["otherProxy"]["value"]>;
  readonly otherProxyWhole?: boolean;
  readonly flows?: Inputs["flows"]["value"];
  readonly nowMs?: number;
}

/** One array: another one is news. */
const FAMILIES = ["ipv4", "ipv6"] as const;

export function inputs(given: Given = {}): Inputs {
  const { synced = true, networkWhole = true, firewallWhole = true } = given;
  return {
    wishes: { devices: [], xdp: "auto", sockets: "all", forwardMark: 0x1000, ...given.wishes },
    mostDevices: given.mostDevices ?? 4096,
    objects: {
      generation: 0,
      complete: synced,
      value: {
        addresses: { own: ["192.168.122.11"], others: [], otherPodCIDRs: [] },
        families: FAMILIES,
        goingAway: false,
        bypassesSockets: false,
        healthChecks: [],
        waitingSinceMs: 0,
        ...given.objects,
      },
    },
    network: { generation: 0, complete: networkWhole, value: given.network ?? NETWORK },
    firewall: {
      generation: 0,
      complete: firewallWhole,
      value: { marks: false, problem: "", ipsec: "", ...given.firewall },
    },
    otherProxy: {
      generation: 0,
      complete: given.otherProxyWhole ?? true,
      value: { running: "", rules: [], connections: 0, ...given.otherProxy },
    },
    flows: {
      generation: 0,
      complete: given.flows !== undefined,
      value: given.flows ?? { tcpFullUntil: 0n, udpFullUntil: 0n, crowdedUntil: 0n },
    },
    nowMs: given.nowMs ?? 1_000_000,
  };
}

export function believed(given: Partial<Believed> = {}): Believed {
  return {
    filled: true,
    serves: true,
    handingOver: false,
    effects: [],
    settings: SETTINGS,
    previous: undefined,
    ...given,
  };
}
