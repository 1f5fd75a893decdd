// One node of a made-up cluster for tests: a network namespace with an uplink, a bridge and pods, the loaded programs, maps
// filled through the model. Packets are put to the programs by BPF_PROG_TEST_RUN in that namespace; nothing is attached.
//
// Node N: up0 192.168.122.(10+N) and fd00:192:168:122::(10+N); up1 10.8.0.N with MTU 1400; cni0 with pods 2, 3 and 99 of
// 10.244.N.0/24; p5, a pod device without bridge. Every neighbour is permanent.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { Dataplane } from "../../../src/datapath/dataplane.ts";
import { readClocks } from "../../../src/datapath/flow-table.ts";
import {
  DEVICE,
  DEVICE_FLAG_VALUES,
  FLOW,
  FLOW_PATH_VALUES,
  FLOW_STATE_VALUES,
  type Flow,
  HOOK_VALUES,
  readFlow,
  readTuple,
  type Settings,
  type Tuple,
  VERDICT_VALUES,
  writeDevice,
} from "../../../src/datapath/layout.gen.ts";
import { type Loaded, removePins } from "../../../src/datapath/load.ts";
import { attachXdp, netnsCookie, openObject, possibleCpus } from "../../../src/libbpf/mod.ts";
import { createModel } from "../../../src/model/model.ts";
import { eventsOf } from "../../flows/builders.ts";
import { type FlowCase, modelOptions, NODES, SERVICE_RANGES } from "../../flows/flow-case.ts";
import { audit } from "../../packets/audit.ts";
import { skipWithout } from "../kernel-lacks.ts";
import { loadDataplane, loadOnUse } from "./load-dataplane.ts";
import { createNamespace, type Namespace } from "./namespace.ts";
import { describePacket, macBytes } from "./packet.ts";

/** What a program returned. */
export const ACTION = { next: -1, ok: 0, shot: 2, redirect: 7 } as const;
export const XDP_ACTION = { drop: 1, pass: 2, tx: 3, redirect: 4 } as const;
/** "Mill": what redirected packets carry past our own egress programs. */
export const MARK_REDIRECTED = 0x4d696c6c;
export const SNAT_FIRST = 45000;
export const SNAT_COUNT = 8192;
/** What the programs are told that a second has in jiffies, whatever the kernel's has. */
export const HZ = 1000;
/** More than any test makes in a second. */
export const REPLIES = 1_000_000;

export type Device = "up0" | "up1" | "cni0" | "pod2" | "pod3" | "pod99" | "p5";

export interface RunOptions {
  /** The device whose program runs. @default up0, pod99 for programs of pods */
  readonly device?: Device | number;
  /** Not 0: the packet was forwarded, or comes from there. */
  readonly ingressIfindex?: number;
  readonly mark?: number;
  readonly gsoSize?: number;
}

export interface Run {
  readonly action: number;
  /** What was counted: "VERDICT_PASS", "DROP_TTL" ...; "none" when the packet was none to count. */
  readonly verdict: string;
  /** The hook that counted. */
  readonly hook: string;
  readonly packet: Uint8Array;
  readonly mark: number;
  /** The packet in one line. */
  readonly text: string;
}

export type Program =
  | "tc_uplink_ingress"
  | "tc_uplink_egress"
  | "tc_uplink_in_l3"
  | "tc_uplink_out_l3"
  | "tc_pod_ingress"
  | "tc_pod_egress"
  | "xdp_uplink";

export interface FlowRow {
  readonly table: "openings" | "tcp_flows" | "udp_flows";
  readonly key: Tuple;
  readonly flow: Flow;
}

