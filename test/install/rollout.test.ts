import { describe, expect, it } from "vitest";
import { RIGHTS, TEST_RIGHTS } from "../../src/install/gather.ts";
import type { InstallOptions } from "../../src/install/install-plan.ts";
import { NODE_LABEL } from "../../src/install/names.ts";
import { Failure } from "../../src/lib/errors.ts";
import { fakeRun, smallManifest, UNINSTALL_OPTIONS, withKubeProxy } from "./clusters.ts";
import { kubeProxyObjects } from "./fake-cluster.ts";
import type { PodOutcome } from "./kubelets.ts";

const ALL_OURS = { hasRules: false, hasMillrace: true };
const ALL_THEIRS = { hasRules: true, hasMillrace: false };

type Run = ReturnType<typeof withKubeProxy>;
const kernels = (run: ReturnType<typeof withKubeProxy>): Record<string, object> =>
  Object.fromEntries([...run.cluster.nodes.values()].map(({ name, ...rest }) => [name, rest]));
const labelsOf = (run: ReturnType<typeof withKubeProxy>): Record<string, string> =>
  Object.fromEntries(run.cluster.list("Node").map((node) => [node.metadata.name, node.metadata.labels[NODE_LABEL]]));
const everywhere = (state: object): Record<string, object> => ({ cp: state, w1: state, w2: state });

/** Of a pod whose name begins so, until it is mended. */
function failing(run: ReturnType<typeof withKubeProxy>, prefix: string, outcome: PodOutcome): () => void {
  run.cluster.outcome = (pod) => (pod.metadata.name.startsWith(prefix) ? outcome : undefined);
  return () => {
    run.cluster.outcome = () => undefined;
  };
}

