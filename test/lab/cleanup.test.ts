// After `millrace cleanup` a machine is as it was before the agent: no map, program, link or pin of ours, no qdisc that only
// we needed, the reserved ports as somebody else had them, no multicast group, no rule in iptables. What is others' stays.
import { spawn } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, onTestFinished } from "vitest";
import type { AgentStatus } from "../../src/agent/view.ts";
import { objectPath } from "../../src/datapath/objects.ts";
import {
  attachClsact,
  openObject,
  openPinnedLink,
  openPinnedMap,
  queryCgroup,
  queryTcx,
} from "../../src/libbpf/mod.ts";
import { bpfCall } from "../../src/libbpf/native.ts";
import { createNamespace, type Namespace } from "../kernel/datapath/namespace.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import { type Ran, run, until } from "./traffic/test-lab.ts";
import { sentenceOf, TestMachine } from "./traffic/test-machine.ts";

const OBJECTS = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  ports: [{port: 80, nodePort: 30080}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets: [{addresses: [{ip: 192.168.122.77}], ports: [{port: 80}]}]
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.168.122.100-192.168.122.110, "fd00:192:168:122::a00-fd00:192:168:122::a0f"]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: all, namespace: metallb-system}
`;

const FLAGS = ["--service-cluster-ip-range", "10.96.0.0/12,fd00:10:96::/112"];
const RESERVED = "/proc/sys/net/ipv4/ip_local_reserved_ports";
const NEXT_ID = { programs: 11, maps: 12 } as const;

/** Ids of all maps or programs that the kernel has. */
function ids(kind: keyof typeof NEXT_ID): Set<number> {
  const found = new Set<number>();
  // union bpf_attr: start_id, next_id.
  const attributes = new Uint8Array(12);
  const view = new DataView(attributes.buffer);
  while (bpfCall(NEXT_ID[kind], attributes) === 0) {
    const id = view.getUint32(4, true);
    found.add(id);
    view.setUint32(0, id, true);
  }
  return found;
}

const FIREWALLS = ["iptables", "ip6tables"] as const;
const MARKED = '-A FORWARD -m comment --comment "millrace: translated packets" -m mark --mark 0x1000/0x1000 -j ACCEPT';
const ANSWERS =
  '-A FORWARD -m comment --comment "millrace: their answers" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT';
const OTHERS = "-A FORWARD -i other0 -j ACCEPT";

interface Left {
  readonly maps: readonly number[];
  readonly programs: readonly number[];
}

/** What the agent's pins hold in the kernel. */
function pinned(machine: TestMachine): Left {
  const maps: number[] = [];
  const programs: number[] = [];
  for (const directory of readdirSync(machine.pinDir)) {
    for (const name of readdirSync(join(machine.pinDir, directory))) {
      const path = join(machine.pinDir, directory, name);
      if (directory === "links") {
        using link = openPinnedLink(path);
        programs.push(link.info().programId);
      } else {
        using map = openPinnedMap(path);
        maps.push(map.info().id);
      }
    }
  }
  return { maps, programs };
}

describeKernel("cleanup", () => {
  let machine: TestMachine;

  beforeEach(async () => {
    machine = await TestMachine.create(OBJECTS);
  });

  afterEach(() => machine.close());

  /** Both addresses, once it was asked on the LAN whether they are free. */
  const announcedBy = (agent: ReturnType<TestMachine["start"]>): Promise<AgentStatus["announced"]> =>
    until("both addresses", async () => {
      const { announced } = await agent.healthy();
      return announced.length === 2 ? announced : undefined;
    });
  const reserved = (): string => machine.net.run("cat", RESERVED).trim();
  const groups = (): string => machine.net.run("ip", "-6", "maddr", "show", "dev", "up0");
  const qdisc = (device: string): string => machine.net.run("tc", "qdisc", "show", "dev", device, "clsact").trim();
  const filters = (device: string, direction: string): { pref: number; name: string }[] =>
    (
      JSON.parse(machine.net.run("tc", "-j", "filter", "show", "dev", device, direction)) as {
        pref: number;
        options?: { prog?: { name: string } };
      }[]
    ).flatMap(({ pref, options }) => (options === undefined ? [] : [{ pref, name: options.prog?.name ?? "" }]));

  it("leaves no map, program, link, pin, group or reserved port behind", async () => {
    machine.net.sysctl("net.ipv4.ip_local_reserved_ports", "8080,9000-9010");
    // The kernel joins those of the device's two own addresses only when its link has come up.
    const groupsBefore = await until("the groups of the device's own addresses", () =>
      groups().split("ff02::1:ff").length === 3 ? groups() : undefined,
    );
    const agent = machine.start({ flags: FLAGS });
    const announced = await announcedBy(agent);
    expect(announced.map(({ address }) => address).sort()).toEqual(["192.168.122.100", "fd00:192:168:122::a00"]);
    await until("the group of the announced address", () => (groups().includes("ff02::1:ff00:a00") ? true : undefined));
    expect(reserved()).toMatch(/^8080,9000-9010,\d+-\d+$/);
    expect((await agent.stop()).status).toBe(0);

    const held = pinned(machine);
    expect(held.maps.length).toBeGreaterThan(10);
    expect(held.programs.length).toBeGreaterThanOrEqual(10);
    expect(held.maps.filter((id) => ids("maps").has(id))).toEqual(held.maps);
    expect(queryCgroup(machine.cgroup, "cgroup_inet4_connect")).toHaveLength(1);

    const { status: exit, stdout } = await machine.cleanup();
    expect(exit).toBe(0);
    expect(stdout).toContain("ports reserved in net.ipv4.ip_local_reserved_ports");
    expect(existsSync(machine.pinDir)).toBe(false);
    await until("maps and programs to go", () => {
      const left = [
        held.maps.filter((id) => ids("maps").has(id)),
        held.programs.filter((id) => ids("programs").has(id)),
      ];
      return left.flat().length === 0 ? true : undefined;
    });
    machine.net.inside(() => {
      for (const direction of ["ingress", "egress"] as const) {
        expect(queryTcx(machine.net.ifindex("up0"), direction)).toEqual([]);
      }
    });
    expect(queryCgroup(machine.cgroup, "cgroup_inet4_connect")).toEqual([]);
    expect(reserved()).toBe("8080,9000-9010");
    expect(groups()).toBe(groupsBefore);
    expect((await machine.cleanup()).stdout).toBe("nothing to remove\n");
  });

  it("gives back only those reserved ports that nobody had before", async () => {
    machine.net.sysctl("net.ipv4.ip_local_reserved_ports", "40000-40010,45000-45010");
    const agent = machine.start({ flags: ["--snat-port-range", "45000-49095"] });
    await agent.healthy();
    expect(reserved()).toBe("40000-40010,45000-49095");
    await agent.stop();
    const again = machine.start({ flags: ["--snat-port-range", "50000-54095"] });
    await again.healthy();
    expect(reserved()).toBe("40000-40010,45000-49095,50000-54095");
    await again.stop();
    await machine.cleanup();
    expect(reserved()).toBe("40000-40010,45000-45010");
  });

  it("without the agent's state directory says which ports stay reserved, and what undoes that", async () => {
    machine.net.sysctl("net.ipv4.ip_local_reserved_ports", "8080");
    const agent = machine.start({ flags: ["--snat-port-range", "50000-54095"] });
    await agent.healthy();
    await agent.stop();
    const places = machine.places.map((word, i, all) => (all[i - 1] === "--state-dir" ? `${word}-elsewhere` : word));
    const { status, stderr } = await machine.millrace(["cleanup", ...places]);
    expect([status, reserved()]).toEqual([0, "8080,50000-54095"]);
    expect(stderr).toMatch(/^left ports 50000-54095 in .*: sysctl -w net\.ipv4\.ip_local_reserved_ports=8080$/m);
    const { stderr: known } = await machine.cleanup();
    expect(reserved()).toBe("8080");
    expect(known).toMatch(/^left .* in .*: a later start gives the same addresses by them; rm -r /m);
    expect(known).not.toContain("ports");
  });

  it("takes away the clsact qdisc that the agent made, and of others' only our filters", async () => {
    const { net } = machine;
    // Somebody else's program: here one of ours that does nothing.
    using object = openObject(objectPath("tc"));
    for (const name of object.programs()) object.setAutoload(name, name === "tc_empty");
    object.load();
    const add = (device: string, direction: "ingress" | "egress"): void =>
      net.inside(() =>
        attachClsact(object.program("tc_empty"), net.ifindex(device), direction, { handle: 1, priority: 1 }),
      );
    for (const device of ["other", "shared"]) {
      net.ip(`link add ${device} type veth peer name far-${device}`);
      net.ip(`link set ${device} up`);
    }
    net.run("tc", "qdisc", "add", "dev", "other", "clsact");
    add("other", "ingress");
    const before = net.run("tc", "filter", "show", "dev", "other", "ingress");

    const agent = machine.start({ flags: ["--devices", "up0,other,shared"], env: { MILLRACE_WITHOUT: "tcx" } });
    expect((await agent.healthy()).attach).toBe("clsact");
    add("shared", "egress");
    expect(filters("up0", "ingress").map(({ name }) => name)).toEqual(["tc_uplink_ingre"]);
    expect(filters("other", "egress").map(({ name }) => name)).toEqual(["tc_uplink_egres"]);
    await agent.stop();

    const { stdout } = await machine.cleanup({ env: { MILLRACE_WITHOUT: "tcx" } });
    expect(stdout).toContain("removed clsact qdisc of up0\n");
    expect(qdisc("up0")).toBe("");
    expect(qdisc("other")).toMatch(/^qdisc clsact/);
    expect(net.run("tc", "filter", "show", "dev", "other", "ingress")).toBe(before);
    expect(filters("other", "egress")).toEqual([]);
    expect(qdisc("shared")).toMatch(/^qdisc clsact/);
    expect(filters("shared", "ingress")).toEqual([]);
    expect(filters("shared", "egress").map(({ name }) => name)).toEqual(["tc_empty"]);
  });

  it("is refused while an agent runs, which goes on unharmed", async () => {
    const agent = machine.start({ flags: FLAGS });
    await agent.healthy();
    const held = pinned(machine);
    const refused = await machine.cleanup();
    expect(sentenceOf(refused)).toEqual({
      status: 4,
      sentences: [
        expect.stringMatching(/^millrace: could not clean up: an agent \(process \d+\) uses .*; stop it first/),
      ],
    });
    expect(pinned(machine)).toEqual(held);
    expect(reserved()).not.toBe("");
    await agent.healthy();
    await agent.stop();
  });

  it("works after a SIGKILL, and a start afterwards gives the same addresses", async () => {
    const first = machine.start({ flags: FLAGS });
    const announced = await announcedBy(first);
    first.child.kill("SIGKILL");
    await first.ended;
    expect((await machine.cleanup()).status).toBe(0);
    expect(existsSync(machine.pinDir)).toBe(false);
    const second = machine.start({ flags: FLAGS });
    expect(await announcedBy(second)).toEqual(announced);
    await second.stop();
    await machine.cleanup();
  });

  /** All rules of a firewall that forwards nothing but what one rule of somebody else's lets through. */
  const closeForward = (): readonly string[] => {
    for (const firewall of FIREWALLS) {
      machine.net.run(firewall, "-P", "FORWARD", "DROP");
      machine.net.run(firewall, ...OTHERS.split(" "));
    }
    return rules();
  };
  const rules = (): string[] => FIREWALLS.map((firewall) => machine.net.run(firewall, "-S"));
  const forward = (firewall: string): string[] => machine.net.run(firewall, "-S", "FORWARD").trim().split("\n");

  it("takes the rules out that let translated packets through a FORWARD chain whose policy is DROP", async () => {
    const before = closeForward();
    const agent = machine.start({ flags: FLAGS });
    await agent.healthy();
    for (const firewall of FIREWALLS) expect(forward(firewall)).toEqual(["-P FORWARD DROP", ANSWERS, MARKED, OTHERS]);
    await agent.stop();
    const { stdout } = await machine.cleanup();
    for (const firewall of FIREWALLS)
      expect(stdout.match(new RegExp(`^removed ${firewall} rule in FORWARD$`, "gm"))).toHaveLength(2);
    expect(rules()).toEqual(before);
    expect((await machine.cleanup()).stdout).toBe("nothing to remove\n");
  });

  it("takes either of the two rules out where somebody deleted the other, whatever the mark", async () => {
    const before = closeForward();
    const agent = machine.start({ flags: [...FLAGS, "--forward-mark", "0x20000"] });
    await agent.healthy();
    await agent.stop();
    const marked = MARKED.replaceAll("0x1000", "0x20000");
    const cases = { iptables: { deleted: "2", left: ANSWERS }, ip6tables: { deleted: "1", left: marked } };
    for (const firewall of FIREWALLS) {
      expect(forward(firewall)).toEqual(["-P FORWARD DROP", ANSWERS, marked, OTHERS]);
      const { deleted, left } = cases[firewall];
      machine.net.run(firewall, "-D", "FORWARD", deleted);
      expect(forward(firewall)).toEqual(["-P FORWARD DROP", left, OTHERS]);
    }
    expect((await machine.cleanup()).status).toBe(0);
    expect(rules()).toEqual(before);
  });

  it("takes out rules without which no translated packet gets through that chain, and with which nothing else does", async () => {
    const { net } = machine;
    const outside = neighbour();
    const pod = neighbour();
    net.ip(`link set far0 netns ${outside.name}`);
    outside.ip("addr add 192.168.122.77/24 dev far0");
    outside.ip("link set far0 up");
    outside.ip("route add 10.244.1.0/24 via 192.168.122.11");
    net.ip(`link add pod0 type veth peer name eth0 netns ${pod.name}`);
    net.ip("addr add 10.244.1.1/32 dev pod0");
    net.ip("link set pod0 up");
    net.ip("route add 10.244.1.2/32 dev pod0");
    pod.ip("addr add 10.244.1.2/32 dev eth0");
    pod.ip("link set eth0 up");
    pod.ip("route add 10.244.1.1/32 dev eth0");
    pod.ip("route add default via 10.244.1.1");
    serveIn(pod);
    const ask = (from: Namespace, address: string): Promise<Ran> =>
      run("nsenter", [`--net=/run/netns/${from.name}`, "--", "curl", "-s", "-m", "2", `http://${address}/`]);
    const TIMED_OUT = 28;
    await until("the server", async () => ((await ask(pod, "10.244.1.2")).stdout === "here" ? true : undefined));
    expect((await ask(outside, "10.244.1.2")).stdout).toBe("here");
    writeFileSync(
      join(machine.manifests, "objects.yaml"),
      OBJECTS.replace("ip: 192.168.122.77", "ip: 10.244.1.2, nodeName: node1"),
    );
    closeForward();

    const without = machine.start({ flags: [...FLAGS, "--forward-mark", "0"] });
    await without.healthy();
    expect((await ask(outside, "192.168.122.11:30080")).status).toBe(TIMED_OUT);
    await without.stop();
    const agent = machine.start({ flags: FLAGS });
    await agent.healthy();
    expect((await ask(outside, "192.168.122.11:30080")).stdout).toBe("here");
    expect((await ask(outside, "10.244.1.2")).status).toBe(TIMED_OUT);
    await agent.stop();
    expect((await machine.cleanup()).status).toBe(0);
  });
});

/** A namespace that goes with the test. */
function neighbour(): Namespace {
  const net = createNamespace();
  onTestFinished(() => net[Symbol.dispose]());
  return net;
}

/** Answers "here" on port 80 in `net` until the test ends. */
function serveIn(net: Namespace): void {
  const program = `require("node:http").createServer((_, answer) => answer.end("here")).listen(80)`;
  const server = spawn("nsenter", [`--net=/run/netns/${net.name}`, "--", process.execPath, "-e", program], {
    stdio: "ignore",
  });
  const ended = new Promise((resolve) => server.on("close", resolve));
  onTestFinished(async () => {
    server.kill("SIGKILL");
    await ended;
  });
}
