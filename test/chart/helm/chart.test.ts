// The chart by Helm 3 and 4: it is linted, renders to what is committed, refuses what it does not know, and uses every value.
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { CHART, KUBE_VERSION, TEMPLATE } from "../../../scripts/chart.ts";
import { parseConfig } from "../../../src/cli/config-file.ts";
import { programPath } from "../../cluster/programs.ts";
import { type ManifestObject, objectOf, objectsOf } from "../objects.ts";
import { HELMS, type HelmVersion, helm, template } from "./helm.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");
const values = parse(read("deploy/helm/millrace/values.yaml")) as Record<string, unknown>;

/** Everything that can be switched on. */
const EVERYTHING = {
  image: { digest: `sha256:${"0".repeat(64)}` },
  imagePullSecrets: [{ name: "registry" }],
  apiServer: "https://192.0.2.1:6443",
  loadBalancerClass: "example.com/lb",
  config: { xdp: "off", "max-flows": 131072, devices: ["eth0"], "destroy-tcp-sockets": true },
  podLabels: { team: "network" },
  podAnnotations: { note: "one" },
  agent: { env: [{ name: "MILLRACE_LOG_LEVEL", value: "debug" }], nodeSelector: { pool: "edge" } },
  controller: { config: { "writes-per-second": 1000000, "rotate-secret-after": "720h" } },
  monitoring: {
    serviceMonitor: { enabled: true, interval: "15s", labels: { release: "prometheus" } },
    podMonitor: { enabled: true },
    prometheusRule: { enabled: true, labels: { release: "prometheus" } },
    dashboards: { enabled: true, namespace: "monitoring" },
  },
};

function rendered(version: HelmVersion, given: object, more: readonly string[] = []): ManifestObject[] {
  const { ok, out, err } = template(version, given, more);
  if (!ok) throw new Error(err);
  return objectsOf(out);
}
const agentPod = (objects: readonly ManifestObject[]) => objectOf(objects, "DaemonSet", "millrace")["spec"].template;
const configOf = (objects: readonly ManifestObject[]): string =>
  objectOf(objects, "ConfigMap", "millrace")["data"]["config.yaml"];
const sorted = (objects: readonly ManifestObject[]): string[] => objects.map((one) => JSON.stringify(one)).sort();

