import { describe, expect, it } from "vitest";
import { apiWays } from "../../src/install/api-way.ts";
import { type ClusterObjectsRead, readClusterFacts } from "../../src/install/cluster-facts.ts";
import { type Platform, recognisePlatform } from "../../src/install/platform.ts";
import type { ClusterObject } from "../../src/kube/cluster-objects.ts";
import { NOTHING_READ } from "./clusters.ts";
import { nodeObject } from "./fake-cluster.ts";

function configMap(name: string, data: Record<string, string>): ClusterObject {
  return { apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "kube-system" }, data };
}

function workload(kind: "DaemonSet" | "Deployment", name: string, image: string, more: object = {}): ClusterObject {
  return {
    apiVersion: "apps/v1",
    kind,
    metadata: { name, namespace: "x" },
    spec: { template: { spec: { containers: [{ name: "c", image, ...more }] } } },
    status: { desiredNumberScheduled: 3 },
  };
}

const read = (more: Partial<ClusterObjectsRead>): ReturnType<typeof readClusterFacts> =>
  readClusterFacts({ ...NOTHING_READ, ...more });

describe("the platform", () => {
  const nodeWith = (more: object): ClusterObject[] => [nodeObject("n1", more)];
  const kubelet = (kubeletVersion: string): object => ({ status: { nodeInfo: { kubeletVersion } } });
  it.each<[Platform, ClusterObject[], string]>([
    ["kind", nodeWith({ spec: { providerID: "kind://docker/mr/n1" } }), "v1.34.4"],
    ["minikube", nodeWith({ metadata: { labels: { "minikube.k8s.io/name": "minikube" } } }), "v1.34.4"],
    ["k3s", nodeWith(kubelet("v1.34.4+k3s1")), "v1.34.4+k3s1"],
    ["rke2", nodeWith(kubelet("v1.34.4+rke2r1")), "v1.34.4+rke2r1"],
    ["k0s", nodeWith(kubelet("v1.34.4+k0s")), "v1.34.4+k0s"],
    ["talos", nodeWith({ status: { nodeInfo: { osImage: "Talos (v1.11.0)" } } }), "v1.34.4"],
    ["openshift", nodeWith({ metadata: { labels: { "node.openshift.io/os_id": "rhcos" } } }), "v1.32.4"],
    ["microk8s", nodeWith({ metadata: { labels: { "microk8s.io/cluster": "true" } } }), "v1.32.4"],
    ["eks", nodeWith(kubelet("v1.33.1-eks-1de2ab1")), "v1.33.1-eks-1de2ab1"],
    ["gke", nodeWith(kubelet("v1.33.2-gke.1240000")), "v1.33.2-gke.1240000"],
    ["aks", nodeWith({ metadata: { labels: { "kubernetes.azure.com/cluster": "c" } } }), "v1.33.2"],
    ["kubeadm", nodeWith({ metadata: { annotations: { "kubeadm.alpha.kubernetes.io/cri-socket": "x" } } }), "v1.34.4"],
    ["unknown", nodeWith({}), "v1.34.4"],
    ["unknown", [], "v1.34.4"],
  ])("is %s", (platform, nodes, version) => {
    expect(recognisePlatform(nodes, version, false)).toBe(platform);
  });

  it("is kubeadm's by its ConfigMap, unless it is something built upon it", () => {
    expect(recognisePlatform(nodeWith({}), "v1.34.4", true)).toBe("kubeadm");
    expect(recognisePlatform(nodeWith({ spec: { providerID: "kind://docker/mr/n1" } }), "v1.34.4", true)).toBe("kind");
  });
});