export interface TestNode extends Disposable {
  readonly number: number;
  readonly namespace: Namespace;
  readonly dataplane: Dataplane;
  readonly loaded: Loaded;
  /** Where the maps are pinned, and what is remembered of them. */
  readonly pinDir: string;
  readonly stateDir: string;
  ifindex(device: Device): number;
  mac(device: Device): string;
  /** Makes the maps hold what these objects ask for, and nothing else. */
  feed(
    objects: Parameters<typeof eventsOf>[0] &
      Pick<FlowCase["given"], "networks" | "externalIPRanges" | "nodePortAddresses">,
  ): Promise<void>;
  /** Takes every flow, every retired backend, and whatever else packets left behind out. */
  clearFlows(): void;
  /** The words of `met_backends`. */
  readonly met: BigUint64Array;
  /** The kernel's, all 64 bits. */
  jiffies(): bigint;
  run(program: Program, packet: Uint8Array, options?: RunOptions): Run;
  flows(): FlowRow[];
  /** "openings 192.0.2.1:1 > 10.0.0.1:80 => 192.0.2.1:1 > 10.0.0.2:80 OUTSIDE_LOCAL ANSWERED", sorted. */
  flowTexts(): string[];
  /** Writes the flow of a row back, changed. */
  putFlow(row: FlowRow, change: Partial<Flow>): void;
  deleteFlow(row: FlowRow): void;
  settings(change: Partial<Settings>): void;
  /** Changes one device's row, or takes it out. */
  device(device: Device, change: Partial<DeviceRow> | undefined): void;
  /** Counters by "HOOK VERDICT" that are not 0. */
  verdicts(): ReadonlyMap<string, number>;
}

export interface DeviceRow {
  readonly master: number;
  readonly flags: number;
  readonly mtu: number;
  readonly mac: Uint8Array;
  readonly accepts: Uint8Array;
  readonly source4: string;
  readonly source6: string;
  readonly pod4: string;
  readonly pod6: string;
}

/** Every "HOOK VERDICT" that any node of this process counted. */
export const seenVerdicts = new Set<string>();

/** An XDP program that lets everything through. */
export const PASS_OBJECT = path.join(import.meta.dirname, "../../../build/bpf/pass.bpf.o");

const FLOW_TABLES = ["openings", "tcp_flows", "udp_flows"] as const;
const LEFT_BY_PACKETS = [
  "retired",
  "neighbour_questions",
  "socket_peers",
  "fragments",
  "crowded_clients",
  "affinity",
] as const;
const nameOf = (values: Readonly<Record<string, number>>, prefix: string, value: number): string =>
  Object.entries(values)
    .find(([name, one]) => one === value && !name.endsWith("_MAX"))?.[0]
    .replace(prefix, "") ?? String(value);

/** "HOOK VERDICT" by the index of `verdicts`. */
const COUNTED = Array.from({ length: HOOK_VALUES.HOOK_MAX * VERDICT_VALUES.VERDICT_MAX }, (_, index) => {
  const hook = nameOf(HOOK_VALUES, "HOOK_", Math.floor(index / VERDICT_VALUES.VERDICT_MAX));
  return `${hook} ${nameOf(VERDICT_VALUES, "", index % VERDICT_VALUES.VERDICT_MAX)}`;
});

/** MAC of the host whose IPv4 address ends so, on its LAN. */
export function macOf(lan: "lan" | "tunnel" | "pod", last: number): string {
  const second = { lan: "00", tunnel: "08", pod: "24" }[lan];
  return `02:${second}:00:00:00:${last.toString(16).padStart(2, "0")}`;
}

