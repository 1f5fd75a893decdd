// Each wrong object has an error that names file, object and field, and the rest of the cluster goes on.
import { expect, test } from "vitest";
import { parseManifest } from "../../src/standalone/manifest-parser.ts";
import { type Any, cluster, document, documents, endpoints, find, node, pod, pool, service, slice } from "./build.ts";

const long = "a".repeat(300);

const CASES: { name: string; object: Any; field: string; reason?: string; title?: string }[] = [
  { name: "a document that is a list", object: [1, 2], field: "", reason: "wrong-type" },
  { name: "a document that is a number", object: 7, field: "", reason: "wrong-type" },
  { name: "no apiVersion", object: { kind: "Service", metadata: { name: "x" } }, field: "apiVersion" },
  { name: "no kind", object: { apiVersion: "v1", metadata: { name: "x" } }, field: "kind" },
  {
    name: "a kind of another type",
    object: { apiVersion: "v1", kind: {}, metadata: { name: "x" } },
    field: "kind",
    reason: "wrong-type",
  },
  {
    name: "an unknown kind",
    object: { apiVersion: "example.com/v1", kind: "Gadget", metadata: { name: "x" } },
    field: "kind",
    reason: "unknown-kind",
    title: "Gadget default/x",
  },
  {
    name: "a known kind in an unknown version",
    object: { apiVersion: "v9", kind: "Service", metadata: { name: "x" } },
    field: "apiVersion",
    reason: "unknown-kind",
  },
  { name: "no metadata", object: { apiVersion: "v1", kind: "Service" }, field: "metadata" },
  {
    name: "a name that climbs directories",
    object: service("../../x"),
    field: "metadata.name",
    reason: "invalid-name",
    title: "Service default/../../x",
  },
  { name: "a name that is a shell command", object: service("$(id)"), field: "metadata.name", reason: "invalid-name" },
  { name: "a name of 300 characters", object: service(long), field: "metadata.name", reason: "invalid-name" },
  { name: "a Pod's name of 300 characters", object: pod(long), field: "metadata.name", reason: "invalid-name" },
  {
    name: "a name that begins with a digit, for a Service",
    object: service("1x"),
    field: "metadata.name",
    reason: "invalid-name",
  },
  {
    name: "a name with a newline at its end",
    object: service("web\n"),
    field: "metadata.name",
    reason: "invalid-name",
  },
  {
    name: "a name that is a number",
    object: { ...service("x"), metadata: { name: 5 } },
    field: "metadata.name",
    reason: "wrong-type",
  },
  {
    name: "a namespace that climbs directories",
    object: service("x", {}, { namespace: "../x" }),
    field: "metadata.namespace",
    reason: "invalid-name",
  },
  {
    name: "a label that is a number",
    object: service("x", {}, { labels: { a: 1 } }),
    field: "metadata.labels.a",
    reason: "wrong-type",
  },
  { name: "a label key that is none", object: service("x", {}, { labels: { "a b": "c" } }), field: "metadata.labels" },
  {
    name: "a label value that is none",
    object: service("x", {}, { labels: { a: "$(id)" } }),
    field: "metadata.labels.a",
  },
  {
    name: "an annotation that is a list",
    object: service("x", {}, { annotations: { a: [] } }),
    field: "metadata.annotations.a",
    reason: "wrong-type",
  },
  {
    name: "a Service without spec",
    object: { apiVersion: "v1", kind: "Service", metadata: { name: "x" } },
    field: "spec",
  },
  {
    name: "a session affinity that never ends",
    object: service("x", { ports: [{ port: 80 }], sessionAffinityConfig: { clientIP: { timeoutSeconds: 0 } } }),
    field: "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
  },
  { name: "a Service without ports", object: service("x", { ports: [] }), field: "spec.ports" },
  { name: "ports that are a string", object: service("x", { ports: "80" }), field: "spec.ports", reason: "wrong-type" },
  {
    name: "a port that is a string",
    object: service("x", { ports: [{ port: "80" }] }),
    field: "spec.ports[0].port",
    reason: "wrong-type",
  },
  {
    name: "a port that is no whole number",
    object: service("x", { ports: [{ port: 80.5 }] }),
    field: "spec.ports[0].port",
    reason: "wrong-type",
  },
  { name: "port 0", object: service("x", { ports: [{ port: 0 }] }), field: "spec.ports[0].port" },
  { name: "port 65536", object: service("x", { ports: [{ port: 65536 }] }), field: "spec.ports[0].port" },
  {
    name: "a target port out of range",
    object: service("x", { ports: [{ port: 1, targetPort: 70000 }] }),
    field: "spec.ports[0].targetPort",
  },
  {
    name: "a target port that is a list",
    object: service("x", { ports: [{ port: 1, targetPort: [] }] }),
    field: "spec.ports[0].targetPort",
    reason: "wrong-type",
  },
  {
    name: "a target port's name that is too long",
    object: service("x", { ports: [{ port: 1, targetPort: "sixteencharacter" }] }),
    field: "spec.ports[0].targetPort",
  },
  {
    name: "the same port twice",
    object: service("x", {
      ports: [
        { name: "a", port: 80 },
        { name: "b", port: 80 },
      ],
    }),
    field: "spec.ports[1]",
  },
  {
    name: "the same port name twice",
    object: service("x", {
      ports: [
        { name: "a", port: 80 },
        { name: "a", port: 81 },
      ],
    }),
    field: "spec.ports[1].name",
  },
  {
    name: "two ports without names",
    object: service("x", { ports: [{ port: 80 }, { port: 81 }] }),
    field: "spec.ports[0].name",
  },
  {
    name: "a protocol that is none",
    object: service("x", { ports: [{ port: 80, protocol: "tcp" }] }),
    field: "spec.ports[0].protocol",
  },
  { name: "a type that is none", object: service("x", { type: "Nodeport" }), field: "spec.type" },
  {
    name: "a node port on a ClusterIP Service",
    object: service("x", { ports: [{ port: 80, nodePort: 30001 }] }),
    field: "spec.ports[0].nodePort",
  },
  {
    name: "a cluster address that is none",
    object: service("x", { clusterIP: "10.96.0.300" }),
    field: "spec.clusterIP",
  },
  {
    name: "a cluster address with leading zeros",
    object: service("x", { clusterIP: "10.096.0.3" }),
    field: "spec.clusterIP",
  },
  {
    name: "None on a NodePort Service",
    object: service("x", { type: "NodePort", clusterIP: "None" }),
    field: "spec.clusterIPs[0]",
  },
  { name: "ExternalName without name", object: service("x", { type: "ExternalName" }), field: "spec.externalName" },
  {
    name: "ExternalName with a name that is none",
    object: service("x", { type: "ExternalName", externalName: "a b" }),
    field: "spec.externalName",
  },
  {
    name: "a policy that is none",
    object: service("x", { internalTrafficPolicy: "Node" }),
    field: "spec.internalTrafficPolicy",
  },
  {
    name: "an external policy on a ClusterIP Service",
    object: service("x", { externalTrafficPolicy: "Local" }),
    field: "spec.externalTrafficPolicy",
  },
  {
    name: "a selector that is a list",
    object: service("x", { selector: [] }),
    field: "spec.selector",
    reason: "wrong-type",
  },
  {
    name: "a family that is not configured",
    object: service("x", { ipFamilies: ["IPv6"] }),
    field: "spec.ipFamilies[0]",
  },
  {
    name: "two families in a cluster of one",
    object: service("x", { ipFamilyPolicy: "RequireDualStack" }),
    field: "spec.ipFamilyPolicy",
  },
  {
    name: "an Endpoints address that is none",
    object: endpoints("x", [{ addresses: [{ ip: "pod" }], ports: [{ port: 80 }] }]),
    field: "subsets[0].addresses[0].ip",
  },
  {
    name: "an Endpoints address that is a number",
    object: endpoints("x", [{ addresses: [{ ip: 1 }], ports: [{ port: 80 }] }]),
    field: "subsets[0].addresses[0].ip",
    reason: "wrong-type",
  },
  {
    name: "an Endpoints port out of range",
    object: endpoints("x", [{ addresses: [{ ip: "10.1.1.1" }], ports: [{ port: -1 }] }]),
    field: "subsets[0].ports[0].port",
  },
  { name: "subsets that are an object", object: endpoints("x", {}), field: "subsets", reason: "wrong-type" },
  { name: "a slice without address type", object: slice("x", "web", { addressType: undefined }), field: "addressType" },
  {
    name: "a slice of the other family",
    object: slice("x", "web", { endpoints: [{ addresses: ["fd00::1"] }] }),
    field: "endpoints[0].addresses[0]",
  },
  {
    name: "a slice whose ready is a word",
    object: slice("x", "web", { endpoints: [{ addresses: ["10.1.1.1"], conditions: { ready: "yes" } }] }),
    field: "endpoints[0].conditions.ready",
    reason: "wrong-type",
  },
  { name: "a Pod without containers", object: { ...pod("x"), spec: {} }, field: "spec.containers" },
  {
    name: "a host port out of range",
    object: pod("x", { ports: [{ containerPort: 80, hostPort: 70000 }] }),
    field: "spec.containers[0].ports[0].hostPort",
  },
  {
    name: "the same host port twice",
    object: pod("x", {
      ports: [
        { containerPort: 80, hostPort: 80 },
        { containerPort: 81, hostPort: 80 },
      ],
    }),
    field: "spec.containers[0].ports[1].hostPort",
  },
  { name: "a Pod's address that is none", object: pod("x", { ip: "10.244.1" }), field: "status.podIPs[0].ip" },
  { name: "a Pod on a node whose name is none", object: pod("x", { node: "$(id)" }), field: "spec.nodeName" },
  {
    name: "a Node's address that is none",
    object: node("x", { status: { addresses: [{ type: "InternalIP", address: "x" }] } }),
    field: "status.addresses[0].address",
  },
  {
    name: "a Node in a namespace",
    object: { ...node("x"), metadata: { name: "x", namespace: "default" } },
    field: "metadata.namespace",
  },
  {
    name: "a Node's pod range that is none",
    object: node("x", { spec: { podCIDR: "10.244.1.0" } }),
    field: "spec.podCIDR",
  },
  { name: "a pool without addresses", object: pool("x", []), field: "spec.addresses" },
  {
    name: "a pool's range that runs backwards",
    object: pool("x", ["192.0.2.9-192.0.2.1"]),
    field: "spec.addresses[0]",
  },
  { name: "a pool's range that is a single address", object: pool("x", ["192.0.2.9"]), field: "spec.addresses[0]" },
  {
    name: "a selector with an operator that is none",
    object: pool("x", ["192.0.2.0/24"], {
      serviceAllocation: { serviceSelectors: [{ matchExpressions: [{ key: "a", operator: "Is" }] }] },
    }),
    field: "spec.serviceAllocation.serviceSelectors[0].matchExpressions[0].operator",
  },
  {
    name: "In without values",
    object: pool("x", ["192.0.2.0/24"], {
      serviceAllocation: { serviceSelectors: [{ matchExpressions: [{ key: "a", operator: "In" }] }] },
    }),
    field: "spec.serviceAllocation.serviceSelectors[0].matchExpressions[0].values",
  },
];

