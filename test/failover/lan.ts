// What happens to the LAN of a lab or a cluster: links, splits, strangers with an address, a switch that answers for others; and
// the prober on it.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { lanGateways, uplinkMac } from "../../src/lab/addressing.ts";
import { namespaceName } from "../../src/lab/lab-paths.ts";
import { addHost, healLan, type LabNetwork, setLink, splitLan } from "../../src/lab/network.ts";
import { changeNetwork, inNamespace, type NetworkScript, runChecked, runProgram } from "../../src/lab/shell.ts";
import type { Address } from "../../src/lib/address.ts";
import { Program } from "../lab/traffic/test-lab.ts";
import { type Probing, SLOTS, slotAddress } from "./probe-words.ts";
import { Undo } from "./undo.ts";

/** Hosts of the LAN that are none of the lab's own. */
const STRANGER = 40;
const SECOND_NIC = "eth1";

/** What announcers send: rules of nftables by the name of a counter. */
const FRAMES = {
  resolution: ["meta protocol arp"],
  neighbours: ["icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"],
  // Questions, and answers.
  liveness: ["udp dport 7948", "udp sport 7948"],
  memberlist: ["udp dport 7946", "tcp dport 7946", "tcp sport 7946"],
} as const;
type FrameKind = keyof typeof FRAMES;
export type FrameCounts = Readonly<Record<FrameKind, number>>;

export class Lan {
  readonly #network: LabNetwork;
  readonly changes = new Undo();

  constructor(network: LabNetwork) {
    this.#network = network;
  }

  namespace(part: string): string {
    return namespaceName(this.#network.lab, part);
  }

  /** The node that a MAC belongs to, its second device's too; the MAC itself when it is no node's. */
  ownerOf(mac: string): string {
    const number = Number.parseInt(mac.slice(-2), 16);
    if (mac === uplinkMac("node", number) || mac === secondMac(number)) return `node${number}`;
    return mac === uplinkMac("host", STRANGER) ? "a stranger" : mac;
  }

  #put(name: string, put: (script: NetworkScript) => void, back: (script: NetworkScript) => void): Promise<void> {
    return this.changes.put(
      name,
      () => changeNetwork(name, put),
      () => changeNetwork(name, back),
    );
  }

  linkDown(node: string): Promise<void> {
    const number = numberOf(node);
    return this.#put(
      `link of ${node}`,
      (script) => setLink(script, this.#network, number, "down"),
      (script) => setLink(script, this.#network, number, "up"),
    );
  }

  linkUp(node: string): Promise<void> {
    return this.changes.take(`link of ${node}`);
  }

  /** Nothing passes between the two sides; who is on neither sees both. */
  split(left: readonly string[], right: readonly string[]): Promise<void> {
    return this.#put(
      "split",
      (script) => splitLan(script, this.#network, left, right),
      (script) => healLan(script, this.#network),
    );
  }

  heal(): Promise<void> {
    return this.changes.take("split");
  }

  /** A host outside the cluster that has `address` beside its own. */
  foreignHost(address: Address): Promise<void> {
    return this.#put(
      "foreign host",
      (script) => addHost(script, this.#network, STRANGER, address),
      (script) => this.#removeStranger(script),
    );
  }

  /** A router that answers for every address that it has a route to, and it has one to all. */
  proxyArpRouter(): Promise<void> {
    const namespace = this.namespace(`h${STRANGER}`);
    return this.#put(
      "router with proxy ARP",
      (script) => {
        addHost(script, this.#network, STRANGER, "198.51.100.1");
        script
          .sysctl(namespace, {
            "net.ipv4.ip_forward": 1,
            "net.ipv4.conf.eth0.proxy_arp": 1,
            "net.ipv4.neigh.eth0.proxy_delay": 0,
          })
          // Elsewhere than where it is asked: a proxy is silent about what lies on the asker's side.
          .ip(namespace, [
            "link add out0 type veth peer name out1",
            "link set out0 up",
            "link set out1 up",
            "route add 192.168.122.96/27 dev out0",
            "route add 192.168.122.128/26 dev out0",
          ]);
      },
      (script) => this.#removeStranger(script),
    );
  }

  #removeStranger(script: NetworkScript): void {
    script
      .ip("", [`netns del ${this.namespace(`h${STRANGER}`)}`], { force: true })
      .ip(this.namespace("lan"), ["route flush 198.51.100.1/32", `link del h${STRANGER}`], { force: true });
  }

  /** The bridge answers ARP and NDP for what it knows, and floods neither to the nodes' ports. */
  async suppressNeighbours(nodes: readonly string[], address: Address): Promise<void> {
    const lan = this.namespace("lan");
    const set = (state: "on" | "off") => (script: NetworkScript) =>
      void script.bridge(
        lan,
        nodes.map((node) => `link set dev ${node} neigh_suppress ${state}`),
      );
    await this.#put("neigh_suppress", set("on"), set("off"));
    // It answers for what its own table of neighbours holds.
    const [gateway = ""] = lanGateways(true);
    await runProgram("nsenter", [`--net=/run/netns/${lan}`, "ping", "-c1", "-W1", "-I", gateway, address]);
  }

  /** The bridge sends multicast only to ports that joined, and asks who did. */
  snoopMulticast(): Promise<void> {
    const set = (state: 0 | 1) => (script: NetworkScript) =>
      void script.ip(this.namespace("lan"), [
        `link set lan0 type bridge mcast_snooping ${state} mcast_querier ${state} mcast_startup_query_interval 100`,
      ]);
    return this.#put("multicast snooping", set(1), set(0));
  }

  /** A second device of each node on the same LAN, with an address of the same subnet. */
  secondNics(nodes: readonly string[]): Promise<void> {
    const lan = this.namespace("lan");
    return this.#put(
      "second NICs",
      (script) => {
        for (const node of nodes) {
          const number = numberOf(node);
          script
            .ip(lan, [
              `link add ${node}b type veth peer name ${SECOND_NIC} address ${secondMac(number)} netns ${this.namespace(node)}`,
              `link set ${node}b master lan0 up`,
            ])
            .ip(this.namespace(node), [
              `addr add 192.168.122.${20 + number}/24 dev ${SECOND_NIC}`,
              `link set ${SECOND_NIC} up`,
            ]);
        }
      },
      (script) => {
        script.ip(
          lan,
          nodes.map((node) => `link del ${node}b`),
          { force: true },
        );
      },
    );
  }

