// What `millrace cleanup --kube-proxy` takes out of a network namespace, of each of kube-proxy's modes, and what it leaves alone.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { cleanupKubeProxy } from "../../../src/agent/kube-proxy-cleanup.ts";
import { readKubeProxyRules } from "../../../src/agent/kube-proxy-rules.ts";
import { NAT_TABLE, releaseNatHooks } from "../../../src/agent/nat-hooks.ts";
import { lockPinDir } from "../../../src/datapath/load.ts";
import { createNamespace, type Namespace } from "../datapath/namespace.ts";
import { itWith } from "../kernel-lacks.ts";
import { describeKernel } from "../require-kernel.ts";
import { createSet, createVirtualServer, hasSet, kernelServers, type ServerAt, serverText } from "./ipvs.ts";

const PIN_DIR = `/sys/fs/bpf/millrace-kpc-${process.pid.toString(36)}`;

/** As kube-proxy has them in its iptables mode, with a Service; and what others have in the same tables. */
function iptablesRules(address: string, backend: string): string {
  return `*mangle
:KUBE-PROXY-CANARY - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-IPTABLES-HINT - [0:0]
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SVC-BBBBBBBBBBBBBBBB - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -j CNI-HOSTPORT-DNAT
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MASQUERADE
-A KUBE-SERVICES -d ${address} -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-BBBBBBBBBBBBBBBB
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-BBBBBBBBBBBBBBBB -m comment --comment "a \\"quoted\\" word, -j KUBE-NODEPORTS" -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination ${backend}
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-POD-FW-CCCCCCCCCCCCCCCC - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-POD-FW-CCCCCCCCCCCCCCCC
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
`;
}

const COMMANDS = ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"] as const;
const RULES = {
  ip: iptablesRules("10.96.0.10/32", "10.244.1.2:8080"),
  ip6: iptablesRules("fd00:10:96::a/128", "[fd00:10:244:1::2]:8080"),
} as const;

/** Rules of its IPVS mode, which name its sets; and of somebody else. */
const ipvsRules = (sets: string): string => `*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-MARK-MASQ - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A CNI-HOSTPORT-DNAT -m set --match-set ${sets}MINE dst -j RETURN
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-NODE-PORT -p tcp -m set --match-set ${sets}NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-POSTROUTING -m set --match-set ${sets}LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-SERVICES -m set --match-set ${sets}CLUSTER-IP src,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set ${sets}CLUSTER-IP dst,dst -j ACCEPT
COMMIT
*filter
:KUBE-IPVS-FILTER - [0:0]
-A INPUT -j KUBE-IPVS-FILTER
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set ${sets}IPVS-IPS dst -j REJECT
COMMIT
`;

/** What begins the names of its sets. */
const SET_FAMILIES = { "KUBE-": "IPv4", "KUBE-6-": "IPv6" } as const;

/** Its sets of a family, and one of somebody else. */
function createSets(prefix: keyof typeof SET_FAMILIES): void {
  const family = SET_FAMILIES[prefix];
  createSet(`${prefix}CLUSTER-IP`, "hash:ip,port", family);
  createSet(`${prefix}LOOP-BACK`, "hash:ip,port,ip", family);
  createSet(`${prefix}LOAD-BALANCER-SOURCE-CIDR`.slice(0, 31), "hash:ip,port,net", family);
  createSet(`${prefix}NODE-PORT-TCP`, "bitmap:port", family);
  createSet(`${prefix}IPVS-IPS`, "hash:ip", family);
  createSet(`${prefix}MINE`, "hash:ip", family);
}

const tcp = (address: string, port: number): ServerAt => ({ proto: "TCP", address, port });
const udp = (address: string, port: number): ServerAt => ({ proto: "UDP", address, port });
/** At the addresses of its device, and at node ports of the node's own. */
const SERVERS = [
  tcp("10.96.0.10", 53),
  udp("10.96.0.10", 53),
  tcp("203.0.113.5", 80),
  tcp("fd00:10:96::a", 53),
  udp("fd00:10:96::a", 53),
  tcp("192.0.2.11", 31_080),
  udp("192.0.2.11", 30_053),
  tcp("2001:db8::11", 31_080),
];
/** Of others: at other addresses, at other ports of the node's, of a firewall mark. */
const OTHERS = [
  tcp("192.0.2.100", 443),
  tcp("192.0.2.100", 31_080),
  tcp("192.0.2.11", 443),
  udp("2001:db8::100", 53),
  tcp("2001:db8::11", 443),
  9,
];

