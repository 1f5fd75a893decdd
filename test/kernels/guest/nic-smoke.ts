// In a guest with two NICs on one hub: one is a node's uplink, the other a client's and a backend's on the LAN. The node's agent
// finds out by itself that the driver takes XDP; then the same over a VLAN device of both NICs. Requests go out again by the NIC
// that they came in by, and so do the answers.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Smoke } from "./smoke.ts";

const MILLRACE = resolve(import.meta.dirname, "../../../dist/millrace");
const MAC = { node: "52:54:00:00:00:0a", lan: "52:54:00:00:00:0b" } as const;
const NODE = { 4: "192.168.122.11", 6: "fd00:192:168:122::11" } as const;
const CLIENT = { 4: "192.168.122.51", 6: "fd00:192:168:122::51" } as const;
const BACKEND = { 4: "192.168.122.60", 6: "fd00:192:168:122::60" } as const;
const NODE_PORT = 30001;
const VLAN = 5;
const REQUESTS = 4;
const READY_MS = 120_000;
/** The LAN's processes stay outside: else their sockets would be translated as the node's. */
const NODE_CGROUP = "/sys/fs/cgroup/node";

const run = (program: string, ...args: readonly string[]): string => execFileSync(program, args, { encoding: "utf8" });
const ip = (words: string): string => run("ip", ...words.split(" "));
const lan = (words: string): string => ip(`-n lan ${words}`);

const sliceOf = (family: 4 | 6): unknown => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { name: `far-${family}`, labels: { "kubernetes.io/service-name": "far" } },
  addressType: `IPv${family}`,
  ports: [{ port: 80, protocol: "TCP", name: "" }],
  endpoints: [{ addresses: [BACKEND[family]], conditions: { ready: true } }],
});

const OBJECTS = [
  {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "far" },
    spec: { type: "NodePort", ipFamilyPolicy: "PreferDualStack", ports: [{ port: 80, nodePort: NODE_PORT }] },
  },
  sliceOf(4),
  sliceOf(6),
];

interface Uplink {
  readonly node: string;
  readonly lan: string;
}

function deviceWith(mac: string): string {
  // With the bonding driver there is a file among the devices.
  const name = readdirSync("/sys/class/net").find((device) => {
    const file = `/sys/class/net/${device}/address`;
    return existsSync(file) && readFileSync(file, "utf8").trim() === mac;
  });
  if (name === undefined) throw new Error(`there is no device with the MAC ${mac}`);
  return name;
}

function giveAddresses(uplink: Uplink): void {
  ip(`addr add ${NODE[4]}/24 dev ${uplink.node}`);
  ip(`link set ${uplink.node} up`);
  ip(`addr add ${NODE[6]}/64 dev ${uplink.node} nodad`);
  ip(`route replace default via 192.168.122.1 dev ${uplink.node}`);
  lan(`link set ${uplink.lan} up`);
  for (const at of [CLIENT, BACKEND]) {
    lan(`addr add ${at[4]}/24 dev ${uplink.lan}`);
    lan(`addr add ${at[6]}/64 dev ${uplink.lan} nodad`);
  }
}

/** The uplink moves from the NICs to VLAN devices of them. */
function toVlan({ node, lan: far }: Uplink): Uplink {
  const above = { node: `${node}.${VLAN}`, lan: `${far}.${VLAN}` };
  ip(`addr flush dev ${node}`);
  lan(`addr flush dev ${far}`);
  ip(`link add link ${node} name ${above.node} type vlan id ${VLAN}`);
  lan(`link add link ${far} name ${above.lan} type vlan id ${VLAN}`);
  return above;
}

