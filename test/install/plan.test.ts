import { describe, expect, it } from "vitest";
import type { ClusterFacts, CrdFacts, MillraceFacts } from "../../src/install/cluster-facts.ts";
import { type InstallOptions, planInstall } from "../../src/install/install-plan.ts";
import { NOTHING_KEPT } from "../../src/install/kept-options.ts";
import { planUninstall, type UninstallOptions } from "../../src/install/uninstall-plan.ts";
import { facts, KUBE_PROXY, nodeFact, OPTIONS, UNINSTALL_OPTIONS } from "./clusters.ts";

const NOTHING_TAKEN = { config: undefined, remarks: [] };

function plan(more: Partial<ClusterFacts> = {}, options: Partial<InstallOptions> = {}): ReturnType<typeof planInstall> {
  const crds = ["ipaddresspools.metallb.io"];
  const all = { ...OPTIONS, ...options };
  return planInstall({
    facts: facts(more),
    options: all,
    image: "localhost/millrace:0.1.0",
    objects: 20,
    crds,
    config: { "announcer-secret": "/etc/millrace/announcer" },
    taken: NOTHING_TAKEN,
    settingProblem: (name) => (name === "gone" ? "there is no such setting" : ""),
  });
}

describe("a plan", () => {
  it("is told in sentences", () => {
    const { found, steps, refusals, warnings } = plan();
    expect([...refusals, ...warnings]).toEqual([]);
    expect(found).toEqual([
      "Kubernetes v1.34.4, kubeadm, 3 nodes, pods by Flannel.",
      "kube-proxy (iptables): DaemonSet kube-system/kube-proxy.",
      "Agents reach the API server at https://cp:6443 (ConfigMap kube-system/kubeadm-config).",
    ]);
    expect(steps).toEqual([
      "Run a pod of localhost/millrace:0.1.0 on each of 3 nodes, which looks at it and changes nothing.",
      "Create up to 20 objects in kube-system and the cluster: accounts, rights, configuration, the controller.",
      "Give DaemonSet kube-system/kube-proxy an affinity: kube-proxy stays on nodes with the label millrace.io/service-proxy=kube-proxy, which all have for now. Its pods are replaced once by that. Nothing of it is deleted.",
      "Create DaemonSet kube-system/millrace.",
      "One after another, for w1, w2, cp: label millrace.io/service-proxy=millrace; wait until the agent is ready and kube-proxy's pod gone; take kube-proxy's rules out; ask the API server by its Service. The first node that fails stops it all.",
      "Test it, in a namespace of its own that is removed again: a Service, its name, its node ports, from pods and from nodes.",
    ]);
  });

  it("names only the nodes that are not done yet", () => {
    const nodes = [
      nodeFact("w1", { label: "millrace", isCleaned: true }),
      nodeFact("w2", { label: "millrace" }),
      nodeFact("w3"),
    ];
    const kubeProxy = { ...KUBE_PROXY, isHeldBack: true };
    expect(plan({ nodes, kubeProxy }).due).toEqual(["w2", "w3"]);
    const said = plan({ nodes, kubeProxy }).steps.find((line) => line.startsWith("One after"));
    expect(said).toMatch(/^One after another, for w2, w3:/);
    // kube-proxy came back everywhere.
    expect(plan({ nodes }).due).toEqual(["w1", "w2", "w3"]);
  });

  it("has neither label nor affinity where there is no kube-proxy", () => {
    const { steps, nodes } = plan({ kubeProxy: undefined });
    expect(steps.join()).not.toMatch(/label|affinity/);
    expect(steps).toContain("Wait until an agent is ready on w1, w2, cp.");
    expect(nodes).toEqual(["w1", "w2", "cp"]);
  });

  it("keeps CustomResourceDefinitions of others", () => {
    const name = "ipaddresspools.metallb.io";
    expect([...plan({ crds: new Map([[name, { isOurs: false, isShared: true }]]) }).keptCrds]).toEqual([name]);
    expect([...plan({ crds: new Map([[name, { isOurs: true, isShared: false }]]) }).keptCrds]).toEqual([]);
  });

  it("takes Services of a class beside MetalLB", () => {
    const metallb = ["DaemonSet metallb-system/speaker"];
    expect(plan({ metallb }, { besideMetallb: true })).toMatchObject({
      refusals: [],
      loadBalancerClass: "millrace.io/l2",
    });
    expect(plan({ metallb }, { loadBalancerClass: "a.b/c" })).toMatchObject({
      refusals: [],
      loadBalancerClass: "a.b/c",
    });
  });

  it("keeps a class beside MetalLB, and drops it for who says so", () => {
    const metallb = ["DaemonSet metallb-system/speaker"];
    const millraceConfig = { config: {}, kept: { ...NOTHING_KEPT, loadBalancerClass: "a.b/c" } };
    const before = { metallb, millraceConfig };
    expect(plan(before)).toMatchObject({ refusals: [], loadBalancerClass: "a.b/c" });
    expect(plan(before, { besideMetallb: true }).loadBalancerClass).toBe("a.b/c");
    expect(plan(before, { besideMetallb: true, loadBalancerClass: "" }).loadBalancerClass).toBe("millrace.io/l2");
    expect(plan(before, { loadBalancerClass: "" }).refusals).toEqual([expect.stringMatching(/^MetalLB runs/)]);
  });

  it("leaves agents their way to the API server where none is found any more", () => {
    const millraceConfig = { config: { apiserver: "https://a:1" }, kept: NOTHING_KEPT };
    expect(plan({ millraceConfig, apiWays: [] })).toMatchObject({ refusals: [], apiServer: "https://a:1" });
    expect(plan({ millraceConfig }).apiServer).toBe("https://cp:6443");
  });

  it("leaves nodes out that were left out, as long as they can be", () => {
    const kept = { ...NOTHING_KEPT, except: ["w1", "w2", "gone"] };
    const nodes = [nodeFact("w1", { label: "kube-proxy" }), nodeFact("w2", { label: "millrace" }), nodeFact("w3")];
    const again = plan({ nodes, millraceConfig: { config: {}, kept } });
    expect(again).toMatchObject({ refusals: [], nodes: ["w2", "w3"], left: [{ node: "w1" }] });
    expect(again.found).toContain("Kept from before: --except w1.");
    expect(again.warnings).toContain('Node w1 keeps kube-proxy: as asked for. A run with --except "" takes it.');
    expect(JSON.parse(again.kept)).toMatchObject({ except: ["w1"] });
    expect(plan({ nodes, millraceConfig: { config: {}, kept } }, { except: [] }).nodes).toEqual(["w1", "w2", "w3"]);
  });

  it.each<[string, Partial<ClusterFacts>, Partial<InstallOptions>, RegExp]>([
    ["an old Kubernetes", { version: "v1.24.17" }, {}, /^Kubernetes 1\.25 or later is needed: this is v1\.24\.17\.$/],
    ["no node", { nodes: [] }, {}, /^The cluster has no node\.$/],
    ["a node that is not there", {}, { except: ["w9"] }, /^--except w9: there is no such node\.$/],
    [
      "a node that has an agent",
      { nodes: [nodeFact("w1", { label: "millrace" }), nodeFact("w2")] },
      { except: ["w1"] },
      /^--except w1: Millrace serves it already\. millrace uninstall --node w1 gives it back/,
    ],
    [
      "MetalLB",
      { metallb: ["Deployment metallb-system/controller"] },
      {},
      /^MetalLB runs \(Deployment metallb-system\/controller\): .*--beside-metallb/,
    ],
    [
      "K3s with its kube-proxy",
      { platform: "k3s", embeddedKubeProxies: ["s1"] },
      {},
      /^kube-proxy is part of K3s and runs on s1: start every server with --disable-kube-proxy/,
    ],
    [
      "RKE2 with its kube-proxy",
      { platform: "rke2", embeddedKubeProxies: ["s1"] },
      {},
      /^kube-proxy is part of RKE2 .*disable-kube-proxy: true in \/etc\/rancher\/rke2\/config\.yaml/,
    ],
    ["a static pod", { staticKubeProxies: ["n1"] }, {}, /^kube-proxy runs as a static pod on n1/],
    [
      "another proxy",
      { otherProxies: ["Cilium's replacement of kube-proxy (DaemonSet kube-system/cilium)"] },
      {},
      /^Services are served by Cilium's replacement/,
    ],
    [
      "an old kernel",
      { nodes: [nodeFact("w1"), nodeFact("w2", { kernel: "5.4.0-100-generic" })] },
      {},
      /^Linux 5\.10 or later is needed; older are w2 \(5\.4\.0-100-generic\)\. .*--except NODE/,
    ],
    [
      "Helm",
      { millrace: { image: "i", managedBy: "Helm", sysAdmin: "none", pullSecrets: [] } },
      {},
      /^Millrace was installed by Helm here: use helm upgrade/,
    ],
    [
      "another installation",
      { millraceElsewhere: ["DaemonSet apps/millrace"] },
      {},
      /^Millrace runs here already, of another installation \(DaemonSet apps\/millrace\)/,
    ],
    ["no way to the API server", { apiWays: [] }, {}, /^No address of the API server was found/],
    [
      "no node that would do",
      { nodes: [nodeFact("w1", { os: "windows" })] },
      {},
      /^No node is left: w1: it runs windows\.$/,
    ],
  ])("refuses %s", (_, more, options, expected) => {
    expect(plan(more, options).refusals).toEqual([expect.stringMatching(expected)]);
  });

  it.each([
    ["v1.25.0", true],
    ["v1.29.9+k3s1", true],
    ["v1.30.0-alpha.1", false],
    ["v1.34.4", false],
    ["v2.0.0", false],
  ])("has the objects of before Kubernetes 1.30 for %s: %s", (version, expected) => {
    expect(plan({ version })).toMatchObject({ refusals: [], isBefore130: expected });
  });

  it.each(["5.10.0", "5.10.0-28-amd64", "6.1.0", "10.0", ""])("takes the kernel %s", (kernel) => {
    expect(plan({ nodes: [nodeFact("w1", { kernel })] }).refusals).toEqual([]);
  });

  it.each(["5.9.16", "4.18.0-553.el8", "3.10.0"])(
    "does not take the kernel %s, unless the node is left out",
    (kernel) => {
      const nodes = [nodeFact("w1"), nodeFact("w2", { kernel })];
      expect(plan({ nodes }).refusals).toHaveLength(1);
      expect(plan({ nodes }, { except: ["w2"] })).toMatchObject({ refusals: [], nodes: ["w1"] });
    },
  );

  it.each<[string, Partial<ClusterFacts>, RegExp]>([
    [
      "a managed kube-proxy",
      { platform: "eks" },
      /^Amazon EKS manages kube-proxy: its add-on manager may undo the affinity/,
    ],
    ["Talos", { platform: "talos" }, /cluster\.proxy\.disabled/],
    ["OpenShift", { platform: "openshift" }, /security context constraint/],
    [
      "K3s' load balancer",
      { platform: "k3s", serviceLoadBalancers: ["DaemonSet kube-system/svclb-web"] },
      /--disable=servicelb/,
    ],
    [
      "a Windows node",
      { nodes: [nodeFact("w1"), nodeFact("win", { os: "windows" })] },
      /^Node win keeps kube-proxy: it runs windows/,
    ],
    [
      "another architecture",
      { nodes: [nodeFact("w1"), nodeFact("r", { arch: "riscv64" })] },
      /^Node r keeps kube-proxy: there is no image for riscv64/,
    ],
    [
      "a silent kubelet",
      { nodes: [nodeFact("w1"), nodeFact("w2", { ready: "unknown" })] },
      /^Node w2 keeps kube-proxy: its kubelet does not answer/,
    ],
    ["nodes without network plugin", { nodes: [nodeFact("w1", { ready: "no" })] }, /^Not ready: w1\./],
  ])("warns of %s", (_, more, expected) => {
    expect(plan(more).warnings).toContainEqual(expect.stringMatching(expected));
  });
});

