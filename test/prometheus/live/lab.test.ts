// Debian's Prometheus scrapes a lab with traffic: what it scraped is well formed, every query of the dashboards that needs no API has
// data, and every alert about nodes and addresses fires when the lab is broken and clears when it is mended.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { processesIn } from "../../../src/lab/cgroups.ts";
import { labPaths } from "../../../src/lab/lab-paths.ts";
import type { LabSession } from "../../../src/lab/lab-session.ts";
import { labPinDirectory } from "../../../src/lib/paths.ts";
import { patience } from "../../../src/lib/patience.ts";
import { describeKernel } from "../../kernel/require-kernel.ts";
import { downLab, labName, upLab } from "../../lab/lab-fixture.ts";
import { MILLRACE, must, TestLab, until } from "../../lab/traffic/test-lab.ts";
import { alertRules, RULES_FILE } from "../rules-file.ts";
import { scaledRules } from "../scaled-rules.ts";
import { type Breakage, breakAndMend, seenToFire } from "./breakages.ts";
import { complaintsAbout } from "./check-metrics.ts";
import { giveLittleCpu } from "./little-cpu.ts";
import { asksOfCluster, PANEL_QUERIES, withoutData } from "./panel-queries.ts";
import { type Enter, Prometheus } from "./prometheus.ts";
import { startTraffic } from "./run-traffic.ts";
import type { Traffic } from "./traffic.ts";

const LAB = labName("prom");
const NODES = ["node1", "node2", "node3"];
const [NODE1, NODE2, NODE3] = ["192.168.122.11", "192.168.122.12", "192.168.122.13"];
const ADDRESS = "192.168.122.111";
const STRANGER = "192.168.122.119";
/** Durations of the rules are divided by this. */
const SCALE = 15;
/** Small, so that they are filled in seconds. */
const SIZES = ["--max-flows", "4096", "--max-services", "64", "--snat-port-range", "61000-61255"];
/** Ended flows leave at the next sweep. */
const SHORT = ["--flow-timeout", "tcp-ended=1s", "--flow-timeout", "udp=1s"];
const SNAT_PORTS = 256;
/** Of a processor, for the main thread: enough to be scraped in seconds, too little for 15,000 endpoints every three. */
const CPU_SHARE = 0.008;

const meta = (name: string): object => ({ name, namespace: "default" });

function workload(name: string, replicas: number, node = ""): object {
  const ports = [
    { name: "tcp", containerPort: 80 },
    { name: "udp", containerPort: 81, protocol: "UDP" },
  ];
  const spec = { containers: [{ name: "c", image: "server", ports }], ...(node === "" ? {} : { nodeName: node }) };
  const template = { metadata: { labels: { app: name } }, spec };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: meta(name),
    spec: { replicas, selector: { matchLabels: { app: name } }, template },
  };
}

/** Of a port for each of TCP and UDP, at node ports `port` and `port` + 1. */
function serviceOf(app: string, port: number, spec: object = {}): object {
  const ports = [
    { name: "tcp", port: 80, targetPort: 80, nodePort: port },
    { name: "udp", port: 81, targetPort: 81, protocol: "UDP", nodePort: port + 1 },
  ];
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: meta(app),
    spec: { type: "NodePort", selector: { app }, ports, ...spec },
  };
}

const metallb = (kind: string, name: string, spec: object): object => ({
  ...{ apiVersion: "metallb.io/v1beta1", kind, metadata: { name, namespace: "metallb-system" }, spec },
});

const LOCAL = { externalTrafficPolicy: "Local" };
const OBJECTS = [
  workload("web", 3),
  serviceOf("web", 30080, { type: "LoadBalancer", loadBalancerIP: ADDRESS }),
  workload("near", 1, "node1"),
  serviceOf("near", 30100),
  workload("local", 1, "node1"),
  serviceOf("local", 30200, LOCAL),
  serviceOf("empty", 30300),
  metallb("IPAddressPool", "lan", { addresses: ["192.168.122.110-192.168.122.119"] }),
  metallb("L2Advertisement", "lan", { ipAddressPools: ["lan"] }),
];