describe("the way to the API server", () => {
  const slice = (addressType: string, addresses: string[], port = 6443, ready?: boolean): ClusterObject => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: "kubernetes", namespace: "default" },
    addressType,
    ports: [{ name: "https", port }],
    endpoints: addresses.map((one) => ({
      addresses: [one],
      ...(ready === undefined ? {} : { conditions: { ready } }),
    })),
  });
  const kubeconfig = (server: string): string => `clusters: [{name: a, cluster: {server: "${server}"}}]`;
  const nothing = {
    platform: "kubeadm" as Platform,
    kubeadmConfig: undefined,
    kubeProxyConfig: undefined,
    clusterInfo: undefined,
    endpointSlices: [],
    kubeconfigServer: "",
  };
  const endpoint = (text: string): ClusterObject =>
    configMap("kubeadm-config", { ClusterConfiguration: `controlPlaneEndpoint: "${text}"` });

  it.each<[string, Partial<Parameters<typeof apiWays>[0]>, string[]]>([
    ["nothing", {}, []],
    ["kubeadm's endpoint", { kubeadmConfig: endpoint("lb.example.com:6443") }, ["https://lb.example.com:6443"]],
    ["one without a port", { kubeadmConfig: endpoint("lb.example.com") }, ["https://lb.example.com:6443"]],
    [
      "none of a cluster of one server",
      { kubeadmConfig: endpoint(""), endpointSlices: [slice("IPv4", ["10.0.0.2"])] },
      ["https://10.0.0.2:6443"],
    ],
    [
      "kube-proxy's",
      { kubeProxyConfig: configMap("kube-proxy", { "kubeconfig.conf": kubeconfig("https://cp:6443") }) },
      ["https://cp:6443"],
    ],
    [
      "cluster-info's",
      { clusterInfo: configMap("cluster-info", { kubeconfig: kubeconfig("https://cp:6443") }) },
      ["https://cp:6443"],
    ],
    [
      "a port of its own",
      { clusterInfo: configMap("cluster-info", { kubeconfig: kubeconfig("https://cp") }) },
      ["https://cp:443"],
    ],
    [
      "endpoints of both families",
      { endpointSlices: [slice("IPv4", ["10.0.0.2"]), slice("IPv6", ["fd00::2"], 443)] },
      ["https://10.0.0.2:6443", "https://[fd00::2]:443"],
    ],
    ["no endpoint that is not ready", { endpointSlices: [slice("IPv4", ["10.0.0.2"], 6443, false)] }, []],
    ["no kubeconfig of this machine's loopback", { kubeconfigServer: "https://127.0.0.1:38291" }, []],
    [
      "the kubeconfig's at last",
      { endpointSlices: [slice("IPv4", ["10.0.0.2"])], kubeconfigServer: "https://api.example.com" },
      ["https://10.0.0.2:6443", "https://api.example.com:443"],
    ],
    [
      "a managed cluster's kubeconfig first",
      { platform: "eks", endpointSlices: [slice("IPv4", ["10.0.0.2"])], kubeconfigServer: "https://api.example.com" },
      ["https://api.example.com:443", "https://10.0.0.2:6443"],
    ],
    [
      "each once",
      {
        kubeadmConfig: endpoint("cp:6443"),
        kubeProxyConfig: configMap("kube-proxy", { "kubeconfig.conf": kubeconfig("https://cp:6443") }),
      },
      ["https://cp:6443"],
    ],
    [
      "Talos' own",
      { platform: "talos", endpointSlices: [slice("IPv4", ["10.0.0.2"])] },
      ["https://localhost:7445", "https://10.0.0.2:6443"],
    ],
    ["K3s' own", { platform: "k3s" }, ["https://127.0.0.1:6444"]],
    ["RKE2's own", { platform: "rke2" }, ["https://127.0.0.1:6443"]],
    ["none of what is no YAML", { kubeadmConfig: configMap("kubeadm-config", { ClusterConfiguration: "{" }) }, []],
  ])("is %s", (_, more, expected) => {
    expect(apiWays({ ...nothing, ...more }).map(({ url }) => url)).toEqual(expected);
  });
});

