// The self-test: a Service with a server on each node, asked by its address, its name and its node ports, from pods and from nodes. It has a
// namespace of its own, which goes when it is over.
import { randomUUID } from "node:crypto";
import { type ClusterObject, RequestRefused } from "../kube/cluster-objects.ts";
import { count, field, items, type Loose, text, texts } from "../kube/fields.ts";
import { Failure } from "../lib/errors.ts";
import { counted, named, WAY_BACK } from "./install-plan.ts";
import { pullSecretsField } from "./manifest.ts";
import { INSTALLER_LABEL, NAMESPACE, NODE_LABEL, TEST_NAMESPACE } from "./names.ts";
import { podName } from "./node-pods.ts";
import { podState } from "./pod-state.ts";
import type { Target, TestResult } from "./test-traffic.ts";
import { NotReached, persist, until, type Work } from "./work.ts";

const SERVER_PORT = 8080;
const ASK_WAIT_S = 30;
/** Of how many nodes the node ports are asked, by each client. */
const MOST_NODE_PORTS = 10;

export interface SelfTest {
  readonly image: string;
  /** Ready ones, with an agent. `addresses`: on which their node ports answer. */
  readonly nodes: readonly { readonly name: string; readonly addresses: readonly string[] }[];
  /** There is a Service kube-system/kube-dns. */
  readonly hasDns: boolean;
  /** Names of Secrets of kube-system: they are copied into the namespace. */
  readonly pullSecrets: readonly string[];
}

/** On the namespace: which run made it. */
const RUN_ANNOTATION = "millrace.io/self-test-run";
const LABELS = { "app.kubernetes.io/name": "millrace-test" };

function testContainer(image: string, args: readonly string[], more: Loose = {}): Loose {
  return {
    name: "test",
    image,
    imagePullPolicy: "IfNotPresent",
    args: ["node-check", ...args],
    terminationMessagePolicy: "FallbackToLogsOnError",
    securityContext: {
      allowPrivilegeEscalation: false,
      runAsNonRoot: true,
      runAsUser: 65532,
      capabilities: { drop: ["ALL"] },
      seccompProfile: { type: "RuntimeDefault" },
    },
    ...more,
  };
}

function namespaceObject(run: string): ClusterObject {
  return {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: {
      name: TEST_NAMESPACE,
      // Some clients are on the network of their node.
      labels: {
        ...LABELS,
        [INSTALLER_LABEL]: "self-test",
        "pod-security.kubernetes.io/enforce": "privileged",
      },
      annotations: { [RUN_ANNOTATION]: run },
    },
  };
}

/** What the servers are, and the Service in front of them. */
export function serverObjects({ image, pullSecrets }: SelfTest): ClusterObject[] {
  const metadata = { name: "server", namespace: TEST_NAMESPACE };
  const env = [{ name: "NODE", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } }];
  const servers = {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { ...metadata, labels: LABELS },
    spec: {
      selector: { matchLabels: LABELS },
      template: {
        metadata: { labels: LABELS },
        spec: {
          affinity: {
            nodeAffinity: {
              requiredDuringSchedulingIgnoredDuringExecution: {
                nodeSelectorTerms: [
                  {
                    matchExpressions: [
                      { key: "kubernetes.io/os", operator: "In", values: ["linux"] },
                      { key: NODE_LABEL, operator: "NotIn", values: ["kube-proxy"] },
                    ],
                  },
                ],
              },
            },
          },
          tolerations: [{ operator: "Exists" }],
          automountServiceAccountToken: false,
          terminationGracePeriodSeconds: 1,
          ...pullSecretsField(pullSecrets),
          containers: [
            testContainer(image, ["serve", "--port", String(SERVER_PORT)], {
              env,
              readinessProbe: { httpGet: { path: "/", port: SERVER_PORT }, periodSeconds: 1 },
            }),
          ],
        },
      },
    },
  };
  const service = {
    apiVersion: "v1",
    kind: "Service",
    metadata,
    spec: {
      type: "NodePort",
      selector: LABELS,
      ipFamilyPolicy: "PreferDualStack",
      ports: (["TCP", "UDP"] as const).map((protocol) => ({
        name: protocol.toLowerCase(),
        protocol,
        port: 80,
        targetPort: SERVER_PORT,
      })),
    },
  };
  return [servers, service];
}