describe("an installation where kube-proxy runs", () => {
  it("takes node after node, control planes last, and nobody is unserved meanwhile", async () => {
    const run = withKubeProxy();
    expect(await run.install()).toBeUndefined();
    expect(run.cluster.history.filter((line) => !line.includes("kube-proxy ready"))).toEqual([
      ...["cp labelled kube-proxy", "w1 labelled kube-proxy", "w2 labelled kube-proxy"],
      ...["w1 labelled millrace", "w1 kube-proxy goes", "w1 agent ready", "w1 takeover done"],
      ...["w2 labelled millrace", "w2 kube-proxy goes", "w2 agent ready", "w2 takeover done"],
      ...["cp labelled millrace", "cp kube-proxy goes", "cp agent ready", "cp takeover done"],
    ]);
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
    expect(run.cluster.unserved).toEqual([]);
    expect(run.said.at(-2)).toMatch(/^Millrace serves the cluster's Services. To go back: millrace uninstall\.$/);
  });

  it("deletes nothing of kube-proxy", async () => {
    const run = withKubeProxy();
    await run.install();
    const deleted = run.cluster.requests.filter((line) => line.startsWith("DELETE"));
    expect(deleted.filter((line) => !/\/pods\/millrace-|\/namespaces\/millrace-test$/.test(line))).toEqual([]);
    expect(run.cluster.get("DaemonSet", "kube-proxy", "kube-system").spec.template.spec.affinity).toEqual({
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: NODE_LABEL, operator: "In", values: ["kube-proxy"] }] }],
        },
      },
    });
  });

  it("leaves no pod and no namespace of its own behind", async () => {
    const run = withKubeProxy();
    await run.install();
    const pods = run.cluster.list("Pod").map((pod) => pod.metadata.name);
    expect(pods.sort()).toEqual(["millrace-cp", "millrace-w1", "millrace-w2"]);
    expect(run.cluster.list("Namespace")).toEqual([]);
  });

  it("gives a node that joins later an agent, and no kube-proxy", async () => {
    const run = withKubeProxy();
    await run.install();
    run.cluster.addNode("w3");
    expect(run.cluster.get("Pod", "millrace-w3", "kube-system")).toBeDefined();
    expect(run.cluster.get("Pod", "kube-proxy-w3", "kube-system")).toBeUndefined();
  });

  it("leaves a node that joined to its agent when it runs again", async () => {
    const run = withKubeProxy();
    await run.install();
    run.cluster.addNode("w3");
    run.cluster.settle();
    run.cluster.history.length = 0;
    run.cluster.unserved.length = 0;
    expect(await run.install()).toBeUndefined();
    expect(run.cluster.history).toEqual(["w3 labelled millrace", "w3 takeover done"]);
    expect(run.cluster.unserved).toEqual([]);
  });

  it("does nothing to nodes a second time", async () => {
    const run = withKubeProxy();
    await run.install();
    run.cluster.history.length = 0;
    expect(await run.install()).toBeUndefined();
    expect(run.cluster.history).toEqual([]);
    expect(run.said.filter((line) => line.includes("Millrace is there"))).toEqual([
      "Millrace is there: localhost/millrace:0.1.0.",
    ]);
  });

  it("cleans every node again where kube-proxy came back, as kubeadm upgrade brings it", async () => {
    const run = withKubeProxy();
    await run.install();
    for (const object of kubeProxyObjects()) run.cluster.put(object);
    run.cluster.settle();
    expect(kernels(run)).toEqual(everywhere({ hasRules: true, hasMillrace: true }));
    expect(await run.install()).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
    expect(run.cluster.list("Pod").filter(({ metadata }) => metadata.name.startsWith("kube-proxy"))).toEqual([]);
  });

  it("looks at all nodes before it changes anything: no image", async () => {
    const run = withKubeProxy();
    const waiting = {
      reason: "ErrImageNeverPull",
      message: 'Container image "localhost/millrace:0.1.0" is not present',
    };
    failing(run, "millrace-look-w2", { phase: "Running", ready: false, waiting });
    const error = await run.install();
    expect(error).toBeInstanceOf(Failure);
    expect(error?.message).toMatch(
      /^could not look at node w2: pod millrace-look-w2: container look: ErrImageNeverPull/,
    );
    expect(error?.message).toMatch(/ctr -n k8s.io images import/);
    expect(error?.message).toMatch(/Nothing was changed\.$/);
    expect(run.cluster.requests.filter((line) => /^(PATCH|PUT)/.test(line))).toEqual([]);
    expect(run.cluster.list("Pod").filter(({ metadata }) => /look/.test(metadata.name))).toEqual([]);
  });

  it("stops at a node whose agent does not become ready, says why, and goes on when it is mended", async () => {
    const run = withKubeProxy();
    const waiting = { reason: "CrashLoopBackOff" };
    const mend = failing(run, "millrace-w2", { phase: "Running", ready: false, waiting });
    run.cluster.logs.set("kube-system/millrace-w2", "could not load tc: the verifier refused it\n");
    run.cluster.put({
      apiVersion: "v1",
      kind: "Event",
      metadata: { name: "e1", namespace: "kube-system" },
      involvedObject: { name: "millrace-w2" },
      type: "Warning",
      reason: "BackOff",
      message: "Back-off restarting failed container",
    });
    const error = await run.install();
    expect(error?.message.split("\n")).toEqual([
      expect.stringMatching(
        /^could not take over node w2: the agent: container agent: CrashLoopBackOff \(after 60 s\)$/,
      ),
      "  event BackOff: Back-off restarting failed container",
      "  log   could not load tc: the verifier refused it",
      expect.stringMatching(/^Node w2 goes on with the rules that kube-proxy left there/),
      "Served by Millrace, and well: w1.",
      "Served by kube-proxy as before: cp.",
      expect.stringMatching(
        /^To go on when it is mended: the same command again\. To give this node back at once: millrace uninstall --node w2\./,
      ),
    ]);
    expect(kernels(run)).toEqual({ cp: ALL_THEIRS, w1: ALL_OURS, w2: ALL_THEIRS });
    mend();
    run.cluster.history.length = 0;
    expect(await run.install()).toBeUndefined();
    expect(run.cluster.history.filter((line) => line.startsWith("w1"))).toEqual([]);
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
    expect(run.cluster.unserved).toEqual([]);
  });

  it("leaves kube-proxy's rules where the agent is not well, whatever its pod says", async () => {
    const run = withKubeProxy();
    failing(run, "millrace-takeover-w1", {
      phase: "Failed",
      container: "agent",
      exitCode: 7,
      message: "millrace: the agent is not well after 120 s: it has not read all objects of the API yet",
    });
    const error = await run.install();
    expect(error?.message).toMatch(
      /could not take over node w1: .*container agent: it ended with 7: millrace: the agent is not well/,
    );
    expect(run.cluster.nodes.get("w1")?.hasRules).toBe(true);
    expect(run.cluster.get("Pod", "millrace-takeover-w1", "kube-system")).toBeUndefined();
  });

  it("keeps kube-proxy on the nodes that are left out", async () => {
    const run = withKubeProxy();
    expect(await run.install({ except: ["w2"] })).toBeUndefined();
    expect(kernels(run)).toEqual({ cp: ALL_OURS, w1: ALL_OURS, w2: ALL_THEIRS });
    expect(labelsOf(run)).toEqual({ cp: "millrace", w1: "millrace", w2: "kube-proxy" });
  });

  it("leaves a node whose kubelet does not answer alone, and takes it by a later run", async () => {
    const run = withKubeProxy();
    const node = run.cluster.get("Node", "w2");
    const silent = { ...node, status: { ...node.status, conditions: [{ type: "Ready", status: "Unknown" }] } };
    run.cluster.put(silent);
    expect(await run.install()).toBeUndefined();
    expect(run.said).toContainEqual(
      expect.stringMatching(/^warning: Node w2 keeps kube-proxy: its kubelet does not answer/),
    );
    expect(labelsOf(run)["w2"]).toBe("kube-proxy");
    const back = run.cluster.get("Node", "w2");
    run.cluster.put({ ...back, status: { ...back.status, conditions: [{ type: "Ready", status: "True" }] } });
    expect(await run.install()).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
  });

  it("does not wait for a pod of kube-proxy on a node that is away", async () => {
    const run = withKubeProxy();
    run.cluster.unavailable = 1;
    expect(await run.install()).toBeUndefined();
    expect(run.said).toContainEqual(
      "warning: DaemonSet kube-system/kube-proxy: 3 of 3 pods are replaced (after 120 s); Kubernetes goes on with it",
    );
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
  });

  it("goes on by itself when the API server is away for a moment, and when another changes the same node", async () => {
    const run = withKubeProxy();
    let failures = 0;
    let requests = 0;
    run.cluster.fault = (method, path) => {
      requests++;
      if (method === "PATCH" && /\/nodes\/|kube-proxy$/.test(path) && ++failures % 2 === 1) return 409;
      return requests > 60 && requests < 75 ? 503 : undefined;
    };
    expect(await run.install()).toBeUndefined();
    expect(failures).toBeGreaterThan(10);
    expect(requests).toBeGreaterThan(75);
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
  });

  it("says when somebody puts kube-proxy back", async () => {
    const run = withKubeProxy();
    const { outcome } = run.cluster;
    run.cluster.outcome = (pod) => {
      // An add-on manager, after the last node.
      if (pod.metadata.name === "millrace-takeover-cp") {
        const found = run.cluster.get("DaemonSet", "kube-proxy", "kube-system");
        delete found.spec.template.spec.affinity;
      }
      return outcome(pod);
    };
    const error = await run.install();
    expect(error?.message).toMatch(/DaemonSet kube-system\/kube-proxy has lost the affinity/);
  });

  it("does not take fields that somebody else has written, unless told", async () => {
    const run = withKubeProxy();
    await run.install();
    const edited = run.cluster.get("ConfigMap", "millrace", "kube-system");
    const other = { ...edited, metadata: { ...edited.metadata }, data: { "config.yaml": "xdp: off\n" } };
    await run.cluster.send(
      { method: "PATCH", body: JSON.stringify(other), contentType: "application/apply-patch+yaml" },
      "/api/v1/namespaces/kube-system/configmaps/millrace?fieldManager=kubectl-edit&force=true",
    );
    const error = await run.install();
    expect(error?.message).toMatch(
      /could not apply ConfigMap kube-system\/millrace: .*conflict with "kubectl-edit": .data.config.yaml/,
    );
    expect(await run.install({ force: true })).toBeUndefined();
    expect(run.cluster.get("ConfigMap", "millrace", "kube-system").data["config.yaml"]).toMatch(/^announcer-secret/);
  });

  it("names the rights that the user has not, before anything is changed", async () => {
    const run = withKubeProxy();
    run.cluster.denied.add("patch nodes").add("delete clusterroles");
    const error = await run.install();
    expect(error?.message).toBe(
      "could not install Millrace: your account may not patch nodes, delete clusterroles.rbac.authorization.k8s.io; use one that may, such as a cluster administrator's",
    );
    expect(run.cluster.requests.filter((line) => line.startsWith("PATCH"))).toEqual([]);
  });

  it("changes nothing in a dry run, and gives the objects", async () => {
    const run = withKubeProxy();
    let printed = "";
    expect(await run.install({}, { dryRun: (text) => (printed = text) })).toBeUndefined();
    expect(printed.match(/^kind: .*$/gm)).toEqual([
      "kind: CustomResourceDefinition",
      "kind: ServiceAccount",
      "kind: ConfigMap",
      "kind: DaemonSet",
      "kind: Deployment",
    ]);
    expect(printed).toMatch(/apiserver: https:\/\/mr-control-plane:6443/);
    expect(run.cluster.requests.filter((line) => !line.startsWith("GET"))).toEqual([]);
  });

  it("changes nothing when the user says no", async () => {
    const run = withKubeProxy();
    const error = await run.install({}, { confirm: async () => false });
    expect(error?.message).toBe("not done: nothing was changed");
    expect(run.cluster.requests.filter((line) => line.startsWith("PATCH"))).toEqual([]);
  });

  it("stops between two nodes when it is told to", async () => {
    const run = withKubeProxy();
    const stop = new AbortController();
    run.cluster.outcome = (pod) => {
      if (pod.metadata.name === "millrace-takeover-w1") stop.abort();
      return undefined;
    };
    const error = await run.install({}, { signal: stop.signal });
    expect(error?.message).toBe("stopped as asked for: the same command again goes on");
    expect(labelsOf(run)).toEqual({ cp: "kube-proxy", w1: "millrace", w2: "kube-proxy" });
    run.cluster.outcome = () => undefined;
    expect(await run.install()).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
  });

  it("gives the agents SYS_ADMIN where a node's runtime knows no BPF", async () => {
    const run = withKubeProxy();
    const message = JSON.stringify({ kernel: "6.1.0", missingCapabilities: ["PERFMON", "BPF"] });
    failing(run, "millrace-look-w2", { phase: "Succeeded", message });
    expect(await run.install()).toBeUndefined();
    const [agent] = run.cluster.get("DaemonSet", "millrace", "kube-system").spec.template.spec.containers;
    expect(agent.securityContext.capabilities).toEqual({ drop: ["ALL"], add: ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"] });
  });

  it("gives the agents SYS_ADMIN too where conntrack is a module, and leaves it to them until it is told", async () => {
    const run = withKubeProxy();
    const message = JSON.stringify({ kernel: "6.1.0", missingCapabilities: [], isConntrackModule: true });
    failing(run, "millrace-look", { phase: "Succeeded", message });
    const added = (): string[] => {
      const [agent] = run.cluster.get("DaemonSet", "millrace", "kube-system").spec.template.spec.containers;
      return agent.securityContext.capabilities.add;
    };
    expect(await run.install()).toBeUndefined();
    expect(added()).toEqual(["BPF", "NET_ADMIN", "NET_RAW", "PERFMON", "SYS_ADMIN"]);
    run.cluster.history.length = 0;
    expect(await run.install()).toBeUndefined();
    expect(run.cluster.history).toEqual([]);
    expect(await run.install({ sysAdmin: "off" })).toBeUndefined();
    expect(added()).toEqual(["BPF", "NET_ADMIN", "NET_RAW", "PERFMON"]);
  });

  it("goes on where an API server does not know a new pod yet, and ends where one stays away", async () => {
    const run = withKubeProxy();
    const misses = new Map<string, number>();
    run.cluster.fault = (method, path) => {
      if (method !== "GET" || !/pods\/millrace-(look|from)/.test(path)) return undefined;
      misses.set(path, (misses.get(path) ?? 0) + 1);
      return misses.get(path)! < 4 ? 404 : undefined;
    };
    expect(await run.install()).toBeUndefined();
    run.cluster.fault = (method, path) => (method === "GET" && /pods\/millrace-from/.test(path) ? 404 : undefined);
    const error = await run.install();
    expect(error?.message).toMatch(/pod millrace-from-\w+-\w+ is gone: does another installation run\?/);
    const asked = run.cluster.requests.length;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(run.cluster.requests.length).toBe(asked);
  });

  it.each<[string, string[]]>([
    ["primary,localhost", ["192.168.0.51"]],
    ["192.168.0.0/26", ["192.168.0.51"]],
    ["10.0.0.0/8,localhost", []],
    ["localhost", []],
    ["all", ["192.168.0.51"]],
  ])("asks node ports in its self-test where they answer: %s", async (which, expected) => {
    const run = withKubeProxy(["w1"]);
    const asked = new Set<string>();
    run.cluster.outcome = (pod) => {
      if (!pod.metadata.name.startsWith("millrace-from-")) return undefined;
      const targets = JSON.parse(pod.spec.containers[0].env[0].value) as { name: string; host: string }[];
      for (const { name, host } of targets) if (name.startsWith("node port")) asked.add(host);
      return undefined;
    };
    const takeSettings = async () => ({ config: { "nodeport-addresses": which }, remarks: [] });
    expect(await run.install({}, { takeSettings })).toBeUndefined();
    expect([...asked]).toEqual(expected);
  });

  it("changes nothing where kube-proxy's settings cannot be taken over", async () => {
    const run = withKubeProxy();
    const takeSettings = async () => ({ config: {}, remarks: [], refusals: ["nodePortAddresses makes no sense."] });
    const error = await run.install({}, { takeSettings });
    expect(error?.message).toBe("could not install Millrace: nodePortAddresses makes no sense.");
    expect(run.cluster.requests.filter((line) => !line.startsWith("GET"))).toEqual([]);
  });

  it("labels no node of a Kubernetes that is too old", async () => {
    const run = withKubeProxy();
    run.cluster.version = "v1.24.1";
    expect((await run.install())?.message).toMatch(/Kubernetes 1\.25 or later is needed/);
    expect(run.cluster.requests.filter((line) => !line.startsWith("GET"))).toEqual([]);
  });

  it("deletes no namespace of somebody else for its self-test", async () => {
    const run = withKubeProxy();
    run.cluster.put({ apiVersion: "v1", kind: "Namespace", metadata: { name: "millrace-test" } });
    const error = await run.install();
    expect(error?.message).toMatch(
      /^Millrace is in place, but its self-test was not run: namespace millrace-test is not of a self-test/,
    );
    expect(run.cluster.get("Namespace", "millrace-test")).toBeDefined();
  });

  it("removes what an earlier self-test left, but nothing of another that runs", async () => {
    const run = withKubeProxy();
    const labels = { "millrace.io/installer": "self-test" };
    const left = { apiVersion: "v1", kind: "Namespace", metadata: { name: "millrace-test", labels } };
    run.cluster.put(left);
    expect(await run.install()).toBeUndefined();
    expect(run.cluster.list("Namespace")).toEqual([]);
    // The other one is faster.
    run.cluster.fault = (method, path) => {
      if (method === "POST" && path.endsWith("/namespaces")) run.cluster.put(left);
      return undefined;
    };
    expect((await run.install())?.message).toMatch(/another run has just made namespace millrace-test/);
    expect(run.cluster.get("Namespace", "millrace-test")).toBeDefined();
  });

  it("tells what its self-test did not get an answer from, and removes it", async () => {
    const run = withKubeProxy();
    const bad = [{ name: "node port 30000 of w2, 192.168.0.51 (tcp)", why: "connect ECONNREFUSED" }];
    failing(run, "millrace-from-pod-w1", { phase: "Succeeded", message: JSON.stringify({ good: 8, bad }) });
    const error = await run.install();
    expect(error?.message).toMatch(
      /^Millrace is in place, but its self-test failed:\n {2}from a pod on w1: node port 30000 of w2/,
    );
    expect(run.cluster.list("Namespace")).toEqual([]);
  });
});

