// The workload controllers and the scheduler, played turn by turn in a world of facts: no namespace, no process, no clock.
import { describe, expect, it } from "vitest";
import { type PodFacts, planPods, workloadPending } from "../../src/lab/controllers.ts";
import { compareNames, type NodeFacts, schedule } from "../../src/lab/scheduler.ts";
import { parseWorkload, type Workload, type WorkloadKind } from "../../src/lab/workloads.ts";

const NODES = ["node1", "node2", "node3"].map((name) => ({ name, labels: { "kubernetes.io/hostname": name } }));

interface Wish {
  readonly kind: WorkloadKind;
  readonly name?: string;
  readonly uid?: string;
  readonly labels?: Record<string, string>;
  readonly image?: string;
  readonly spec?: Record<string, unknown>;
  readonly podSpec?: Record<string, unknown>;
}

function workload({
  kind,
  name = "web",
  uid = `uid-${name}`,
  labels = { app: "web" },
  image = "a",
  spec = {},
  podSpec = {},
}: Wish): Workload {
  const pod = { metadata: { labels }, spec: { containers: [{ name: "c", image }], ...podSpec } };
  const object = {
    apiVersion: "v1",
    kind,
    metadata: { name, namespace: "default", ...(kind === "Pod" ? { labels } : {}) },
    spec: kind === "Pod" ? pod.spec : { template: pod, ...spec },
  };
  const parsed = parseWorkload({ file: "f", index: 0, object }, uid);
  if (Array.isArray(parsed)) throw new Error(parsed.map((notice) => notice.message).join("; "));
  return parsed;
}

/** Pods of a small cluster, where time passes only when a test says so. */
class World {
  pods: PodFacts[] = [];
  nodes = NODES;
  #sequence = 0;
  #suffix = 0;

  /** One turn of all controllers; what they do comes true at once, but pods are not ready and ending pods not gone. */
  turn(...workloads: Workload[]): string[] {
    const actions = planPods(workloads, this.pods, this.nodes, () => `x${++this.#suffix}`);
    for (const action of actions) {
      if (action.act === "create") {
        this.pods.push({
          key: `default/${action.name}`,
          namespace: "default",
          name: action.name,
          labels: action.labels,
          owner: action.workload.uid,
          revision: action.workload.template.revision,
          node: action.node,
          phase: "Running",
          ready: false,
          terminating: false,
          sequence: ++this.#sequence,
        });
      } else if (action.act === "delete") this.#change(action.key, { terminating: true });
      else if (action.act === "adopt") this.#change(action.key, { owner: action.owner });
      else this.#change(action.key, { labels: action.labels });
    }
    return actions.map((action) =>
      action.act === "create" ? `create ${action.name}` : `${action.act} ${action.key.slice(8)}`,
    );
  }

  #change(key: string, changes: Partial<PodFacts>): void {
    this.pods = this.pods.map((pod) => (pod.key === key ? { ...pod, ...changes } : pod));
  }

  allReady(): void {
    for (const pod of this.pods)
      if (!pod.terminating && pod.phase === "Running") this.#change(pod.key, { ready: true });
  }

  endedGo(): void {
    this.pods = this.pods.filter((pod) => !pod.terminating);
  }

  set(name: string, changes: Partial<PodFacts>): void {
    this.#change(`default/${name}`, changes);
  }

  get names(): string[] {
    return this.pods.filter((pod) => !pod.terminating).map((pod) => pod.name);
  }

  /** Turns until nothing happens any more; every pod becomes ready and every ending one goes between them. Returns the least that was ever ready. */
  settle(...workloads: Workload[]): number {
    let least = this.pods.filter((pod) => pod.ready && !pod.terminating).length;
    for (let turn = 0; turn < 100; turn++) {
      const acted = this.turn(...workloads);
      least = Math.min(least, this.pods.filter((pod) => pod.ready && !pod.terminating).length);
      if (acted.length === 0 && this.pods.every((pod) => !pod.terminating && (pod.ready || pod.phase !== "Running")))
        return least;
      this.allReady();
      this.endedGo();
    }
    throw new Error("it never settles");
  }
}