function wire(namespace: Namespace, n: number): void {
  const { sysctl } = namespace;
  const lines: string[] = [];
  const ip = (line: string): void => void lines.push(line);
  sysctl("net.ipv4.ip_forward", 1);
  sysctl("net.ipv6.conf.all.forwarding", 1);
  sysctl("net.ipv6.conf.default.accept_dad", 0);
  const pair = (device: string, peer: string, mac: string): void => {
    ip(`link add ${device} address ${mac} type veth peer name ${peer}`);
    ip(`link set ${peer} up`);
    ip(`link set ${device} up`);
  };
  pair("up0", "lan0", macOf("lan", 10 + n));
  pair("up1", "lan1", macOf("tunnel", n));
  ip("link set up1 mtu 1400");
  ip(`addr add 192.168.122.${10 + n}/24 dev up0`);
  ip(`addr add fd00:192:168:122::${10 + n}/64 dev up0 nodad`);
  ip(`addr add 10.8.0.${n}/24 dev up1`);
  ip(`addr add fd00:8::${n}/64 dev up1 nodad`);
  ip(`link add cni0 address ${macOf("pod", 1)} type bridge`);
  ip("link set cni0 up");
  ip(`addr add 10.244.${n}.1/24 dev cni0`);
  ip(`addr add fd00:10:244:${n}::1/64 dev cni0 nodad`);
  for (const pod of [2, 3, 99]) {
    pair(`pod${pod}`, `in${pod}`, macOf("pod", 0x80 + pod));
    ip(`link set pod${pod} master cni0`);
  }
  pair("p5", "in5", macOf("pod", 0x85));
  ip(`route add 10.244.${n}.5/32 dev p5`);
  ip(`route add fd00:10:244:${n}::5/128 dev p5`);
  const neighbour = (address: string, mac: string, device: string): void =>
    ip(`neigh replace ${address} lladdr ${mac} dev ${device} nud permanent`);
  for (const last of [1, 51, 52, 77]) {
    neighbour(`192.168.122.${last}`, macOf("lan", last), "up0");
    neighbour(`fd00:192:168:122::${last}`, macOf("lan", last), "up0");
  }
  for (const pod of [2, 3, 7, 99]) {
    neighbour(`10.244.${n}.${pod}`, macOf("pod", pod), "cni0");
    neighbour(`fd00:10:244:${n}::${pod}`, macOf("pod", pod), "cni0");
  }
  neighbour(`10.244.${n}.5`, macOf("pod", 5), "p5");
  neighbour(`fd00:10:244:${n}::5`, macOf("pod", 5), "p5");
  for (const other of [1, 2, 3].filter((one) => one !== n)) {
    neighbour(`192.168.122.${10 + other}`, macOf("lan", 10 + other), "up0");
    neighbour(`fd00:192:168:122::${10 + other}`, macOf("lan", 10 + other), "up0");
    ip(`route add 10.244.${other}.0/24 via 192.168.122.${10 + other}`);
    ip(`route add fd00:10:244:${other}::/64 via fd00:192:168:122::${10 + other}`);
  }
  neighbour("10.8.0.9", macOf("tunnel", 9), "up1");
  neighbour("fd00:8::9", macOf("tunnel", 9), "up1");
  ip("route add 10.244.9.0/24 via 10.8.0.9");
  ip("route add fd00:10:244:9::/64 via fd00:8::9");
  ip("route add default via 192.168.122.1");
  ip("route add default via fd00:192:168:122::1");
  namespace.ip(...lines);
}

const DEVICES: readonly Device[] = ["up0", "up1", "cni0", "pod2", "pod3", "pod99", "p5"];

