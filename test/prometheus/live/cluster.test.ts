// Debian's Prometheus scrapes a real cluster, as kube-proxy is scraped: what dashboards and alerts made for kube-proxy ask is answered,
// every query of ours about the API and the controller has data, and the alerts about these fire and clear.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { millraceCommand } from "../../../src/lab/programs.ts";
import { patience } from "../../../src/lib/patience.ts";
import { CONTROL_ADDRESSES } from "../../cluster/addressing.ts";
import type { Cluster } from "../../cluster/cluster.ts";
import type { Component } from "../../cluster/component.ts";
import { flags } from "../../cluster/flags.ts";
import { inForce } from "../../cluster/load/ask-cluster.ts";
import { startCluster } from "../../cluster/start-cluster.ts";
import { waitUntil } from "../../cluster/wait-until.ts";
import { manifest, serverOnEachNode, serviceOf } from "../../cluster/workloads.ts";
import { until } from "../../lab/traffic/test-lab.ts";
import { ROOT, RULES_FILE } from "../rules-file.ts";
import { scaledRules } from "../scaled-rules.ts";
import { breakAndMend, seenToFire } from "./breakages.ts";
import { complaintsAbout } from "./check-metrics.ts";
import { asksOfCluster, PANEL_QUERIES, withoutData } from "./panel-queries.ts";
import { Prometheus, type Target } from "./prometheus.ts";

const NODES = ["node1", "node2"];
const SCALE = 15;
const CONTROLLER_PORT = 20200;
const DIST = join(ROOT, "dist");

/** What kubernetes-mixin's dashboard and alerts about kube-proxy ask for, in words of our own. */
const AS_KUBE_PROXY = [
  'up{job="kube-proxy"}',
  'sum(rate(kubeproxy_sync_proxy_rules_duration_seconds_count{job="kube-proxy", instance=~"node.+"}[1m]))',
  'histogram_quantile(0.99, sum by (le, instance) (rate(kubeproxy_sync_proxy_rules_duration_seconds_bucket{job="kube-proxy"}[1m])))',
  'sum(rate(kubeproxy_network_programming_duration_seconds_count{job="kube-proxy", instance=~"node.+"}[1m]))',
  'histogram_quantile(0.99, sum by (le, instance) (rate(kubeproxy_network_programming_duration_seconds_bucket{job="kube-proxy"}[1m])))',
  'sum by (code) (rate(rest_client_requests_total{job="kube-proxy", code=~"2.."}[1m]))',
  'sum by (host) (rate(rest_client_requests_total{job="kube-proxy"}[1m]))',
  'histogram_quantile(0.99, sum by (verb, le) (rate(rest_client_request_duration_seconds_bucket{job="kube-proxy", verb="GET"}[1m])))',
  'histogram_quantile(0.99, sum by (verb, le) (rate(rest_client_request_duration_seconds_bucket{job="kube-proxy"}[1m])))',
  'process_resident_memory_bytes{job="kube-proxy", instance=~"node.+"}',
  'rate(process_cpu_seconds_total{job="kube-proxy", instance=~"node.+"}[1m])',
  'process_start_time_seconds{job="kube-proxy"}',
  'process_open_fds{job="kube-proxy"}',
];

const pool = (name: string, ...addresses: readonly string[]): object => ({
  apiVersion: "metallb.io/v1beta1",
  kind: "IPAddressPool",
  metadata: { name, namespace: "metallb-system" },
  spec: { addresses },
});
/** A Service of the pods of the first one. */
const balanced = (name: string): object =>
  serviceOf({ name }, { type: "LoadBalancer", ipFamilyPolicy: "SingleStack", selector: { app: "web" } });