describe("an installation where there is no kube-proxy", () => {
  function bare(): ReturnType<typeof fakeRun> {
    const run = fakeRun();
    for (const name of ["cp", "w1", "w2"]) run.cluster.addNode(name);
    return run;
  }

  it("starts all agents, and labels nobody", async () => {
    const run = bare();
    expect(await run.install()).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
    expect(labelsOf(run)).toEqual({});
    expect(run.cluster.history).toEqual(["cp agent ready", "w1 agent ready", "w2 agent ready"]);
  });

  it("takes out what K3s' own kube-proxy left, again when it was there for a while", async () => {
    const run = fakeRun();
    const k3s = {
      metadata: { annotations: { "k3s.io/node-args": '["server","--disable-kube-proxy"]' } },
      status: { nodeInfo: { kubeletVersion: "v1.34.4+k3s1" } },
    };
    for (const name of ["cp", "w1", "w2"]) run.cluster.addNode(name, k3s);
    for (const node of run.cluster.nodes.values()) node.hasRules = true;
    expect(await run.install()).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
    expect(run.cluster.unserved).toEqual([]);
    run.cluster.nodes.get("w1")!.hasRules = true;
    expect(await run.install()).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
  });

  it("ends where agents become ready and lose it again for ever", async () => {
    const run = bare();
    const stop = new AbortController();
    run.cluster.outcome = (pod) => {
      if (run.cluster.requests.length > 3_000) stop.abort();
      const which = ["millrace-w1", "none", "millrace-w2", "none"][Math.floor(run.cluster.requests.length / 8) % 4];
      const isFlapping = /^millrace-w[12]$/.test(pod.metadata.name);
      return isFlapping ? { phase: "Running", ready: pod.metadata.name === which } : undefined;
    };
    const error = await run.install({}, { signal: stop.signal });
    expect(error?.message).toMatch(/^the agents did not become ready: [12]\/3 ready; .* \(for 60 s\)/);
  });

  it("takes a node that was left out before, or was given back in part", async () => {
    const run = bare();
    await run.install({ except: ["w2"] });
    const w1 = run.cluster.get("Node", "w1");
    run.cluster.put({ ...w1, metadata: { ...w1.metadata, annotations: { "millrace.io/draining": "true" } } });
    expect(await run.install({ except: [] })).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
    expect(run.cluster.get("Node", "w1").metadata.annotations).toEqual({});
  });

  it("says which agent does not become ready", async () => {
    const run = bare();
    const waiting = { reason: "CreateContainerError", message: "failed to apply caps: operation not permitted" };
    failing(run, "millrace-w2", { phase: "Running", ready: false, waiting });
    const error = await run.install();
    expect(error?.message).toMatch(
      /^the agents did not become ready: 2\/3 ready; node w2: container agent: CreateContainerError, failed to apply caps/,
    );
  });

  it("keeps agents from the nodes that are left out", async () => {
    const run = bare();
    expect(await run.install({ except: ["w2"] })).toBeUndefined();
    expect(labelsOf(run)).toEqual({ w2: "kube-proxy" });
    expect(run.cluster.get("Pod", "millrace-w2", "kube-system")).toBeUndefined();
  });

  it("is taken out again only by who says that nobody serves afterwards", async () => {
    const run = bare();
    await run.install();
    const refused = await run.uninstall();
    expect(refused?.message).toMatch(/nobody serves Services here, DNS among them. Say --without-proxy/);
    const options = { ...UNINSTALL_OPTIONS, drainTimeout: "0", withoutProxy: true };
    expect(await run.uninstall({ options })).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere({ hasRules: false, hasMillrace: false }));
    expect(run.cluster.list("Pod")).toEqual([]);
  });
});