/** What goes on all the while; the last two are refused and dropped, less than once a second. */
const TRAFFIC: Traffic = {
  asks: [
    { kind: "tcp", host: NODE1!, port: 30080, everyMs: 100 },
    { kind: "tcp", host: NODE2!, port: 30080, everyMs: 200 },
    { kind: "udp", host: NODE2!, port: 30081, everyMs: 200 },
    { kind: "tcp", host: ADDRESS, port: 80, everyMs: 200 },
    { kind: "udp", host: NODE1!, port: 30301, everyMs: 2500 },
    { kind: "udp", host: NODE2!, port: 30201, everyMs: 2500 },
  ],
};

describeKernel("Prometheus and a lab", () => {
  let lab: LabSession;
  let prometheus: Prometheus;
  let enter: Enter;
  let stopTraffic: () => Promise<void> = async () => {};
  const order = new TestLab(LAB);

  beforeAll(async () => {
    const flags = [...SIZES, ...SHORT, "--metrics-bind-address", "0.0.0.0:10249"];
    lab = upLab(LAB, ["--nodes", "3", "--cni", "bridge", ...flags.flatMap((flag) => ["--agent-flag", flag])]);
    const { notices } = await lab.apply(lab.manifest(OBJECTS));
    expect(notices.filter(({ severity }) => severity === "error")).toEqual([]);
    const command = await lab.command("client1", ["COMMAND"]);
    enter = (words) => [...command.slice(0, -1), ...words];
    const targets = NODES.map((instance, at) => ({
      ...{ job: "kube-proxy", instance, address: `192.168.122.${11 + at}:10249` },
    }));
    prometheus = new Prometheus(enter, targets, scaledRules(readFileSync(RULES_FILE, "utf8"), SCALE));
    await prometheus.start();
    stopTraffic = await startTraffic(enter, TRAFFIC);
  });

  afterAll(async () => {
    await stopTraffic();
    await prometheus?.[Symbol.asyncDispose]();
    order.forget();
    lab?.close();
    downLab(LAB);
  });

  const nodeOf = async (address: string): Promise<string> =>
    until(`a node to answer for ${address}`, async () => {
      const [found] = await prometheus.query(`millrace_announced_address_info{address="${address}"}`);
      return found?.metric["instance"];
    });

  it("scrapes every agent", async () => {
    await until("every target to be up", async () => {
      const errors = Object.values(await prometheus.targets());
      return errors.length === 3 && errors.every((error) => error === "") ? true : undefined;
    });
  });

  it("finds nothing wrong with the metrics of an agent (promtool check metrics)", async () => {
    const text = await must(...curl(enter, `http://${NODE1}:10249/metrics`));
    expect(text.length).toBeGreaterThan(1000);
    expect(complaintsAbout(text)).toEqual([]);
  });

  it("has no alert while nothing is broken", async () => {
    await delay(45_000);
    expect(await prometheus.alerts()).toEqual([]);
  });

  describe("the dashboards", () => {
    // A takeover is among what they show.
    beforeAll(async () => {
      // Its Node object goes on saying Ready: it is the others who find out.
      const first = await nodeOf(ADDRESS);
      await order.lab("link", first, "down");
      try {
        await until(
          "another node to take over",
          async () => {
            const [taken] = await prometheus.query("sum(millrace_announcer_takeovers_total)");
            return Number(taken?.values[0]?.[1] ?? 0) > 0 ? true : undefined;
          },
          patience(60_000),
        );
      } finally {
        await order.lab("link", first, "up");
      }
      // Changes, and something to be noticed.
      const unmatched = { ports: [{ port: 80, targetPort: "nobody" }] };
      const noticed = lab.manifest([serviceOf("noticed", 30900, { ...unmatched, selector: { app: "web" } })]);
      await lab.apply(noticed);
      for (let turn = 0; turn < 10; turn++) {
        await lab.scale("deployment/web", 3 + (turn % 2));
        await delay(3000);
      }
      return async () => {
        await lab.scale("deployment/web", 3);
        await lab.delete(noticed);
      };
    });

    it("have data for each query that needs no API", async () => {
      const queries = PANEL_QUERIES.filter((query) => !asksOfCluster(query));
      expect(queries.length).toBeGreaterThan(40);
      const variables = { job: "kube-proxy", instance: "node1|node2|node3" };
      const ofLocal = { ...variables, namespace: "default", service: "local|empty|web", __rate_interval: "20s" };
      expect(await withoutData(prometheus, queries, ofLocal, 60)).toEqual([]);
    });
  });

  describe("alerts fire when something is broken, and clear when it is mended", () => {
    const traffic = (name: string, alerts: readonly string[], more: Traffic): Breakage => ({
      ...{ name, alerts, apply: () => startTraffic(enter, more) },
    });
    const objects = (name: string, alerts: readonly string[], ...list: readonly object[]): Breakage => ({
      ...{ name, alerts },
      async apply() {
        const file = lab.manifest(list);
        await lab.apply(file);
        return async () => void (await lab.delete(file));
      },
    });

    it("about Services and objects", async () => {
      await breakAndMend(prometheus, [
        {
          ...{ name: "bypass on node3", alerts: ["MillraceBypass"] },
          async apply() {
            const bypass = (state: string): Promise<string> =>
              must(MILLRACE, ["bypass", state, "--name", LAB, "--node", "node3"]);
            await bypass("on");
            return async () => void (await bypass("off"));
          },
        },
        objects(
          "source ranges of which none is one",
          ["MillraceErrorNotice"],
          serviceOf("ranges", 30400, {
            ...{ type: "LoadBalancer", loadBalancerIP: "192.168.122.112", loadBalancerSourceRanges: ["nobody"] },
          }),
        ),
        traffic("a port without endpoints is asked", ["MillraceRefusalsRising"], {
          asks: [{ kind: "udp", host: NODE1!, port: 30301, everyMs: 50 }],
        }),
        traffic("a node without a local endpoint is asked", ["MillraceDrops"], {
          asks: [{ kind: "udp", host: NODE2!, port: 30201, everyMs: 50 }],
        }),
        objects(
          "a Service of policy Local without endpoints",
          ["MillraceNoSpeaker"],
          serviceOf("nobody", 30500, { ...LOCAL, type: "LoadBalancer", loadBalancerIP: "192.168.122.113" }),
        ),
      ]);
    });

    it("about what is scarce", async () => {
      await breakAndMend(prometheus, [
        traffic("many connections to an endpoint elsewhere", ["MillraceSnatPortsFilling"], {
          holds: [{ host: NODE3!, port: 30100, count: Math.ceil(SNAT_PORTS * 0.88) }],
        }),
        traffic("more connections than a client's share", ["MillraceFlowTableFilling", "MillraceFlowTableFull"], {
          holds: [{ host: NODE1!, port: 30100, count: 1900 }],
        }),
        {
          ...{ name: "nearly as many Service ports as fit", alerts: ["MillraceMapFull"] },
          async apply() {
            const [used] = await prometheus.query(`max(millrace_map_entries{map="service_stats"})`);
            const free = 64 - Number(used?.values[0]?.[1]);
            const many = Array.from({ length: Math.floor((free - 1) / 2) }, (_, i) =>
              serviceOf(`many${i}`, 31000 + 2 * i),
            );
            const file = lab.manifest(many);
            await lab.apply(file);
            return async () => void (await lab.delete(file));
          },
        },
      ]);
    });

    it("about addresses: another machine has one", async () => {
      await lab.host("stranger", STRANGER);
      const service = serviceOf("taken", 30600, { type: "LoadBalancer", loadBalancerIP: STRANGER });
      const alerts = ["MillraceAddressConflict", "MillraceNoSpeaker"];
      await breakAndMend(prometheus, [objects("a machine outside has the address", alerts, service)]);
    });

    it("about addresses: a LAN that is parted", async () => {
      const first = await nodeOf(ADDRESS);
      const others = NODES.filter((node) => node !== first);
      await breakAndMend(prometheus, [
        {
          ...{ name: `${first} and the others do not hear each other`, alerts: ["MillraceTwoSpeakers"] },
          async apply() {
            await order.lab("split", first, others.join(","));
            return async () => void (await order.lab("heal"));
          },
        },
      ]);
    });

    it("about an agent that is slow", async () => {
      // Whoever is scraped takes seconds to answer: each scrape is given eight, and each window several scrapes.
      await prometheus.change(scaledRules(readFileSync(RULES_FILE, "utf8"), 5), 8);
      await breakAndMend(prometheus, [
        {
          ...{
            name: `an agent that gets ${CPU_SHARE * 100} % of a processor`,
            alerts: ["MillraceProgrammingSlow"],
          },
          apply: slowAgent,
        },
      ]);
      await prometheus.change(scaledRules(readFileSync(RULES_FILE, "utf8"), SCALE), 2);
    });

    it("about a kernel that refuses", async () => {
      const alerts = ["MillraceApplyFails", "MillraceBehind", "MillraceUnhealthy"];
      await breakAndMend(prometheus, [{ ...{ name: "a map of node3 is frozen", alerts }, apply: frozenMap }]);
    });

    it("all of them, but for those about the API and the controller", () => {
      const others = /^Millrace(ApiAway|NotSynced|PoolUsage|AddressPending|NoLeader)$/;
      const wanted = alertRules.map(({ alert }) => alert).filter((alert) => !others.test(alert));
      expect([...seenToFire].sort()).toEqual(wanted.sort());
    });
  });

  /** The agent of node2 gets too little CPU for the large changes that come. */
  async function slowAgent(): Promise<() => Promise<void>> {
    const cgroup = join(labPaths(LAB).cgroup, "node2", "agent");
    const giveBack = giveLittleCpu(processesIn(cgroup), CPU_SHARE);
    let stopped = false;
    const changes: Promise<unknown>[] = [];
    const change = (async () => {
      // Not one after the other: the agent is to have something to do whenever it runs.
      for (let turn = 0; !stopped; turn++) {
        changes.push(lab.apply(lab.manifest(largeService(turn))).catch(() => {}));
        await delay(3_000);
      }
    })();
    return async () => {
      stopped = true;
      giveBack();
      await change;
      await Promise.all(changes);
      await lab.delete(lab.manifest(largeService(0)));
    };
  }

  /** Nothing can be written to a map of node3 any more: only another map helps. */
  async function frozenMap(): Promise<() => Promise<void>> {
    const pins = join(labPinDirectory(LAB), "node3");
    const maps = readdirSync(pins).find((name) => name.startsWith("maps-")) ?? "";
    await must("bpftool", ["map", "freeze", "pinned", join(pins, maps, "frontends")]);
    const file = lab.manifest([serviceOf("late", 30700)]);
    // It is not in force on node3, and says so.
    const applied = lab.apply(file).catch(() => {});
    return async () => {
      await applied;
      await lab.killAgent("node3");
      const { cgroup } = labPaths(LAB);
      const place = ["--cgroup", join(cgroup, "node3"), "--pin-dir", pins];
      const command = await lab.command("node3", [MILLRACE, "cleanup", ...place]);
      await must(command[0], command.slice(1));
      await lab.startAgent("node3");
      await lab.delete(file);
    };
  }
});

const curl = (enter: Enter, url: string): [string, readonly string[]] => {
  const [file = "", ...args] = enter(["curl", "-sf", url]);
  return [file, args];
};

/** A Service of five thousand endpoints, others at each turn. */
function largeService(turn: number): object[] {
  const service = { ...serviceOf("large", 30800), spec: { ports: [{ port: 80, targetPort: 80 }] } };
  const slices = Array.from({ length: 15 }, (_, part) => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: `large-${part}`, namespace: "default", labels: { "kubernetes.io/service-name": "large" } },
    addressType: "IPv4",
    ports: [{ port: 80, protocol: "TCP" }],
    endpoints: Array.from({ length: 1000 }, (_, i) => ({
      addresses: [`10.${50 + (turn % 2)}.${part * 4 + (i >> 8)}.${i & 255}`],
      nodeName: "node1",
    })),
  }));
  return [service, ...slices];
}
