// Nodes of a lab that ask each other whether they live: the answer is the kernel's, whatever became of the agent, and bears the keys that
// the agents last read.
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, it, vi } from "vitest";
import { createLivenessLink, type LivenessAnswer } from "../../src/agent/liveness-link.ts";
import { nodeIdOf } from "../../src/l2/liveness-message.ts";
import { labPaths, namespaceName, namespacePath } from "../../src/lab/lab-paths.ts";

import { insideNamespace } from "../kernel/datapath/namespace.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import { downLab, labName, millrace, upLab } from "./lab-fixture.ts";

const LAB = labName("liveness");
const PATHS = labPaths(LAB);
const NODE1 = "192.168.122.11";
const NODE1_V6 = "fd00:192:168:122::11";

describeKernel("liveness in a lab", () => {
  beforeAll(() => void upLab(LAB, ["--nodes", "2", "--ipv6"]), 180_000);
  afterAll(() => downLab(LAB), 60_000);
  afterEach(() => signal("SIGCONT"));

  const must = (...args: string[]): void => {
    const { status, stderr } = millrace([...args, "--name", LAB]);
    expect(status, stderr).toBe(0);
  };
  const secret = (): Uint8Array => Buffer.from(readFileSync(join(PATHS.secretDir, "current"), "utf8").trim(), "hex");
  const agents = (): number[] =>
    readFileSync(join(PATHS.cgroup, "node1/agent/cgroup.procs"), "utf8").trim().split("\n").filter(Boolean).map(Number);
  const signal = (name: NodeJS.Signals): void => {
    for (const pid of agents()) process.kill(pid, name);
  };

  /** From node2; undefined: no answer in 600 ms, as long as a node waits for three of them. */
  const ask = (address: string, key = secret()): Promise<LivenessAnswer | undefined> =>
    insideNamespace(namespacePath(namespaceName(LAB, "node2")), async () => {
      const clock = (): number => performance.now();
      const link = createLivenessLink({ port: 7948, nodeId: nodeIdOf("node2"), keys: () => [key], clock });
      try {
        return await new Promise<LivenessAnswer | undefined>((resolve) => {
          link.onAnswer(resolve);
          link.ask(address);
          setTimeout(() => resolve(undefined), 600);
        });
      } finally {
        link.stop();
      }
    });
  const eventually = (timeout: number, check: () => Promise<void>): Promise<void> =>
    vi.waitFor(check, { timeout, interval: 100 });
  /** Waits until a fresh answer by an agent at work comes. */
  const fresh = async (): Promise<LivenessAnswer> => {
    let answer: LivenessAnswer | undefined;
    await eventually(30_000, async () => {
      answer = await ask(NODE1);
      expect(answer?.isSound).toBe(true);
      expect(answer?.ageMs).toBeLessThan(2_500);
    });
    return answer!;
  };

  it("a node answers over both families with its name, its MAC and a fresh renewal", async () => {
    const answer = await fresh();
    expect(answer).toMatchObject({ from: NODE1, nodeId: nodeIdOf("node1"), isLeaving: false });
    expect(answer.macs[0]).toMatch(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/);
    expect((await ask(NODE1_V6))?.incarnation).toBe(answer.incarnation);
    expect(await ask(NODE1, new Uint8Array(16))).toBeUndefined();
  });

  it("an agent that is stopped, or killed, is a node that lives with a renewal that ages", {
    timeout: 120_000,
  }, async () => {
    const before = await fresh();
    signal("SIGSTOP");
    await eventually(20_000, async () => expect((await ask(NODE1))?.ageMs).toBeGreaterThan(4_000));
    expect(await ask(NODE1)).toMatchObject({ incarnation: before.incarnation, isSound: true });
    signal("SIGCONT");
    expect((await fresh()).incarnation).toBe(before.incarnation);
    must("lab", "kill", "agent", "node1");
    await eventually(20_000, async () => expect((await ask(NODE1))?.ageMs).toBeGreaterThan(4_000));
    must("lab", "start", "agent", "node1");
    expect((await fresh()).incarnation).toBeGreaterThan(before.incarnation);
  });

  it("a node without translation does not answer, as it does not by ARP", { timeout: 60_000 }, async () => {
    await fresh();
    must("bypass", "on", "--node", "node1");
    expect(await ask(NODE1)).toBeUndefined();
    must("bypass", "off", "--node", "node1");
    await fresh();
  });

  it("a key that comes, becomes the current one and leaves the other behind costs no answer", {
    timeout: 120_000,
  }, async () => {
    const old = secret();
    const key = Uint8Array.from({ length: 16 }, (_, i) => 200 - i);
    const text = Buffer.from(key).toString("hex");
    const write = (name: string, what: string): void => {
      writeFileSync(join(PATHS.secretDir, ".new"), what);
      renameSync(join(PATHS.secretDir, ".new"), join(PATHS.secretDir, name));
    };
    write("next", text);
    await eventually(30_000, async () => expect(await ask(NODE1, key)).toBeDefined());
    expect(await ask(NODE1, old)).toBeDefined();
    // Files are read together: who knows the third has read the others.
    const third = new Uint8Array(16).fill(3);
    write("previous", Buffer.from(old).toString("hex"));
    write("current", text);
    write("third", Buffer.from(third).toString("hex"));
    await eventually(30_000, async () => expect(await ask(NODE1, third)).toBeDefined());
    for (const one of [key, old]) expect(await ask(NODE1, one)).toBeDefined();
    // Bad text keeps the key that the file had.
    write("previous", "no key");
    await eventually(30_000, async () =>
      expect(millrace(["status", "--name", LAB, "--node", "node1", "-o", "json"]).stdout).toContain("announcer-secret"),
    );
    expect(await ask(NODE1, old)).toBeDefined();
  });

  it("a node whose power is cut does not answer", { timeout: 60_000 }, async () => {
    await fresh();
    must("lab", "kill", "node1");
    expect(await ask(NODE1)).toBeUndefined();
  });
});