describe("an installation that runs again", () => {
  const read = (run: Run, kind: string, name = "millrace") => run.cluster.get(kind, name, "kube-system");
  const configOf = (run: Run): string[] => read(run, "ConfigMap").data["config.yaml"].trim().split("\n");
  const imageOf = (run: Run): string => read(run, "DaemonSet").spec.template.spec.containers[0].image;
  const keptOf = (run: Run): object =>
    JSON.parse(read(run, "ConfigMap").metadata.annotations["millrace.io/install-options"]);
  const CHOICES = {
    image: "r.example.com/m:0.1.0",
    imagePullSecrets: ["registry"],
    apiServer: "https://api.example.com:6443",
    loadBalancerClass: "a.b/c",
    except: ["w2"],
    sysAdmin: "in-place",
    set: { xdp: "off", "nodeport-addresses": "primary" },
  } as const;

  it("keeps what an earlier one was told, and says so", async () => {
    const run = withKubeProxy();
    expect(await run.install(CHOICES)).toBeUndefined();
    const specs = (): unknown[] => [
      configOf(run),
      keptOf(run),
      read(run, "DaemonSet").spec,
      read(run, "Deployment", "millrace-controller").spec,
    ];
    const before = specs();
    expect(keptOf(run)).toEqual({
      version: "0.1.0",
      image: "r.example.com/m:0.1.0",
      apiserver: "https://api.example.com:6443",
      "load-balancer-class": "a.b/c",
      except: ["w2"],
      "sys-admin": "in-place",
      "image-pull-secret": ["registry"],
      set: { "nodeport-addresses": "primary", xdp: "off" },
    });
    run.cluster.history.length = 0;
    expect(await run.install()).toBeUndefined();
    expect(specs()).toEqual(before);
    expect(configOf(run)).toContain('xdp: "off"');
    expect(run.cluster.history).toEqual([]);
    expect(labelsOf(run)["w2"]).toBe("kube-proxy");
    expect(run.said).toContain(
      "Kept from before: --image r.example.com/m:0.1.0 --apiserver https://api.example.com:6443 --load-balancer-class a.b/c --except w2 --sys-admin in-place --image-pull-secret registry --set nodeport-addresses=primary --set xdp=off.",
    );
  });

  it("counts what it is told itself before that, a setting by its name", async () => {
    const run = withKubeProxy();
    await run.install(CHOICES);
    run.said.length = 0;
    expect(await run.install({ apiServer: "https://b:1", set: { xdp: "on" } })).toBeUndefined();
    expect(configOf(run)).toEqual(
      expect.arrayContaining(["apiserver: https://b:1", "nodeport-addresses: primary", 'xdp: "on"']),
    );
    expect(run.said).toContainEqual(expect.stringMatching(/^Kept from before: (?!.*(--apiserver|xdp)).*nodeport/));
  });

  it("drops what is given empty", async () => {
    const run = withKubeProxy();
    await run.install(CHOICES);
    run.said.length = 0;
    const none = { image: "", imagePullSecrets: [], apiServer: "", loadBalancerClass: "", except: [] };
    expect(await run.install({ ...none, sysAdmin: "auto", isSetAnew: true, set: { xdp: "on" } })).toBeUndefined();
    expect(configOf(run)).toEqual([
      "announcer-secret: /etc/millrace/announcer",
      "apiserver: https://mr-control-plane:6443",
      'xdp: "on"',
    ]);
    expect(keptOf(run)).toEqual({ version: "0.1.0", set: { xdp: "on" } });
    expect(read(run, "DaemonSet").spec.template.spec.imagePullSecrets).toBeUndefined();
    expect(imageOf(run)).toBe("localhost/millrace:0.1.0");
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
    expect(run.said.filter((line) => line.startsWith("Kept"))).toEqual([]);
  });

  it("takes its own version's image, from the repository that was named", async () => {
    const run = withKubeProxy();
    await run.install({ image: "r.example.com:5000/m:0.1.0-patched" });
    expect(await run.install()).toBeUndefined();
    expect(imageOf(run)).toBe("r.example.com:5000/m:0.1.0-patched");
    const next = JSON.stringify(smallManifest()).replaceAll("millrace:0.1.0", "millrace:0.2.0");
    expect(await run.install({}, { manifest: JSON.parse(next) })).toBeUndefined();
    expect(imageOf(run)).toBe("r.example.com:5000/m:0.2.0");
    expect(read(run, "Deployment", "millrace-controller").spec.template.spec.containers[0].image).toBe(imageOf(run));
  });

  it("keeps them, and its images, when an uninstallation has taken the DaemonSet away and stopped", async () => {
    const run = fakeRun();
    for (const name of ["cp", "w1", "w2"]) run.cluster.addNode(name);
    await run.install({ ...CHOICES, except: undefined });
    const mend = failing(run, "millrace-drain-w2", { phase: "Failed", exitCode: 1, message: "no" });
    const options = { ...UNINSTALL_OPTIONS, withoutProxy: true };
    expect((await run.uninstall({ options }))?.message).toMatch(/To turn back: millrace install\.$/);
    expect(read(run, "DaemonSet")).toBeUndefined();
    const drains: object[] = [];
    run.cluster.outcome = ({ metadata, spec }) => {
      if (metadata.name === "millrace-drain-w2") drains.push([spec.containers[0].image, spec.imagePullSecrets]);
      return metadata.name === "millrace-drain-w2" ? { phase: "Failed", exitCode: 1, message: "no" } : undefined;
    };
    await run.uninstall({ options });
    expect(drains[0]).toEqual(["r.example.com/m:0.1.0", [{ name: "registry" }]]);
    mend();
    expect(await run.install()).toBeUndefined();
    expect(configOf(run)).toContain('xdp: "off"');
    expect(imageOf(run)).toBe("r.example.com/m:0.1.0");
  });

  it("keeps what was kube-proxy's own when its configuration is gone", async () => {
    const run = withKubeProxy();
    const config = { "nodeport-addresses": "192.168.0.0/24" };
    await run.install({}, { takeSettings: async () => ({ config, remarks: [] }) });
    expect(await run.install({ set: { xdp: "off" } })).toBeUndefined();
    expect(configOf(run)).toContain("nodeport-addresses: 192.168.0.0/24");
    expect(await run.install({}, { takeSettings: async () => ({ config: {}, remarks: [] }) })).toBeUndefined();
    expect(configOf(run).join()).not.toContain("nodeport-addresses");
  });

  it("leaves out a setting that its version does not have, and says so", async () => {
    const run = withKubeProxy();
    await run.install(CHOICES);
    const settingProblem = (name: string): string => (name === "xdp" ? "there is no such setting" : "");
    expect(await run.install({}, { settingProblem })).toBeUndefined();
    expect(configOf(run).join()).not.toContain("xdp");
    expect(run.said).toContain("warning: --set xdp=off, kept from before, is left out: there is no such setting.");
  });

  it("undoes nothing of an installation that kept nothing, unless told", async () => {
    const run = withKubeProxy();
    await run.install({ ...CHOICES, except: undefined });
    const { metadata, ...rest } = read(run, "ConfigMap");
    run.cluster.put({ ...rest, metadata: { ...metadata, annotations: {} } });
    run.cluster.requests.length = 0;
    const error = await run.install({ loadBalancerClass: "a.b/c" });
    expect(error?.message).toBe(
      "could not install Millrace: ConfigMap kube-system/millrace has no annotation millrace.io/install-options: something else set Millrace up, or an earlier version did. This run would undo: --image r.example.com/m:0.1.0; --apiserver https://api.example.com:6443; --set nodeport-addresses=primary; --set xdp=off. Say what is to stay by the flags that are named; --force goes on without the rest.",
    );
    expect(run.cluster.requests.filter((line) => !line.startsWith("GET"))).toEqual([]);
    expect(await run.install({ ...CHOICES, except: undefined })).toBeUndefined();
    run.cluster.put({ ...read(run, "ConfigMap"), metadata: { ...metadata, annotations: {} } });
    expect(await run.install({ force: true })).toBeUndefined();
    expect(run.said).toContainEqual(expect.stringMatching(/^warning: ConfigMap .*would undo: --image r.example.com/));
    expect(configOf(run).join()).not.toContain("xdp");
  });
});

