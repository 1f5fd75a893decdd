// `millrace bypass`: translation ends at once and comes back at once, whether an agent runs or not; it outlives agents and ends with
// `off` or `cleanup` only.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import type { LabSession } from "../../src/lab/lab-session.ts";
import { CheckFailure, eventually } from "../../src/lab/seed-story.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import { downLab, labName, millrace, upLab } from "./lab-fixture.ts";
import { SshLike } from "./traffic/ssh-like.ts";
import { TestLab } from "./traffic/test-lab.ts";
import { TestMachine } from "./traffic/test-machine.ts";

const LAB = labName("bypass");

const MANIFEST = `
apiVersion: v1
kind: Pod
metadata: {name: near}
spec: {nodeName: node1, containers: [{name: c}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, ports: [{name: http, containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http, nodePort: 30080}]}
`;

describeKernel("bypass on a node of a lab", () => {
  const directory = mkdtempSync(join(tmpdir(), "millrace-test-"));
  let lab: LabSession;
  /** The same lab, for programs that make traffic. */
  const generators = new TestLab(LAB);

  const must = (...args: string[]): string => {
    const { status, stdout, stderr } = millrace(args);
    expect(status, stderr).toBe(0);
    return stdout;
  };
  const bypass = (...state: string[]): unknown =>
    JSON.parse(must("bypass", ...state, "--name", LAB, "--node", "node1", "-o", "json"));
  const kill = (): string => must("lab", "kill", "agent", "node1", "--name", LAB);
  /** Returns when the agent answers. */
  const start = async (): Promise<void> => {
    must("lab", "start", "agent", "node1", "--name", LAB);
    await eventually(20_000, async () => {
      const { status, stderr } = millrace(["status", "--name", LAB, "--node", "node1"]);
      if (status !== 0) throw new CheckFailure(stderr);
    });
  };

  /** Who could ask the Service: a pod of node1 at its cluster address, the LAN at node1's node port. */
  const served = async (): Promise<Readonly<Record<string, boolean>>> => {
    const [address = ""] = (await lab.service("default/web")).spec.clusterIPs ?? [];
    const pod = await lab.probe("near", { via: "tcp", host: address, port: 80, count: 3 });
    const outside = await lab.probe("client1", { via: "tcp", host: NODE1, port: 30080, count: 3 });
    return { pod: pod.pods.length > 0, outside: outside.pods.length > 0 };
  };
  const NODE1 = "192.168.122.11";
  const NODE2 = "192.168.122.12";
  const ALL = { pod: true, outside: true };
  const NONE = { pod: false, outside: false };

  beforeAll(() => {
    const file = join(directory, "web.yaml");
    writeFileSync(file, MANIFEST);
    lab = upLab(LAB, ["--nodes", "2", "-f", file]);
  });

  afterAll(async () => {
    lab?.close();
    rmSync(directory, { recursive: true, force: true });
    await generators.down();
    downLab(LAB);
  });

  it("stops and starts translation at once", async () => {
    expect(bypass()).toEqual({ bypass: false, changed: false });
    expect(await served()).toEqual(ALL);
    expect(bypass("on")).toEqual({ bypass: true, changed: true });
    expect(await served()).toEqual(NONE);
    expect(bypass("off")).toEqual({ bypass: false, changed: true });
    expect(await served()).toEqual(ALL);
  });

  it("costs the node none of its own connections", async () => {
    const traffic = await SshLike.start(generators, ["node1", "node2", "client1"], {
      node1: [NODE2, "192.168.122.51"],
      node2: [NODE1],
      client1: [NODE1],
    });
    await traffic.goOn();
    for (const state of ["on", "off", "on", "off"]) {
      traffic.mark(`bypass ${state}`);
      bypass(state);
      await traffic.goOn();
      expect(await served()).toEqual(state === "on" ? NONE : ALL);
    }
    expect((await traffic.sums()).kept).toBe(4);
  });

  it("is told by status before anything else and by a notice, on its node alone", () => {
    bypass("on");
    const status = ["status", "--name", LAB, "--node", "node1"];
    expect(must(...status)).toMatch(/^BYPASS: +ON: nothing is translated.*millrace bypass off/);
    expect(JSON.parse(must(...status, "-o", "json"))).toMatchObject({
      bypass: true,
      notices: expect.arrayContaining([expect.objectContaining({ reason: "bypass", severity: "error" })]),
    });
    expect(must("status", "--name", LAB, "--node", "node2")).not.toContain("BYPASS");
    bypass("off");
    expect(must(...status)).not.toContain("BYPASS");
  });

  it("needs no agent, and outlives one that is killed and started", async () => {
    kill();
    expect(bypass("on")).toEqual({ bypass: true, changed: true });
    expect(bypass()).toEqual({ bypass: true, changed: false });
    expect(await served()).toEqual(NONE);
    await start();
    expect(bypass()).toEqual({ bypass: true, changed: false });
    expect(await served()).toEqual(NONE);
    kill();
    expect(bypass("off")).toEqual({ bypass: false, changed: true });
    expect(await served()).toEqual(ALL);
    await start();
    expect(await served()).toEqual(ALL);
  });
});

describeKernel("bypass on a machine", () => {
  let machine: TestMachine;
  beforeEach(async () => {
    machine = await TestMachine.create();
  });
  afterEach(() => machine.close());

  it("outlives a stop and a start, and ends with cleanup", async () => {
    const bypass = async (...state: string[]): Promise<unknown> => {
      const { status, stdout, stderr } = await machine.millrace([
        "bypass",
        ...state,
        "--pin-dir",
        machine.pinDir,
        "-o",
        "json",
      ]);
      return status === 0 ? (JSON.parse(stdout) as { bypass: boolean }).bypass : stderr;
    };
    expect(await bypass()).toContain(machine.pinDir);
    const first = machine.start();
    await first.healthy();
    expect(await bypass("on")).toBe(true);
    await first.stop();
    expect(await bypass()).toBe(true);
    const second = machine.start();
    expect((await second.healthy()).bypass).toBe(true);
    expect(second.stderr).toContain("bypass is on");
    await second.stop();
    expect((await machine.millrace(["cleanup", ...machine.places])).status).toBe(0);
    expect(await bypass()).toContain(machine.pinDir);
    const third = machine.start();
    expect((await third.healthy()).bypass).toBe(false);
    expect(await bypass()).toBe(false);
  });
});