describe("a cluster's objects", () => {
  it("tell kube-proxies that are static pods, but not on RKE2, whose they are", () => {
    const pods: ClusterObject[] = [
      {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "kube-proxy-n1", namespace: "kube-system", ownerReferences: [{ kind: "Node", name: "n1" }] },
        spec: { nodeName: "n1", containers: [{ name: "kube-proxy", image: "rancher/hardened-kubernetes:v1" }] },
      },
    ];
    expect(read({ pods })).toMatchObject({ staticKubeProxies: ["n1"], embeddedKubeProxies: [] });
    const nodes = [nodeObject("n1", { status: { nodeInfo: { kubeletVersion: "v1.34.4+rke2r1" } } })];
    expect(read({ pods, nodes })).toMatchObject({ staticKubeProxies: [], embeddedKubeProxies: ["n1"] });
    expect(read({ nodes })).toMatchObject({ staticKubeProxies: [], embeddedKubeProxies: [] });
  });

  it.each([
    ['["server"]', true],
    ['["server","--disable-kube-proxy"]', false],
    ['["server","--disable-kube-proxy=true"]', false],
    ['["server","--disable-kube-proxy","true"]', false],
    ['["server","--disable-kube-proxy=false"]', true],
    ['["server","--disable-kube-proxy","false"]', true],
    ['["server","--disable-kube-proxy","F","--disable","servicelb"]', true],
    ['["server","--disable-kube-proxy","--disable","servicelb"]', false],
    ['["server","--disable-kube-proxy","false","--disable-kube-proxy","true"]', false],
    ["[", true],
    ['["server","--disable","servicelb"]', true],
    ['["agent"]', false],
    ["", true],
  ])("tell by %s whether kube-proxy is in K3s", (args, isIn) => {
    const annotations = args === "" ? {} : { "k3s.io/node-args": args };
    const nodes = [
      nodeObject("n1", { metadata: { annotations }, status: { nodeInfo: { kubeletVersion: "v1.34.4+k3s1" } } }),
    ];
    expect(read({ nodes }).embeddedKubeProxies).toEqual(isIn ? ["n1"] : []);
  });

  it.each<[string, Partial<ClusterObjectsRead>, string[]]>([
    [
      "by its images",
      { daemonSets: [workload("DaemonSet", "speaker", "quay.io/metallb/speaker:v0.16")] },
      ["DaemonSet x/speaker"],
    ],
    [
      "its controller",
      { deployments: [workload("Deployment", "controller", "quay.io/metallb/controller:v0.16")] },
      ["Deployment x/controller"],
    ],
    [
      "Bitnami's images",
      { deployments: [workload("Deployment", "c", "bitnami/metallb-controller:0.16")] },
      ["Deployment x/c"],
    ],
    [
      "none that was scaled to nothing",
      {
        deployments: [
          { ...workload("Deployment", "controller", "quay.io/metallb/controller:v0.16"), spec: { replicas: 0 } },
        ],
      },
      [],
    ],
    ["none that is another's", { deployments: [workload("Deployment", "controller", "x/ingress-controller:1")] }, []],
  ])("tell MetalLB: %s", (_, more, expected) => {
    expect(read(more).metallb).toEqual(expected);
  });

  it.each<[string, Partial<ClusterObjectsRead>, string[]]>([
    [
      "Cilium that does not",
      {
        daemonSets: [workload("DaemonSet", "cilium", "c")],
        ciliumConfig: configMap("cilium-config", { "kube-proxy-replacement": "false" }),
      },
      [],
    ],
    [
      "Cilium that does",
      {
        daemonSets: [workload("DaemonSet", "cilium", "c")],
        ciliumConfig: configMap("cilium-config", { "kube-proxy-replacement": "true" }),
      },
      ["Cilium's replacement of kube-proxy (DaemonSet x/cilium)"],
    ],
    [
      "kube-router's proxy",
      {
        daemonSets: [
          workload("DaemonSet", "kube-router", "k", { args: ["--run-router=true", "--run-service-proxy=true"] }),
        ],
      },
      ["kube-router's service proxy (DaemonSet x/kube-router)"],
    ],
    ["Calico without eBPF", { daemonSets: [workload("DaemonSet", "calico-node", "c")] }, []],
    [
      "Calico with eBPF",
      {
        daemonSets: [workload("DaemonSet", "calico-node", "c", { env: [{ name: "FELIX_BPFENABLED", value: "true" }] })],
      },
      ["Calico's eBPF dataplane (DaemonSet x/calico-node)"],
    ],
  ])("tell who else serves Services: %s", (_, more, expected) => {
    expect(read(more).otherProxies).toEqual(expected);
  });

  it("tell a CustomResourceDefinition that the installer made from others", () => {
    const apiServer = { manager: "kube-apiserver", subresource: "status" };
    const crd = (name: string, ...managers: string[]): ClusterObject => ({
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name, managedFields: [...managers.map((manager) => ({ manager })), apiServer] },
    });
    const { crds } = read({
      customResourceDefinitions: [
        crd("a", "millrace-install"),
        crd("b", "kubectl"),
        crd("c", "millrace-install", "kubectl"),
        // It takes a part of the specification for somebody.
        crd("d", "millrace-install", "kube-apiserver"),
      ],
    });
    expect([...crds]).toEqual([
      ["a", { isOurs: true, isShared: false }],
      ["b", { isOurs: false, isShared: true }],
      ["c", { isOurs: true, isShared: true }],
      ["d", { isOurs: true, isShared: true }],
    ]);
  });

  it("tell nodes by name, their readiness and who serves them", () => {
    const nodes = [
      nodeObject("n10", { status: { conditions: [{ type: "Ready", status: "False" }] } }),
      nodeObject("n2", {
        metadata: { labels: { "millrace.io/service-proxy": "millrace" } },
        status: { conditions: [] },
      }),
    ];
    expect(read({ nodes }).nodes.map(({ name, ready, label }) => [name, ready, label])).toEqual([
      ["n2", "unknown", "millrace"],
      ["n10", "no", ""],
    ]);
  });

  it("tell what an earlier run was told, and agents of another installation", () => {
    const labels = { "app.kubernetes.io/name": "millrace", "app.kubernetes.io/component": "agent" };
    const agents = (namespace: string, spec: object = {}): ClusterObject => ({
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata: { name: "millrace", namespace, labels },
      spec: { template: { spec } },
    });
    const configMap = (annotations: Record<string, string>, config = "xdp: off\n"): ClusterObject => ({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "millrace", namespace: "kube-system", annotations },
      data: { "config.yaml": config },
    });
    const kept = { "millrace.io/install-options": '{"except":["w1"]}' };
    const both = read({
      daemonSets: [agents("apps"), agents("kube-system", { imagePullSecrets: [{ name: "r" }] })],
      millraceConfig: configMap(kept),
    });
    expect(both.millraceElsewhere).toEqual(["DaemonSet apps/millrace"]);
    expect(both.millrace?.pullSecrets).toEqual(["r"]);
    expect(both.millraceConfig).toMatchObject({ config: { xdp: "off" }, kept: { except: ["w1"] } });
    // An uninstallation that was broken off, and another hand's ConfigMap.
    expect(read({ millraceConfig: configMap(kept) }).hasTraces).toBe(true);
    const others = read({ millraceConfig: configMap({}, "a: [") });
    expect([others.hasTraces, others.millraceConfig?.kept]).toEqual([false, undefined]);
    expect(read({}).millraceConfig).toBeUndefined();
  });

  it("tell the name of a kind cluster, and the network plugin", () => {
    const nodes = [nodeObject("n1", { spec: { providerID: "kind://docker/mr/n1" } })];
    const daemonSets = [workload("DaemonSet", "kindnet", "k")];
    expect(read({ nodes, daemonSets })).toMatchObject({ platform: "kind", kindCluster: "mr", cni: "kindnet" });
  });
});