describe("the controller", () => {
  const pod = (name: string, status: object): object => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace: "kube-system",
      labels: { "app.kubernetes.io/name": "millrace", "app.kubernetes.io/component": "controller" },
    },
    spec: { containers: [{ name: "controller" }] },
    status,
  });
  const crashing = pod("millrace-controller-x", {
    phase: "Running",
    conditions: [{ type: "Ready", status: "False" }],
    containerStatuses: [
      {
        name: "controller",
        restartCount: 3,
        state: { waiting: { reason: "CrashLoopBackOff" } },
        lastState: { terminated: { exitCode: 2, message: "millrace: could not read --lease-name" } },
      },
    ],
  });
  const isTold = expect.stringMatching(/^warning: Deployment kube-system\/millrace-controller does not run/);

  it("that does not run is told, and its trouble, and the installation goes on", async () => {
    const run = withKubeProxy();
    run.cluster.isDeploymentStuck = true;
    run.cluster.put(crashing);
    run.cluster.logs.set("kube-system/millrace-controller-x", "could not read --lease-name\n");
    expect(await run.install()).toBeUndefined();
    expect(run.said.find((line) => line.includes("millrace-controller"))?.split("\n")).toEqual([
      "warning: Deployment kube-system/millrace-controller does not run: pod millrace-controller-x: container controller: CrashLoopBackOff, it ended with 2: millrace: could not read --lease-name (after 60 s)",
      "  log   could not read --lease-name",
      "Services are served without it. LoadBalancer Services get no addresses until it runs.",
    ]);
    expect(run.said).toContainEqual(expect.stringMatching(/^self-test: /));
  });

  it("that finds no room is told after a while", async () => {
    const run = withKubeProxy();
    run.cluster.isDeploymentStuck = true;
    const unscheduled = { type: "PodScheduled", status: "False", message: "0/3 nodes are available" };
    run.cluster.put(pod("millrace-controller-x", { phase: "Pending", conditions: [unscheduled] }));
    run.cluster.logs.set("kube-system/millrace-controller-x", "of its only container\n");
    expect(await run.install()).toBeUndefined();
    expect(run.said).toContainEqual(isTold);
    expect(run.said.join("\n")).toMatch(
      /does not run: pod millrace-controller-x: 0\/3 nodes are available \(after 60 s\)\n {2}log {3}of its/,
    );
  });

  it("of a new version that does not run is told, though the one before does", async () => {
    const run = withKubeProxy();
    expect(await run.install()).toBeUndefined();
    expect(run.said).not.toContainEqual(isTold);
    run.cluster.isDeploymentStuck = true;
    run.cluster.put(crashing);
    expect(await run.install({ image: "localhost/millrace:next" })).toBeUndefined();
    expect(run.said).toContainEqual(isTold);
    expect(run.said.join("\n")).toMatch(/\nThe one of before goes on meanwhile\.\n/);
  });

  it("that starts late is waited for, whatever the one before was like", async () => {
    const run = withKubeProxy();
    run.cluster.isDeploymentStuck = true;
    run.cluster.put(crashing);
    let looks = 0;
    run.cluster.fault = (method, path) => {
      if (method === "GET" && path.endsWith("/deployments/millrace-controller") && ++looks === 20)
        run.cluster.isDeploymentStuck = false;
      return looks === 5 ? 503 : undefined;
    };
    expect(await run.install()).toBeUndefined();
    expect(looks).toBeGreaterThan(19);
    expect(run.said).not.toContainEqual(isTold);
  });

  it("is not waited for where no node is ready", async () => {
    const run = fakeRun();
    run.cluster.addNode("w1", { status: { conditions: [{ type: "Ready", status: "False" }] } });
    run.cluster.isDeploymentStuck = true;
    expect(await run.install()).toBeUndefined();
    expect(run.said).toContain("controller: not waited for, no node is ready (is there a network plugin?)");
    expect(run.said).not.toContainEqual(isTold);
  });
});

