// What can be said of the chart and of what is rendered from it without Helm: they belong together, its schema knows each value and no
// others, and the objects are those that the parts of Millrace expect.
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { CHART, chartProblems } from "../../scripts/chart.ts";
import { parseConfig } from "../../src/cli/config-file.ts";
import { SETTINGS } from "../../src/cli/settings.ts";
import { objectOf, objectsOf } from "./objects.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

interface Schema {
  readonly type?: string | readonly string[];
  readonly $ref?: string;
  readonly additionalProperties?: boolean | Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly $defs?: Readonly<Record<string, Schema>>;
}
const schema = JSON.parse(read("deploy/helm/millrace/values.schema.json")) as Schema;
const values = parse(read("deploy/helm/millrace/values.yaml")) as Record<string, unknown>;
const templates = readdirSync(join(CHART, "templates"), { recursive: true, encoding: "utf8" })
  .filter((name) => /\.(yaml|tpl|txt)$/.test(name))
  .map((name) => read(`deploy/helm/millrace/templates/${name}`))
  .join("\n");

const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Paths of the values: `agent.maxUnavailable`. Mappings that users fill count as one. */
function leaves(value: unknown, path: readonly string[] = []): string[][] {
  if (!isMapping(value) || Object.keys(value).length === 0) return [[...path]];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, [...path, key]));
}

function deref(one: Schema | undefined): Schema | undefined {
  const name = /^#\/\$defs\/(\w+)$/.exec(one?.$ref ?? "")?.[1];
  return name === undefined ? one : schema.$defs?.[name];
}

function schemaAt(path: readonly string[]): Schema | undefined {
  let at: Schema | undefined = schema;
  for (const key of path) {
    const found: Schema | undefined = deref(at);
    const free = found?.additionalProperties;
    at = found?.properties?.[key] ?? (typeof free === "object" ? free : undefined);
  }
  return at;
}

describe("the chart", () => {
  it("and what is rendered from it are of one state", () => {
    expect(chartProblems()).toEqual([]);
  });

  it("has fewer than 60 values", () => {
    expect(leaves(values).length).toBeLessThan(60);
  });

  it.each(leaves(values).map((path) => [path.join("."), path] as const))("%s is in the schema", (_, path) => {
    expect(schemaAt(path)).toBeDefined();
  });

  it("has a schema without values that there are not", () => {
    const known = (one: Schema | undefined, value: unknown, path: string): string[] =>
      Object.entries(deref(one)?.properties ?? {}).flatMap(([key, inner]) => {
        if (!isMapping(value) || Object.keys(value).length === 0) return [];
        return key in value ? known(inner, value[key], `${path}${key}.`) : [`${path}${key}`];
      });
    expect(known(schema, values, "")).toEqual(["global"]);
  });

  it("refuses unknown keys wherever an object has names of its own", () => {
    const open: string[] = [];
    const visit = (one: Schema, path: string): void => {
      if (one.properties !== undefined && one.additionalProperties !== false) open.push(path);
      for (const [key, inner] of Object.entries(one.properties ?? {})) visit(inner, `${path}.${key}`);
      for (const [key, inner] of Object.entries(one.$defs ?? {})) visit(inner, `${path}#${key}`);
      if (one.items !== undefined) visit(one.items, `${path}[]`);
    };
    visit(schema, "values");
    expect(open).toEqual([]);
  });

  it.each(leaves(values).map((path) => [path.join("."), path] as const))("%s is used by a template", (_, path) => {
    // Whole mappings are used by the name of the mapping: resources, labels.
    const used = path.some((key, depth) => depth > 0 && new RegExp(`\\.${key}\\b`).test(templates));
    expect(used || templates.includes(`.Values.${path[0]}`)).toBe(true);
  });

  it("has copies of the rules and dashboards as they are", () => {
    const list = (directory: string, ending: string): string[] => {
      try {
        return readdirSync(join(ROOT, directory)).filter((name) => name.endsWith(ending));
      } catch {
        return [];
      }
    };
    for (const [from, to, ending] of [
      ["deploy/prometheus", "prometheus", ".yaml"],
      ["deploy/grafana", "grafana", ".json"],
    ] as const) {
      const copies = `deploy/helm/millrace/files/${to}`;
      expect(list(copies, ending)).toEqual(list(from, ending));
      for (const name of list(from, ending)) expect(read(`${copies}/${name}`)).toBe(read(`${from}/${name}`));
    }
  });
});

const objects = objectsOf(read("deploy/millrace.yaml"));
const daemonSet = objectOf(objects, "DaemonSet", "millrace");
const pod = daemonSet["spec"].template.spec;
const [agent] = pod.containers;