describe.sequential("Prometheus and a cluster", () => {
  let cluster: Cluster;
  let prometheus: Prometheus;
  const controllers: Component[] = [];
  let stopped = false;
  let churn: Promise<void> = Promise.resolve();

  beforeAll(async () => {
    const agentFlags = ["--metrics-bind-address=0.0.0.0:10249"];
    cluster = await startCluster({ name: "prom", nodes: NODES.length, agentFlags, replace: true });
    await cluster.apply(manifest({ apiVersion: "v1", kind: "Namespace", metadata: { name: "metallb-system" } }));
    await cluster.apply(readFileSync(join(ROOT, "deploy/crds.yaml"), "utf8"));
    await waitUntil("the CRDs to be served", async () =>
      (await cluster.api.send({ path: "/apis/metallb.io/v1beta1/ipaddresspools" })).status === 200 ? true : undefined,
    );
    for (const at of [0, 1]) {
      const own = flags({
        kubeconfig: cluster.kubeconfig,
        "healthz-bind-address": `127.0.0.1:${CONTROLLER_PORT - 100 + at}`,
        "metrics-bind-address": `0.0.0.0:${CONTROLLER_PORT + at}`,
      });
      const component = cluster.control.component(`controller${at}`, {
        command: () => millraceCommand(["controller", ...own], DIST),
      });
      controllers.push(component);
      await component.start();
    }
    await cluster.apply(
      manifest(pool("lan", "192.168.122.110-192.168.122.119"), serverOnEachNode({ name: "web" }), balanced("web")),
    );
    const targets: Target[] = [
      ...NODES.map((instance) => ({
        ...{ job: "kube-proxy", instance, address: `${cluster.node(instance).addresses[0]}:10249` },
      })),
      ...[0, 1].map((at) => ({
        ...{ job: "millrace-controller", instance: `controller${at}` },
        address: `${CONTROL_ADDRESSES[0]}:${CONTROLLER_PORT + at}`,
      })),
    ];
    const rules = scaledRules(readFileSync(RULES_FILE, "utf8"), SCALE);
    prometheus = new Prometheus((command) => cluster.client.enter(command), targets, rules);
    await prometheus.start();
    churn = change();
  });

  afterAll(async () => {
    stopped = true;
    await churn;
    await prometheus?.[Symbol.asyncDispose]();
    await cluster?.down();
  });

  /** Pods and Services come and go, so that there is something to sync. */
  async function change(): Promise<void> {
    for (let turn = 0; !stopped; turn++) {
      const one = manifest(serviceOf({ name: "coming" }), serverOnEachNode({ name: "coming" }));
      await (turn % 2 === 0 ? cluster.apply(one) : cluster.delete(one)).catch(() => {});
      await delay(2000);
    }
  }

  const value = async (expr: string): Promise<number> =>
    Number((await prometheus.query(expr))[0]?.values[0]?.[1] ?? Number.NaN);

  it("scrapes agents and controllers", async () => {
    await until("every target to be up", async () => {
      const errors = Object.values(await prometheus.targets());
      return errors.length === 4 && errors.every((error) => error === "") ? true : undefined;
    });
  });

  it.each(["node1", "control"])(
    "finds nothing wrong with the metrics at %s (promtool check metrics)",
    async (member) => {
      const port = member === "control" ? CONTROLLER_PORT : 10249;
      const { stdout } = await cluster.exec(member, ["curl", "-sf", `http://127.0.0.1:${port}/metrics`]);
      expect(stdout.length).toBeGreaterThan(1000);
      expect(complaintsAbout(stdout)).toEqual([]);
    },
  );

  describe("as kube-proxy is asked", () => {
    // An agent reads all anew: else hardly anything is asked of the API within a minute.
    beforeAll(async () => {
      await delay(30_000);
      const began = Date.now();
      await cluster.agent("node1").restart();
      await inForce(cluster, "node1", began);
      await delay(10_000);
    });

    it.each(AS_KUBE_PROXY)("%s has data", async (expr) => {
      const samples = await prometheus.query(expr);
      expect(samples.length).toBeGreaterThan(0);
      expect(samples.some(({ values }) => Number.isFinite(Number(values[0]?.[1])))).toBe(true);
    });

    it("the alert that no kube-proxy is there is silent", async () => {
      expect(await prometheus.query('absent(up{job="kube-proxy"} == 1)')).toEqual([]);
    });

    it("go_goroutines has no counterpart", async () => {
      expect(await prometheus.query('go_goroutines{job="kube-proxy"}')).toEqual([]);
    });
  });

  it("has data for each query of the dashboards about API and controller", async () => {
    const queries = PANEL_QUERIES.filter(asksOfCluster);
    expect(queries.length).toBeGreaterThan(10);
    // The table of Services without an address has a row once there is one.
    const many = manifest(...Array.from({ length: 10 }, (_, i) => balanced(`full${i}`)));
    await cluster.apply(many);
    const variables = { job: "kube-proxy", instance: "node1|node2", __rate_interval: "2m" };
    await until(
      "a Service to be without an address",
      async () => ((await value("max(millrace_controller_services_pending)")) > 0 ? true : undefined),
      patience(60_000),
    );
    const missing = await withoutData(prometheus, queries, variables, 60);
    await cluster.delete(many);
    expect(missing).toEqual([]);
  });

  describe("alerts", () => {
    let besides: ReadonlySet<string> = new Set();

    // What this machine keeps a node from is told as long as it is so.
    it("do not fire while nothing is broken, but for what is wrong with the machine", async () => {
      let firing: ReadonlySet<string> = new Set();
      const quiet = async (): Promise<true | undefined> => {
        firing = await prometheus.firing();
        return [...firing].every((name) => name === "MillraceErrorNotice") ? true : undefined;
      };
      await until("alerts to clear", quiet, patience(120_000));
      besides = firing;
    });

    it("about pools fire when one is given, and clear when it has room again", async () => {
      const many = manifest(...Array.from({ length: 10 }, (_, i) => balanced(`full${i}`)));
      await breakAndMend(
        prometheus,
        [
          {
            ...{ name: "eleven Services and ten addresses", alerts: ["MillracePoolUsage", "MillraceAddressPending"] },
            async apply() {
              await cluster.apply(many);
              return async () => void (await cluster.delete(many));
            },
          },
        ],
        besides,
      );
    });

    it("about the API fire when it is away, and clear when it is back", async () => {
      const alerts = ["MillraceApiAway", "MillraceNotSynced", "MillraceNoLeader"];
      await breakAndMend(
        prometheus,
        [
          {
            ...{ name: "the API server is away, and the agent of node2 starts anew", alerts },
            async apply() {
              await cluster.apiserver.stop();
              await cluster.agent("node2").restart();
              return async () => {
                await cluster.apiserver.start();
                await waitUntil(
                  "the API server to serve",
                  async () => ((await cluster.api.send({ path: "/readyz" })).status === 200 ? true : undefined),
                  { from: cluster.apiserver },
                );
                for (const node of NODES) await inForce(cluster, node);
              };
            },
          },
        ],
        besides,
      );
    });

    it("about API and controller were all seen", () => {
      const wanted = ["ApiAway", "NotSynced", "PoolUsage", "AddressPending", "NoLeader"].map(
        (name) => `Millrace${name}`,
      );
      expect(wanted.filter((name) => !seenToFire.has(name))).toEqual([]);
    });

    it("that no kube-proxy is there has data when no agent runs", async () => {
      for (const node of NODES) await cluster.agent(node).stop();
      await until(
        "kube-proxy to be missed",
        async () => ((await prometheus.query('absent(up{job="kube-proxy"} == 1)')).length > 0 ? true : undefined),
        patience(30_000),
      );
    });
  });
});