describe("a dry run", () => {
  const addedIn = (printed: string): string[] =>
    [...(/^ +add:\n((?: +- .*\n)+)/m.exec(printed)?.[1] ?? "").matchAll(/- (\w+)/g)].map((match) => match[1]!);
  const printedBy = async (run: Run, options: Partial<InstallOptions> = {}): Promise<string> => {
    let printed = "";
    expect(await run.install(options, { dryRun: (text) => (printed = text) })).toBeUndefined();
    return printed;
  };
  const isWarning = expect.stringMatching(/^warning: a dry run does not look whether nodes need SYS_ADMIN/);

  it("says that it does not look at nodes, and prints what is asked for", async () => {
    const run = withKubeProxy();
    expect(addedIn(await printedBy(run))).not.toContain("SYS_ADMIN");
    expect(run.said).toContainEqual(isWarning);
    run.said.length = 0;
    const inPlace = await printedBy(run, { sysAdmin: "in-place" });
    expect(addedIn(inPlace)).toEqual(["NET_ADMIN", "NET_RAW", "SYS_ADMIN"]);
    expect(run.said).not.toContainEqual(isWarning);
    expect(inPlace).toMatch(/millrace\.io\/install-options: '\{"version":"0\.1\.0","sys-admin":"in-place"\}'/);
  });

  it.each(["in-place", "on"] as const)("prints what the agents have that are there: %s", async (sysAdmin) => {
    const run = withKubeProxy();
    const message = JSON.stringify({ kernel: "6.1.0", missingCapabilities: ["PERFMON", "BPF"] });
    failing(run, "millrace-look", { phase: "Succeeded", message });
    await run.install();
    const options = sysAdmin === "on" ? { sysAdmin } : {};
    expect(addedIn(await printedBy(run, options))).toEqual(["NET_ADMIN", "NET_RAW", "SYS_ADMIN"]);
    expect(run.said).not.toContainEqual(isWarning);
  });
});

describe("a registry with credentials", () => {
  it("is named to every pod, and its Secret is copied for the self-test's", async () => {
    const run = withKubeProxy();
    const secret = { type: "kubernetes.io/dockerconfigjson", data: { ".dockerconfigjson": "e30=" } };
    const metadata = { name: "registry", namespace: "kube-system" };
    run.cluster.put({ apiVersion: "v1", kind: "Secret", metadata, ...secret });
    const without = new Set<string>();
    let copied: unknown;
    run.cluster.outcome = ({ metadata: { name }, spec }) => {
      if (!name.startsWith("kube-proxy") && spec.imagePullSecrets?.[0]?.name !== "registry") without.add(name);
      copied ??= run.cluster.get("Secret", "registry", "millrace-test");
      return undefined;
    };
    expect(await run.install({ imagePullSecrets: ["registry"] })).toBeUndefined();
    expect(copied).toMatchObject(secret);
    const { spec } = run.cluster.get("Deployment", "millrace-controller", "kube-system").spec.template;
    expect(spec.imagePullSecrets).toEqual([{ name: "registry" }]);
    expect(await run.uninstall()).toBeUndefined();
    expect([...without]).toEqual([]);
    expect(run.cluster.list("Secret").map((one) => one.metadata.namespace)).toEqual(["kube-system"]);
  });

  it("is done without its Secret in the self-test where the user may not read it", async () => {
    const run = withKubeProxy();
    run.cluster.fault = (method, path) => (method === "GET" && path.includes("/secrets/") ? 403 : undefined);
    expect(await run.install({ imagePullSecrets: ["registry"] })).toBeUndefined();
  });
});

describe("the rights that are asked for", () => {
  it("are those for every request that changes something", async () => {
    const run = withKubeProxy();
    const namespace = "kube-system";
    await run.install();
    run.cluster.put({
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: "millrace-controller", namespace },
    });
    run.cluster.put({ apiVersion: "v1", kind: "Secret", metadata: { name: "millrace-announcer", namespace } });
    for (const [kind, name] of [
      ["ConfigurationState", "controller"],
      ["ServiceL2Status", "l2-1"],
    ])
      run.cluster.put({ apiVersion: "metallb.io/v1beta1", kind, metadata: { name, namespace } });
    expect(await run.uninstall()).toBeUndefined();
    const asked = [...RIGHTS, ...TEST_RIGHTS].map(
      ({ verb, resource, namespace: where = "" }) => `${verb} ${resource} ${where}`,
    );
    const verbs: Record<string, string> = { POST: "create", PATCH: "patch", DELETE: "delete" };
    const needed = run.cluster.requests.flatMap((line) => {
      const [method = "", path = ""] = line.split(" ");
      const verb = verbs[method];
      if (verb === undefined || path.includes("selfsubjectaccessreviews")) return [];
      const [, where = "", resource = ""] =
        /^\/(?:api\/v1|apis\/[^/]+\/[^/]+)(?:\/namespaces\/([^/]+)(?=\/))?\/([a-z0-9]+)/.exec(path) ?? [];
      return [`${verb} ${resource} ${where}`];
    });
    expect([...new Set(needed)].filter((one) => !asked.includes(one))).toEqual([]);
    expect(needed).toContain("delete servicel2statuses kube-system");
  });

  it("are not those of the self-test where that is left out", async () => {
    const run = withKubeProxy();
    run.cluster.denied.add("create namespaces").add("create services");
    expect((await run.install())?.message).toMatch(/may not create namespaces, create services in millrace-test;/);
    expect(await run.install({ selfTest: false })).toBeUndefined();
    expect(await run.uninstall()).toBeUndefined();
  });

  it("are to create what is applied, too", async () => {
    const run = withKubeProxy();
    run.cluster.denied.add("create clusterroles").add("delete leases");
    expect((await run.install())?.message).toMatch(
      /your account may not create clusterroles\.rbac\.authorization\.k8s\.io, delete leases\.coordination\.k8s\.io in kube-system;/,
    );
  });
});