function deviceRows(n: number, namespace: Namespace): Map<Device, { ifindex: number; row: DeviceRow }> {
  const rows = new Map<Device, { ifindex: number; row: DeviceRow }>();
  const links = JSON.parse(namespace.ip("-j link show")) as { ifname: string; ifindex: number; address: string }[];
  const linkOf = (device: Device) => links.find(({ ifname }) => ifname === device)!;
  const cni0 = linkOf("cni0").ifindex;
  for (const device of DEVICES) {
    const mac = macBytes(linkOf(device).address);
    const isPort = device.startsWith("pod");
    const source: readonly [string, string] = isPort
      ? [`10.244.${n}.1`, `fd00:10:244:${n}::1`]
      : device === "up1"
        ? [`10.8.0.${n}`, `fd00:8::${n}`]
        : device === "cni0"
          ? [`10.244.${n}.1`, `fd00:10:244:${n}::1`]
          : [`192.168.122.${10 + n}`, `fd00:192:168:122::${10 + n}`];
    rows.set(device, {
      ifindex: linkOf(device).ifindex,
      row: {
        master: isPort ? cni0 : 0,
        flags: device === "up0" ? DEVICE_FLAG_VALUES.DEVICE_XDP_TARGET : 0,
        mtu: device === "up1" ? 1400 : 1500,
        mac,
        accepts: isPort ? macBytes(macOf("pod", 1)) : mac,
        source4: source[0],
        source6: source[1],
        pod4: device === "p5" ? `10.244.${n}.5` : "::",
        pod6: device === "p5" ? `fd00:10:244:${n}::5` : "::",
      },
    });
  }
  return rows;
}

export interface TestNodeOptions {
  readonly flows?: number;
  readonly openings?: number;
  /** up0 is made ready for test runs of XDP, which real traffic would notice. @default true */
  readonly xdpRuns?: boolean;
  /** Every program is loaded at once, as an agent does it; else each when it is first asked for. @default false */
  readonly loadAll?: boolean;
}

/** Makes node N with programs of its own. Everything is gone when it is disposed of. */
export function createTestNode(number = 1, options: TestNodeOptions = {}): TestNode {
  const undo: (() => void)[] = [];
  const dispose = (): void => {
    for (const step of undo.splice(0).reverse()) step();
  };
  try {
    return make(number, options, undo, dispose);
  } catch (error) {
    dispose();
    throw error;
  }
}

