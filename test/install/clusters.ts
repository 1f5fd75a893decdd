// Clusters and runs of the installer for tests: facts for what is pure, a fake cluster with a clock that is turned for what is not.
import type { ClusterFacts, ClusterObjectsRead, NodeFacts } from "../../src/install/cluster-facts.ts";
import { type InstallRun, install } from "../../src/install/install.ts";
import type { InstallOptions } from "../../src/install/install-plan.ts";
import { runUninstall, type UninstallRun } from "../../src/install/run-uninstall.ts";
import type { UninstallOptions } from "../../src/install/uninstall-plan.ts";
import type { ClusterObject } from "../../src/kube/cluster-objects.ts";
import { createClusterObjects } from "../../src/kube/cluster-objects.ts";
import { createManualClock } from "../kube/manual-clock.ts";
import { createFakeCluster, type FakeCluster, kubeProxyObjects } from "./fake-cluster.ts";

export const OPTIONS: InstallOptions = {
  image: undefined,
  imagePullSecrets: undefined,
  apiServer: undefined,
  loadBalancerClass: undefined,
  besideMetallb: false,
  except: undefined,
  sysAdmin: undefined,
  set: {},
  isSetAnew: false,
  selfTest: true,
  force: false,
  parallel: 1,
};

export const UNINSTALL_OPTIONS: UninstallOptions = {
  drainTimeout: "5m",
  deleteCrds: false,
  withoutProxy: false,
  parallel: 1,
  only: [],
};

export function nodeFact(name: string, more: Partial<NodeFacts> = {}): NodeFacts {
  return {
    name,
    kernel: "6.1.0-18-amd64",
    arch: "amd64",
    os: "linux",
    runtime: "containerd://2.1.0",
    ready: "yes",
    label: "",
    isCleaned: false,
    isDraining: false,
    isControlPlane: false,
    addresses: ["192.168.0.2"],
    ...more,
  };
}

export const KUBE_PROXY = {
  namespace: "kube-system",
  name: "kube-proxy",
  labels: { "k8s-app": "kube-proxy" },
  mode: "iptables",
  healthz: "127.0.0.1:10256",
  isHeldBack: false,
  configuration: "",
  configurationFrom: "",
  flags: {},
};

export function facts(more: Partial<ClusterFacts> = {}): ClusterFacts {
  return {
    version: "v1.34.4",
    platform: "kubeadm",
    kindCluster: "",
    nodes: [nodeFact("cp", { isControlPlane: true }), nodeFact("w1"), nodeFact("w2")],
    apiWays: [{ url: "https://cp:6443", from: "ConfigMap kube-system/kubeadm-config" }],
    kubeProxy: KUBE_PROXY,
    staticKubeProxies: [],
    embeddedKubeProxies: [],
    serviceLoadBalancers: [],
    metallb: [],
    otherProxies: [],
    cni: "Flannel",
    millrace: undefined,
    millraceElsewhere: [],
    millraceConfig: undefined,
    hasTraces: false,
    crds: new Map(),
    hasPrometheusOperator: false,
    ...more,
  };
}

export const NOTHING_READ: ClusterObjectsRead = {
  version: "v1.34.4",
  nodes: [],
  daemonSets: [],
  deployments: [],
  pods: [],
  customResourceDefinitions: [],
  kubeadmConfig: undefined,
  kubeProxyConfig: undefined,
  kubeProxySettings: undefined,
  clusterInfo: undefined,
  ciliumConfig: undefined,
  endpointSlices: [],
  millraceConfig: undefined,
  controllerLease: undefined,
  kubeconfigServer: "",
};

const LABELS = { "app.kubernetes.io/name": "millrace", "app.kubernetes.io/part-of": "millrace" };