/** Status and what a GET from the client brings. */
function get(host: string, port: number, source: string): string {
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${port}/`;
  const command = [
    "netns",
    "exec",
    "lan",
    "curl",
    "-sS",
    "-m",
    "30",
    "--interface",
    source,
    "-w",
    " %{http_code}",
    url,
  ];
  try {
    return run("ip", ...command).trim();
  } catch (error) {
    return (error as { stderr?: string }).stderr?.trim() ?? String(error);
  }
}

/** Packets that a hook sent on, by our own count. */
function packetsAt(hook: string): number {
  const text = run("curl", "-s", "http://127.0.0.1:10249/metrics");
  let sum = 0;
  for (const [, labels, value] of text.matchAll(/^millrace_packets_total\{(.*)\} (\d+)$/gm)) {
    if (labels!.toLowerCase().includes(`hook="${hook}"`) && /verdict="[^"]*(FORWARD|REPLY)/i.test(labels!))
      sum += Number(value);
  }
  return sum;
}

/** What the driver counted of XDP: XDP_TX, redirects. */
function nicCounters(device: string): string {
  const lines = run("ethtool", "-S", device)
    .split("\n")
    .map((line) => line.trim());
  return lines.filter((line) => /xdp_\w+: [1-9]/.test(line)).join(", ") || "none";
}

async function withAgent(body: () => Promise<void>): Promise<void> {
  const directory = join(tmpdir(), "millrace-nic");
  mkdirSync(directory, { recursive: true });
  OBJECTS.forEach((object, at) => {
    writeFileSync(join(directory, `${at}.yaml`), JSON.stringify(object));
  });
  const ranges = ["10.96.0.0/12", "fd00:10:96::/112"].flatMap((range) => ["--service-cluster-ip-range", range]);
  const args = ["run", "--manifests", directory, "--cgroup", NODE_CGROUP, "--xdp", "auto", ...ranges];
  const agent = spawn(MILLRACE, args, { stdio: ["ignore", "ignore", "pipe"] });
  let words = "";
  agent.stderr.on("data", (part: Buffer) => {
    words = `${words}${part.toString()}`.slice(-2000);
  });
  let ended = false;
  const end = new Promise<void>((done) => {
    agent.on("exit", () => {
      ended = true;
      done();
    });
  });
  try {
    for (const deadline = Date.now() + READY_MS; ; await delay(500)) {
      const healthy = await fetch("http://127.0.0.1:10256/healthz").then(
        (answer) => answer.ok,
        () => false,
      );
      if (healthy) break;
      if (ended || Date.now() > deadline) throw new Error(`the agent is not healthy: ${words}`);
    }
    await body();
  } finally {
    agent.kill();
    await end;
    rmSync(directory, { recursive: true });
  }
}

async function ask(smoke: Smoke, way: string): Promise<void> {
  for (const family of [4, 6] as const) {
    await smoke.check(`${way}: a backend elsewhere, IPv${family}`, async () => {
      const answers = Array.from({ length: REQUESTS }, () => get(NODE[family], NODE_PORT, CLIENT[family]));
      return answers.every((answer) => answer === "far 200") ? undefined : answers.join("; ");
    });
  }
  await smoke.check(`${way}: a port of nobody refuses`, async () => {
    const answer = get(NODE[4], NODE_PORT + 1, CLIENT[4]);
    return /refused/i.test(answer) || /Failed to connect/i.test(answer) ? undefined : answer;
  });
}

export async function nicSmoke(smoke: Smoke): Promise<void> {
  const nic: Uplink = { node: deviceWith(MAC.node), lan: deviceWith(MAC.lan) };
  const before = smoke.machine();
  mkdirSync(NODE_CGROUP, { recursive: true });
  run("modprobe", "-a", "8021q");
  for (const name of ["net.ipv4.conf.all.forwarding", "net.ipv6.conf.all.forwarding"])
    run("sysctl", "-qw", `${name}=1`);
  ip("netns add lan");
  ip(`link set ${nic.lan} netns lan`);
  lan("link set lo up");
  const answer = 'require("node:http").createServer((_, answer) => answer.end("far")).listen(80, "::")';
  const backend = spawn("ip", ["netns", "exec", "lan", process.execPath, "-e", answer], { stdio: "ignore" });
  try {
    giveAddresses(nic);
    await withAgent(async () => {
      await ask(smoke, "XDP on virtio_net");
      await smoke.check("XDP on virtio_net: the driver runs our program", async () => {
        const link = ip(`-d link show ${nic.node}`);
        return /\bprog\/xdp\b|\bxdp\b/.test(link) && !/xdpgeneric/.test(link) ? undefined : link;
      });
      await smoke.check("XDP on virtio_net: XDP forwarded", async () => {
        const forwarded = packetsAt("xdp");
        return forwarded > 0 ? undefined : "no packet was forwarded by XDP";
      });
      smoke.note(`${packetsAt("xdp")} packets; the NIC counted ${nicCounters(nic.node)}`);
    });
    const vlan = toVlan(nic);
    giveAddresses(vlan);
    await withAgent(async () => {
      await ask(smoke, "a VLAN device as uplink");
      await smoke.check("a VLAN device as uplink: tc forwarded", async () => {
        const forwarded = packetsAt("uplink_ingress");
        return forwarded > 0 ? undefined : "no packet was forwarded at tc";
      });
    });
  } finally {
    backend.kill();
    await smoke.check("cleanup leaves nothing behind", async () => {
      run(MILLRACE, "cleanup", "--cgroup", NODE_CGROUP);
      ip(`link del ${nic.node}.${VLAN}`);
      run("ip", "netns", "exec", "lan", "ip", "link", "set", nic.lan, "netns", "1");
      ip("netns del lan");
      ip(`addr flush dev ${nic.node}`);
      ip(`link set ${nic.node} down`);
      const left = await smoke.leftSince(before);
      return left.filter((line) => !line.includes(nic.lan)).join(", ") || undefined;
    });
  }
}
