// One node to measure on: a network namespace with an uplink, a bridge and a point-to-point pod device, routes to nine other
// nodes, every neighbour known; the programs loaded over maps of the agent's default sizes. Nothing is attached but an empty XDP
// program, without which the kernel takes no XDP test runs for the device, and ours on a device without traffic. Everything is gone when it is disposed of.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { AgentOptions } from "../src/agent/options.ts";
import { machineSize } from "../src/cli/agent-options.ts";
import { SETTINGS } from "../src/cli/settings.ts";
import type { Dataplane } from "../src/datapath/dataplane.ts";
import { readHz } from "../src/datapath/flow-table.ts";
import { DEVICE, DEVICE_FLAG_VALUES, writeDevice } from "../src/datapath/layout.gen.ts";
import { type LoadOptions, removePins } from "../src/datapath/load.ts";
import { attachXdp, netnsCookie } from "../src/libbpf/mod.ts";
import { createModel } from "../src/model/model.ts";
import type { Model } from "../src/model/model-interface.ts";
import { SERVICE_RANGES } from "../test/flows/flow-case.ts";
import { loadDataplane } from "../test/kernel/datapath/load-dataplane.ts";
import { createNamespace, type Namespace } from "../test/kernel/datapath/namespace.ts";
import { macBytes } from "../test/kernel/datapath/packet.ts";
import { NODES, THIS_NODE } from "./cluster.ts";

export const ROUTER_MAC = "02:00:00:00:00:01";
export const UPLINK_MAC = "02:00:00:00:00:0b";
export const POD_MAC = "02:24:00:00:00:02";
export const P5_MAC = "02:24:00:00:00:85";
export const BRIDGE_MAC = "02:24:00:00:00:01";
export const NODE_ADDRESS = { IPv4: "192.168.122.11", IPv6: "fd00:192:168:122::b" } as const;
export const SNAT_FIRST = 49152;
export const SNAT_COUNT = 16384;

export type BenchDevice = "up0" | "cni0" | "pod2" | "p5";

export interface BenchNode extends Disposable {
  readonly namespace: Namespace;
  readonly dataplane: Dataplane;
  readonly pinDir: string;
  readonly stateDir: string;
  ifindex(device: BenchDevice): number;
  /** A model of this node that has adopted nothing. */
  emptyModel(): Model;
  /** One that has adopted what the maps hold. */
  model(): Model;
  /** Takes every flow out, and the marks of their backends. */
  clearFlows(): void;
}

/** What `millrace run` takes when nothing is said. */
export function defaultMapSizes(): AgentOptions["mapSizes"] {
  const machine = { nodeName: "", cgroup: "", ...machineSize() };
  const parts = SETTINGS.filter(({ name }) => name.startsWith("max-")).map(
    (setting) => setting.read(setting.defaultValue(machine)).mapSizes,
  );
  return Object.assign({}, ...parts) as AgentOptions["mapSizes"];
}

function wire(namespace: Namespace): void {
  const { ip, sysctl } = namespace;
  sysctl("net.ipv4.ip_forward", 1);
  sysctl("net.ipv6.conf.all.forwarding", 1);
  sysctl("net.ipv6.conf.default.accept_dad", 0);
  const pair = (device: string, peer: string, mac: string): void => {
    ip(`link add ${device} address ${mac} type veth peer name ${peer}`);
    ip(`link set ${peer} up`);
    ip(`link set ${device} up`);
  };
  pair("up0", "lan0", UPLINK_MAC);
  ip(`addr add ${NODE_ADDRESS.IPv4}/24 dev up0`);
  ip(`addr add ${NODE_ADDRESS.IPv6}/64 dev up0 nodad`);
  ip(`link add cni0 address ${BRIDGE_MAC} type bridge`);
  ip("link set cni0 up");
  ip("addr add 10.129.0.1/16 dev cni0");
  ip("addr add fd00:10:1::1/48 dev cni0 nodad");
  pair("pod2", "in2", "02:24:00:00:00:82");
  ip("link set pod2 master cni0");
  pair("p5", "in5", P5_MAC);
  // The kernel calls XDP programs directly only while they are attached somewhere: to a device that hears nothing.
  sysctl("net.ipv6.conf.default.disable_ipv6", 1);
  pair("idle0", "idle1", "02:00:00:00:00:99");
  ip("route add 10.128.0.5/32 dev p5");
  ip("route add fd00:10:0::5/128 dev p5");
  const neighbour = (address: string, mac: string): void =>
    void ip(`neigh replace ${address} lladdr ${mac} dev up0 nud permanent`);
  neighbour("192.168.122.1", ROUTER_MAC);
  neighbour("fd00:192:168:122::1", ROUTER_MAC);
  ip("route add default via 192.168.122.1");
  ip("route add default via fd00:192:168:122::1");
  for (let number = 2; number <= NODES; number++) {
    const hex = (10 + number).toString(16);
    const mac = `02:00:00:00:00:${hex.padStart(2, "0")}`;
    neighbour(`192.168.122.${10 + number}`, mac);
    neighbour(`fd00:192:168:122::${hex}`, mac);
    ip(`route add 10.${128 + number}.0.0/16 via 192.168.122.${10 + number}`);
    ip(`route add fd00:10:${number.toString(16)}::/48 via fd00:192:168:122::${hex}`);
  }
}

