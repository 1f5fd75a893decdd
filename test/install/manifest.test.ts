import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { hasRequirement } from "../../src/install/affinity.ts";
import { RIGHTS } from "../../src/install/gather.ts";
import { LEAST_KUBERNETES } from "../../src/install/install-plan.ts";
import {
  configText,
  configureManifest,
  imageOf,
  type ManifestChoice,
  manifestText,
  readManifest,
} from "../../src/install/manifest.ts";
import { AGENT_PODS, CONTROLLER, NODE_LABEL } from "../../src/install/names.ts";
import { nodePod, podName } from "../../src/install/node-pods.ts";
import type { ClusterObject } from "../../src/kube/cluster-objects.ts";
import { KINDS, type Kind } from "../../src/kube/cluster-objects.ts";
import { smallManifest } from "./clusters.ts";

const CHOICE: ManifestChoice = {
  image: "localhost/millrace:0.1.0",
  apiServer: "",
  loadBalancerClass: "",
  config: {},
  sysAdmin: "none",
  imagePullSecrets: [],
  kept: "",
  isBefore130: false,
};

// biome-ignore lint/suspicious/noExplicitAny: tests look into objects as JSON has them
type Json = any;
const find = (objects: readonly ClusterObject[], kind: string): Json => objects.find((one) => one.kind === kind);
const agentOf = (objects: readonly ClusterObject[]): Json =>
  find(objects, "DaemonSet").spec.template.spec.containers[0];

