// A cluster that MetalLB 0.16 served, taken over: its real controller and speakers give out addresses and announce them; Millrace's
// controller waits until they are gone, keeps every one where it is, and announces it. And back: MetalLB, started again, changes nothing either.
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { millraceCommand } from "../../src/lab/programs.ts";
import { buildMetallb, metallbObjects, metallbWorkloads, NAMESPACE } from "../failover/metallb.ts";
import { API_URL } from "./addressing.ts";
import { writeKubeconfig } from "./certificates.ts";
import type { Cluster } from "./cluster.ts";
import type { Component } from "./component.ts";
import { RealCluster } from "./examples/real-cluster.ts";
import { flags } from "./flags.ts";
import { agentStatus } from "./load/ask-cluster.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";
import { manifest, serverOnEachNode } from "./workloads.ts";

const DEPLOY = resolve(import.meta.dirname, "../../deploy");
const DIST = resolve(import.meta.dirname, "../../dist");
const NODES = ["node1", "node2"];
const HOUR_MS = 3_600_000;
const SOON = { timeoutMs: 60_000 };

interface Item {
  readonly metadata: {
    readonly name: string;
    readonly resourceVersion: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly status: {
    readonly loadBalancer?: { readonly ingress?: readonly { readonly ip: string }[] };
    readonly conditions?: readonly { readonly type: string }[];
  };
}

const metallb = (kind: string, name: string, spec: object): object => ({
  ...{ apiVersion: "metallb.io/v1beta1", kind, metadata: { name, namespace: NAMESPACE }, spec },
});

const service = (name: string, spec: object = {}, annotations: Readonly<Record<string, string>> = {}): object => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "default", annotations },
  spec: { type: "LoadBalancer", selector: { app: "web" }, ports: [{ port: 80, targetPort: 80 }], ...spec },
});

const SHARED = { "metallb.io/allow-shared-ip": "key", "metallb.io/loadBalancerIPs": "192.168.122.140" };
const dual = { ipFamilyPolicy: "RequireDualStack" };

/** One of each kind: from any pool, asked for by spec, by annotation, from a named pool, shared, in both families, policy Local. */
const SERVICES = [
  ...Array.from({ length: 12 }, (_, at) => service(`plain${at}`)),
  service("asked", { loadBalancerIP: "192.168.122.150" }),
  service("annotated", {}, { "metallb.universe.tf/loadBalancerIPs": "192.168.122.151" }),
  service("named", {}, { "metallb.io/address-pool": "apart" }),
  service("shared-a", {}, SHARED),
  service("shared-b", { ports: [{ port: 81, targetPort: 80 }] }, SHARED),
  service("both", dual, { "metallb.io/address-pool": "lan" }),
  service("local", { externalTrafficPolicy: "Local" }),
];
/** More than the pool has room for: it waits under both. */
const WAITING = service("waits", {}, { "metallb.io/address-pool": "tiny" });