describe("the way back", () => {
  it("gives node after node to kube-proxy, drains it, and leaves the cluster as it was", async () => {
    const affinity = { podAntiAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 1 }] } };
    const run = withKubeProxy(["cp", "w1", "w2"], { spec: { template: { spec: { affinity } } } });
    const before = run.cluster.get("DaemonSet", "kube-proxy", "kube-system").spec;
    await run.install();
    run.cluster.history.length = 0;
    expect(await run.uninstall()).toBeUndefined();
    expect(run.cluster.history.filter((line) => !line.endsWith("labelled null"))).toEqual([
      ...["w1 labelled kube-proxy", "w1 millrace goes", "w1 kube-proxy ready", "w1 drain done"],
      ...["w2 labelled kube-proxy", "w2 millrace goes", "w2 kube-proxy ready", "w2 drain done"],
      ...["cp labelled kube-proxy", "cp millrace goes", "cp kube-proxy ready", "cp drain done"],
      // Its affinity is another again.
      ...["cp kube-proxy ready", "w1 kube-proxy ready", "w2 kube-proxy ready"],
    ]);
    expect(kernels(run)).toEqual(everywhere(ALL_THEIRS));
    expect(run.cluster.unserved).toEqual([]);
    expect(run.cluster.get("DaemonSet", "kube-proxy", "kube-system").spec).toEqual(before);
    expect(labelsOf(run)).toEqual({});
    for (const node of run.cluster.list("Node")) expect(node.metadata.annotations).toEqual({});
    expect(run.cluster.list("DaemonSet").map(({ metadata }) => metadata.name)).toEqual(["kube-proxy"]);
    expect(run.cluster.list("CustomResourceDefinition")).toEqual([]);
  });

  it("leaves a CustomResourceDefinition of which there are objects, and those of others", async () => {
    const run = withKubeProxy();
    await run.install();
    run.cluster.put({
      apiVersion: "metallb.io/v1beta1",
      kind: "IPAddressPool",
      metadata: { name: "p", namespace: "x" },
    });
    expect(await run.uninstall()).toBeUndefined();
    expect(run.said).toContainEqual(
      "warning: ipaddresspools.metallb.io (1 object) stay: --delete-crds takes them with all their objects.",
    );
    expect(run.cluster.list("CustomResourceDefinition").map(({ metadata }) => metadata.name)).toEqual([
      "ipaddresspools.metallb.io",
    ]);
  });

  it.each<[string, string[]]>([
    ["none", []],
    ["metallb-system", []],
    ["kube-system", ["controller", "l2-1"]],
  ])(
    "takes what reports of Millrace under CRDs that stay, unless it may be MetalLB's: it runs in %s",
    async (where, left) => {
      const run = withKubeProxy();
      await run.install({ besideMetallb: true });
      const apiVersion = "metallb.io/v1beta1";
      for (const [kind, name] of [
        ["ConfigurationState", "controller"],
        ["ServiceL2Status", "l2-1"],
      ]) {
        run.cluster.put({ apiVersion, kind, metadata: { name, namespace: "kube-system" } });
        run.cluster.put({ apiVersion, kind, metadata: { name: `${name}-of-others`, namespace: "metallb-system" } });
      }
      const labels = { "app.kubernetes.io/name": "metallb" };
      const spec = { template: { spec: { containers: [] } } };
      if (where !== "none")
        run.cluster.put({
          apiVersion: "apps/v1",
          kind: "Deployment",
          metadata: { name: "metallb", namespace: where, labels },
          spec,
        });
      expect(await run.uninstall()).toBeUndefined();
      const reports = ["ConfigurationState", "ServiceL2Status"].flatMap((kind) => run.cluster.list(kind));
      expect(reports.map(({ metadata }) => metadata.name).sort()).toEqual(
        [...left, "controller-of-others", "l2-1-of-others"].sort(),
      );
    },
  );

  it("removes what the controllers made only when they are gone", async () => {
    const run = withKubeProxy();
    await run.install();
    const labels = { "app.kubernetes.io/name": "millrace", "app.kubernetes.io/component": "controller" };
    const namespace = "kube-system";
    const lease = { apiVersion: "coordination.k8s.io/v1", kind: "Lease" };
    run.cluster.put({ ...lease, metadata: { name: "millrace-controller", namespace } });
    run.cluster.put({ apiVersion: "v1", kind: "Pod", metadata: { name: "c", namespace, labels }, spec: {} });
    run.cluster.fault = (method, path) => {
      if (method === "DELETE" && path.includes("/leases/"))
        expect(run.cluster.get("Pod", "c", namespace)).toBeUndefined();
      // It ends its writes first.
      const isGone =
        method === "GET" &&
        path.endsWith("/pods") &&
        run.cluster.get("ServiceAccount", "millrace", namespace) === undefined;
      if (isGone) run.cluster.delete("Pod", "c", namespace);
      return undefined;
    };
    expect(await run.uninstall()).toBeUndefined();
    expect(run.cluster.list("Lease")).toEqual([]);
  });

  it("is gone when an installation was broken off before it had an agent", async () => {
    const run = fakeRun();
    run.cluster.addNode("w1");
    const stop = new AbortController();
    run.cluster.fault = (method, path) => {
      if (method === "PATCH" && path.endsWith("/deployments/millrace-controller")) stop.abort();
      return undefined;
    };
    expect((await run.install({}, { signal: stop.signal }))?.message).toMatch(/^stopped as asked for/);
    expect(run.cluster.list("DaemonSet")).toEqual([]);
    expect(await run.uninstall({ options: { ...UNINSTALL_OPTIONS, withoutProxy: true } })).toBeUndefined();
    expect([...run.cluster.list("ConfigMap"), ...run.cluster.list("Deployment")]).toEqual([]);
  });

  it("does not touch CustomResourceDefinitions that were there before", async () => {
    const run = withKubeProxy();
    const crd = {
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: "ipaddresspools.metallb.io" },
      spec: { of: "MetalLB" },
    };
    run.cluster.put(crd);
    await run.install();
    expect(run.cluster.get("CustomResourceDefinition", "ipaddresspools.metallb.io").spec).toEqual({ of: "MetalLB" });
    await run.uninstall({ options: { ...UNINSTALL_OPTIONS, deleteCrds: true } });
    expect(run.cluster.get("CustomResourceDefinition", "ipaddresspools.metallb.io").spec).toEqual({ of: "MetalLB" });
  });

  it("stops where kube-proxy does not serve again, and goes on when it does", async () => {
    const run = withKubeProxy();
    await run.install();
    const mend = failing(run, "millrace-drain-w2", {
      phase: "Failed",
      container: "kube-proxy",
      exitCode: 7,
      message: "millrace: kube-proxy is not well after 120 s: its /healthz answers 503",
    });
    const error = await run.uninstall();
    expect(error?.message).toMatch(/^could not give node w2 back: .*kube-proxy is not well/);
    expect(run.cluster.nodes.get("w2")?.hasMillrace).toBe(true);
    expect(run.cluster.get("DaemonSet", "millrace", "kube-system")).toBeDefined();
    mend();
    expect(await run.uninstall()).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere(ALL_THEIRS));
    expect(run.cluster.unserved).toEqual([]);
  });

  it("asks kube-proxy where its configuration says, and not where it has no server", async () => {
    const drainOf = async (more: object): Promise<string[][]> => {
      const run = withKubeProxy(["w1"], more);
      await run.install();
      let steps: string[][] = [];
      run.cluster.outcome = (pod) => {
        const { initContainers = [], containers } = pod.spec;
        const all: { args: string[] }[] = [...initContainers, ...containers];
        if (pod.metadata.name === "millrace-drain-w1") steps = all.map(({ args }) => args.filter((one) => one !== ""));
        return undefined;
      };
      expect(await run.uninstall()).toBeUndefined();
      return steps;
    };
    const withFlag = (flag: string): object => ({
      spec: { template: { spec: { containers: [{ name: "kube-proxy", image: "x/kube-proxy:v1", args: [flag] }] } } },
    });
    const drain = ["cleanup", "--drain", "--drain-timeout", "5m"];
    const check = ["node-check", "kube-proxy", "--wait", "120s", "--address"];
    expect(await drainOf(withFlag("--healthz-bind-address=192.0.2.7:9"))).toEqual([[...check, "192.0.2.7:9"], drain]);
    expect(await drainOf(withFlag("--healthz-bind-address="))).toEqual([drain]);
  });

  it("drains no node on which kube-proxy's pod does not run", async () => {
    const run = withKubeProxy();
    await run.install();
    failing(run, "kube-proxy-w2", { phase: "Running", ready: false, waiting: { reason: "CreateContainerError" } });
    const error = await run.uninstall();
    expect(error?.message).toMatch(
      /^could not give node w2 back: kube-proxy: container kube-proxy: CreateContainerError/,
    );
    expect(kernels(run)).toEqual({ cp: ALL_OURS, w1: ALL_THEIRS, w2: ALL_OURS });
  });

  it("turns back again by an installation in the middle of it", async () => {
    const run = withKubeProxy();
    await run.install();
    const mend = failing(run, "millrace-drain-w2", { phase: "Failed", exitCode: 1, message: "no" });
    await run.uninstall();
    mend();
    expect(run.cluster.get("Node", "w2").metadata.annotations).toEqual({ "millrace.io/draining": "true" });
    expect(await run.install()).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
    expect(run.cluster.unserved).toEqual([]);
    for (const node of run.cluster.list("Node"))
      expect(Object.keys(node.metadata.annotations)).toEqual(["millrace.io/kube-proxy-removed"]);
  });

  it("takes out what is in kernels when the DaemonSet is gone already, and when a node was given back by its label", async () => {
    const run = withKubeProxy();
    await run.install();
    const node = run.cluster.get("Node", "w1");
    run.cluster.put({ ...node, metadata: { ...node.metadata, labels: { [NODE_LABEL]: "kube-proxy" } } });
    run.cluster.delete("DaemonSet", "millrace", "kube-system");
    run.cluster.settle();
    expect(run.cluster.nodes.get("w1")).toMatchObject({ hasRules: true, hasMillrace: true });
    expect(await run.uninstall()).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere(ALL_THEIRS));
    expect(run.cluster.unserved).toEqual([]);
  });

  it("does so when all objects were deleted, by what the controllers left", async () => {
    const run = withKubeProxy();
    for (const node of run.cluster.nodes.values()) node.hasMillrace = true;
    const metadata = { name: "millrace-controller", namespace: "kube-system" };
    run.cluster.put({ apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata });
    expect(await run.uninstall()).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere(ALL_THEIRS));
    expect(run.cluster.list("Lease")).toEqual([]);
  });

  it("does not fail for a node that never had the image, and says so", async () => {
    const run = withKubeProxy();
    await run.install({ except: ["w2"] });
    failing(run, "millrace-drain-w2", { phase: "Running", ready: false, waiting: { reason: "ErrImageNeverPull" } });
    expect(await run.uninstall()).toBeUndefined();
    expect(run.said).toContainEqual(
      expect.stringMatching(/^warning: node w2 was not looked at, kube-proxy serves it already: .*ErrImageNeverPull/),
    );
    expect(labelsOf(run)).toEqual({});
  });

  it("gives one node back, drained, and leaves the rest", async () => {
    const run = withKubeProxy();
    await run.install();
    expect(await run.uninstall({ options: { ...UNINSTALL_OPTIONS, only: ["w2"] } })).toBeUndefined();
    expect(kernels(run)).toEqual({ cp: ALL_OURS, w1: ALL_OURS, w2: ALL_THEIRS });
    expect(labelsOf(run)).toEqual({ cp: "millrace", w1: "millrace", w2: "kube-proxy" });
    expect(run.cluster.get("Node", "w2").metadata.annotations).toEqual({});
    expect(run.cluster.get("DaemonSet", "millrace", "kube-system")).toBeDefined();
    expect(await run.install()).toBeUndefined();
    expect(kernels(run)).toEqual(everywhere(ALL_OURS));
    expect(run.cluster.unserved).toEqual([]);
  });

  it("gives one node back where nobody serves afterwards, when that is meant", async () => {
    const run = fakeRun();
    for (const name of ["cp", "w1", "w2"]) run.cluster.addNode(name);
    await run.install();
    const options = { ...UNINSTALL_OPTIONS, only: ["w2"] };
    expect((await run.uninstall({ options }))?.message).toMatch(/nobody serves Services there/);
    expect(await run.uninstall({ options: { ...options, withoutProxy: true } })).toBeUndefined();
    expect(run.cluster.nodes.get("w2")?.hasMillrace).toBe(false);
    expect(run.cluster.list("Pod").map(({ metadata }) => metadata.name)).toEqual(["millrace-cp", "millrace-w1"]);
  });

  it("says that nothing is installed", async () => {
    const run = withKubeProxy();
    expect(await run.uninstall()).toBeUndefined();
    expect(run.said).toContain("Millrace is not installed.");
    expect(run.cluster.requests.filter((line) => !line.startsWith("GET"))).toEqual([]);
  });
});

