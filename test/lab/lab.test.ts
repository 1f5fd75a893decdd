// A lab as people use it, by its commands: what comes up, what each order does to pods, nodes and LAN, what wrong orders
// and wrong manifests are told, and that nothing is left.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LabSession, parseAnswer } from "../../src/lab/lab-session.ts";
import type { LabStatus } from "../../src/lab/lab-status.ts";
import { CheckFailure, eventually } from "../../src/lab/seed-story.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import { type CliResult, downLab, labName, millrace, tracesOf, upLab } from "./lab-fixture.ts";

const LAB = labName("lab");
const OTHER = `${LAB}-2`;

const MANIFEST = `
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: two}}
spec: {nodeName: node1, containers: [{name: a, ports: [{containerPort: 8080}]}, {name: b}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, annotations: {millrace.io/pod-ip: 10.244.77.7}}
spec: {nodeName: node2, containers: [{name: a}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, ports: [{name: http, containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
`;

/** Who asks for web-near is served in the zone that node1 or node2 is in. */
const NEAR = `
apiVersion: v1
kind: Node
metadata: {name: node1, labels: {topology.kubernetes.io/zone: ZONE}}
---
apiVersion: v1
kind: Node
metadata: {name: node2, labels: {topology.kubernetes.io/zone: b}}
---
apiVersion: v1
kind: Service
metadata: {name: web-near}
spec: {selector: {app: web}, trafficDistribution: PreferSameZone, ports: [{port: 80, targetPort: http}]}
`;

/** The web's pods again, for clients of these ranges at 192.168.122.200, and each client at one of them by the other Service. */
const byClient = (sourceRanges: string): string => `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [192.168.122.200/32]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: all, namespace: metallb-system}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  type: NodePort
  selector: {app: web}
  sessionAffinity: ClientIP
  ports: [{port: 80, targetPort: http, nodePort: 30081}]
---
apiVersion: v1
kind: Service
metadata: {name: limited}
spec:
  type: LoadBalancer
  loadBalancerSourceRanges: [${sourceRanges}]
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
`;