describe("the plan of a way back", () => {
  const installed: Pick<ClusterFacts, "kubeProxy" | "hasTraces"> & { millrace: MillraceFacts } = {
    millrace: { image: "localhost/millrace:0.1.0", managedBy: "", sysAdmin: "none", pullSecrets: [] },
    kubeProxy: { ...KUBE_PROXY, isHeldBack: true },
    hasTraces: true,
  };
  const nodes = [
    nodeFact("cp", { isControlPlane: true, label: "millrace" }),
    nodeFact("w1", { label: "millrace" }),
    nodeFact("new"),
  ];
  const back = (
    more: Partial<ClusterFacts>,
    crds = new Map<string, number>(),
    options: Partial<UninstallOptions> = {},
  ): ReturnType<typeof planUninstall> =>
    planUninstall({
      facts: facts({ ...installed, nodes, ...more }),
      options: { ...UNINSTALL_OPTIONS, ...options },
      image: "i",
      crds,
    });

  it("is told in sentences", () => {
    expect(back({}).steps).toEqual([
      "One after another, for w1, new, cp: label millrace.io/service-proxy=kube-proxy; wait until kube-proxy's pod is there with its rules and the agent gone; let connections that it knows go on until they end, for 5m at most; take everything out of the kernel.",
      "Delete Millrace's objects in kube-system and the cluster.",
      "Take the affinity from DaemonSet kube-system/kube-proxy: it is as before. Its pods are replaced once by that.",
      "Take the label millrace.io/service-proxy from all nodes.",
    ]);
  });

  it("is empty where nothing is installed", () => {
    const bare = back({ millrace: undefined, hasTraces: false, kubeProxy: KUBE_PROXY, nodes: [nodeFact("w1")] });
    expect(bare).toMatchObject({ isEmpty: true, steps: [], warnings: [], refusals: [] });
  });

  it("drains every node that answers, whatever its label says and whether the DaemonSet is there", () => {
    const all = [
      nodeFact("w1", { label: "kube-proxy", isDraining: true }),
      nodeFact("w2", { label: "kube-proxy" }),
      nodeFact("w3"),
      nodeFact("win", { os: "windows" }),
      nodeFact("r", { arch: "riscv64" }),
      nodeFact("away", { ready: "unknown" }),
    ];
    const kubeProxy = KUBE_PROXY;
    for (const millrace of [installed.millrace, undefined]) {
      const { nodes: given, unsure } = back({ nodes: all, millrace, kubeProxy });
      expect(given).toEqual(["w1", "w2", "w3"]);
      expect([...unsure]).toEqual(["w2"]);
    }
  });

  it("gives one node back and deletes nothing, of Helm's installation too", () => {
    const helm = { ...installed.millrace, managedBy: "Helm" };
    const crds = new Map([["a", { isOurs: true, isShared: false }]]);
    const plan = back({ millrace: helm, crds }, new Map([["a", 0]]), { only: ["w1"] });
    expect(plan).toMatchObject({ refusals: [], warnings: [], nodes: ["w1"], crds: [], isPartial: true });
    expect(plan.steps).toEqual([
      "One after another, for w1: label millrace.io/service-proxy=kube-proxy, which stays; wait until kube-proxy's pod is there with its rules and the agent gone; let connections that it knows go on until they end, for 5m at most; take everything out of the kernel.",
    ]);
    expect(back({ millrace: helm }).refusals).toEqual([expect.stringMatching(/millrace uninstall --node NODE, then/)]);
  });

  it.each<[string, RegExp]>([
    ["w9", /^--node w9: there is no such node\.$/],
    ["win", /^--node win: it runs windows, so Millrace was never there\.$/],
    ["away", /^--node away: its kubelet does not answer\.$/],
  ])("does not give %s back", (name, expected) => {
    const some = [nodeFact("win", { os: "windows" }), nodeFact("away", { ready: "unknown" }), nodeFact("w1")];
    expect(back({ nodes: some }, new Map(), { only: [name] }).refusals).toEqual([expect.stringMatching(expected)]);
  });

  it("names what stays in the kernels of nodes that do not answer", () => {
    const plan = back({
      nodes: [nodeFact("w1", { label: "millrace" }), nodeFact("w2", { label: "millrace", ready: "unknown" })],
    });
    expect(plan.nodes).toEqual(["w1"]);
    expect(plan.warnings[0]).toMatch(/^What Millrace has in the kernels of w2 stays until they restart/);
  });

  it.each<[string, number, CrdFacts, Partial<ClusterFacts>, string[], RegExp | undefined]>([
    ["without objects", 0, { isOurs: true, isShared: false }, {}, ["ipaddresspools.metallb.io"], undefined],
    ["with objects", 2, { isOurs: true, isShared: false }, {}, [], /\(2 objects\) stay: --delete-crds/],
    ["of others", 0, { isOurs: false, isShared: true }, {}, [], undefined],
    ["of ours and others", 0, { isOurs: true, isShared: true }, {}, [], /stay: others have written to them too\.$/],
    [
      "that MetalLB reads",
      0,
      { isOurs: true, isShared: false },
      { metallb: ["Deployment m/controller"] },
      [],
      /stay: MetalLB runs \(Deployment m\/controller\)\.$/,
    ],
  ])("takes a CustomResourceDefinition %s or leaves it", (_, objects, crd, more, expected, said) => {
    const name = "ipaddresspools.metallb.io";
    const options = { deleteCrds: crd.isShared || more.metallb !== undefined };
    const { crds, warnings } = back({ ...more, crds: new Map([[name, crd]]) }, new Map([[name, objects]]), options);
    expect(crds).toEqual(expected);
    const about = warnings.filter((line) => line.startsWith(name));
    expect(about).toEqual(said === undefined ? [] : [expect.stringMatching(said)]);
  });
});