/** What each client asks of the Service as the API server completed it. */
export function targetsOf(service: ClusterObject, { nodes, hasDns }: SelfTest): Target[] {
  const clusterIPs = items(service, "spec", "clusterIPs").map(String);
  const isIPv6 = (address: string): boolean => address.includes(":");
  const families = new Set(clusterIPs.map(isIPv6));
  const ports = items(service, "spec", "ports");
  return (["tcp", "udp"] as const).flatMap((protocol) => {
    const nodePort = count(
      ports.find((one) => text(one, "name") === protocol),
      "nodePort",
    );
    const of = (name: string, host: string, port: number): Target => ({
      name: `${name} (${protocol})`,
      protocol,
      host,
      port,
    });
    const onNodes = nodes
      .slice(0, MOST_NODE_PORTS)
      .flatMap(({ name, addresses }) =>
        addresses
          .filter((address) => families.has(isIPv6(address)))
          .map((address) => of(`node port ${nodePort} of ${name}, ${address}`, address, nodePort)),
      );
    return [
      ...clusterIPs.map((address) => of(`ClusterIP ${address}`, address, 80)),
      ...(hasDns ? [of("its name", `server.${TEST_NAMESPACE}.svc`, 80)] : []),
      ...onNodes,
    ];
  });
}

/** A client on `node`, in a pod network or on the node's. */
export function clientPod(
  { image, pullSecrets }: SelfTest,
  node: string,
  where: "pod" | "node",
  targets: readonly Target[],
): ClusterObject {
  const isOnNode = where === "node";
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: podName(`from-${where}`, node), namespace: TEST_NAMESPACE },
    spec: {
      nodeName: node,
      hostNetwork: isOnNode,
      dnsPolicy: isOnNode ? "ClusterFirstWithHostNet" : "ClusterFirst",
      restartPolicy: "Never",
      tolerations: [{ operator: "Exists" }],
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 1,
      ...pullSecretsField(pullSecrets),
      containers: [
        testContainer(image, ["ask", "--wait", `${ASK_WAIT_S}s`], {
          env: [{ name: "TARGETS", value: JSON.stringify(targets) }],
        }),
      ],
    },
  };
}

/** @throws Failure "cluster" that names what did not answer, and from where */
export async function runSelfTest(work: Work, test: SelfTest): Promise<void> {
  const { progress } = work;
  const run = randomUUID();
  try {
    await removeLeftover(work);
    await makeNamespace(work, run);
    for (const name of test.pullSecrets) await copySecret(work, name);
    const service = await makeServers(work, test);
    const targets = targetsOf(service, test);
    const clients = test.nodes.flatMap(({ name }) => (["pod", "node"] as const).map((where) => ({ name, where })));
    // All are seen to their end: none may ask on when its namespace goes.
    const settled = await Promise.allSettled(
      clients.map(async ({ name, where }) => {
        const result = await runClient(work, clientPod(test, name, where, targets));
        return { from: where === "pod" ? `a pod on ${name}` : `node ${name}`, result };
      }),
    );
    const results = settled.map((one) => {
      if (one.status === "rejected") throw one.reason;
      return one.value;
    });
    const bad = results.flatMap(({ from, result }) =>
      result.bad.map(({ name, why }) => `  from ${from}: ${name}: ${why}`),
    );
    if (bad.length > 0) throw testFailure(bad);
    const asked = results.reduce((sum, { result }) => sum + result.good, 0);
    progress.line(
      `self-test: ${asked} of ${asked} ways to a Service answer, from pods and nodes of ${counted(test.nodes.length, "node")}${test.hasDns ? "" : "; names were not asked: there is no Service kube-system/kube-dns"}`,
    );
  } catch (error) {
    if (error instanceof NotReached) throw testFailure([`  ${error.message}`]);
    throw error;
  } finally {
    await removeOwn(work, run).catch(() => false);
  }
}

const MOST_LINES = 12;
const MISSES = 5;

function testFailure(bad: readonly string[]): Failure {
  const more = bad.length > MOST_LINES ? [`  and ${bad.length - MOST_LINES} more`] : [];
  const lines = [
    "Millrace is in place, but its self-test failed:",
    ...bad.slice(0, MOST_LINES),
    ...more,
    `millrace doctor on a node that is named tells more (kubectl -n kube-system exec POD -c agent -- millrace doctor). ${WAY_BACK}`,
  ];
  return new Failure("cluster", "self-test", lines.join("\n"));
}

async function createOnce({ api }: Work, object: ClusterObject): Promise<ClusterObject> {
  try {
    return await api.create(object);
  } catch (error) {
    if (!(error instanceof RequestRefused) || error.status !== 409) throw error;
    const { kind, metadata } = object;
    const found = await api.get(kind as "Pod", metadata);
    if (found === undefined) throw error;
    return found;
  }
}

function refused(why: string): Failure {
  const message = `Millrace is in place, but its self-test was not run: ${why}, or say --no-test. ${WAY_BACK}`;
  return new Failure("cluster", `Namespace ${TEST_NAMESPACE}`, message);
}

