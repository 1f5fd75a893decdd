// Who the agent is to a real API server and how it finds it: bad tokens, missing rights, rights that go and come back, a
// certificate that ends, no API server at the start, no way to one. The agent of node3 has the trouble; traffic through its
// node has none.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Notice } from "../../src/model/objects.ts";
import { MILLRACE, pause, run } from "../lab/traffic/test-lab.ts";
import { API_URL, KUBERNETES_ADDRESS } from "./addressing.ts";
import { writeKubeconfig } from "./certificates.ts";
import type { Cluster } from "./cluster.ts";
import { agentStatus, clusterIP, inForce, metric, podsReady, servedBy } from "./load/ask-cluster.ts";
import { ClusterLoad } from "./load/cluster-load.ts";
import { expectIntact, expectNewAnswered } from "./load/expect-traffic.ts";
import { loadPod, TRAFFIC_PORTS, trafficService } from "./load/load-pods.ts";
import { type Flow, NumberedTraffic, printTraffic } from "./load/numbered-traffic.ts";
import { issueUntil } from "./load/short-lived-certificate.ts";
import { rbacManifest } from "./proxy.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";
import { manifest } from "./workloads.ts";

const NODE = "node3";
/** In the node's own mounts. */
const FILES = "/var/lib/cluster";
const RESOURCES = [
  "services in the core API group",
  "endpointslices in API group discovery.k8s.io",
  "nodes in the core API group",
  "servicecidrs in API group networking.k8s.io",
  "ipaddresspools in API group metallb.io",
  "l2advertisements in API group metallb.io",
];
/** Whoever may watch the others hears that the server lacks them, whose CRDs are not installed. */
const SERVED = RESOURCES.filter((resource) => !resource.endsWith("metallb.io"));
const RULES = [
  { apiGroups: [""], resources: ["services", "nodes"] },
  { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"] },
  { apiGroups: ["networking.k8s.io"], resources: ["servicecidrs"] },
  { apiGroups: ["metallb.io"], resources: ["ipaddresspools", "l2advertisements"] },
];
/** "verb resource group namespace" of all that the agent's account may do; "*": in every namespace. */
const ALLOWED = [
  ...["services", "nodes"].flatMap((one) => [`list ${one} - *`, `watch ${one} - *`]),
  ...["list", "watch"].map((verb) => `${verb} endpointslices discovery.k8s.io *`),
  ...["list", "watch"].map((verb) => `${verb} servicecidrs networking.k8s.io *`),
  ...["ipaddresspools", "l2advertisements"].flatMap((one) => [`list ${one} metallb.io *`, `watch ${one} metallb.io *`]),
  ...["create", "patch"].map((verb) => `${verb} events - *`),
  ...["list", "create", "delete"].map((verb) => `${verb} servicel2statuses metallb.io kube-system`),
  "patch servicel2statuses/status metallb.io kube-system",
];
/** Everything else that somebody might think of. */
const FORBIDDEN = [
  ...["services", "services/status", "nodes", "nodes/status", "pods", "secrets", "configmaps", "endpoints"].flatMap(
    (one) => ["get", "create", "update", "patch", "delete"].map((verb) => `${verb} ${one} - *`),
  ),
  ...["list", "watch"].flatMap((verb) => ["secrets", "pods", "configmaps"].map((one) => `${verb} ${one} - *`)),
  ...["create", "update", "patch", "delete"].flatMap((verb) => [
    `${verb} endpointslices discovery.k8s.io *`,
    `${verb} ipaddresspools metallb.io *`,
    `${verb} l2advertisements metallb.io *`,
  ]),
  ...["delete", "list", "watch", "get"].map((verb) => `${verb} events - *`),
  ...["list", "create", "delete"].map((verb) => `${verb} servicel2statuses metallb.io default`),
  "update leases coordination.k8s.io kube-system",
  "create clusterrolebindings rbac.authorization.k8s.io *",
];
/** An agent that was refused for long waits up to 30 s before it tries again, as client-go does. */
const RECOVERY = { timeoutMs: 60_000 };
const CERTIFICATE_MS = 20_000;
const DAY_MS = 86_400_000;

const OBJECTS = manifest(
  loadPod({ name: "far", node: "node2" }),
  loadPod({ name: "caller", node: NODE }),
  trafficService({ name: "far", selector: { app: "far" }, firstNodePort: 30200 }),
  { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "nobody", namespace: "default" } },
);

