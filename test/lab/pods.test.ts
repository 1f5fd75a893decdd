// What a lab says of pods: whom there is when a name is wrong, and a notice whose object stands once.
import { expect, it } from "vitest";
import { AppliedObjects } from "../../src/lab/applied-objects.ts";
import type { PodSurroundings } from "../../src/lab/lab-pod.ts";
import type { LabNodes } from "../../src/lab/nodes.ts";
import { LabPods } from "../../src/lab/pods.ts";
import { labNotice } from "../../src/lab/refusals.ts";
import { labStatusText } from "../../src/lab/status-text.ts";

const NAMES = ["node1", "node2"];

it("names nodes, clients and hosts where there is no such pod", () => {
  const nodes = { names: () => NAMES } as Pick<LabNodes, "names"> as LabNodes;
  const pods = new LabPods({} as PodSurroundings, new AppliedObjects(), nodes);
  expect(() => pods.find("cleint1", "run anything in", ["client1", "printer"])).toThrow(
    "could not run anything in cleint1: there is no such node, pod or client; there are node1, node2, client1, printer",
  );
});

it.each([
  { name: "a message with its object", message: "Pod default/web-1: there is no node node33" },
  { name: "a message without", message: "there is no node node33" },
])("$name: a notice's object stands once in the status", ({ message }) => {
  const notices = [labNotice({ object: "Pod default/web-1" }, "unschedulable", message)];
  const empty = { nodes: [], pods: [], clients: [], hosts: [], split: [] };
  const text = labStatusText({ ...empty, ...{ name: "lab", cni: "bridge", ipv6: false }, notices });
  expect(text).toMatch(/^unschedulable {3}Pod default\/web-1 {3}there is no node node33$/m);
});