async function makeNamespace(work: Work, run: string): Promise<void> {
  const made = await persist(work, "self-test", () => createOnce(work, namespaceObject(run)));
  if (isOfRun(made, run)) return;
  throw refused(`another run has just made namespace ${TEST_NAMESPACE}; run this again when that is over`);
}

function isOfRun(namespace: ClusterObject, run: string): boolean {
  return texts(namespace, "metadata", "annotations")[RUN_ANNOTATION] === run;
}

/** Nothing that another made. */
async function removeOwn({ api }: Work, run: string): Promise<void> {
  const found = await api.get("Namespace", { name: TEST_NAMESPACE });
  if (found !== undefined && isOfRun(found, run)) await api.remove("Namespace", { name: TEST_NAMESPACE });
}

/** Of an earlier run. @throws Failure "cluster" when somebody else's namespace has the name */
async function removeLeftover(work: Work): Promise<void> {
  const which = { name: TEST_NAMESPACE };
  const found = await persist(work, "self-test", () => work.api.get("Namespace", which));
  if (found === undefined) return;
  if (texts(found, "metadata", "labels")[INSTALLER_LABEL] !== "self-test")
    throw refused(
      `namespace ${TEST_NAMESPACE} is not of a self-test, as it has no label ${INSTALLER_LABEL}=self-test; rename or delete it`,
    );
  await persist(work, "self-test", () => work.api.remove("Namespace", which));
  await until(work, "self-test", async () =>
    (await work.api.get("Namespace", which)) === undefined ? { done: undefined } : { waiting: "an earlier one goes" },
  );
}

/** Pods can name Secrets of their own namespace only. Without it their image may be on the nodes already. */
async function copySecret(work: Work, name: string): Promise<void> {
  const { api } = work;
  try {
    const found = await persist(work, "self-test", () => api.get("Secret", { namespace: NAMESPACE, name }));
    if (found === undefined) return;
    const { apiVersion, kind, type, data } = found;
    const copy = { apiVersion, kind, metadata: { name, namespace: TEST_NAMESPACE }, type, data };
    await persist(work, "self-test", () => createOnce(work, copy));
  } catch (error) {
    if (!(error instanceof RequestRefused) || error.status !== 403) throw error;
  }
}

/** The Service, once its servers are ready on all nodes. */
async function makeServers(work: Work, test: SelfTest): Promise<ClusterObject> {
  const made: ClusterObject[] = [];
  for (const object of serverObjects(test)) made.push(await persist(work, "self-test", () => createOnce(work, object)));
  await until(work, "self-test", async () => {
    const pods = await work.api.list("Pod", {
      namespace: TEST_NAMESPACE,
      labelSelector: "app.kubernetes.io/name=millrace-test",
    });
    const states = new Map(pods.map((pod) => [text(pod, "spec", "nodeName"), podState(pod)]));
    const missing = test.nodes.filter(({ name }) => states.get(name)?.state !== "ready").map(({ name }) => name);
    if (missing.length === 0) return { done: undefined };
    const first = states.get(missing[0]!);
    const why = first === undefined ? "no pod yet" : first.why;
    if (first?.state === "failed") return { failed: `the server on ${missing[0]}: ${why}` };
    return { waiting: `servers on ${named(missing)}: ${why}` };
  });
  return made[1]!;
}

async function runClient(work: Work, pod: ClusterObject): Promise<TestResult> {
  const { name } = pod.metadata;
  const which = { namespace: TEST_NAMESPACE, name };
  await persist(work, "self-test", () => createOnce(work, pod));
  let missed = 0;
  return until(work, "self-test", async () => {
    const found = await work.api.get("Pod", which);
    if (found === undefined) {
      // One of several API servers may not know it yet.
      const isGone = ++missed === MISSES;
      return isGone ? { failed: `pod ${name} is gone: does another installation run?` } : { waiting: `${name} comes` };
    }
    const { state, why } = podState(found);
    if (state === "failed") return { failed: `pod ${name}: ${why}` };
    if (state !== "ended") return { waiting: `${name}: ${why || "asks"}` };
    return { done: parseResult(found) };
  });
}

/** Of the message that the client left. */
function parseResult(pod: ClusterObject): TestResult {
  const [status] = items(pod, "status", "containerStatuses");
  const message = text(status, "state", "terminated", "message");
  try {
    const found = JSON.parse(message) as unknown;
    const good = count(found, "good");
    const bad = items(found, "bad").map((one) => ({ name: text(one, "name"), why: text(one, "why") }));
    if (field(found, "good") !== undefined) return { good, bad };
  } catch {
    // It is told below.
  }
  return { good: 0, bad: [{ name: pod.metadata.name, why: `its answer makes no sense: "${message.slice(0, 200)}"` }] };
}