describeKernel("a lab", () => {
  const directory = mkdtempSync(join(tmpdir(), "millrace-test-"));
  let lab: LabSession;

  const file = (name: string, content: string): string => {
    const path = join(directory, name);
    writeFileSync(path, content);
    return path;
  };
  const run = (...args: string[]): CliResult => millrace(["lab", args[0]!, "--name", LAB, ...args.slice(1)]);
  const must = (...args: string[]): string => {
    const { status, stdout, stderr } = run(...args);
    expect(status, stderr).toBe(0);
    return stdout;
  };
  const webPods = async () =>
    (await lab.status()).pods.filter((pod) => pod.owner === "Deployment/web" && !pod.terminating);
  const webAddress = async () => (await lab.service("default/web")).spec.clusterIPs![0]!;

  beforeAll(() => {
    lab = upLab(LAB, ["--nodes", "2", "-f", file("all.yaml", MANIFEST)]);
  });

  afterAll(() => {
    lab?.close();
    rmSync(directory, { recursive: true, force: true });
    downLab(OTHER);
    downLab(LAB);
    expect(tracesOf(LAB)).toEqual([]);
  });

  it("has what was asked for when up returns, and says so in JSON", async () => {
    const status = JSON.parse(must("status", "-o", "json")) as LabStatus;
    expect(
      status.nodes.map((node) => [node.name, node.addresses, node.podCIDRs, node.ready, node.link, node.agent]),
    ).toEqual([
      ["node1", ["192.168.122.11"], ["10.244.1.0/24"], true, "up", "running"],
      ["node2", ["192.168.122.12"], ["10.244.2.0/24"], true, "up", "running"],
    ]);
    expect(status.pods.filter((pod) => !pod.ready)).toEqual([]);
    expect(status.pods.filter((pod) => pod.namespace === "default")).toHaveLength(5);
    expect(status.clients.map((client) => [client.name, client.addresses])).toEqual([["client1", ["192.168.122.51"]]]);
    expect(status.notices).toEqual([]);
  });

  it("answers on every declared port with one line, over TCP and UDP", async () => {
    const { pods } = await lab.status();
    const near = pods.find((pod) => pod.name === "near")!;
    for (const via of ["tcp", "udp"] as const) {
      const { answers } = await lab.probe("far", { via, host: near.addresses[0]!, port: 8080 });
      expect(parseAnswer(answers[0]!.text)).toEqual({
        pod: "near",
        node: "node1",
        client: expect.stringMatching(/^10\.244\.77\.7:\d+$/),
        port: 8080,
      });
    }
    const { answers } = await lab.probe("far", { via: "tcp", host: near.addresses[0]!, port: 80 });
    expect(answers[0]!.error).toBe("ECONNREFUSED");
  });

  it("reaches a fixed address from everywhere, also from clients that come later", async () => {
    for (const from of ["near", "node1", "node2", "client1", "client7"]) {
      expect((await lab.probe(from, { via: "tcp", host: "10.244.77.7", port: 80 })).pods, from).toEqual(["far"]);
    }
  });

  it("gives pods the cluster's DNS and its search list", () => {
    const text = must("exec", "near", "--", "cat", "/etc/resolv.conf");
    expect(text).toBe(
      "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
    );
  });

  it("runs commands with their input, output and exit status", () => {
    const { status, stdout } = millrace(
      ["lab", "exec", "--name", LAB, "near", "--", "sh", "-c", "cat; exit 7"],
      "hello\n",
    );
    expect([status, stdout]).toEqual([7, "hello\n"]);
    expect(run("exec", "node1", "--", "sh", "-c", "kill -9 $$").status).not.toBe(0);
    expect(must("exec", "default/near", "--", "echo", "--name", "x")).toBe("--name x\n");
    const between = millrace(["lab", "exec", "near", "--name", LAB, "--", "echo", "hi"]);
    expect([between.status, between.stdout]).toEqual([0, "hi\n"]);
  });

  it("puts whatever runs in a pod into the pod's cgroup, under its node's", () => {
    expect(must("exec", "near", "--", "cat", "/proc/self/cgroup")).toMatch(
      new RegExp(`^0::.*/millrace-lab-${LAB}/node1/pods/default_near$`, "m"),
    );
    expect(must("exec", "node2", "--", "cat", "/proc/self/cgroup")).toMatch(
      new RegExp(`^0::.*/millrace-lab-${LAB}/node2/exec$`, "m"),
    );
  });

  it("scales, and what it says is in force when it returns", async () => {
    const address = await webAddress();
    must("scale", "deployment/web", "5");
    const five = (await webPods()).map((pod) => pod.name).sort();
    expect(five).toHaveLength(5);
    const { pods, errors } = await lab.probe("near", { via: "tcp", host: address, port: 80, count: 200, until: five });
    expect([pods, errors]).toEqual([five, []]);
    must("scale", "deployment/web", "0");
    expect((await lab.probe("client1", { via: "tcp", host: "192.168.122.11", port: 80 })).errors).toEqual([
      "ECONNREFUSED",
    ]);
    expect((await lab.probe("near", { via: "tcp", host: address, port: 80 })).errors).toEqual(["ECONNREFUSED"]);
    must("scale", "deployment/web", "3");
    expect((await lab.probe("near", { via: "tcp", host: address, port: 80, count: 20 })).errors).toEqual([]);
  });

  it("keeps clients of a Service with trafficDistribution in their zone, also when a node moves to another", async () => {
    const zones = (first: string): string => file("zones.yaml", NEAR.replace("ZONE", first));
    const places = async (from: string): Promise<string[]> => {
      const host = (await lab.service("default/web-near")).spec.clusterIPs![0]!;
      const { answers } = await lab.probe(from, { via: "tcp", host, port: 80, count: 40 });
      return [...new Set(answers.map(({ text }) => parseAnswer(text)?.node ?? ""))].sort();
    };
    must("apply", "-f", zones("a"));
    expect(await Promise.all(["near", "node1", "far", "node2"].map(places))).toEqual([
      ["node1"],
      ["node1"],
      ["node2"],
      ["node2"],
    ]);
    must("apply", "-f", zones("b"));
    expect(await places("near")).toEqual(["node1", "node2"]);
    must("delete", "-f", zones("b"));
  });

  it("keeps each client at one pod where session affinity is asked for, and serves those of the source ranges alone", async () => {
    must("apply", "-f", file("clients.yaml", byClient("10.244.0.0/16")));
    const sticky = (await lab.service("default/sticky")).spec.clusterIPs![0]!;
    for (const [from, host, port] of [
      ["near", sticky, 80],
      ["node1", sticky, 80],
      ["client1", "192.168.122.11", 30081],
    ] as const) {
      const { pods, errors } = await lab.probe(from, { via: "tcp", host, port, count: 20 });
      expect([pods.length, errors], from).toEqual([1, []]);
    }
    const limited = async (from: string): Promise<number> =>
      (await lab.probe(from, { via: "tcp", host: "192.168.122.200", port: 80, timeoutMs: 1000 })).pods.length;
    // The address has to be announced first.
    const become = (wanted: readonly number[]): Promise<void> =>
      eventually(10_000, async () => {
        const found = [await limited("near"), await limited("client1")];
        if (found.join() !== wanted.join()) throw new CheckFailure(`served ${found.join()}, not ${wanted.join()}`);
      });
    await become([1, 0]);
    must("apply", "-f", file("clients.yaml", byClient("192.168.122.51/32")));
    await become([0, 1]);
    must("delete", "-f", join(directory, "clients.yaml"));
  });

  it("takes an unready pod out within a second, and back in", async () => {
    const address = await webAddress();
    const [first] = await webPods();
    must("ready", first!.name, "false");
    expect((await lab.probe("node2", { via: "tcp", host: address, port: 80, count: 40 })).pods).not.toContain(
      first!.name,
    );
    must("ready", first!.name, "true");
    expect(
      (await lab.probe("node2", { via: "tcp", host: address, port: 80, count: 200, until: [first!.name] })).pods,
    ).toContain(first!.name);
  });

  it("restarts the server of a killed pod, and sends nobody there meanwhile", async () => {
    const address = await webAddress();
    const [first] = await webPods();
    must("kill", first!.name);
    const { pods, errors } = await lab.probe("near", { via: "tcp", host: address, port: 80, count: 20 });
    expect([pods.includes(first!.name), errors]).toEqual([false, []]);
    await eventually(5000, async () => {
      const pod = (await webPods()).find((one) => one.name === first!.name);
      if (pod?.ready !== true || pod.restarts !== 1) throw new CheckFailure("it does not come back");
    });
  });

  it("lets a pod that ends serve for its grace time, as a terminating endpoint", async () => {
    const before = await webPods();
    must("scale", "deployment/web", "2");
    const ending = (await lab.status()).pods.filter((pod) => pod.terminating && pod.owner === "Deployment/web");
    expect(ending.map((pod) => pod.name)).toEqual(
      before.map((pod) => pod.name).filter((name) => ending.some((pod) => pod.name === name)),
    );
    expect(ending).toHaveLength(1);
    const slices = await lab.objects("EndpointSlice");
    const conditions = slices
      .flatMap((slice) => slice["endpoints"] as { addresses: string[]; conditions: object }[])
      .filter((endpoint) => endpoint.addresses.includes(ending[0]!.addresses[0]!))
      .map((endpoint) => endpoint.conditions);
    expect(conditions).toEqual([{ ready: false, serving: true, terminating: true }]);
    expect((await lab.probe("near", { via: "tcp", host: ending[0]!.addresses[0]!, port: 80 })).pods).toEqual([
      ending[0]!.name,
    ]);
    await eventually(6000, async () => {
      if ((await lab.status()).pods.some((pod) => pod.name === ending[0]!.name))
        throw new CheckFailure("it is still there");
    });
    must("scale", "deployment/web", "3");
  });

  it("loses a node whole when it is killed, and gets it back", async () => {
    const address = await webAddress();
    must("kill", "node2");
    const status = await lab.status();
    expect(status.nodes.map((node) => [node.name, node.ready, node.agent, node.link])).toEqual([
      ["node1", true, "running", "up"],
      ["node2", false, "stopped", "down"],
    ]);
    const node = await lab.object("Node", "node2");
    expect(
      (node!["status"] as { conditions: { type: string; status: string }[] }).conditions.find(
        (one) => one.type === "Ready",
      )?.status,
    ).toBe("False");
    const { answers, errors } = await lab.probe("near", { via: "tcp", host: address, port: 80, count: 20 });
    expect(errors).toEqual([]);
    expect(answers.every((answer) => parseAnswer(answer.text)?.node === "node1")).toBe(true);
    must("start", "node2");
    const pods = (await webPods()).map((pod) => pod.name);
    expect((await lab.probe("near", { via: "tcp", host: address, port: 80, count: 200, until: pods })).pods).toEqual(
      pods.sort(),
    );
  });

  it("goes on without an agent, which comes back", async () => {
    const address = await webAddress();
    must("kill", "agent", "node1");
    expect((await lab.status()).nodes[0]!.agent).toBe("stopped");
    expect((await lab.probe("near", { via: "tcp", host: address, port: 80, count: 5 })).errors).toEqual([]);
    must("start", "agent", "node1");
    expect((await lab.status()).nodes[0]!.agent).toBe("running");
  });

  it("lets a node join, which reaches and serves everything at once", async () => {
    must("join", "node3");
    expect((await lab.probe("node3", { via: "tcp", host: await webAddress(), port: 80, count: 5 })).errors).toEqual([]);
    expect((await lab.probe("node3", { via: "tcp", host: "10.244.77.7", port: 80 })).pods).toEqual(["far"]);
  });

  it("takes links down and up, parts the LAN and heals it", async () => {
    const pings = async (from: string, to: string) => (await lab.exec(from, ["ping", "-c1", "-W1", to])).status === 0;
    must("link", "node2", "down");
    expect(await pings("client1", "192.168.122.12")).toBe(false);
    must("link", "node2", "up");
    expect(await pings("client1", "192.168.122.12")).toBe(true);
    must("split", "node1,node3", "node2");
    expect([
      await pings("node1", "192.168.122.12"),
      await pings("node1", "192.168.122.13"),
      await pings("client1", "192.168.122.12"),
    ]).toEqual([false, true, true]);
    must("heal");
    expect(await pings("node1", "192.168.122.12")).toBe(true);
  });

  it("adds hosts outside the cluster that answer as pods do", async () => {
    must("host", "elsewhere", "--address", "203.0.113.9");
    for (const from of ["near", "node2", "client1"]) {
      const { answers } = await lab.probe(from, { via: "udp", host: "203.0.113.9", port: 80 });
      expect(parseAnswer(answers[0]!.text), from).toMatchObject({ pod: "elsewhere", node: "-", port: 80 });
    }
  });

  describe("told something wrong", () => {
    it.each([
      {
        name: "a pod that is not there",
        args: ["exec", "nobody", "--", "true"],
        status: 1,
        says: /there is no such node, pod or client; there are node1, .*client1, .*near/,
      },
      {
        name: "a program that is not there",
        args: ["exec", "near", "--", "no-such-program"],
        status: 1,
        says: /there is no such program/,
      },
      {
        name: "a node that is not there",
        args: ["start", "node9"],
        status: 1,
        says: /no such node; there are node1, node2/,
      },
      { name: "a node that is up", args: ["start", "node1"], status: 4, says: /it is up already/ },
      { name: "a node's wrong name", args: ["join", "worker"], status: 2, says: /nodes are called node1 to node39/ },
      {
        name: "a workload that is not there",
        args: ["scale", "deployment/nobody", "1"],
        status: 1,
        says: /there is deployment\/default\/web/,
      },
      {
        name: "a number that is none",
        args: ["scale", "deployment/web", "many"],
        status: 2,
        says: /must be a whole number: current value is 'many'/,
      },
      {
        name: "a state that is none",
        args: ["ready", "near", "maybe"],
        status: 2,
        says: /must be true or false: current value is 'maybe'/,
      },
      {
        name: "an address that is none",
        args: ["host", "h", "--address", "300.1.1.1"],
        status: 2,
        says: /is no IP address/,
      },
      { name: "a name that is taken", args: ["up"], status: 4, says: /a lab of this name is up/ },
      {
        name: "a file that is not there",
        args: ["apply", "-f", "/nonexistent.yaml"],
        status: 1,
        says: /\/nonexistent\.yaml/,
      },
      { name: "nothing to apply", args: ["apply"], status: 2, says: /name manifests with -f PATH/ },
    ])("$name: one sentence", ({ args, status, says }) => {
      const result = run(...args);
      expect(result.status).toBe(status);
      expect(result.stderr).toMatch(says);
    });

    it.each([
      { name: "malformed YAML", content: "a: [b\n", says: /malformed/ },
      {
        name: "an unknown kind",
        content: "{apiVersion: v1, kind: Wombat, metadata: {name: x}}",
        says: /unknown kind "Wombat"/,
      },
      {
        name: "a name that climbs",
        content: "{apiVersion: v1, kind: Pod, metadata: {name: ../../x}, spec: {containers: [{name: a}]}}",
        says: /metadata\.name/,
      },
      {
        name: "a name for shells",
        content: '{apiVersion: v1, kind: Pod, metadata: {name: "$(id)"}, spec: {containers: [{name: a}]}}',
        says: /metadata\.name/,
      },
      {
        name: "a name of 300 characters",
        content: `{apiVersion: v1, kind: Pod, metadata: {name: ${"x".repeat(300)}}, spec: {containers: [{name: a}]}}`,
        says: /253/,
      },
      {
        name: "a Deployment whose replicas are a list",
        content:
          "{apiVersion: apps/v1, kind: Deployment, metadata: {name: listed}, spec: {replicas: [1], template: {spec: {containers: [{name: a}]}}}}",
        says: /spec\.replicas/,
      },
      {
        name: "a fixed address outside the pod network",
        content:
          "{apiVersion: v1, kind: Pod, metadata: {name: lost, annotations: {millrace.io/pod-ip: 10.1.2.3}}, spec: {containers: [{name: a}]}}",
        says: /10\.1\.2\.3 is not in 10\.244\.0\.0\/16/,
        status: 0,
      },
      {
        name: "a node that nobody has",
        content:
          "{apiVersion: v1, kind: Pod, metadata: {name: homeless}, spec: {nodeName: node33, containers: [{name: a}]}}",
        says: /there is no node node33/,
        status: 0,
      },
    ])("$name: a notice, and everything else goes on", async ({ content, says, status = 1 }) => {
      const path = file("wrong.yaml", content);
      const result = run("apply", "-f", path);
      expect(result.status).toBe(status);
      expect(result.stderr).toMatch(says);
      // What was never applied is said once; of what was, its notice stays while it does.
      expect((await lab.notices()).some((notice) => says.test(notice.message))).toBe(status === 0);
      expect((await lab.probe("near", { via: "tcp", host: await webAddress(), port: 80, count: 3 })).errors).toEqual(
        [],
      );
      run("delete", "-f", path);
      expect((await lab.notices()).filter((notice) => says.test(notice.message))).toEqual([]);
    });
  });

  it("takes away what manifests define, pods and all", async () => {
    must("delete", "-f", join(directory, "all.yaml"));
    expect((await lab.status()).pods.map((pod) => pod.name)).toEqual(["kube-dns"]);
    const kinds = new Set((await lab.objects("Pod")).map((pod) => pod.metadata.name));
    expect([...kinds]).toEqual(["kube-dns"]);
  });

  it("stands beside another lab, and goes without touching it", async () => {
    using other = upLab(OTHER, ["--nodes", "1", "--cni", "ptp"]);
    expect((await other.status()).nodes).toHaveLength(1);
    downLab(OTHER);
    expect(tracesOf(OTHER)).toEqual([]);
    expect((await lab.probe("node1", { via: "lookup", host: "localhost" })).errors).toEqual([]);
    expect((await lab.status()).nodes).toHaveLength(3);
  });

  it("is removed also when its control process was killed", async () => {
    upLab(OTHER, ["--nodes", "1"]).close();
    const procs = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
      .map((root) => `${root}/millrace-lab-${OTHER}/control/cgroup.procs`)
      .find((path) => existsSync(path))!;
    for (const pid of readFileSync(procs, "utf8").split("\n").filter(Boolean)) process.kill(Number(pid), "SIGKILL");
    const asked = millrace(["lab", "status", "--name", OTHER]);
    expect([asked.status, asked.stderr]).toEqual([
      6,
      expect.stringContaining(`lab down --name ${OTHER}\` removes what is left`),
    ]);
    downLab(OTHER);
    expect(tracesOf(OTHER)).toEqual([]);
  });
});