describe.each(HELMS)("Helm %s", (version) => {
  it("is of that version", () => {
    expect(helm(version, ["version", "--short"]).out).toMatch(new RegExp(`^v${version}\\.`));
  });

  it.each([
    ["its own values", []],
    ["everything switched on", Object.entries(flat(EVERYTHING)).map(([key, value]) => `--set-json=${key}=${value}`)],
  ])("lints the chart with %s, strictly", (_, sets) => {
    const { ok, out, err } = helm(version, ["lint", "--strict", CHART, KUBE_VERSION, ...sets]);
    expect([ok, `${out}${err}`]).toEqual([true, expect.stringContaining("1 chart(s) linted, 0 chart(s) failed")]);
    expect(out).not.toContain("[WARNING]");
  });

  it("renders the objects of deploy/millrace.yaml", () => {
    const { ok, out, err } = helm(version, TEMPLATE);
    expect([ok, err]).toEqual([true, ""]);
    expect(sorted(objectsOf(out))).toEqual(sorted(objectsOf(read("deploy/millrace.yaml"))));
  });

  it.each([
    ["imagee", { imagee: {} }],
    ["agent.resource", { agent: { resource: {} } }],
    ["agent.resources.limit", { agent: { resources: { limit: {} } } }],
    ["monitoring.serviceMonitor.enable", { monitoring: { serviceMonitor: { enable: true } } }],
    ["a setting that there is not", { config: { xpd: "on" } }],
    ["a setting that another value decides", { config: { apiserver: "https://192.0.2.1" } }],
    ["a flag of the controller that there is not", { controller: { config: { "lease-durations": "1s" } } }],
    ["on without quotes, which YAML 1.1 takes for a boolean", { config: { xdp: true } }],
    ["a capability that is none of the agent's", { agent: { capabilities: ["NET_ADMIN", "ALL"] } }],
    ["capabilities without NET_ADMIN", { agent: { capabilities: ["BPF"] } }],
    ["an API server without a scheme", { apiServer: "192.0.2.1:6443" }],
    ["maxUnavailable 0", { agent: { maxUnavailable: 0 } }],
  ])("refuses %s", (_, given) => {
    const { ok, err } = template(version, given);
    expect([ok, err]).toEqual([false, expect.stringContaining("schema")]);
  });

  it("with everything switched on names the image by digest and gives settings that are read", () => {
    const objects = rendered(version, EVERYTHING);
    const { spec, metadata } = agentPod(objects);
    expect(spec.containers[0].image).toBe(`localhost/millrace@${EVERYTHING.image.digest}`);
    expect(metadata.labels).toMatchObject({ team: "network", "k8s-app": "kube-proxy" });
    expect(parseConfig(configOf(objects), "config.yaml").values).toEqual({
      "announcer-secret": "/etc/millrace/announcer",
      apiserver: "https://192.0.2.1:6443",
      "destroy-tcp-sockets": "true",
      devices: "eth0",
      "load-balancer-class": "example.com/lb",
      "max-flows": "131072",
      "metrics-bind-address": "0.0.0.0:10249",
      xdp: "off",
    });
    const controller = objectOf(objects, "Deployment", "millrace-controller")["spec"].template.spec.containers[0];
    expect(controller.args).toEqual([
      "controller",
      "--apiserver=https://192.0.2.1:6443",
      "--load-balancer-class=example.com/lb",
      "--rotate-secret-after=720h",
      "--writes-per-second=1000000",
    ]);
  });

  it("scrapes agents under the job of kube-proxy, by Service and by pod", () => {
    const objects = rendered(version, EVERYTHING);
    const service = objectOf(objects, "Service", "millrace-agent-metrics");
    const monitor = objectOf(objects, "ServiceMonitor", "millrace")["spec"];
    expect(service.metadata.labels?.[monitor.jobLabel]).toBe("kube-proxy");
    expect(service.metadata.labels).toMatchObject(monitor.selector.matchLabels);
    expect(service["spec"].ports[0].name).toBe(monitor.endpoints[0].port);
    const podMonitor = objectOf(objects, "PodMonitor", "millrace")["spec"];
    const { metadata, spec } = agentPod(objects);
    expect(metadata.labels[podMonitor.jobLabel]).toBe("kube-proxy");
    expect(metadata.labels).toMatchObject(podMonitor.selector.matchLabels);
    expect(spec.containers[0].ports).toContainEqual({
      name: podMonitor.podMetricsEndpoints[0].port,
      containerPort: 10249,
    });
  });

  it("carries rules and dashboards as they are", () => {
    const objects = rendered(version, EVERYTHING);
    const rules = objects.filter(({ kind }) => kind === "PrometheusRule").map(({ spec }) => spec);
    const ruleFiles = readdirSync(join(CHART, "files/prometheus"));
    expect(rules).toEqual(ruleFiles.map((name) => parse(read(`deploy/prometheus/${name}`))));
    const dashboards = objects.filter(({ metadata }) => metadata.labels?.["grafana_dashboard"] === "1");
    for (const name of readdirSync(join(CHART, "files/grafana"))) {
      const held = dashboards.find(({ data }) => name in data);
      expect([held?.metadata.namespace, JSON.parse(held?.["data"][name])]).toEqual([
        "monitoring",
        JSON.parse(read(`deploy/grafana/${name}`)),
      ]);
    }
  });

  it.each([
    ["by default", {}, { port: 10256, host: "127.0.0.1" }],
    ["on another port", { "healthz-bind-address": "0.0.0.0:1234" }, { port: 1234, host: "127.0.0.1" }],
    ["on one address", { "healthz-bind-address": "192.0.2.7:10256" }, { port: 10256, host: "192.0.2.7" }],
    ["on one address of IPv6", { "healthz-bind-address": "[2001:db8::7]:10256" }, { port: 10256, host: "2001:db8::7" }],
    ["on IPv6 alone", { "healthz-bind-address": "[::]:10256" }, { port: 10256, host: "::1" }],
    ["on an address alone", { "healthz-bind-address": "192.0.2.7" }, { port: 10256, host: "192.0.2.7" }],
    ["on an address of IPv6 alone", { "healthz-bind-address": "[2001:db8::7]" }, { port: 10256, host: "2001:db8::7" }],
    ["on all addresses alone", { "healthz-bind-address": "::" }, { port: 10256, host: "::1" }],
    ["on a port alone", { "healthz-bind-address": ":1234" }, { port: 1234, host: "127.0.0.1" }],
    ["nowhere", { "healthz-bind-address": "" }, undefined],
  ])("asks for health where the agent answers: %s", (_, config, expected) => {
    const [agent] = agentPod(rendered(version, { config })).spec.containers;
    const port = agent.ports.find(({ name }: { name: string }) => name === "health")?.containerPort;
    const probes = [agent.livenessProbe, agent.readinessProbe, agent.startupProbe];
    const host = expected && { port: "health", host: expected.host };
    expect([port, ...probes.map((probe) => probe?.httpGet)]).toEqual([
      expected?.port,
      ...["/livez", "/healthz", "/livez"].map((path) => host && { path, ...host }),
    ]);
  });

  it("takes a cluster older than the field for AppArmor", () => {
    const { metadata, spec } = agentPod(rendered(version, {}, ["--kube-version=1.29.0"]));
    expect(metadata.annotations["container.apparmor.security.beta.kubernetes.io/agent"]).toBe("unconfined");
    expect(spec.containers[0].securityContext.appArmorProfile).toBeUndefined();
  });

  it.each([
    ["everything, by default", {}, undefined, [{ operator: "Exists" }]],
    ["the agents' nodes alone", { nodeSelector: { pool: "edge" } }, { pool: "edge" }, [{ operator: "Exists" }]],
    ["what the agents tolerate", { tolerations: [{ key: "a" }] }, undefined, [{ key: "a" }]],
    ["no taint", { tolerations: [] }, undefined, undefined],
  ])("puts its test's pod where agents are: %s", (_, agent, nodeSelector, tolerations) => {
    const objects = rendered(version, { agent });
    const test = objectOf(objects, "Pod", "millrace-test")["spec"];
    expect([test.nodeSelector, test.tolerations]).toEqual([nodeSelector, tolerations]);
    const { spec } = agentPod(objects);
    expect([spec.nodeSelector, spec.tolerations ?? []]).toEqual([nodeSelector, tolerations ?? []]);
  });

  it("leaves the controller out when it is told to", () => {
    const objects = rendered(version, { controller: { enabled: false } });
    expect(objects.filter(({ metadata }) => /controller/.test(metadata.name))).toEqual([]);
    expect(parseConfig(configOf(objects), "config.yaml").values).toEqual({});
  });
});

