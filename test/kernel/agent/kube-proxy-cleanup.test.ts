// What `millrace cleanup --kube-proxy` takes out of a network namespace, of each of kube-proxy's modes, and what it leaves alone.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { cleanupKubeProxy } from "../../../src/agent/kube-proxy-cleanup.ts";
import { readKubeProxyRules } from "../../../src/agent/kube-proxy-rules.ts";
import { NAT_TABLE, releaseNatHooks } from "../../../src/agent/nat-hooks.ts";
import { lockPinDir } from "../../../src/datapath/load.ts";
import { askNetlink, attribute, NETLINK_NETFILTER, nfnetlinkType } from "../../../src/libbpf/netlink.ts";
import { createNamespace, type Namespace } from "../datapath/namespace.ts";
import { describeKernel } from "../require-kernel.ts";

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

/** Makes a set of addresses, for which there may be no program here. */
function createSet(name: string): number {
  const text = (value: string): Uint8Array => Buffer.from(`${value}\0`);
  const payload = Buffer.concat([
    Uint8Array.of(2, 0, 0, 0),
    attribute(1, Uint8Array.of(6)),
    attribute(2, text(name)),
    attribute(3, text("hash:ip")),
    attribute(4, Uint8Array.of(0)),
    attribute(5, Uint8Array.of(2)),
    attribute(7 | 0x8000, new Uint8Array(0)),
  ]);
  return askNetlink(NETLINK_NETFILTER, nfnetlinkType(6, 2), payload, name).errno;
}

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

  it("IPVS: its device and sets go", async () => {
    space.ip("link add kube-ipvs0 type bridge");
    const created = space.inside(() =>
      ["KUBE-CLUSTER-IP", "KUBE-6-LOAD-BALANCER-SOURCE-CIDR".slice(0, 31), "MINE"].map(createSet),
    );
    const hasSets = created.every((errno) => errno === 0);
    expect(await rules()).toEqual(["ipvs"]);
    const { removed, left } = await cleanUp();
    expect(removed).toContain("device kube-ipvs0");
    if (hasSets)
      expect(removed.filter((what) => what.startsWith("set "))).toEqual([
        "set KUBE-CLUSTER-IP",
        "set KUBE-6-LOAD-BALANCER-SOURCE-CID",
      ]);
    expect(left).toEqual([]);
    // Of a name that is not kube-proxy's: it is still there.
    if (hasSets) expect(space.inside(() => createSet("MINE"))).not.toBe(0);
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