const DEVICES: readonly BenchDevice[] = ["up0", "cni0", "pod2", "p5"];

/** Makes the node. `mapSizes` default to the agent's. */
export function createBenchNode(mapSizes: LoadOptions["mapSizes"] = defaultMapSizes()): BenchNode {
  const undo: (() => void)[] = [];
  const dispose = (): void => {
    for (const step of undo.splice(0).reverse()) step();
  };
  try {
    const namespace = createNamespace();
    undo.push(() => namespace[Symbol.dispose]());
    wire(namespace);
    const stateDir = fs.mkdtempSync(path.join(os.tmpdir(), "millrace-bench-"));
    undo.push(() => fs.rmSync(stateDir, { recursive: true, force: true }));
    const pinDir = `/sys/fs/bpf/${path.basename(stateDir)}`;
    undo.push(() => removePins(pinDir));
    const loaded = loadDataplane({ pinDir, stateDir, mapSizes, l3: true, xdp: true });
    undo.push(() => loaded.close());
    const { dataplane } = loaded;
    const indexes = new Map(DEVICES.map((device) => [device, namespace.ifindex(device)]));
    const ifindex = (device: BenchDevice): number => indexes.get(device)!;
    const attach = (program: string, device: string): void => {
      const link = namespace.inside(() => attachXdp(dataplane.program(program), namespace.ifindex(device)));
      undo.push(() => link.close());
    };
    attach("xdp_pass", "up0");
    attach("xdp_uplink", "idle0");
    for (const device of DEVICES) {
      const value = new Uint8Array(DEVICE.size);
      writeDevice(value, 0, {
        master: device === "pod2" ? ifindex("cni0") : 0,
        flags: device === "up0" ? DEVICE_FLAG_VALUES.DEVICE_XDP_TARGET : 0,
        mtu: 1500,
        mac: macBytes(namespace.mac(device)),
        accepts: macBytes(namespace.mac(device === "pod2" ? "cni0" : device)),
        source4: device === "cni0" ? "10.129.0.1" : NODE_ADDRESS.IPv4,
        source6: device === "cni0" ? "fd00:10:1::1" : NODE_ADDRESS.IPv6,
        pod4: "::",
        pod6: "::",
      });
      dataplane.map("devices").update(new Uint8Array(Uint32Array.of(ifindex(device)).buffer), value);
    }
    dataplane.writeSettings({
      nodeCookie: namespace.inside(netnsCookie),
      sockets: 0,
      hz: readHz(dataplane),
      snatFirst: SNAT_FIRST,
      snatCount: SNAT_COUNT,
      tcpFullUntil: 0n,
      udpFullUntil: 0n,
      crowdedUntil: 0n,
      uplink: ifindex("up0"),
      forwardMark: 0,
      handover: 0,
      tunnel: 0,
      replies: 1000,
      flags: 0,
    });
    const emptyModel = (): Model =>
      createModel({ nodeName: THIS_NODE, capacity: dataplane.capacity, serviceRanges: SERVICE_RANGES });
    return {
      namespace,
      dataplane,
      pinDir,
      stateDir,
      ifindex,
      emptyModel,
      model: () => {
        const model = emptyModel();
        model.adopt(dataplane.readState());
        return model;
      },
      clearFlows() {
        for (const name of ["tcp_flows", "udp_flows", "openings"]) {
          const map = dataplane.map(name);
          const { keys, count } = map.readAll();
          if (count > 0) map.deleteBatch(keys, count);
        }
        dataplane.metBackends.fill(0n);
      },
      [Symbol.dispose]: dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}