describe("replicas", () => {
  it("are made and ended to the number asked for, and then left alone", () => {
    const world = new World();
    expect(world.turn(workload({ kind: "ReplicaSet", spec: { replicas: 2 } }))).toEqual([
      "create web-x1",
      "create web-x2",
    ]);
    expect(world.turn(workload({ kind: "ReplicaSet", spec: { replicas: 2 } }))).toEqual([]);
    expect(world.turn(workload({ kind: "ReplicaSet", spec: { replicas: 1 } }))).toHaveLength(1);
  });

  it("end with those that are not ready, then where most are, then the newest", () => {
    const world = new World();
    world.turn(workload({ kind: "ReplicaSet", spec: { replicas: 4 } }));
    world.allReady();
    for (const [name, node] of [
      ["web-x1", "node1"],
      ["web-x2", "node2"],
      ["web-x3", "node1"],
      ["web-x4", "node3"],
    ] as const)
      world.set(name, { node });
    world.set("web-x2", { ready: false });
    expect(world.turn(workload({ kind: "ReplicaSet", spec: { replicas: 2 } }))).toEqual([
      "delete web-x2",
      "delete web-x3",
    ]);
  });

  it("end when their workload is gone", () => {
    const world = new World();
    world.turn(workload({ kind: "ReplicationController" }));
    expect(world.turn()).toEqual(["delete web-x1"]);
  });

  it("count a bare pod that their selector matches, as it is adopted", () => {
    const world = new World();
    const bare = workload({ kind: "Pod", name: "bare" });
    world.turn(bare);
    const controller = workload({ kind: "ReplicationController", spec: { replicas: 2, selector: { app: "web" } } });
    expect(world.turn(bare, controller)).toEqual(["adopt bare", "create web-x1"]);
    expect(world.turn(bare, controller)).toEqual([]);
  });

  it("leave alone a pod whose labels match but that another workload owns", () => {
    const world = new World();
    const one = workload({ kind: "ReplicaSet", name: "one" });
    const other = workload({ kind: "ReplicaSet", name: "other" });
    world.turn(one, other);
    expect(world.names).toEqual(["one-x1", "other-x2"]);
    expect(world.turn(one, other)).toEqual([]);
  });
});

describe("a Deployment", () => {
  it("changes its template one pod after the other, never with fewer ready than asked for", () => {
    const world = new World();
    world.settle(workload({ kind: "Deployment", spec: { replicas: 3 } }));
    const before = new Set(world.names);
    const next = workload({ kind: "Deployment", spec: { replicas: 3 }, image: "b" });
    expect(world.turn(next)).toHaveLength(1);
    expect(world.turn(next)).toEqual([]);
    expect(world.settle(next)).toBe(3);
    expect(world.names).toHaveLength(3);
    expect(world.names.filter((name) => before.has(name))).toEqual([]);
  });

  it("of strategy Recreate ends all old pods before it makes new ones", () => {
    const world = new World();
    const spec = { replicas: 2, strategy: { type: "Recreate" } };
    world.settle(workload({ kind: "Deployment", spec }));
    const next = workload({ kind: "Deployment", spec, image: "b" });
    expect(world.turn(next).every((act) => act.startsWith("delete"))).toBe(true);
    expect(world.turn(next)).toEqual([]);
    world.endedGo();
    expect(world.turn(next).every((act) => act.startsWith("create"))).toBe(true);
  });

  it("goes to no pods and back", () => {
    const world = new World();
    world.settle(workload({ kind: "Deployment", spec: { replicas: 3 } }));
    world.settle(workload({ kind: "Deployment", spec: { replicas: 0 } }));
    expect(world.names).toEqual([]);
    world.settle(workload({ kind: "Deployment", spec: { replicas: 3 } }));
    expect(world.names).toHaveLength(3);
  });
});

