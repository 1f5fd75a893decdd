// What is remembered from one change to the next must not show: a control plane that saw every change, and one that is made
// afresh from what the first left in its state directory, say the same after each of them.
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Reconciled } from "../../src/standalone/control-plane.ts";
import { objectTitle, type RawDocument } from "../../src/wire/kubernetes.ts";
import { createRandom } from "../model/random.ts";
import { type Any, cluster, endpoints, node, pod, pool, service, slice, temporaryDirectory } from "./build.ts";

function anyObject(below: (n: number) => number): Any {
  const name = ["a", "b", "c", "d"][below(4)] ?? "";
  const address = `10.244.1.${1 + below(4)}`;
  switch (below(8)) {
    case 0:
      return service(name, {
        type: ["ClusterIP", "NodePort", "LoadBalancer"][below(3)],
        ...(below(4) === 0 ? { clusterIP: below(2) === 0 ? "10.96.5.5" : "10.96.5.6" } : {}),
        ...(below(3) === 0 ? { selector: {} } : { selector: { app: ["a", "b"][below(2)] } }),
      });
    case 1:
      return slice(`${name}-x`, ["a", "b", "c"][below(3)] ?? "", {
        endpoints: [{ addresses: [address] }, { addresses: [below(2) === 0 ? "10.96.5.5" : "192.168.122.110"] }],
        ports: [{ name: below(3) === 0 ? "other" : "", port: 80 }],
      });
    case 2:
      return endpoints(name, [
        { addresses: [{ ip: address }, { ip: "10.96.5.6" }], ports: [{ name: below(3) === 0 ? "x" : "", port: 80 }] },
      ]);
    case 3:
      return node("node1", {}, { "topology.kubernetes.io/zone": ["z1", "z2"][below(2)] });
    case 4:
      return pool(["p", "q"][below(2)] ?? "", [
        below(2) === 0 ? "192.168.122.110-192.168.122.112" : "10.244.1.1-10.244.1.3",
      ]);
    default:
      return pod(`${name}${below(3)}`, {
        labels: { app: ["a", "b"][below(2)] },
        ip: below(6) === 0 ? "10.96.5.5" : address,
        ready: below(2) === 0,
      });
  }
}

function inOneOrder(object: Any): Any {
  if (object.kind !== "EndpointSlice") return object;
  return { ...object, endpoints: object.endpoints.map((one: unknown) => JSON.stringify(one)).sort() };
}

function said({ objects, notices }: Reconciled): Any {
  const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
  return {
    // Endpoints stay in their place within a slice, which somebody new cannot know.
    objects: objects.map(inOneOrder).sort((a, b) => order(objectTitle(a), objectTitle(b))),
    notices: notices.map((one) => JSON.stringify(one)).sort(order),
  };
}

test.each([1, 2, 3, 4])("what came step by step is what comes at once (seed %i)", async (seed) => {
  const { below } = createRandom(seed);
  const [stateDir, copyDir] = [await temporaryDirectory(), await temporaryDirectory()];
  const one = await cluster({ stateDir });
  const documents = new Map<string, RawDocument>();
  const inForce = new Map<string, unknown>();
  for (let step = 0; step < 60; step++) {
    for (let i = below(3); i >= 0; i--) {
      const object = anyObject(below);
      const file = `${objectTitle({ ...object, metadata: { namespace: "default", ...object.metadata } })}.json`;
      if (below(4) === 0) documents.delete(file);
      else documents.set(file, { file, index: 0, object });
    }
    const all = [...documents.values()].sort((a, b) => (a.file < b.file ? -1 : 1));
    const result = await one.reconcile(all);
    for (const [title, object] of result.changed) {
      if (object === undefined) inForce.delete(title);
      else inForce.set(title, object);
    }
    expect(inForce).toEqual(new Map(result.objects.map((object) => [objectTitle(object), object])));
    await copyFile(join(stateDir, "allocations.json"), join(copyDir, "allocations.json")).catch(() => {});
    const afresh = await (await cluster({ stateDir: copyDir })).reconcile(all);
    expect(said(result), `step ${step}`).toEqual(said(afresh));
  }
});