describeKernel("cleanup --kube-proxy", () => {
  let space: Namespace;
  beforeAll(() => {
    space = createNamespace();
  });
  afterAll(() => space?.[Symbol.dispose]());

  const cleanUp = (force = false) => space.inside(() => cleanupKubeProxy({ pinDir: PIN_DIR, force }));
  const rules = () => space.inside(() => readKubeProxyRules());
  const saved = (command: string): string => space.run(`${command}-save`).replace(/\[\d+:\d+\]/g, "");
  const works = (command: string): boolean => {
    try {
      space.run(command, "-t", "nat", "-S");
      return true;
    } catch {
      return false;
    }
  };
  const restore = (command: string): void => {
    const text = command.startsWith("ip6") ? RULES.ip6 : RULES.ip;
    space.run("sh", "-c", `${command}-restore --noflush <<'END'\n${text}END`);
  };

  it("finds nothing to remove where nothing is, and makes nothing", async () => {
    expect(await rules()).toEqual([]);
    expect(await cleanUp()).toEqual({ removed: [], left: [] });
    expect(space.run("nft", "list", "tables")).toBe("");
  });

  it.for(COMMANDS)(
    "%s: its chains go with the rules that lead to them, and nothing else",
    async (command, { skip }) => {
      if (!works(command)) skip(`${command} does not work here`);
      const kind = command.replace("-nft", "");
      restore(command);
      expect(await rules()).toEqual([kind]);
      const { removed, left } = await cleanUp();
      expect(removed.filter((what) => what.includes("chains"))).toEqual([
        `7 chains and 3 rules that led to them, ${command} table nat`,
        `2 chains and 2 rules that led to them, ${command} table filter`,
        `1 chains and 0 rules that led to them, ${command} table mangle`,
      ]);
      expect(left).toEqual([]);
      expect(await rules()).toEqual([]);
      const text = saved(command);
      const chains = [...text.matchAll(/^:(\S*[-]\S*) /gm)].map(([, chain]) => chain).sort();
      expect(chains).toEqual([
        "CNI-HOSTPORT-DNAT",
        "KUBE-FIREWALL",
        "KUBE-IPTABLES-HINT",
        "KUBE-KUBELET-CANARY",
        "KUBE-POD-FW-CCCCCCCCCCCCCCCC",
      ]);
      expect(text.match(/^-A .*$/gm)).toEqual(
        [
          "-A INPUT -j KUBE-FIREWALL",
          "-A FORWARD -j KUBE-POD-FW-CCCCCCCCCCCCCCCC",
          "-A PREROUTING -j CNI-HOSTPORT-DNAT",
        ].sort((a, b) => text.indexOf(a) - text.indexOf(b)),
      );
      expect((await cleanUp()).removed).toEqual([]);
      for (const table of ["nat", "filter", "mangle"]) {
        space.run(command, "-t", table, "-F");
        space.run(command, "-t", table, "-X");
      }
    },
  );

  it("nftables: its tables go, and those of others stay", async () => {
    for (const family of ["ip", "ip6"])
      space.run(
        "nft",
        `add table ${family} kube-proxy; add chain ${family} kube-proxy nat { type nat hook prerouting priority dstnat; }`,
      );
    space.run("nft", "add table ip mine");
    expect(await rules()).toEqual(["nftables"]);
    const { removed } = await cleanUp();
    expect(removed).toContain("nftables table ip kube-proxy");
    expect(removed).toContain("nftables table ip6 kube-proxy");
    // No connection needs the kernel's translation: what kept that has gone again.
    expect(removed).toContain(`nftables table ip ${NAT_TABLE}`);
    expect(space.run("nft", "list", "tables")).toContain("table ip mine");
    expect(await rules()).toEqual([]);
  });

  it("IPVS: its device goes", async () => {
    space.ip("link add kube-ipvs0 type bridge");
    expect(await rules()).toEqual(["ipvs"]);
    expect((await cleanUp()).removed).toContain("device kube-ipvs0");
    expect(await rules()).toEqual([]);
  });

  it("is refused while a kube-proxy runs here, unless it is forced; one elsewhere is none", async () => {
    const child = space.inside(() => spawn("sleep", ["60"], { argv0: "kube-proxy", stdio: "ignore" }));
    const elsewhere = spawn("sleep", ["60"], { argv0: "kube-proxy", stdio: "ignore" });
    try {
      await Promise.all([once(child, "spawn"), once(elsewhere, "spawn")]);
      space.run("nft", "add table ip kube-proxy");
      await expect(cleanUp()).rejects.toMatchObject({
        code: "conflict",
        message: expect.stringContaining(`process ${child.pid}`),
      });
      expect(await rules()).toEqual(["nftables"]);
      expect((await cleanUp(true)).removed).toContain("nftables table ip kube-proxy");
    } finally {
      for (const one of [child, elsewhere]) one.kill("SIGKILL");
      await Promise.all([once(child, "exit"), once(elsewhere, "exit")]);
    }
    expect(await cleanUp()).toEqual({ removed: [], left: [] });
  });

  it("beside an agent what keeps the kernel translating is left to that", async () => {
    using _lock = lockPinDir(PIN_DIR);
    space.run("nft", "add table ip kube-proxy");
    const { removed, left } = await cleanUp();
    expect(removed).toEqual(["nftables table ip kube-proxy"]);
    expect(left).toEqual([
      expect.stringMatching(/^nftables tables millrace-nat: .* 0 connections; the agent removes them/),
    ]);
    expect(await space.inside(() => releaseNatHooks())).toHaveLength(existsSync("/proc/net/if_inet6") ? 2 : 1);
  });
});