describe("a StatefulSet", () => {
  it("makes its pods in order, each when the one before is ready, and ends them from the last", () => {
    const world = new World();
    const three = workload({ kind: "StatefulSet", spec: { replicas: 3, serviceName: "web" } });
    expect(world.turn(three)).toEqual(["create web-0"]);
    expect(world.turn(three)).toEqual([]);
    world.allReady();
    expect(world.turn(three)).toEqual(["create web-1"]);
    world.settle(three);
    const one = workload({ kind: "StatefulSet", spec: { replicas: 1, serviceName: "web" } });
    expect(world.turn(one)).toEqual(["delete web-2"]);
    world.settle(one);
    expect(world.names).toEqual(["web-0"]);
  });

  it("makes all at once when its pods are managed in parallel", () => {
    const world = new World();
    expect(
      world.turn(workload({ kind: "StatefulSet", spec: { replicas: 3, podManagementPolicy: "Parallel" } })),
    ).toHaveLength(3);
  });

  it("changes its template from the last to the first", () => {
    const world = new World();
    world.settle(workload({ kind: "StatefulSet", spec: { replicas: 2 } }));
    expect(world.turn(workload({ kind: "StatefulSet", spec: { replicas: 2 }, image: "b" }))).toEqual(["delete web-1"]);
  });
});

describe("a DaemonSet", () => {
  it("has one pod on every node, also on one that joins", () => {
    const world = new World();
    const set = workload({ kind: "DaemonSet" });
    world.settle(set);
    expect(world.pods.map((pod) => pod.node)).toEqual(["node1", "node2", "node3"]);
    world.nodes = [...NODES, { name: "node4", labels: { "kubernetes.io/hostname": "node4" } }];
    expect(world.turn(set)).toHaveLength(1);
    expect(world.pods.at(-1)?.node).toBe("node4");
  });

  it("obeys its nodeSelector", () => {
    const world = new World();
    world.settle(workload({ kind: "DaemonSet", podSpec: { nodeSelector: { "kubernetes.io/hostname": "node2" } } }));
    expect(world.pods.map((pod) => pod.node)).toEqual(["node2"]);
  });
});

describe("a Job", () => {
  it("makes no second pod when its pod succeeded, and another one when it failed", () => {
    const world = new World();
    const job = workload({ kind: "Job" });
    world.turn(job);
    world.set("web-x1", { phase: "Failed" });
    expect(world.turn(job)).toEqual(["create web-x2"]);
    world.set("web-x2", { phase: "Succeeded" });
    expect(world.turn(job)).toEqual([]);
  });

  it("shares no pod with another Job of the same selector", () => {
    const world = new World();
    const jobs = [workload({ kind: "Job", name: "a" }), workload({ kind: "Job", name: "b" })];
    world.turn(...jobs);
    expect(world.pods.map((pod) => [pod.name, pod.owner])).toEqual([
      ["a-x1", "uid-a"],
      ["b-x2", "uid-b"],
    ]);
    expect(world.turn(...jobs)).toEqual([]);
  });
});

describe("what is waited for", () => {
  const pending = (world: World, one: Workload, excused: (pod: PodFacts) => boolean = () => false) =>
    workloadPending(
      one,
      world.pods.filter((pod) => pod.owner === one.uid),
      excused,
      world.nodes,
    );

  it("is every pod's readiness, but for excused ones", () => {
    const world = new World();
    const one = workload({ kind: "ReplicaSet", spec: { replicas: 2 } });
    expect(pending(world, one)).toBe("ReplicaSet default/web: 0 of 2 pods");
    world.turn(one);
    expect(pending(world, one)).toBe("ReplicaSet default/web: pod web-x1 is not ready");
    expect(pending(world, one, () => true)).toBeUndefined();
    world.allReady();
    expect(pending(world, one)).toBeUndefined();
  });

  it("names a bare pod once", () => {
    const world = new World();
    const one = workload({ kind: "Pod" });
    world.turn(one);
    expect(pending(world, one)).toBe("Pod default/web is not ready");
  });

  it("is a Deployment's last old pod", () => {
    const world = new World();
    world.settle(workload({ kind: "Deployment" }));
    expect(pending(world, workload({ kind: "Deployment", image: "b" }))).toMatch(/is still of the earlier template$/);
  });
});