/** A small generator with a seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

describe("installations and ways back that fail anywhere", () => {
  it.each(Array.from({ length: 20 }, (_, seed) => seed))(
    "never leave a node unserved, and end well when tried again: seed %d",
    async (seed) => {
      const chance = random(seed);
      const run = withKubeProxy(["cp", "w1", "w2", "w3"]);
      for (let turn = 0; turn < 4; turn++) {
        const stop = new AbortController();
        let left = 5 + Math.floor(chance() * 150);
        run.cluster.fault = () => {
          if (--left === 0) stop.abort();
          return chance() < 0.03 ? (chance() < 0.5 ? 503 : 409) : undefined;
        };
        const unlucky =
          chance() < 0.5 ? `millrace-${["takeover", "drain", "look", "w2"][Math.floor(chance() * 4)]}` : "never";
        run.cluster.outcome = (pod) =>
          pod.metadata.name.startsWith(unlucky) && chance() < 0.5 && pod.status?.phase === undefined
            ? { phase: "Failed", exitCode: 1, message: "by chance" }
            : undefined;
        const parallel = 1 + Math.floor(chance() * 3);
        if (chance() < 0.5) await run.install({ parallel }, { signal: stop.signal });
        else await run.uninstall({ signal: stop.signal });
        expect(run.cluster.unserved).toEqual([]);
      }
      run.cluster.fault = () => undefined;
      run.cluster.outcome = () => undefined;
      const isLastAnInstallation = seed % 2 === 0;
      expect(isLastAnInstallation ? await run.install() : await run.uninstall()).toBeUndefined();
      expect(run.cluster.unserved).toEqual([]);
      for (const node of run.cluster.nodes.values())
        expect(node).toMatchObject(isLastAnInstallation ? ALL_OURS : ALL_THEIRS);
    },
  );
});

describe("what is left of kube-proxy", () => {
  it("is the same DaemonSet after any number of installations and ways back", async () => {
    const run = withKubeProxy();
    const [, before] = kubeProxyObjects() as unknown as { spec: object }[];
    for (let turn = 0; turn < 2; turn++) {
      await run.install();
      await run.uninstall();
    }
    expect(run.cluster.get("DaemonSet", "kube-proxy", "kube-system").spec).toEqual(before?.spec);
  });
});