describeKernel("cleanup --kube-proxy of IPVS", () => {
  let space: Namespace;
  beforeEach(() => {
    space = createNamespace();
    space.ip("link add node0 type veth peer name far0");
    space.ip("link set node0 up");
    space.ip("addr add 192.0.2.11/24 dev node0");
    space.ip("addr add 2001:db8::11/64 dev node0 nodad");
  });
  afterEach(() => space?.[Symbol.dispose]());

  const cleanUp = () => space.inside(() => cleanupKubeProxy({ pinDir: PIN_DIR, force: false }));
  const rules = () => space.inside(() => readKubeProxyRules());
  const servers = (): string[] => space.inside(kernelServers);
  const textsOf = (all: readonly (ServerAt | number)[]): string[] => all.map(serverText).sort();

  itWith("ip_vs")("its virtual servers and its device go, and virtual servers of others stay", async () => {
    // As kube-proxy makes it: it is down, and has the addresses all the same.
    space.ip("link add kube-ipvs0 type dummy");
    for (const address of ["10.96.0.10/32", "203.0.113.5/32", "fd00:10:96::a/128"])
      space.ip(`addr add ${address} dev kube-ipvs0`);
    // More than fit into one of the kernel's answers.
    const many = Array.from({ length: 200 }, (_, i) => tcp("203.0.113.5", 1000 + i));
    const all = [...SERVERS, ...OTHERS, ...many];
    space.inside(() => {
      for (const at of all) {
        const isIPv6 = typeof at !== "number" && at.address.includes(":");
        createVirtualServer(at, { address: isIPv6 ? "fd00:10:244:1::2" : "10.244.1.2", port: 8080 });
      }
    });
    expect(servers()).toEqual(textsOf(all));
    expect(await rules()).toEqual(["ipvs"]);

    const { removed, left } = await cleanUp();
    expect(removed).toEqual(expect.arrayContaining(["208 IPVS virtual servers", "device kube-ipvs0"]));
    expect(left).toEqual([expect.stringMatching(/^5 IPVS virtual servers that are not kube-proxy's, .*: /)]);
    const named = [
      "192.0.2.100:443",
      "192.0.2.100:31080",
      "192.0.2.11:443",
      "[2001:db8::100]:53",
      "[2001:db8::11]:443",
    ];
    for (const name of named) expect(left[0]).toContain(name);
    expect(servers()).toEqual(textsOf(OTHERS));
    expect(space.ip("-br link show type dummy")).toBe("");

    expect(await rules()).toEqual([]);
    expect(await cleanUp()).toEqual({ removed: [], left: [] });
    expect(servers()).toEqual(textsOf(OTHERS));
  });

  for (const command of COMMANDS) {
    itWith("ip_set")(`its sets go with the rules of ${command} that name them, and others stay`, async () => {
      const prefix = command.startsWith("ip6") ? "KUBE-6-" : "KUBE-";
      const restore = `${command}-restore --noflush <<'END'\n`;
      space.inside(() => createSets(prefix));
      space.run("sh", "-c", `${restore}${ipvsRules(prefix)}END`);
      const itsSets = ["CLUSTER-IP", "IPVS-IPS", "LOAD-BALANCER-SOURCE-CIDR", "LOOP-BACK", "NODE-PORT-TCP"].map(
        (name) => `${prefix}${name}`.slice(0, 31),
      );
      const has = (sets: readonly string[]): string[] => space.inside(() => sets.filter(hasSet));
      expect(has(itsSets)).toEqual(itsSets);

      const { removed, left } = await cleanUp();
      expect(removed.filter((what) => what.startsWith("set ")).sort()).toEqual(itsSets.map((set) => `set ${set}`));
      expect(left).toEqual([]);
      expect(has([...itsSets, `${prefix}MINE`])).toEqual([`${prefix}MINE`]);
      expect(await rules()).toEqual([]);
      expect(await cleanUp()).toEqual({ removed: [], left: [] });
    });
  }

  itWith("ip_set")("a set that a rule of somebody else's names stays as long as that does, and is told", async () => {
    space.inside(() => createSet("KUBE-CLUSTER-IP", "hash:ip,port", "IPv4"));
    const rule = "PREROUTING -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT".split(" ");
    space.run("iptables-nft", "-A", ...rule, "-t", "nat");
    const { removed, left } = await cleanUp();
    expect(removed.filter((what) => what.startsWith("set "))).toEqual([]);
    expect(left).toEqual(["set KUBE-CLUSTER-IP: a rule or a set of somebody else's names it"]);
    space.run("iptables-nft", "-D", ...rule, "-t", "nat");
    expect((await cleanUp()).removed).toContain("set KUBE-CLUSTER-IP");
  });
});