test.each(CASES)("$name is refused by field, and everything else works", async ({ object, field, reason, title }) => {
  const result = await (await cluster()).reconcile([
    document(object, "bad.yaml"),
    document(service("good"), "good.yaml"),
  ]);
  const errors = result.notices.filter((one) => one.severity === "error");
  expect(errors[0]).toMatchObject({ file: "bad.yaml", field, reason: reason ?? "invalid" });
  expect(errors[0]?.object).toMatch(
    title === undefined ? /./ : new RegExp(`^${title.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")}$`),
  );
  if (field !== "") expect(errors[0]?.message).toContain(field);
  expect(errors[0]?.message.length).toBeLessThan(700);
  expect(errors[0]?.object.length).toBeLessThan(150);
  expect(find(result.objects, "Service", "good").spec.clusterIP).toMatch(/^10\./);
  expect(result.objects.filter((one) => one.metadata.name === "x" || one.metadata.name === long)).toEqual([]);
});

test("labels named like properties of every object are labels like others", async () => {
  const result = await (await cluster()).reconcile(
    documents(
      service("web", { selector: { constructor: "a" } }),
      pod("p", { labels: {} }),
      pod("q", { labels: { constructor: "a" }, ip: "10.244.1.3" }),
    ),
  );
  expect(result.notices.filter((one) => one.severity === "error")).toEqual([]);
  const addresses = result.objects
    .filter((one) => one.kind === "EndpointSlice")
    .flatMap((one: Any) => one.endpoints.flatMap((e: Any) => e.addresses));
  expect(addresses).toEqual(["10.244.1.3"]);
});