/** The shape of deploy/millrace.yaml, as far as the installer looks into it. */
export function smallManifest(): ClusterObject[] {
  const metadata = (name: string): ClusterObject["metadata"] => ({ name, namespace: "kube-system", labels: LABELS });
  const agentLabels = { ...LABELS, "app.kubernetes.io/component": "agent", "k8s-app": "kube-proxy" };
  const probe = { httpGet: { path: "/livez", port: "health", host: "127.0.0.1" } };
  return [
    {
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: "ipaddresspools.metallb.io" },
      spec: { group: "metallb.io" },
    },
    { apiVersion: "v1", kind: "ServiceAccount", metadata: metadata("millrace") },
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: metadata("millrace"),
      data: { "config.yaml": "announcer-secret: /etc/millrace/announcer\n" },
    },
    {
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata: metadata("millrace"),
      spec: {
        selector: { matchLabels: { "app.kubernetes.io/name": "millrace", "app.kubernetes.io/component": "agent" } },
        template: {
          metadata: { labels: agentLabels, annotations: { "millrace.io/config-hash": "of the chart" } },
          spec: {
            affinity: {
              nodeAffinity: {
                requiredDuringSchedulingIgnoredDuringExecution: {
                  nodeSelectorTerms: [
                    {
                      matchExpressions: [
                        { key: "kubernetes.io/os", operator: "In", values: ["linux"] },
                        { key: "millrace.io/service-proxy", operator: "NotIn", values: ["kube-proxy"] },
                      ],
                    },
                  ],
                },
              },
            },
            initContainers: [{ name: "prepare", image: "localhost/millrace:0.1.0", args: ["prepare"] }],
            containers: [
              {
                name: "agent",
                image: "localhost/millrace:0.1.0",
                args: ["run", "--config=/etc/millrace/config.yaml"],
                ports: [
                  { name: "health", containerPort: 10256 },
                  { name: "metrics", containerPort: 10249 },
                ],
                startupProbe: probe,
                livenessProbe: probe,
                readinessProbe: probe,
                securityContext: {
                  capabilities: { drop: ["ALL"], add: ["BPF", "NET_ADMIN", "NET_RAW", "PERFMON"] },
                },
                volumeMounts: [
                  { name: "bpffs", mountPath: "/sys/fs/bpf", mountPropagation: "HostToContainer" },
                  { name: "state", mountPath: "/var/lib/millrace" },
                  { name: "run", mountPath: "/run/millrace" },
                  { name: "config", mountPath: "/etc/millrace/config.yaml", subPath: "config.yaml", readOnly: true },
                ],
              },
            ],
            volumes: [
              { name: "bpffs", hostPath: { path: "/sys/fs/bpf" } },
              { name: "state", hostPath: { path: "/var/lib/millrace" } },
              { name: "run", hostPath: { path: "/run/millrace" } },
              { name: "config", configMap: { name: "millrace" } },
            ],
          },
        },
      },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: metadata("millrace-controller"),
      spec: {
        template: {
          spec: { containers: [{ name: "controller", image: "localhost/millrace:0.1.0", args: ["controller"] }] },
        },
      },
    },
  ];
}

export interface FakeRun {
  readonly cluster: FakeCluster;
  /** All that was said, in order. */
  readonly said: string[];
  /** Resolves to undefined, or to what it was rejected with. */
  install(options?: Partial<InstallOptions>, more?: Partial<InstallRun>): Promise<Error | undefined>;
  uninstall(more?: Partial<UninstallRun>): Promise<Error | undefined>;
}

/** Three nodes with kube-proxy's rules in force. */
export function withKubeProxy(names: readonly string[] = ["cp", "w1", "w2"], more: object = {}): FakeRun {
  const run = fakeRun();
  for (const object of kubeProxyObjects(more)) run.cluster.put(object);
  for (const name of names)
    run.cluster.addNode(
      name,
      name === "cp" ? { metadata: { labels: { "node-role.kubernetes.io/control-plane": "" } } } : {},
    );
  run.cluster.settle();
  run.cluster.unserved.length = 0;
  run.cluster.history.length = 0;
  return run;
}

export function fakeRun(): FakeRun {
  const cluster = createFakeCluster();
  const said: string[] = [];
  const clock = createManualClock();
  const api = createClusterObjects({
    transport: cluster,
    clock,
    signal: new AbortController().signal,
    fieldManager: "millrace-install",
  });
  const common = {
    api,
    clock,
    signal: new AbortController().signal,
    progress: { line: (text: string) => void said.push(text), live() {} },
    kubeconfigServer: "https://192.0.2.1:6443",
    timeoutMs: 60_000,
    confirm: async () => true,
  };

  async function toItsEnd(work: Promise<void>): Promise<Error | undefined> {
    let isOver = false;
    const done = work.then(
      () => undefined,
      (error: Error) => error,
    );
    void done.then(() => {
      isOver = true;
    });
    while (!isOver) await clock.advance(1_000);
    return done;
  }

  return {
    cluster,
    said,
    install: (options = {}, more = {}) =>
      toItsEnd(
        install({
          ...common,
          manifest: smallManifest(),
          options: { ...OPTIONS, ...options },
          dryRun: undefined,
          takeSettings: async () => ({ config: undefined, remarks: [] }),
          settingProblem: () => "",
          ...more,
        }),
      ),
    uninstall: (more = {}) =>
      toItsEnd(
        runUninstall({
          ...common,
          manifest: smallManifest(),
          options: UNINSTALL_OPTIONS,
          drainTimeoutMs: 300_000,
          isDryRun: false,
          ...more,
        }),
      ),
  };
}