describe.sequential("a cluster that MetalLB served", () => {
  let cluster: Cluster;
  let real: RealCluster;
  let controller: Component;
  let before: readonly string[];

  beforeAll(async () => {
    await buildMetallb(() => {});
    cluster = await startCluster({ name: "metallb", proxy: "millrace", nodes: 2, replace: true });
    real = new RealCluster(cluster);
    await cluster.apply(manifest(...metallbObjects()));
    await cluster.apply(manifest(...metallbWorkloads("node2", NODES)));
    await cluster.apply(
      manifest(
        metallb("IPAddressPool", "lan", {
          addresses: ["192.168.122.110-192.168.122.159", "fd00:192:168:122::110-fd00:192:168:122::119"],
        }),
        metallb("IPAddressPool", "apart", { addresses: ["192.168.122.160/30"], autoAssign: false }),
        metallb("IPAddressPool", "tiny", { addresses: ["192.168.122.170/32"], autoAssign: false }),
        metallb("L2Advertisement", "all", {}),
        serverOnEachNode({ name: "web" }),
      ),
    );
    const body = {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: { expirationSeconds: HOUR_MS / 1000 },
    };
    const parts = readFileSync(join(DEPLOY, "controller.yaml"), "utf8").split("---\n");
    await cluster.apply(parts.filter((part) => !/^kind: Deployment$/m.test(part)).join("---\n"));
    const path = "/api/v1/namespaces/kube-system/serviceaccounts/millrace-controller/token";
    const { status } = await cluster.api.ask<{ status: { token: string } }>({ method: "POST", path, body });
    const kubeconfig = join(cluster.paths.state, "controller.kubeconfig");
    const tokenFile = join(cluster.paths.state, "controller.token");
    writeFileSync(tokenFile, status.token, { mode: 0o600 });
    writeKubeconfig(kubeconfig, cluster.control.authority, { tokenFile }, API_URL);
    const own = flags({
      kubeconfig,
      "healthz-bind-address": "127.0.0.1:20100",
      "metrics-bind-address": "127.0.0.1:20200",
    });
    controller = cluster.control.component("controller", {
      command: () => millraceCommand(["controller", ...own], DIST),
    });
  }, 900_000);

  afterAll(() => cluster?.down());

  const ips = ({ status }: Item): string => (status.loadBalancer?.ingress ?? []).map(({ ip }) => ip).join();

  async function items(): Promise<readonly Item[]> {
    const all = await cluster.api.ask<{ items: readonly Item[] }>("/api/v1/namespaces/default/services");
    return all.items.filter(({ metadata }) => metadata.name !== "kubernetes");
  }

  /** What must not change: each Service with its version, whose every write raises it, and its addresses. */
  const assignments = async (): Promise<readonly string[]> =>
    (await items()).map((one) => `${one.metadata.name} ${one.metadata.resourceVersion} ${ips(one)}`).sort();

  async function scaleMetallb(replicas: 0 | 1): Promise<void> {
    await cluster.kubectl(["-n", NAMESPACE, "scale", "deployment/controller", `--replicas=${replicas}`]);
    const nobody = {
      spec: { template: { spec: { nodeSelector: replicas === 0 ? { "millrace.io/none": "none" } : null } } },
    };
    await cluster.kubectl([
      "-n",
      NAMESPACE,
      "patch",
      "daemonset/speaker",
      "--type=merge",
      "-p",
      JSON.stringify(nobody),
    ]);
    const wanted = replicas === 0 ? 0 : 1 + NODES.length;
    const areThere = async () => ((await cluster.pods(NAMESPACE, "app=metallb")).length === wanted ? true : undefined);
    await waitUntil(`${wanted} pods of MetalLB`, areThere, { timeoutMs: 180_000 });
  }

  it("has addresses from its controller, for every kind of wish", async () => {
    await cluster.apply(manifest(...SERVICES, service("first", {}, { "metallb.io/address-pool": "tiny" })));
    const have = async () => {
      const without = (await items()).filter((one) => ips(one) === "").map(({ metadata }) => metadata.name);
      if (without.length > 0) throw new Error(`without an address: ${without.join()}`);
      return true;
    };
    await waitUntil("every Service to have an address", have, { timeoutMs: 180_000 });
    await cluster.apply(manifest(WAITING));
    expect(new Set((await items()).map(ips)).size).toBe(SERVICES.length + 1);
  });

  async function controllerStatus(): Promise<{ readonly leads: boolean; readonly waitsFor: readonly string[] }> {
    const { stdout } = await cluster.exec("control", ["curl", "-sf", "-m", "2", "http://127.0.0.1:20100/status"]);
    return JSON.parse(stdout);
  }

  it("has Millrace's controller wait while MetalLB runs", async () => {
    before = await assignments();
    await controller.start();
    const waits = async () => ((await controllerStatus()).waitsFor.length === 2 ? true : undefined);
    await waitUntil("the controller to wait for MetalLB", waits, SOON);
    expect(await assignments()).toEqual(before);
  });

  it("keeps every assignment when Millrace's controller takes MetalLB's place, with no write but that of what is shared", async () => {
    await scaleMetallb(0);
    const leads = async () => {
      const { leads, waitsFor } = await controllerStatus();
      return leads && waitsFor.length === 0 ? true : undefined;
    };
    await waitUntil("the controller to wait no more", leads, SOON);
    // It has gone through all of them when a new one has an address.
    await cluster.apply(manifest(service("newer")));
    const given = async () => (await items()).find((one) => one.metadata.name === "newer" && ips(one) !== "");
    const newer = await waitUntil("a new Service to have an address", given, SOON);
    expect(before.map((line) => line.split(" ")[2])).not.toContain(ips(newer));
    const after = (await assignments()).filter((line) => !line.startsWith("newer "));
    // Of an address that may be shared a condition says how it was when it was taken over: its version is another one.
    const isShared = (line: string): boolean => line.startsWith("shared-");
    const address = (line: string): string => line.replace(/ \d+ /, " ");
    expect(after.map(address)).toEqual(before.map(address));
    expect(after.filter((line) => !isShared(line))).toEqual(before.filter((line) => !isShared(line)));
    for (const { metadata, status } of await items())
      expect(status.conditions?.map(({ type }) => type) ?? [], metadata.name).toEqual(
        metadata.name.startsWith("shared-") ? ["millrace.io/AddressShared"] : [],
      );
  });

  it("is announced by Millrace and answered from outside, in both families", async () => {
    const wanted = new Set((await items()).flatMap((one) => ips(one).split(",")).filter((ip) => ip !== ""));
    const allAnnounced = async () => {
      const lists = await Promise.all(NODES.map(async (node) => (await agentStatus(cluster, node)).announced));
      const missing = [...wanted].filter((ip) => !lists.flat().some(({ address }) => address === ip));
      if (missing.length > 0) throw new Error(`not announced: ${missing.join()}`);
      return true;
    };
    await waitUntil("every address to be announced", allAnnounced, { timeoutMs: 120_000 });
    for (const one of await items()) {
      for (const host of ips(one)
        .split(",")
        .filter((ip) => ip !== "")) {
        const port = one.metadata.name === "shared-b" ? 81 : 80;
        const order = { via: "tcp", host, port, count: 4, untilError: true } as const;
        expect((await real.probe("client1", order)).errors, `${one.metadata.name} ${host}`).toEqual([]);
      }
    }
  });

  it("goes back to MetalLB with the same addresses", async () => {
    const ours = (await items()).map((one) => `${one.metadata.name} ${ips(one)}`).sort();
    await controller.stop();
    await scaleMetallb(1);
    await cluster.kubectl(["-n", "default", "delete", "service", "first"]);
    // MetalLB has gone through all of them when the one that waited has the address that is free now.
    const waited = async () => (await items()).find((one) => one.metadata.name === "waits" && ips(one) !== "");
    await waitUntil("the Service that waited to have an address", waited, { timeoutMs: 120_000 });
    const kept = (line: string): boolean => !/^(first|waits) /.test(line);
    expect(
      (await items())
        .map((one) => `${one.metadata.name} ${ips(one)}`)
        .sort()
        .filter(kept),
    ).toEqual(ours.filter(kept));
  });
});