const RBAC_GROUP = "rbac.authorization.k8s.io";

interface Subject {
  readonly kind: "ServiceAccount" | "User";
  readonly name: string;
  readonly namespace?: string;
  readonly apiGroup?: string;
}

function binding(kind: "Role" | "ClusterRole", role: string, subject: Subject): object {
  const metadata = { name: subject.name, ...(kind === "Role" ? { namespace: "kube-system" } : {}) };
  const roleRef = { apiGroup: RBAC_GROUP, kind, name: role };
  return { apiVersion: `${RBAC_GROUP}/v1`, kind: `${kind}Binding`, metadata, roleRef, subjects: [subject] };
}

/** Rights for the account `nobody`: these verbs, and what agents may do with statuses. */
function rights(verbs: readonly string[]): string {
  const subject: Subject = { kind: "ServiceAccount", name: "nobody", namespace: "default" };
  const rules = RULES.map((rule) => ({ ...rule, verbs }));
  return manifest(
    { apiVersion: `${RBAC_GROUP}/v1`, kind: "ClusterRole", metadata: { name: "nobody" }, rules },
    binding("ClusterRole", "nobody", subject),
    binding("Role", "millrace", subject),
  );
}

const USER: Subject = { kind: "User", name: "short-lived", apiGroup: RBAC_GROUP };
const BINDINGS_OF_USER = manifest(binding("ClusterRole", "millrace", USER), binding("Role", "millrace", USER));