test("a document that went wrong keeps its last good version, also when its name can no longer be read", async () => {
  const one = await cluster();
  const first = await one.reconcile([
    document(service("web", { clusterIP: "10.96.7.7" })),
    document(service("other"), "b.yaml"),
  ]);
  expect(find(first.objects, "Service", "web").spec.clusterIP).toBe("10.96.7.7");
  for (const broken of [
    service("web", { ports: [{ port: "x" }] }),
    service("../../x"),
    { apiVersion: "v1", kind: "Servce", metadata: { name: "web" } },
    5,
  ]) {
    const result = await one.reconcile([document(broken), document(service("other"), "b.yaml")]);
    expect(find(result.objects, "Service", "web").spec.clusterIP).toBe("10.96.7.7");
    expect(
      result.notices.some(
        (notice) => notice.severity === "error" && notice.message.includes("last good version stays"),
      ),
    ).toBe(true);
  }
  const gone = await one.reconcile([document(service("other"), "b.yaml")]);
  expect(find(gone.objects, "Service", "web")).toBeUndefined();
});

test("an object defined twice counts once, the first by file name, and the other is reported", async () => {
  const result = await (await cluster()).reconcile([
    document(service("web", { clusterIP: "10.96.1.1" }), "a.yaml"),
    document(service("web", { clusterIP: "10.96.2.2" }), "b.yaml"),
  ]);
  expect(find(result.objects, "Service", "web").spec.clusterIP).toBe("10.96.1.1");
  expect(result.notices).toMatchObject([
    { object: "Service default/web", file: "b.yaml", reason: "duplicate-object", severity: "error" },
  ]);
});

