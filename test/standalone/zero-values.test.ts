// Manifests as typed clients print them: a zero or an empty string stands for the field's default, as an API server has it.
import { expect, test } from "vitest";
import { withoutZeros } from "../../src/wire/zero-values.ts";
import { cluster, documents, endpoints, find, pod, service, slicesOf } from "./build.ts";

const errorsOf = (notices: readonly { readonly severity: string; readonly message: string }[]): string[] =>
  notices.filter(({ severity }) => severity === "error").map(({ message }) => message);

test.each([
  ["targetPort 0", { ports: [{ port: 80, targetPort: 0 }] }],
  ['targetPort ""', { ports: [{ port: 80, targetPort: "" }] }],
  ['protocol ""', { ports: [{ name: "", port: 80, protocol: "", nodePort: 0 }] }],
  ["no types and policies", { type: "", sessionAffinity: "", externalTrafficPolicy: "", ipFamilyPolicy: "" }],
  ["nothing else", { internalTrafficPolicy: "", externalName: "", loadBalancerIP: "", healthCheckNodePort: 0 }],
])("a Service with %s is what it is without", async (_, spec) => {
  const { objects, notices } = await (await cluster()).reconcile(
    documents(service("plain", { clusterIP: "10.96.5.1" }), service("zeros", { clusterIP: "10.96.5.2", ...spec })),
  );
  expect(errorsOf(notices)).toEqual([]);
  const plain = find(objects, "Service", "plain").spec;
  const zeros = find(objects, "Service", "zeros").spec;
  for (const field of ["type", "sessionAffinity", "internalTrafficPolicy", "externalTrafficPolicy"]) {
    expect(zeros[field]).toEqual(plain[field]);
  }
  expect(zeros.ports).toMatchObject([{ port: 80, targetPort: 80, protocol: "TCP" }]);
});

test("a node port of policy zero is of policy Cluster", async () => {
  const spec = { type: "NodePort", externalTrafficPolicy: "", ports: [{ port: 80, nodePort: 30080, protocol: "" }] };
  const { objects, notices } = await (await cluster()).reconcile(documents(service("policy", spec)));
  expect(errorsOf(notices)).toEqual([]);
  expect(find(objects, "Service", "policy").spec).toMatchObject({ externalTrafficPolicy: "Cluster" });
});

test("a Pod's and Endpoints' ports of protocol zero are TCP ports", async () => {
  const port = { name: "web", hostPort: 0, hostIP: "", containerPort: 8080, protocol: "" };
  const { objects, notices } = await (await cluster()).reconcile(
    documents(
      pod("odd", { labels: { app: "odd" }, ports: [port] }),
      service("odd", { ports: [{ port: 80, targetPort: "web" }] }),
      service("written", { selector: undefined, ports: [{ port: 80 }] }),
      endpoints("written", [
        { addresses: [{ ip: "192.168.122.11", hostname: "" }], ports: [{ name: "", port: 9080, protocol: "" }] },
      ]),
    ),
  );
  expect(errorsOf(notices)).toEqual([]);
  const portsOf = (name: string): unknown => slicesOf(objects, name).flatMap((one) => one.ports);
  expect(portsOf("odd")).toMatchObject([{ port: 8080, protocol: "TCP" }]);
  expect(portsOf("written")).toMatchObject([{ port: 9080, protocol: "TCP" }]);
});

test("a port zero is refused all the same", async () => {
  const { notices } = await (await cluster()).reconcile(documents(service("z", { ports: [{ port: 0 }] })));
  expect(errorsOf(notices)).toEqual([expect.stringContaining("spec.ports[0].port: Invalid value: 0")]);
});

test("a workload's template is read the same way", () => {
  const template = (port: object) => ({ spec: { template: { spec: { containers: [{ name: "c", ports: [port] }] } } } });
  expect(withoutZeros({ kind: "Deployment", ...template({ containerPort: 80, protocol: "" }) } as never)).toEqual({
    kind: "Deployment",
    ...template({ containerPort: 80 }),
  });
});

test("zeros elsewhere, and what is no object, stay as they are", () => {
  for (const object of [
    { kind: "Service", spec: { selector: { type: "" }, ports: [{ port: 0, name: "" }] } },
    { kind: "Service", spec: { ports: ["x", null, 0] } },
    { kind: "Service", spec: null },
    { kind: "ConfigMap", data: { type: "" } },
  ]) {
    expect(withoutZeros(object as never)).toEqual(object);
  }
});
