// Objects as an API server has them, for the controller's tests, and a controller over a fake cluster.
import { type Controller, createController } from "../../src/controller/controller.ts";
import type { ControllerOptions } from "../../src/controller/options.ts";
import type { Clock } from "../../src/kube/clock.ts";
import { configureLog } from "../../src/lib/log.ts";
import { createManualClock, type ManualClock } from "../kube/manual-clock.ts";
import { createFakeCluster, type FakeClient, type FakeCluster, type Stored } from "./fake-cluster.ts";

configureLog({ logLevel: "error", logFormat: "json" });

let addresses = 0;

/** A Service of type LoadBalancer, as the API server has completed it. */
export function service(
  name: string,
  spec: Record<string, unknown> = {},
  more: Partial<Stored["metadata"]> = {},
): Stored {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "default", ...more },
    spec: {
      type: "LoadBalancer",
      clusterIPs: [`10.96.${(++addresses >> 8) & 255}.${addresses & 255}`],
      ipFamilies: ["IPv4"],
      ipFamilyPolicy: "SingleStack",
      externalTrafficPolicy: "Cluster",
      ports: [{ port: 80, protocol: "TCP" }],
      ...spec,
    },
    status: { loadBalancer: {} },
  };
}

export function pool(name: string, ranges: readonly string[], spec: Record<string, unknown> = {}): Stored {
  return {
    apiVersion: "metallb.io/v1beta1",
    kind: "IPAddressPool",
    metadata: { name, namespace: "metallb-system" },
    spec: { addresses: ranges, ...spec },
  };
}

export function advertisement(name: string, spec: Record<string, unknown> = {}): Stored {
  return {
    apiVersion: "metallb.io/v1beta1",
    kind: "L2Advertisement",
    metadata: { name, namespace: "metallb-system" },
    spec,
  };
}

export function node(name: string, ...ips: readonly string[]): Stored {
  const found = ips.map((address) => ({ type: "InternalIP", address }));
  return { apiVersion: "v1", kind: "Node", metadata: { name }, status: { addresses: found } };
}

export const addressesOf = (object: Stored | undefined): string[] =>
  (object?.["status"]?.loadBalancer?.ingress ?? []).map(({ ip }: { ip: string }) => ip);

export const OPTIONS: ControllerOptions = {
  kubeconfig: "",
  apiServer: "",
  stateDir: "",
  namespace: "kube-system",
  loadBalancerClass: "",
  besideMetallb: false,
  leaseName: "millrace-controller",
  leaseDurationMs: 15_000,
  leaseRenewDeadlineMs: 10_000,
  leaseRetryMs: 2_000,
  writesPerSecond: 1_000,
  secretName: "millrace-announcer",
  rotateSecretAfterMs: 0,
  healthzBindAddress: "",
  metricsBindAddress: "",
  logLevel: "error",
  logFormat: "json",
};

export interface Running {
  readonly controller: Controller;
  readonly client: FakeClient;
  /** As by SIGTERM. */
  stop(): void;
  readonly ended: Promise<void>;
}

export interface Harness {
  readonly clock: ManualClock;
  readonly cluster: FakeCluster;
  start(options?: Partial<ControllerOptions>, prepare?: (client: FakeClient) => void, clock?: Clock): Running;
  addresses(key: string): string[];
  /** "reason message" of all events about an object. */
  events(name: string): string[];
}

export function harness(random: () => number = () => 0.5): Harness {
  const clock = createManualClock();
  const cluster = createFakeCluster(clock);
  return {
    clock,
    cluster,
    start(options = {}, prepare = () => {}, own = clock) {
      const client = cluster.client();
      prepare(client);
      const stop = new AbortController();
      const controller = createController(
        { ...OPTIONS, ...options },
        { transport: client, clock: own, random },
        stop.signal,
      );
      return { controller, client, stop: () => stop.abort(), ended: controller.run() };
    },
    addresses: (key) => addressesOf(cluster.get("services", key)),
    events: (name) =>
      cluster
        .list("events")
        .filter((one) => one["involvedObject"].name === name)
        .map((one) => `${one["reason"]} ${one["message"]}`),
  };
}