test("kinds without use are skipped with one notice each, workloads accepted with one", async () => {
  const of = (apiVersion: string, kind: string, metadata: Any): Any => ({ apiVersion, kind, metadata });
  const result = await (await cluster()).reconcile(
    documents(
      of("v1", "Namespace", { name: "metallb-system" }),
      of("apiextensions.k8s.io/v1", "CustomResourceDefinition", { name: "ipaddresspools.metallb.io" }),
      of("rbac.authorization.k8s.io/v1", "ClusterRole", { name: "metallb-system:controller" }),
      of("rbac.authorization.k8s.io/v1", "RoleBinding", { name: "pod-lister", namespace: "metallb-system" }),
      of("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", {
        name: "metallb-webhook-configuration",
      }),
      of("v1", "ConfigMap", { name: "c" }),
      of("v1", "Secret", { name: "s" }),
      of("v1", "ServiceAccount", { name: "sa" }),
      of("apps/v1", "Deployment", { name: "controller", namespace: "metallb-system" }),
      of("apps/v1", "DaemonSet", { name: "speaker", namespace: "metallb-system" }),
      of("apps/v1", "Deployment", { name: "web" }),
      of("extensions/v1beta1", "Job", { name: "old" }),
      of("v1", "ReplicationController", { name: "rc" }),
    ),
  );
  expect(result.notices.every((one) => one.severity === "info")).toBe(true);
  expect(result.notices.map((one) => `${one.reason} ${one.object}`)).toEqual([
    "unused-kind Namespace metallb-system",
    "unused-kind CustomResourceDefinition ipaddresspools.metallb.io",
    "unused-kind ClusterRole metallb-system:controller",
    "unused-kind RoleBinding metallb-system/pod-lister",
    "unused-kind ValidatingWebhookConfiguration metallb-webhook-configuration",
    "unused-kind ConfigMap default/c",
    "unused-kind Secret default/s",
    "unused-kind ServiceAccount default/sa",
    "unused-kind Deployment metallb-system/controller",
    "unused-kind DaemonSet metallb-system/speaker",
    "workload-not-run Deployment default/web",
    "workload-not-run Job default/old",
    "workload-not-run ReplicationController default/rc",
  ]);
});