function make(number: number, options: TestNodeOptions, undo: (() => void)[], dispose: () => void): TestNode {
  const namespace = createNamespace();
  undo.push(() => namespace[Symbol.dispose]());
  wire(namespace, number);
  const stateDir = fs.mkdtempSync(path.join(os.tmpdir(), `millrace-datapath-${process.pid.toString(36)}-`));
  undo.push(() => fs.rmSync(stateDir, { recursive: true, force: true }));
  const pinDir = `/sys/fs/bpf/${path.basename(stateDir)}`;
  undo.push(() => removePins(pinDir));
  const load = options.loadAll ? loadDataplane : loadOnUse;
  const loaded = load({
    pinDir,
    stateDir,
    mapSizes: {
      services: 64,
      frontends: 64,
      backends: 64,
      slots: 4096,
      flows: options.flows ?? 4096,
      openings: options.openings ?? 4096,
    },
    l3: true,
    xdp: true,
  });
  undo.push(() => loaded.close());
  const { dataplane } = loaded;
  const devices = deviceRows(number, namespace);
  const ifindex = (device: Device): number => devices.get(device)!.ifindex;

  // A queue of a device takes test runs of XDP only when it has an XDP program.
  if (options.xdpRuns ?? true) {
    const passing = openObject(PASS_OBJECT);
    undo.push(() => passing.close());
    passing.load();
    const link = namespace.inside(() => attachXdp(passing.program("xdp_pass"), ifindex("up0")));
    undo.push(() => link.close());
  }

  const deviceMap = dataplane.map("devices");
  const deviceKey = (device: Device): Uint8Array => new Uint8Array(Uint32Array.of(ifindex(device)).buffer);
  const putDevice = (device: Device, row: DeviceRow): void => {
    const value = new Uint8Array(DEVICE.size);
    writeDevice(value, 0, row);
    deviceMap.update(deviceKey(device), value);
  };
  for (const [device, { row }] of devices) putDevice(device, row);

  dataplane.writeSettings({
    nodeCookie: namespace.inside(netnsCookie),
    bypass: 0n,
    tcpFullUntil: 0n,
    udpFullUntil: 0n,
    crowdedUntil: 0n,
    sockets: 0,
    hz: HZ,
    snatFirst: SNAT_FIRST,
    snatCount: SNAT_COUNT,
    uplink: ifindex("up0"),
    forwardMark: 0,
    handover: 0,
    tunnel: 0,
    replies: REPLIES,
    flags: 0,
  });
  const met = new BigUint64Array(dataplane.map("met_backends").mmap(true));

  const verdictMap = dataplane.map("verdicts");
  const cpus = possibleCpus();
  /** Counts over all CPUs, by the index of the map. */
  const counts = (): number[] => {
    const rows = verdictMap.readAll();
    const keys = new Uint32Array(rows.keys.buffer, rows.keys.byteOffset, rows.count);
    const values = new BigUint64Array(rows.values.buffer, rows.values.byteOffset, rows.count * cpus);
    const found: number[] = [];
    for (let i = 0; i < rows.count; i++) {
      let sum = 0n;
      for (let cpu = 0; cpu < cpus; cpu++) sum += values[i * cpus + cpu]!;
      found[keys[i]!] = Number(sum);
    }
    return found;
  };
  const verdicts = (): Map<string, number> => {
    const found = new Map<string, number>();
    for (const [index, count] of counts().entries()) if (count > 0) found.set(COUNTED[index]!, count);
    for (const name of found.keys()) seenVerdicts.add(name);
    return found;
  };

  const tables = FLOW_TABLES.map((name) => ({ name, map: dataplane.map(name) }));
  const flows = (): FlowRow[] =>
    tables.flatMap(({ name, map }) =>
      [...map.entries()].map(([key, value]) => ({ table: name, key: readTuple(key), flow: readFlow(value) })),
    );
  const rawKey = (row: FlowRow): Uint8Array => {
    const { map } = tables.find(({ name }) => name === row.table)!;
    const text = JSON.stringify(row.key);
    for (const [key] of map.entries()) if (JSON.stringify(readTuple(key)) === text) return key;
    throw new Error(`no flow ${flowText(row)}`);
  };

  const run = (program: Program, data: Uint8Array, given: RunOptions = {}): Run => {
    const device = given.device ?? (program.startsWith("tc_pod") ? "pod99" : "up0");
    const index = typeof device === "number" ? device : ifindex(device);
    const xdp = program === "xdp_uplink";
    if (xdp) skipWithout("xdp_run_context");
    else if (given.ingressIfindex !== undefined) skipWithout("run_ingress_ifindex");
    const context = new Uint8Array(xdp ? 24 : 192);
    const view = new DataView(context.buffer);
    if (xdp) {
      view.setUint32(4, data.length, true);
      view.setUint32(12, index, true);
    } else {
      view.setUint32(8, given.mark ?? 0, true);
      view.setUint32(36, given.ingressIfindex ?? 0, true);
      view.setUint32(40, index, true);
      view.setUint32(176, given.gsoSize ?? 0, true);
    }
    const before = counts();
    const result = namespace.inside(() => dataplane.program(program).testRun({ data, context }));
    const counted = counts().flatMap((count, index) => (count === before[index] ? [] : [COUNTED[index]!]));
    for (const name of counted) seenVerdicts.add(name);
    if (counted.length > 1) throw new Error(`${program} counted more than once: ${counted.join(", ")}`);
    const [hook = "none", verdict = "none"] = (counted[0] ?? "none none").split(" ");
    const out = result.data.slice();
    let text: string;
    try {
      text = describePacket(out, { link: !program.endsWith("_l3") });
    } catch {
      text = Buffer.from(out).toString("hex");
    }
    const faults = result.retval === ACTION.shot ? [] : auditOf(program, data, out);
    if (faults.length > 0) throw new Error(`${program} made ${text}: ${faults.join(", ")}`);
    const mark = xdp ? 0 : new DataView(result.context.buffer, result.context.byteOffset).getUint32(8, true);
    // Whoever is next on the device must see what we did not consume (TC_ACT_OK would hide it).
    if (!xdp && result.retval === ACTION.ok) throw new Error(`${program} returned TC_ACT_OK for ${text}`);
    return { action: result.retval, verdict, hook, packet: out, mark, text };
  };

  let pods = new Map<Device, DeviceRow>([...devices].map(([name, { row }]) => [name, row]));
  return {
    number,
    namespace,
    dataplane,
    loaded,
    pinDir,
    stateDir,
    ifindex,
    mac: (device) => namespace.mac(device),
    async feed(objects) {
      const model = createModel({
        nodeName: `node${number}`,
        capacity: dataplane.capacity,
        serviceRanges: SERVICE_RANGES,
        ...modelOptions(objects),
      });
      // A node that tells no address is what it was before a restart; here it is another one each time.
      const state = dataplane.readState();
      const addresses = new Map([...state.addresses].map(([one, roles]) => [one, { ...roles, node: false }]));
      model.adopt({ ...state, addresses });
      model.update(eventsOf({ ...objects, nodes: objects.nodes ?? NODES }));
      model.setNetworks(objects.networks ?? []);
      await dataplane.apply(model.plan());
    },
    clearFlows() {
      for (const name of [...FLOW_TABLES, ...LEFT_BY_PACKETS]) {
        const map = dataplane.map(name);
        for (const [key] of map.entries()) map.delete(key);
      }
      met.fill(0n);
    },
    met,
    jiffies: () => readClocks(dataplane).allJiffies,
    run,
    flows,
    flowTexts: () => flows().map(flowText).sort(),
    putFlow(row, change) {
      const { map } = tables.find(({ name }) => name === row.table)!;
      const key = rawKey(row);
      const value = map.lookup(key)!;
      changeFlow(value, change);
      map.update(key, value);
    },
    deleteFlow(row) {
      tables.find(({ name }) => name === row.table)!.map.delete(rawKey(row));
    },
    settings(change) {
      dataplane.writeSettings({ ...dataplane.readSettings(), ...change });
      if (change.bypass !== undefined) dataplane.setBypass(change.bypass !== 0n);
    },
    device(device, change) {
      if (change === undefined) {
        deviceMap.delete(deviceKey(device));
        return;
      }
      const row = { ...pods.get(device)!, ...change };
      pods = new Map([...pods, [device, row]]);
      putDevice(device, row);
    },
    verdicts,
    [Symbol.dispose]: dispose,
  };
}