// Helm 3 asks a cluster first: test/cluster/helm.test.ts.
it("says after an installation what comes next", () => {
  const args = ["install", "millrace", CHART, "--namespace=kube-system", "--dry-run=client"];
  const { out } = helm("4", args);
  expect(out).toContain("rollout status daemonset/millrace");
  expect(out).toContain("apiServer is not set");
});

/** `a.b=json` of every value that is given. */
function flat(given: object, before = ""): Record<string, string> {
  return Object.fromEntries(
    Object.entries(given).flatMap(([key, value]) => {
      const isInner = typeof value === "object" && !Array.isArray(value) && !["config", "podLabels"].includes(key);
      const path = `${before}${key}`;
      return isInner && !/labels|nodeSelector|podAnnotations/.test(key)
        ? Object.entries(flat(value, `${path}.`))
        : [[path, JSON.stringify(value)]];
    }),
  );
}

/** Another value than the default, of its kind; what a kind does not tell is here by name. */
const OTHERS: Readonly<Record<string, unknown>> = {
  "image.digest": EVERYTHING.image.digest,
  "image.pullPolicy": "Never",
  apiServer: "https://192.0.2.9:6443",
  config: { xdp: "off" },
  imagePullSecrets: [{ name: "other" }],
  "agent.capabilities": ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"],
  "agent.seccompProfile": "Unconfined",
  "agent.tolerations": [],
  "agent.env": [{ name: "OTHER", value: "1" }],
  "controller.config": { "writes-per-second": 7 },
  "controller.tolerations": [],
  ...Object.fromEntries(
    ["serviceMonitor", "podMonitor", "prometheusRule", "dashboards"].map((name) => [
      `monitoring.${name}.enabled`,
      false,
    ]),
  ),
  "monitoring.serviceMonitor.interval": "7s",
  "monitoring.podMonitor.interval": "7s",
};
const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function leaves(value: unknown, path: readonly string[] = []): [string, unknown][] {
  if (!isMapping(value) || Object.keys(value).length === 0) return [[path.join("."), value]];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, [...path, key]));
}