describe("the scheduler", () => {
  const node = (name: string, changes: Partial<NodeFacts> = {}): NodeFacts => ({
    name,
    labels: {},
    ready: true,
    unschedulable: false,
    pods: 0,
    hostPorts: new Set(),
    ...changes,
  });
  const needs = { nodeName: "", nodeSelector: {}, hostPorts: [] };

  it.each([
    {
      name: "takes the node with the fewest pods",
      pod: needs,
      nodes: [node("node1", { pods: 2 }), node("node2", { pods: 1 })],
      placed: { node: "node2" },
    },
    {
      name: "takes the first by name of equal ones, node2 before node10",
      pod: needs,
      nodes: [node("node10"), node("node2")],
      placed: { node: "node2" },
    },
    {
      name: "obeys nodeName, also on a node that is down",
      pod: { ...needs, nodeName: "node1" },
      nodes: [node("node1", { ready: false })],
      placed: { node: "node1" },
    },
    {
      name: "waits for a node that is not there",
      pod: { ...needs, nodeName: "node9" },
      nodes: [node("node1")],
      placed: { pending: "there is no node node9" },
    },
    {
      name: "obeys nodeSelector",
      pod: { ...needs, nodeSelector: { disk: "ssd" } },
      nodes: [node("node1"), node("node2", { labels: { disk: "ssd" }, pods: 9 })],
      placed: { node: "node2" },
    },
    {
      name: "keeps host ports apart",
      pod: { ...needs, hostPorts: ["TCP/80"] },
      nodes: [node("node1", { hostPorts: new Set(["TCP/80"]) }), node("node2", { pods: 5 })],
      placed: { node: "node2" },
    },
    {
      name: "says why no node is suitable",
      pod: { ...needs, hostPorts: ["TCP/80"] },
      nodes: [
        node("node1", { ready: false }),
        node("node2", { unschedulable: true }),
        node("node3", { hostPorts: new Set(["TCP/80"]) }),
      ],
      placed: { pending: "0 of 3 nodes are suitable: 1 not ready, 1 unschedulable, 1 with its host ports taken" },
    },
  ])("$name", ({ pod, nodes, placed }) => {
    expect(schedule(pod, nodes)).toEqual(placed);
  });

  it("orders names as people count", () => {
    expect(["node10", "node9", "node1"].sort(compareNames)).toEqual(["node1", "node9", "node10"]);
  });
});

describe("a workload's manifest", () => {
  const parse = (object: Record<string, unknown>) =>
    parseWorkload(
      {
        file: "f.yaml",
        index: 0,
        object: {
          apiVersion: "apps/v1",
          kind: "Deployment",
          metadata: { name: "web", namespace: "default" },
          ...object,
        },
      },
      "uid",
    );

  it.each([
    { name: "without spec", object: {}, fields: ["spec", "spec.template"] },
    {
      name: "without containers",
      object: { spec: { template: { spec: {} } } },
      fields: ["spec.template.spec.containers"],
    },
    {
      name: "whose replicas are a text",
      object: { spec: { replicas: "three", template: { spec: { containers: [{ name: "c" }] } } } },
      fields: ["spec.replicas"],
    },
    {
      name: "whose selector does not match its template",
      object: {
        spec: {
          selector: { matchLabels: { a: "b" } },
          template: { metadata: { labels: { a: "c" } }, spec: { containers: [{ name: "c" }] } },
        },
      },
      fields: ["spec.template.metadata.labels"],
    },
  ])("$name is refused by field", ({ object, fields }) => {
    const notices = parse(object);
    expect(Array.isArray(notices) && notices.map((notice) => notice.field)).toEqual(expect.arrayContaining(fields));
  });
});