describe("an agent, its rights and its way to the API", () => {
  let cluster: Cluster;
  let load: ClusterLoad;
  let traffic: NumberedTraffic;
  let flows: readonly Flow[] = [];
  const marks: string[] = [];

  const mark = (text: string): void => {
    marks.push(text);
    traffic.mark(text);
  };
  const file = (name: string): string => join(cluster.node(NODE).files, "lib/cluster", name);
  const notices = async (node = NODE): Promise<readonly Notice[]> => (await agentStatus(cluster, node)).notices;
  const log = (): string => cluster.agent(NODE).log;

  /** Waits until the agent says that something is wrong; gives back what, and shows that `millrace status` has it too. */
  async function noticed(reason: string, atLeast = 1, node = NODE): Promise<string[]> {
    const messages = await waitUntil(
      `${node} to say ${reason} ${atLeast} times`,
      async () => {
        const found = (await notices(node)).filter((notice) => notice.reason === reason);
        return found.length >= atLeast ? found.map(({ message }) => message) : undefined;
      },
      RECOVERY,
    );
    const { stdout } = await run(MILLRACE, ["status", "--socket", cluster.agentSocket(node)]);
    for (const message of messages) {
      expect(stdout).toContain(message);
      // The log is a second behind at most.
      const logged = JSON.stringify(message).slice(1, -1);
      await waitUntil(`the log to say ${message}`, async () => cluster.agent(node).log.includes(logged) || undefined);
    }
    return messages;
  }

  /** Waits until the agent reads the API and nothing of it is wrong. It was not started anew for that. */
  async function recovered(node = NODE, pid = cluster.agent(node).pid): Promise<void> {
    await waitUntil(
      `the agent of ${node} to recover`,
      async () => {
        const { source, notices: found } = await agentStatus(cluster, node);
        const troubles = found.filter(({ object }) => object === "Kubernetes API");
        if (troubles.length > 0) throw new Error(troubles.map(({ message }) => message).join("; "));
        return source.synced && source.api?.resources.every(({ connected, absent }) => connected || absent)
          ? true
          : undefined;
      },
      RECOVERY,
    );
    await inForce(cluster, node);
    expect(cluster.agent(node).pid).toBe(pid);
  }

  let serial = 0;

  /** A Service made now is followed, by agents that recovered. */
  async function followsChanges(...nodes: readonly string[]): Promise<void> {
    const name = `change-${++serial}`;
    await cluster.apply(manifest(trafficService({ name, selector: { app: "far" } })));
    for (const node of nodes) {
      const followed = async () => ((await servedBy(cluster, node)).join().includes(`/${name} `) ? true : undefined);
      await waitUntil(`${node} to follow`, followed);
    }
  }

  function writeIdentity(identity: object, server = API_URL): void {
    const { authority } = cluster.control;
    const ca = readFileSync(authority.certificate).toString("base64");
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "cluster", cluster: { server, "certificate-authority-data": ca } }],
      users: [{ name: "user", user: identity }],
      contexts: [{ name: "cluster", context: { cluster: "cluster", user: "user" } }],
      "current-context": "cluster",
    };
    writeFileSync(file("millrace.kubeconfig"), JSON.stringify(config));
  }

  /** The identity that the cluster gave its agents. */
  function writeOwnIdentity(server = API_URL): void {
    const own = { tokenFile: `${FILES}/millrace.token` };
    writeKubeconfig(file("millrace.kubeconfig"), cluster.control.authority, own, server);
  }

  async function tokenOf(account: string): Promise<string> {
    const body = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: { expirationSeconds: 3600 } };
    const path = `/api/v1/namespaces/default/serviceaccounts/${account}/token`;
    return (await cluster.api.ask<{ status: { token: string } }>({ method: "POST", path, body })).status.token;
  }

  async function apiServes(): Promise<void> {
    const serves = async () => ((await cluster.api.send({ path: "/readyz" })).status === 200 ? true : undefined);
    await waitUntil("the API server to serve", serves, { from: cluster.apiserver });
  }

  async function restartApi(): Promise<void> {
    await cluster.apiserver.restart();
    await apiServes();
  }

  /** Starts the API server anew without streaming lists, as one before Kubernetes 1.34 may be. */
  async function restartApiWithoutStreaming(): Promise<void> {
    const [program = "", ...args] = readFileSync(`/proc/${cluster.apiserver.pid}/cmdline`, "utf8")
      .split("\0")
      .filter(Boolean);
    await cluster.apiserver.stop();
    const command = [program, ...args, "--feature-gates=WatchList=false"];
    await cluster.control.component("kube-apiserver", { command: () => command }).start();
    await apiServes();
  }

  beforeAll(async () => {
    cluster = await startCluster({ name: "res", replace: true });
    await cluster.apply(OBJECTS);
    await podsReady(cluster, ["far", "caller"]);
    load = new ClusterLoad(cluster);
    traffic = new NumberedTraffic(load);
    await traffic.answerIn("far");
    await inForce(cluster, NODE);
    await followsChanges(NODE);
    // The API server is to be started anew again and again: they would take Nodes for lost whose reports they missed.
    await cluster.control.controllers.stop();
    const far = await clusterIP(cluster, "far");
    const [node3 = ""] = cluster.node(NODE).addresses;
    const outside: Flow[] = [
      { name: "outside-far-tcp", kind: "tcp", host: node3, port: 30201 },
      { name: "outside-far-new-tcp", kind: "new-tcp", host: node3, port: 30202 },
    ];
    const pod: Flow[] = [
      { name: "pod-far-tcp", kind: "tcp", host: far, port: TRAFFIC_PORTS.stream },
      { name: "pod-far-new-tcp", kind: "new-tcp", host: far, port: TRAFFIC_PORTS.short },
    ];
    flows = [...outside, ...pod];
    await traffic.fromMember("client1", outside);
    await traffic.fromPod("caller", pod);
  }, 300_000);

  afterAll(async () => {
    await load?.[Symbol.asyncDispose]();
    await cluster?.down();
  });

  it("the agent's account may read, write events and its statuses, and nothing else", async () => {
    const user = "system:serviceaccount:kube-system:millrace";
    const groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];
    const review = async (line: string): Promise<boolean> => {
      const [verb, what = "", group = "", namespace = ""] = line.split(" ");
      const [resource, subresource] = what.split("/");
      const resourceAttributes = {
        ...{ verb, resource, group: group === "-" ? "" : group },
        ...(subresource === undefined ? {} : { subresource }),
        ...(namespace === "*" ? {} : { namespace }),
      };
      const body = {
        ...{ apiVersion: "authorization.k8s.io/v1", kind: "SubjectAccessReview" },
        spec: { user, groups, resourceAttributes },
      };
      const path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
      return (await cluster.api.ask<{ status: { allowed: boolean } }>({ method: "POST", path, body })).status.allowed;
    };
    const allowed: string[] = [];
    for (const line of [...ALLOWED, ...FORBIDDEN]) if (await review(line)) allowed.push(line);
    expect(allowed).toEqual(ALLOWED);
  });

  it("a Service's status and a Secret are refused to the agent's own token", async () => {
    const token = readFileSync(file("millrace.token"), "utf8").trim();
    const ask = async (path: string, ...args: readonly string[]): Promise<string> => {
      const authorization = ["-H", `Authorization: Bearer ${token}`];
      const url = `${API_URL}${path}`;
      const command = [
        "curl",
        "-sk",
        "-m",
        "5",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        ...authorization,
        ...args,
        url,
      ];
      return (await cluster.exec(NODE, command)).stdout;
    };
    const patch = ["-X", "PATCH", "-H", "Content-Type: application/merge-patch+json", "-d"];
    const service = "/api/v1/namespaces/default/services/far";
    const status = JSON.stringify({ status: { loadBalancer: { ingress: [{ ip: "192.0.2.1" }] } } });
    expect(await ask("/api/v1/services?limit=1")).toBe("200");
    expect(await ask(`${service}/status`, ...patch, status)).toBe("403");
    expect(await ask(service, ...patch, JSON.stringify({ metadata: { labels: { a: "b" } } }))).toBe("403");
    expect(await ask("/api/v1/secrets")).toBe("403");
  });

  it("a token that the API server does not know is told of; a good one in its file is taken by itself", async () => {
    const good = readFileSync(file("millrace.token"), "utf8");
    mark("bad token");
    writeFileSync(file("millrace.token"), "nobody.knows.it");
    await cluster.agent(NODE).restart();
    const [message] = await noticed("unauthorized");
    expect(message).toMatch(
      /the API server does not accept our credentials \(401 Unauthorized\); renew the kubeconfig/,
    );
    expect(await metric(cluster, NODE, "rest_client_requests_total", 'code="401"')).toBeGreaterThan(0);
    expect(await metric(cluster, NODE, "millrace_api_errors_total", 'reason="unauthorized"')).toBeGreaterThan(0);
    expect((await agentStatus(cluster, NODE)).source.synced).toBe(false);
    writeFileSync(file("millrace.token"), good);
    await recovered();
    expect(await metric(cluster, NODE, "millrace_api_credential_reloads_total")).toBe(1);
    await followsChanges(NODE);
  });

  it("an account without rights is told each resource that it may not watch", async () => {
    mark("no rights");
    writeFileSync(file("nobody.token"), await tokenOf("nobody"));
    writeIdentity({ tokenFile: `${FILES}/nobody.token` });
    await cluster.agent(NODE).restart();
    const messages = await noticed("forbidden", RESOURCES.length);
    for (const resource of RESOURCES) {
      const start = `cannot watch ${resource} at cluster scope: 403 `;
      expect(messages).toContainEqual(expect.stringContaining(start));
    }
    expect(messages.join()).toContain('User "system:serviceaccount:default:nobody"');
    expect(await metric(cluster, NODE, "rest_client_requests_total", 'code="403"')).toBeGreaterThan(3);
    expect(await metric(cluster, NODE, "millrace_api_errors_total", 'reason="forbidden"')).toBeGreaterThan(3);
  });

  it("with the right to watch alone, at a server that streams no lists, it is told each that it may not list", async () => {
    mark("right to watch alone");
    await restartApiWithoutStreaming();
    await cluster.apply(rights(["watch"]));
    const messages = await waitUntil(
      "the verb list alone",
      async () => {
        const found = await noticed("forbidden", SERVED.length);
        return found.every((message) => message.startsWith("cannot list ")) ? found : undefined;
      },
      RECOVERY,
    );
    for (const resource of SERVED) {
      expect(messages).toContainEqual(expect.stringContaining(`cannot list ${resource} at cluster scope: 403 `));
    }
  });

  it("it recovers by itself once it may do both", async () => {
    mark("rights at last");
    await cluster.apply(rights(["list", "watch"]));
    await recovered();
    // The log is written once a second.
    await waitUntil("the log to say so", async () => (log().includes("over: cannot list services") ? true : undefined));
    await followsChanges(NODE);
    await restartApi();
  });

  it("rights that are taken away while it runs take no Service away, and are taken up when they come back", async () => {
    writeOwnIdentity();
    await cluster.agent(NODE).restart();
    await recovered();
    mark("rights taken away");
    const before = await servedBy(cluster, NODE);
    await cluster.kubectl(["delete", "clusterrolebinding", "millrace"]);
    // Rights are looked at when a request begins: the watches that stand would go on for minutes.
    await restartApi();
    for (const node of ["node1", NODE]) {
      const messages = await noticed("forbidden", RESOURCES.length, node);
      expect(messages.join()).toContain('User "system:serviceaccount:kube-system:millrace"');
      expect(await servedBy(cluster, node)).toEqual(before);
    }
    await pause(3000);
    mark("rights given back");
    await cluster.apply(rbacManifest());
    for (const node of ["node1", "node2", NODE]) await recovered(node);
    await followsChanges("node1", "node2", NODE);
  });

  it("a client certificate that ends while it runs is told of before and after; its successor is taken from the disk", async () => {
    const user = USER.name;
    const files = { certificate: file("short.crt"), key: file("short.key") };
    const expiry = "millrace_api_client_certificate_expiry_timestamp_seconds";
    await cluster.apply(BINDINGS_OF_USER);
    const end = Date.now() + CERTIFICATE_MS;
    await issueUntil(cluster.control.authority, user, end, files);
    writeIdentity({ "client-certificate": "short.crt", "client-key": "short.key" });
    await cluster.agent(NODE).restart();
    await inForce(cluster, NODE);
    const [warning] = await noticed("certificate-expires");
    expect(warning).toBe(
      `our client certificate expires at ${new Date(end).toISOString().replace(/\d{3}Z$/, "000Z")}: renew it`,
    );
    expect(await metric(cluster, NODE, expiry)).toBe(Math.floor(end / 1000));
    mark("certificate expired");
    await pause(Math.max(0, end + 1000 - Date.now()));
    const [told] = await noticed("certificate-expired");
    expect(told).toContain("our client certificate expired at ");
    // What it listens to goes on: whoever asks anew has to prove himself.
    expect(
      (await agentStatus(cluster, NODE)).source.api!.resources.every(({ connected, absent }) => connected || absent),
    ).toBe(true);
    await restartApi();
    const [refused] = await noticed("tls");
    expect(refused).toMatch(
      /the client certificate .*short\.crt \(CN=short-lived\) expired at .*; renew it; it is read again/,
    );
    await issueUntil(cluster.control.authority, user, Date.now() + DAY_MS, files);
    await recovered();
    expect(await metric(cluster, NODE, expiry)).toBeGreaterThan((Date.now() + DAY_MS / 2) / 1000);
    expect(await metric(cluster, NODE, "millrace_api_credential_reloads_total")).toBe(1);
    await followsChanges(NODE);
  });

  it("an agent that starts while there is no API server serves what is pinned, and reads the API when it comes", async () => {
    writeOwnIdentity();
    await cluster.agent(NODE).restart();
    await recovered();
    mark("started without an API server");
    await cluster.apiserver.stop();
    const began = Date.now();
    await cluster.agent(NODE).kill();
    await cluster.agent(NODE).start();
    await noticed("unreachable");
    const { source, startedMs } = await agentStatus(cluster, NODE);
    expect({ synced: source.synced, isNew: startedMs >= began }).toEqual({ synced: false, isNew: true });
    await pause(4000);
    await cluster.apiserver.start();
    await apiServes();
    await recovered();
    await followsChanges(NODE);
  });

  it("connections through its node noticed nothing", async () => {
    const outcome = await traffic.stop();
    printTraffic(
      "lines, and new connections, through a node whose agent has no rights, credentials or API",
      flows,
      outcome,
    );
    expectIntact(flows, outcome);
    expectNewAnswered(flows, outcome, marks);
  });

  it("one that is told of no way to the API says so in one sentence, and leaves nothing", async () => {
    const pins = "/sys/fs/bpf/none";
    const places = ["--pin-dir", pins, "--state-dir", "/var/lib/none", "--api-socket", "/run/none/api.sock"];
    const member = cluster.node(NODE);
    const command = [MILLRACE, "run", "--node-name", NODE, "--cgroup", member.cgroup, ...places];
    const { status, stderr } = await member.exec(command, { timeoutMs: 30_000 });
    const sentences = stderr.split("\n").filter((line) => line !== "" && !line.startsWith("{"));
    expect([status, sentences]).toEqual([
      2,
      [
        expect.stringMatching(
          /^millrace: could not find the API server: give --apiserver or --kubeconfig, or run in a pod/,
        ),
      ],
    ]);
    expect((await member.exec(["find", pins, "-path", "*/links/*"])).stdout).toBe("");
  });

  it.each([
    ["is the cluster address, which nobody serves yet", `https://${KUBERNETES_ADDRESS}:443`],
    ["is gone", "https://192.168.122.99:6443"],
  ])("an agent whose kubeconfig's server %s finds the API where it was last", async (_, server) => {
    await cluster.agent(NODE).stop();
    const member = cluster.node(NODE);
    const places = ["--pin-dir", "/sys/fs/bpf/millrace", "--state-dir", "/var/lib/millrace", "--cgroup", member.cgroup];
    const cleaned = await member.exec([MILLRACE, "cleanup", ...places]);
    expect(cleaned).toMatchObject({ status: 0, stderr: expect.stringMatching(/^left api-servers\.json.*\n$/) });
    expect((await member.exec(["curl", "-sk", "-m", "1", `https://${KUBERNETES_ADDRESS}/livez`])).status).not.toBe(0);
    expect(existsSync(join(member.files, "lib/millrace/api-servers.json"))).toBe(true);
    writeOwnIdentity(server);
    const began = Date.now();
    await cluster.agent(NODE).start();
    await inForce(cluster, NODE, began);
    process.stdout.write(`in force by ${server} after ${Date.now() - began} ms\n`);
    const host = new URL(server).host || server;
    const remembered = new URL(API_URL).host;
    expect(await metric(cluster, NODE, "rest_client_requests_total", 'code="<error>"', host)).toBeGreaterThan(0);
    expect(await metric(cluster, NODE, "rest_client_requests_total", 'code="200"', remembered)).toBeGreaterThan(3);
    expect((await agentStatus(cluster, NODE)).source.api!.server).toBe(remembered);
    expect((await member.exec(["curl", "-sk", "-m", "5", `https://${KUBERNETES_ADDRESS}/livez`])).stdout).toBe("ok");
  });
});