describe("deploy/millrace.yaml", () => {
  it("has each object once", () => {
    const names = objects.map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ""}/${metadata.name}`);
    expect(new Set(names).size).toBe(names.length);
    expect(names.filter((name) => !name.startsWith("CustomResourceDefinition")).sort()).toEqual([
      "ClusterRole /millrace",
      "ClusterRole /millrace-controller",
      "ClusterRoleBinding /millrace",
      "ClusterRoleBinding /millrace-controller",
      "ConfigMap kube-system/millrace",
      "DaemonSet kube-system/millrace",
      "Deployment kube-system/millrace-controller",
      "PodDisruptionBudget kube-system/millrace-controller",
      "Role kube-system/millrace",
      "Role kube-system/millrace-controller",
      "RoleBinding kube-system/millrace",
      "RoleBinding kube-system/millrace-controller",
      "ServiceAccount kube-system/millrace",
      "ServiceAccount kube-system/millrace-controller",
    ]);
  });

  it("has the objects of its parts, and so has the kustomize base", () => {
    const sorted = (paths: readonly string[]) =>
      paths
        .flatMap((path) => objectsOf(read(path)))
        .map((one) => JSON.stringify(one))
        .sort();
    const { resources } = parse(read("deploy/kustomize/kustomization.yaml")) as { resources: string[] };
    expect(sorted(resources.map((name) => `deploy/kustomize/${name}`))).toEqual(sorted(["deploy/millrace.yaml"]));
    const agentAlone = objects.filter(({ kind }) => ["DaemonSet", "ConfigMap"].includes(kind));
    const parts = sorted(["deploy/crds.yaml", "deploy/rbac.yaml", "deploy/controller.yaml"]);
    expect([...parts, ...agentAlone.map((one) => JSON.stringify(one))].sort()).toEqual(
      sorted(["deploy/millrace.yaml"]),
    );
  });

  it("grants no wildcard, and no right over Secrets but to make one and to keep the announcers'", () => {
    const rules = objects.filter(({ kind }) => /Role$/.test(kind)).flatMap((role) => role["rules"]);
    expect(rules.length).toBeGreaterThan(10);
    expect(rules.filter((rule) => JSON.stringify(rule).includes("*"))).toEqual([]);
    // Whether MetalLB runs: the controller's alone, and nothing but a list.
    const workloads = rules.filter(({ apiGroups }) => apiGroups.includes("apps"));
    expect(workloads).toEqual([{ apiGroups: ["apps"], resources: ["deployments", "daemonsets"], verbs: ["list"] }]);
    const secrets = rules.filter(({ resources }) => resources.includes("secrets"));
    expect(secrets.map(({ verbs, resourceNames }) => [verbs, resourceNames])).toEqual([
      [["create"], undefined],
      [["get", "patch"], ["millrace-announcer"]],
    ]);
  });

  it("selects agents by what kube-proxy's scrapers do not ask for, and lets those find them", () => {
    const selector = { "app.kubernetes.io/name": "millrace", "app.kubernetes.io/component": "agent" };
    expect(daemonSet["spec"].selector.matchLabels).toEqual(selector);
    expect(daemonSet["spec"].template.metadata.labels).toMatchObject({ ...selector, "k8s-app": "kube-proxy" });
  });

  it("leaves nodes to kube-proxy that are labelled so, and no others", () => {
    const [terms, ...more] = pod.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms;
    expect(more).toEqual([]);
    expect(terms.matchExpressions).toContainEqual({
      key: "millrace.io/service-proxy",
      operator: "NotIn",
      values: ["kube-proxy"],
    });
    expect(pod.tolerations).toEqual([{ operator: "Exists" }]);
  });

  it("gives the agent four capabilities and no privilege", () => {
    expect(agent.securityContext).toMatchObject({
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      seccompProfile: { type: "RuntimeDefault" },
      capabilities: { drop: ["ALL"], add: ["BPF", "NET_ADMIN", "NET_RAW", "PERFMON"] },
    });
    expect([pod.hostPID, pod.hostIPC, pod.hostNetwork]).toEqual([undefined, undefined, true]);
  });

  it("shares mounts with the node in the init container alone", () => {
    const [prepare] = pod.initContainers;
    expect([prepare.securityContext.privileged, prepare.args[0]]).toEqual([true, "prepare"]);
    const both = [prepare, agent].flatMap(({ name, volumeMounts }) =>
      volumeMounts
        .filter(({ mountPropagation }: { mountPropagation?: string }) => mountPropagation === "Bidirectional")
        .map(({ mountPath }: { mountPath: string }) => `${name} ${mountPath}`),
    );
    expect(both).toEqual(["prepare /sys/fs/bpf"]);
  });

  it("mounts every volume, and has a volume for every mount", () => {
    const mounted = [...pod.initContainers, ...pod.containers].flatMap(({ volumeMounts }) =>
      volumeMounts.map(({ name }: { name: string }) => name),
    );
    const volumes = pod.volumes.map(({ name }: { name: string }) => name);
    expect([...new Set(mounted)].sort()).toEqual([...volumes].sort());
  });

  it("gives the agent settings that it takes", () => {
    const { data } = objectOf(objects, "ConfigMap", "millrace");
    expect(parseConfig(data["config.yaml"], "config.yaml").values).toEqual({
      "announcer-secret": "/etc/millrace/announcer",
    });
    const variables = agent.env.map(({ name }: { name: string }) => name);
    const known = SETTINGS.map(({ name }) => `MILLRACE_${name.toUpperCase().replaceAll("-", "_")}`);
    expect(variables.filter((name: string) => !known.includes(name))).toEqual([]);
  });
});