/** What the judge of packets says; what a device without link header is given may leave by one with it. */
function auditOf(program: Program, sent: Uint8Array, got: Uint8Array): string[] {
  if (Buffer.compare(sent, got) === 0) return [];
  const link = !program.endsWith("_l3");
  const version = got[0]! >> 4;
  return audit(sent, got, link, link || (version !== 4 && version !== 6));
}

/** Words that change while a flow lives, and those that tests break on purpose. */
function changeFlow(value: Uint8Array, change: Partial<Flow>): void {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  for (const field of ["backend", "generation", "service", "check", "seen", "state", "number"] as const) {
    const given = change[field];
    if (given !== undefined) view.setUint32(FLOW[field], given, true);
  }
}

const end = (address: string, port: number): string =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;

export function tupleText(tuple: Tuple): string {
  return `${end(tuple.source, tuple.sourcePort)} > ${end(tuple.destination, tuple.destinationPort)}`;
}

export function flowText({ table, key, flow }: FlowRow): string {
  const states = Object.entries(FLOW_STATE_VALUES)
    .filter(([, bit]) => flow.state & bit)
    .map(([name]) => name.replace("STATE_", ""));
  const path = nameOf(FLOW_PATH_VALUES, "PATH_", flow.path);
  const words = [
    table,
    tupleText(key),
    "=>",
    tupleText(flow.write),
    path,
    ...(flow.answer ? ["answer"] : []),
    ...states,
  ];
  return words.join(" ");
}
