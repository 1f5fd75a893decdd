// Every flow case on the loaded programs: by packets at each hook, by XDP before tc, and by real sockets.
import { afterAll, beforeAll, expect, it } from "vitest";
import { FLOW_CASES, FLOW_VARIANTS } from "../../flows/cases.ts";
import { expected } from "../../flows/expected.ts";
import {
  isForPacketsOnly,
  isForSocketsOnly,
  prepare,
  runPackets,
  runSockets,
  runXdp,
  socketsExpected,
} from "../../flows/kernel-executor.ts";
import { thinned } from "../kernel-lacks.ts";
import { describeKernel } from "../require-kernel.ts";
import { joinCgroup } from "./cgroup.ts";
import { createNamespace, type Namespace } from "./namespace.ts";
import { createTestNode, type TestNode } from "./test-node.ts";

describeKernel("flow cases by packets", () => {
  const nodes = new Map<string, TestNode>();
  beforeAll(() => {
    for (const number of [1, 3]) nodes.set(`node${number}`, createTestNode(number));
  });
  afterAll(() => {
    for (const node of nodes.values()) node[Symbol.dispose]();
  });
  const nodeOf = (name = "node1"): TestNode => {
    const node = nodes.get(name);
    if (node === undefined) throw new Error(`there is no ${name} here`);
    return node;
  };

  const byPackets = thinned([...FLOW_CASES, ...FLOW_VARIANTS].filter((one) => !isForSocketsOnly(one)));
  it.each(byPackets)("$name", async (flowCase) => {
    const node = nodeOf(flowCase.given.thisNode);
    await prepare(node, flowCase);
    const found = runPackets(node, flowCase);
    expect(found).toEqual(expected(flowCase, found));
  });

  const byXdp = thinned([...FLOW_CASES, ...FLOW_VARIANTS].filter(({ from }) => from.kind === "outside"));
  it.each(byXdp)("by XDP, then tc: $name", async (flowCase) => {
    const node = nodeOf(flowCase.given.thisNode);
    await prepare(node, flowCase);
    const { outcome, taken } = runXdp(node, flowCase);
    expect(outcome).toEqual(expected(flowCase, outcome));
    const remote = "translated" in flowCase.expect && flowCase.expect.translated !== undefined;
    expect(taken > 0).toBe(remote);
  });
});

/** A pod's namespace: everything has a route by a gateway that is known, as an address that is sought in vain ends its sockets; nobody answers. */
function silentPod(): Namespace {
  const pod = createNamespace();
  pod.sysctl("net.ipv6.conf.default.accept_dad", 0);
  pod.ip("link add eth0 type veth peer name out0");
  pod.ip("link set out0 up");
  pod.ip("link set eth0 up");
  pod.ip("addr add 10.244.1.99/32 dev eth0");
  pod.ip("addr add fd00:10:244:1::99/128 dev eth0 nodad");
  for (const gateway of ["10.244.1.1", "fd00:10:244:1::1"]) {
    pod.ip(`route add ${gateway} dev eth0`);
    pod.ip(`neigh replace ${gateway} lladdr 02:24:00:00:00:01 dev eth0 nud permanent`);
  }
  pod.ip("route add default via 10.244.1.1");
  pod.ip("route add default via fd00:10:244:1::1");
  return pod;
}

for (const number of [1, 3]) {
  describeKernel(`flow cases of node${number} by sockets`, () => {
    let node: TestNode;
    let pod: Namespace;
    let cgroup: Disposable;
    beforeAll(() => {
      node = createTestNode(number);
      pod = silentPod();
      cgroup = joinCgroup(node.dataplane);
    });
    afterAll(() => {
      cgroup?.[Symbol.dispose]();
      pod?.[Symbol.dispose]();
      node?.[Symbol.dispose]();
    });

    const cases = [...FLOW_CASES, ...FLOW_VARIANTS].filter(
      (one) =>
        one.from.kind !== "outside" && !isForPacketsOnly(one) && (one.given.thisNode ?? "node1") === `node${number}`,
    );
    it.each(thinned(cases))("$name", async (flowCase) => {
      await prepare(node, flowCase);
      const client = flowCase.from.kind === "host" ? node.namespace : pod;
      const found = runSockets(node, client, flowCase);
      expect(found).toEqual(socketsExpected(flowCase, found));
    });
  });
}