describe("the manifest", () => {
  it("names the objects that it cannot use", () => {
    expect(() => readManifest("kind: Ingress\nmetadata: {name: a}\n", "m.yaml")).toThrow(
      "could not use m.yaml: it has an object of kind Ingress",
    );
    expect(() => readManifest("kind: [\n", "m.yaml")).toThrow(/^could not read m\.yaml: /);
  });

  it("is read as it is written", () => {
    expect(readManifest(manifestText(smallManifest()), "m.yaml")).toEqual(smallManifest());
    expect(imageOf(smallManifest())).toBe("localhost/millrace:0.1.0");
  });

  it("is the same but for the hash of its configuration when nothing is chosen", () => {
    const changed = configureManifest(smallManifest(), CHOICE);
    const withoutHash = (objects: readonly ClusterObject[]): string =>
      JSON.stringify(objects).replace(/"millrace.io\/config-hash":"[^"]*"/, "");
    expect(withoutHash(changed)).toBe(withoutHash(smallManifest()));
  });

  it("has the chosen image everywhere", () => {
    const text = manifestText(configureManifest(smallManifest(), { ...CHOICE, image: "r.example.com/m:1" }));
    expect(text.match(/image: .*/g)).toEqual(Array.from({ length: 3 }, () => "image: r.example.com/m:1"));
  });

  it("tells agents and controller the API server, and the class of Services", () => {
    const changed = configureManifest(smallManifest(), {
      ...CHOICE,
      apiServer: "https://cp:6443",
      loadBalancerClass: "a.b/c",
    });
    expect(parse(find(changed, "ConfigMap").data["config.yaml"])).toEqual({
      "announcer-secret": "/etc/millrace/announcer",
      apiserver: "https://cp:6443",
      "load-balancer-class": "a.b/c",
    });
    const [controller] = find(changed, "Deployment").spec.template.spec.containers;
    expect(controller.args).toEqual(["controller", "--apiserver=https://cp:6443", "--load-balancer-class=a.b/c"]);
  });

  it("replaces agents when their configuration is another, and only then", () => {
    const hash = (config: Record<string, string>): string =>
      find(configureManifest(smallManifest(), { ...CHOICE, config }), "DaemonSet").spec.template.metadata.annotations[
        "millrace.io/config-hash"
      ];
    expect(hash({})).toBe(hash({}));
    expect(hash({ xdp: "off" })).not.toBe(hash({}));
  });

  it("writes configuration with sorted keys, as Helm does", () => {
    expect(configText({ b: "x", a: "https://cp:6443", c: "primary,localhost" })).toBe(
      "a: https://cp:6443\nb: x\nc: primary,localhost",
    );
  });

  it("gives SYS_ADMIN in place of what a runtime does not know", () => {
    const { capabilities } = agentOf(
      configureManifest(smallManifest(), { ...CHOICE, sysAdmin: "in-place" }),
    ).securityContext;
    expect(capabilities).toEqual({ drop: ["ALL"], add: ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"] });
  });

  it.each([
    ["0.0.0.0:10999", "127.0.0.1", 10999],
    ["[::]:10256", "::1", 10256],
    ["192.0.2.1:10256", "192.0.2.1", 10256],
    [":10999", "127.0.0.1", 10999],
    // An address alone is taken by the agent, and by the chart.
    ["0.0.0.0", "127.0.0.1", 10256],
    ["::", "::1", 10256],
    ["[fd00::7]", "fd00::7", 10256],
  ])("is asked where its health is served: %s", (address, host, port) => {
    const agent = agentOf(
      configureManifest(smallManifest(), { ...CHOICE, config: { "healthz-bind-address": address } }),
    );
    for (const probe of ["startupProbe", "livenessProbe", "readinessProbe"])
      expect(agent[probe].httpGet.host).toBe(host);
    expect(agent.ports).toEqual([
      { name: "health", containerPort: port },
      { name: "metrics", containerPort: 10249 },
    ]);
  });

  it("has no probe where health is served nowhere", () => {
    const agent = agentOf(configureManifest(smallManifest(), { ...CHOICE, config: { "healthz-bind-address": "" } }));
    expect(Object.keys(agent).filter((name) => name.endsWith("Probe"))).toEqual([]);
    expect(agent.ports).toEqual([{ name: "metrics", containerPort: 10249 }]);
  });

  it.each([
    ["0.0.0.0:9000", 9000],
    ["0.0.0.0", 10249],
  ])("shows the port of its metrics: %s", (address, port) => {
    const agent = agentOf(
      configureManifest(smallManifest(), { ...CHOICE, config: { "metrics-bind-address": address } }),
    );
    expect(agent.ports).toContainEqual({ name: "metrics", containerPort: port });
  });
});

describe("the objects of deploy/millrace.yaml", () => {
  const objects = readManifest(
    readFileSync(join(import.meta.dirname, "../../deploy/millrace.yaml"), "utf8"),
    "deploy/millrace.yaml",
  );

  it("are the same when nothing is chosen, the hash of the configuration too", () => {
    expect(configureManifest(objects, { ...CHOICE, image: imageOf(objects) })).toEqual(objects);
  });

  it("have no field of Kubernetes 1.30 where the API server is older, and AppArmor's annotation instead", () => {
    const choice = { ...CHOICE, image: imageOf(objects) };
    const old = configureManifest(objects, { ...choice, isBefore130: true });
    expect(JSON.stringify(configureManifest(objects, choice))).toMatch(/appArmorProfile.*recursiveReadOnly/);
    expect(JSON.stringify(old)).not.toMatch(/appArmorProfile|recursiveReadOnly/);
    const { template } = find(old, "DaemonSet").spec;
    expect(template.metadata.annotations).toEqual({
      ...find(objects, "DaemonSet").spec.template.metadata.annotations,
      "container.apparmor.security.beta.kubernetes.io/agent": "unconfined",
    });
    const [agent] = template.spec.containers;
    expect(agent.volumeMounts).toContainEqual({ name: "cgroup", mountPath: "/host/sys/fs/cgroup", readOnly: true });
    expect(agent.securityContext.seccompProfile).toBeDefined();
    expect(find(old, "Deployment").spec).toEqual(find(objects, "Deployment").spec);
  });

  it("are for the versions of Kubernetes that the chart is for", () => {
    const chart = parse(readFileSync(join(import.meta.dirname, "../../deploy/helm/millrace/Chart.yaml"), "utf8"));
    expect(chart.kubeVersion).toBe(`>=${LEAST_KUBERNETES.join(".")}.0-0`);
  });

  it("leave room for kube-proxy where its label is", () => {
    const affinity = find(objects, "DaemonSet").spec.template.spec.affinity;
    const wanted = { key: NODE_LABEL, operator: "NotIn", values: ["kube-proxy"] } as const;
    expect(hasRequirement(affinity, wanted)).toBe(true);
  });

  it("have the pods, volumes and names that the installer counts on", () => {
    const { metadata, spec } = find(objects, "DaemonSet").spec.template;
    for (const pair of AGENT_PODS.split(",")) {
      const [key = "", value] = pair.split("=");
      expect(metadata.labels[key]).toBe(value);
    }
    const steps = [{ name: "drain", args: ["cleanup", "--drain"], isPrivileged: true }];
    const pod = nodePod({
      what: "drain",
      node: "w1",
      image: "i",
      steps,
      pullSecrets: [],
      daemonSet: find(objects, "DaemonSet"),
    }) as Json;
    expect(pod.spec.volumes.map(({ name }: Json) => name)).toEqual(["bpffs", "cgroup", "state", "run", "xtables-lock"]);
    // Nothing else of the agent's mounts: read-only ones may have more that is forbidden to those that are not.
    for (const { name, ...rest } of pod.spec.containers[0].volumeMounts)
      expect(Object.keys(rest)).toEqual(name === "bpffs" ? ["mountPath", "mountPropagation"] : ["mountPath"]);
    expect(spec.containers[0].name).toBe("agent");
    expect(find(objects, "Deployment").metadata.name).toBe(CONTROLLER);
  });

  it("need no more rights of the user than are asked for", () => {
    const asked = new Set(RIGHTS.map(({ verb, resource }) => `${verb} ${resource}`));
    const needed = objects.flatMap(({ kind }) =>
      ["create", "patch", "delete"].map((verb) => `${verb} ${KINDS[kind as Kind].plural}`),
    );
    expect(needed.filter((right) => !asked.has(right))).toEqual([]);
  });
});

describe("a pod of the installer", () => {
  const daemonSet = find(smallManifest(), "DaemonSet") as ClusterObject;
  const steps = [
    { name: "agent", args: ["node-check", "agent"], isPrivileged: true },
    { name: "cleanup", args: ["cleanup", "--kube-proxy"], isPrivileged: true },
  ];

  it("works where the agent keeps its things, and writes there", () => {
    const pod = nodePod({ what: "takeover", node: "w1", image: "i", steps, pullSecrets: [], daemonSet }) as Json;
    expect(pod.spec).toMatchObject({ nodeName: "w1", hostNetwork: true, hostPID: true, restartPolicy: "Never" });
    expect(pod.spec.volumes.map(({ name }: Json) => name)).toEqual(["bpffs", "state", "run"]);
    expect(pod.spec.containers[0].volumeMounts).toContainEqual({
      name: "bpffs",
      mountPath: "/sys/fs/bpf",
      mountPropagation: "Bidirectional",
    });
    expect(pod.spec.initContainers.map(({ args }: Json) => args)).toEqual([["node-check", "agent"]]);
    expect(pod.spec.containers.map(({ args }: Json) => args)).toEqual([["cleanup", "--kube-proxy"]]);
  });

  it("has a name that fits, and is another for each node", () => {
    const long = "n".repeat(240);
    expect(podName("look", "w1")).toBe("millrace-look-w1");
    expect(podName("look", long).length).toBeLessThanOrEqual(253);
    expect(podName("look", `${long}a`)).not.toBe(podName("look", `${long}b`));
  });
});