  secondNicsDown(node: string): Promise<void> {
    return changeNetwork(`second NIC of ${node}`, (script) => {
      script.ip(this.namespace("lan"), [`link set ${node}b down`]);
    });
  }

  /** Counts frames that the nodes' ports send into the LAN from now on, by kind. */
  async countFrames(nodes: readonly string[]): Promise<void> {
    const ports = `{ ${nodes.map((node) => `"${node}"`).join(", ")} }`;
    const rules = Object.entries(FRAMES).flatMap(([name, matches]) =>
      matches.map((match) => `    ${match} counter name "${name}"`),
    );
    await this.changes.take("counters");
    const remove = (script: NetworkScript): void =>
      void script.nft(this.namespace("lan"), ["table bridge failover {}", "delete table bridge failover"]);
    await this.#put(
      "counters",
      (script) => {
        script.nft(this.namespace("lan"), [
          "table bridge failover {",
          ...Object.keys(FRAMES).map((name) => `  counter ${name} {}`),
          "  chain sent {",
          "    type filter hook prerouting priority 0; policy accept;",
          `    iifname != ${ports} accept`,
          ...rules,
          "  }",
          "}",
        ]);
      },
      remove,
    );
  }

  /** Since `countFrames`. */
  async readFrames(): Promise<FrameCounts> {
    const namespace = this.namespace("lan");
    const [file = "", ...args] = inNamespace(namespace, [
      "nft",
      "-j",
      "list",
      "counters",
      "table",
      "bridge",
      "failover",
    ]);
    const { nftables } = JSON.parse(await runChecked(file, args)) as {
      nftables: { counter?: { name: FrameKind; packets: number } }[];
    };
    const found = nftables.flatMap(({ counter }) =>
      counter === undefined ? [] : [[counter.name, counter.packets] as const],
    );
    return Object.fromEntries(found) as FrameCounts;
  }

  /** Starts the prober in client1. It ends with `end()`. */
  async startProber(port: number): Promise<Program> {
    const client = this.namespace("client1");
    await changeNetwork("client1", (script) => {
      // Deprecated: the client's own connections do not leave from them.
      const lines = Array.from({ length: SLOTS }, (_, slot) => slotAddress("IPv6", slot));
      script.ip(client, [...lines.map((address) => `addr replace ${address}/64 dev eth0 nodad preferred_lft 0`)]);
    });
    const shown = await runChecked("ip", ["-j", "-n", client, "link", "show", "eth0"]);
    const [{ ifindex, address: mac }] = JSON.parse(shown) as [{ ifindex: number; address: string }];
    const probing: Probing = { ifindex, mac, port };
    const script = join(import.meta.dirname, "prober.ts");
    const [file = "", ...args] = inNamespace(client, [
      process.execPath,
      "--no-warnings",
      script,
      JSON.stringify(probing),
    ]);
    const program = new Program(spawn(file, args, { stdio: "pipe" }));
    await program.answer();
    return program;
  }

  /** What the client knows of an address from before. */
  forgetNeighbour(address: Address): Promise<unknown> {
    return runProgram("ip", ["-n", this.namespace("client1"), "neigh", "del", address, "dev", "eth0"]);
  }
}

export function numberOf(node: string): number {
  return Number(node.replace("node", ""));
}

const secondMac = (number: number): string => `02:4d:52:05:00:${number.toString(16).padStart(2, "0")}`;
