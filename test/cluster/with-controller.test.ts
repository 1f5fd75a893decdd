// A cluster of one node, whose agent gives the LoadBalancer addresses too: `millrace run --with-controller`.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Cluster } from "./cluster.ts";
import { waitForProxy } from "./proxy.ts";
import { startCluster } from "./start-cluster.ts";
import { waitUntil } from "./wait-until.ts";
import { manifest, serverOnEachNode, serviceOf } from "./workloads.ts";

const DEPLOY = resolve(import.meta.dirname, "../../deploy");
const ADDRESS = "192.168.122.140";

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({ name: "alone", nodes: 1, replace: true, agentFlags: ["--with-controller"] });
});
afterAll(() => cluster?.down());

it("serves without the rights and the CRDs, and gives addresses once they are there", async () => {
  const log = (): string => cluster.agent("node1").log;
  await waitUntil("the log to say which right is missing", () => /leases.*is forbidden/.test(log()) || undefined);
  const parts = readFileSync(`${DEPLOY}/controller.yaml`, "utf8").split("---\n");
  await cluster.apply(readFileSync(`${DEPLOY}/crds.yaml`, "utf8"));
  await cluster.apply(parts.filter((part) => /^kind: (Cluster)?Role$/m.test(part)).join("---\n"));
  // As docs/load-balancer.md has it.
  const account = "--serviceaccount=kube-system:millrace";
  for (const [kind, role] of [
    ["clusterrolebinding", "--clusterrole"],
    ["rolebinding", "--role"],
  ]) {
    const args = [
      "-n",
      "kube-system",
      "create",
      kind!,
      "millrace-with-controller",
      `${role}=millrace-controller`,
      account,
    ];
    expect(await cluster.kubectl(args)).toMatchObject({ status: 0 });
  }
  const metallb = { namespace: "kube-system" };
  const pool = {
    apiVersion: "metallb.io/v1beta1",
    kind: "IPAddressPool",
    metadata: { name: "p", ...metallb },
    spec: { addresses: [`${ADDRESS}/32`] },
  };
  const advertisement = {
    apiVersion: "metallb.io/v1beta1",
    kind: "L2Advertisement",
    metadata: { name: "l2", ...metallb },
  };
  const server = { name: "web" };
  const service = serviceOf(server, { type: "LoadBalancer", ipFamilyPolicy: "SingleStack" });
  await cluster.apply(manifest(pool, advertisement, serverOnEachNode(server), service));
  await waitUntil(
    "a client outside to have an answer",
    async () => {
      const { status, stdout } = await cluster.exec("client1", [
        "curl",
        "-sf",
        "-m",
        "1",
        `http://${ADDRESS}/hostname`,
      ]);
      return status === 0 && stdout.startsWith("web-") ? true : undefined;
    },
    { timeoutMs: 100_000 },
  );
});

it("gives the Lease back when the agent is told to stop, and takes it again", async () => {
  const path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/millrace-controller";
  const holder = async (): Promise<string> =>
    (await cluster.api.ask<{ spec: { holderIdentity?: string } }>(path)).spec.holderIdentity ?? "";
  expect(await holder()).not.toBe("");
  const agent = cluster.agent("node1");
  await agent.stop();
  expect(await holder()).toBe("");
  await agent.start();
  await waitForProxy(cluster.node("node1"), agent);
  await waitUntil("the Lease to be taken again", async () => ((await holder()) === "" ? undefined : true));
});