function otherThan(path: string, value: unknown): unknown {
  if (path in OTHERS) return OTHERS[path];
  if (typeof value === "boolean") return !value;
  if (typeof value === "number") return value + 1;
  if (isMapping(value)) return { other: "value" };
  if (typeof value === "string" && /^\d+(m|Mi|Gi)$/.test(value)) return `7${value}`;
  if (typeof value === "string") return value.startsWith("/") ? "/other" : "other";
  throw new Error(`the test has no other value for ${path}`);
}

const nested = (path: string, value: unknown): object =>
  path.split(".").reduceRight<unknown>((inner, key) => ({ [key]: inner }), value) as object;

/** With all switches on each value shows. */
const ON = {
  monitoring: Object.fromEntries(Object.keys(values["monitoring"] as object).map((key) => [key, { enabled: true }])),
};

function merged(one: unknown, two: unknown): unknown {
  if (!isMapping(one) || !isMapping(two)) return two;
  const keys = [...new Set([...Object.keys(one), ...Object.keys(two)])];
  return Object.fromEntries(keys.map((key) => [key, key in two ? merged(one[key], two[key]) : one[key]]));
}

describe("every value", () => {
  const base = template("4", ON).out;
  it.each(leaves(values))("%s changes what is rendered", (path, value) => {
    const { ok, out, err } = template("4", merged(ON, nested(path, otherThan(path, value))) as object);
    expect([ok, err]).toEqual([true, ""]);
    expect(out).not.toBe(base);
  });
});

describe("kubectl kustomize", () => {
  const kubectl = programPath("kubectl");
  function kustomize(directory: string): ManifestObject[] {
    if (!existsSync(kubectl)) throw new Error(`${kubectl} is missing: make cluster-programs`);
    const { status, stdout, stderr } = spawnSync(kubectl, ["kustomize", directory], {
      encoding: "utf8",
      maxBuffer: 64 << 20,
    });
    if (status !== 0) throw new Error(stderr);
    return objectsOf(stdout);
  }
  /** Keys in one order, as kustomize writes them in another. */
  const canonical = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(canonical);
    if (!isMapping(value)) return value;
    return Object.fromEntries(
      Object.keys(value)
        .sort()
        .map((key) => [key, canonical(value[key])]),
    );
  };

  it("builds the base: the objects of the plain manifest", () => {
    const built = kustomize(join(ROOT, "deploy/kustomize"))
      .map((one) => JSON.stringify(canonical(one)))
      .sort();
    const plain = objectsOf(read("deploy/millrace.yaml"))
      .map((one) => JSON.stringify(canonical(one)))
      .sort();
    expect(built).toEqual(plain);
  });

  it("builds the overlay of docs/install/helm.md", () => {
    const overlay = /```yaml\n(resources:[\s\S]*?)```/.exec(read("docs/install/helm.md"))?.[1] ?? "";
    const directory = mkdtempSync(join(tmpdir(), "millrace-kustomize-"));
    try {
      mkdirSync(join(directory, "mine"));
      symlinkSync(ROOT, join(directory, "millrace"));
      writeFileSync(join(directory, "mine/kustomization.yaml"), overlay);
      const objects = kustomize(join(directory, "mine"));
      const images = [...agentPod(objects).spec.initContainers, ...agentPod(objects).spec.containers];
      expect(images.map(({ image }) => image)).toEqual(Array(2).fill("registry.example.com/millrace:0.1.0"));
      expect(parseConfig(configOf(objects), "config.yaml").values["apiserver"]).toBe("https://192.0.2.1:6443");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