test("a file of very many wrong objects does not make very many notices", async () => {
  const many = Array.from({ length: 1000 }, (_, i) =>
    document({ apiVersion: "v1", kind: "Gadget", metadata: { name: `g${i}` } }, "many.yaml", i),
  );
  const { notices } = await (await cluster()).reconcile(many);
  expect(notices).toHaveLength(100);
  expect(notices.at(-1)).toMatchObject({ reason: "more-notices", file: "many.yaml" });
});

const TEXTS: { name: string; text: string; json?: true; problem?: RegExp; objects?: unknown[] }[] = [
  {
    name: "several documents, with empty ones between",
    text: "a: 1\n---\n---\n# nothing\n---\nb: 2\n",
    objects: [{ a: 1 }, { b: 2 }],
  },
  {
    name: "a List",
    text: "kind: List\napiVersion: v1\nitems: [{kind: A}, {kind: List, items: [{kind: B}]}]",
    objects: [{ kind: "A" }, { kind: "B" }],
  },
  {
    name: "a ServiceList whose items do not repeat their kind",
    text: "kind: ServiceList\napiVersion: v1\nitems: [{metadata: {name: x}}]",
    objects: [{ apiVersion: "v1", kind: "Service", metadata: { name: "x" } }],
  },
  { name: "JSON", text: '{"kind":"A"}', json: true, objects: [{ kind: "A" }] },
  { name: "an empty file", text: "", objects: [] },
  {
    name: "Kubernetes' booleans, and times as text",
    text: "a: yes\nb: 2024-01-01T00:00:00Z\nc: 10:30\nd: 0o17",
    objects: [{ a: true, b: "2024-01-01T00:00:00Z", c: "10:30", d: "0o17" }],
  },
  {
    name: "merge keys and a few aliases",
    text: "p: &p {a: 1}\nq: {<<: *p, b: 2}",
    objects: [{ p: { a: 1 }, q: { a: 1, b: 2 } }],
  },
  { name: "a tab where none may be", text: "a:\n\t- b", problem: /./ },
  { name: "a bracket that is never closed", text: "a: [1, 2", problem: /./ },
  { name: "the same key twice", text: "a: 1\na: 2", problem: /unique/ },
  { name: "an alias that nobody defined", text: "a: *b", problem: /./ },
  { name: "half a JSON file", text: '{"kind":"Service","metad', json: true, problem: /^Unterminated string$/ },
  {
    name: "an alias bomb",
    text: `a: &a [x,x,x,x,x,x,x,x,x]\n${"bcdefghi"
      .split("")
      .map((c, i) => `${c}: &${c} [${`*${"abcdefgh"[i]},`.repeat(9)}]`)
      .join("\n")}`,
    problem: /alias/i,
  },
  { name: "an anchor inside itself", text: "a: &a\n  b: *a", problem: /./ },
  { name: "very deep nesting", text: "[".repeat(5000), problem: /./ },
  { name: "deep nesting that is closed", text: `${"[".repeat(100)}${"]".repeat(100)}`, json: true, problem: /deep/ },
  { name: "a number that JSON has not", text: "a: .inf", problem: /number/ },
];

test.each(TEXTS)("$name is read as it should be", ({ text, json, problem, objects }) => {
  const result = parseManifest(text, json === true);
  if (problem === undefined) expect(result).toMatchObject({ objects });
  else expect("problem" in result ? result.problem : result).toMatch(problem);
});
