// `millrace doctor` on a node of a lab, with the very options of the agent that runs there: it finds a healthy node, its pods and its
// other nodes, and what is then broken.
import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import type { Report } from "../../src/agent/doctor/report.ts";
import { patience } from "../../src/lib/patience.ts";
import { describeKernel } from "../kernel/require-kernel.ts";
import { downLab, labName, upLab } from "./lab-fixture.ts";
import { MILLRACE, type Ran, run } from "./traffic/test-lab.ts";

const LAB = labName("doctor");
const WEB = {
  ...{ apiVersion: "v1", kind: "Pod" },
  metadata: { name: "web", labels: { app: "web" } },
  spec: { nodeName: "node1", containers: [{ name: "web", image: "web", ports: [{ containerPort: 80 }] }] },
};
const SERVICE = {
  ...{ apiVersion: "v1", kind: "Service", metadata: { name: "web" } },
  spec: { type: "NodePort", selector: { app: "web" }, ports: [{ port: 80 }] },
};

/** The agent's own command line, behind "run". */
function optionsOfAgent(node: string): string[] {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    let words: string[] = [];
    try {
      words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
    } catch {
      continue;
    }
    const at = words.indexOf("run");
    if (at > 0 && words.some((word) => word.endsWith(`/lab/${LAB}/${node}/api.sock`))) return words.slice(at + 1);
  }
  throw new Error(`no agent of ${node} runs`);
}

// Programs are verified each time, which takes a second of an idle processor.
vi.setConfig({ testTimeout: patience(400_000) });

describeKernel("millrace doctor on a node of a lab", () => {
  beforeAll(async () => {
    const lab = upLab(LAB, ["--nodes", "2", "--cni", "bridge", "--ipv6"]);
    await lab.apply(lab.manifest([WEB, SERVICE]));
    lab.close();
  });
  afterAll(() => downLab(LAB));

  const inNode = (command: readonly string[]): Promise<Ran> =>
    run(MILLRACE, ["lab", "exec", "--name", LAB, "node1", "--", ...command], { timeoutMs: patience(240_000) });

  async function doctor(): Promise<{ readonly report: Report; readonly ran: Ran; lines(check: string): string[] }> {
    const ran = await inNode([MILLRACE, "doctor", "-o", "json", ...optionsOfAgent("node1")]);
    const report = JSON.parse(ran.stdout) as Report;
    return {
      ran,
      report,
      lines: (check) =>
        report.findings.filter((one) => one.check === check).map(({ level, says }) => `${level}: ${says}`),
    };
  }

  it("finds a healthy node, with its uplink, its pod and its agent", async () => {
    const { ran, report, lines } = await doctor();
    expect(report.findings.filter(({ level }) => level === "error")).toEqual([]);
    expect(ran.status).toBe(0);
    expect(report.node).toBe("node1");
    expect(lines("agent.status")).toEqual([expect.stringMatching(/ runs and is healthy$/)]);
    expect(lines("devices.uplinks")).toEqual(["ok: eth0 is an uplink: it is named by --devices"]);
    expect(lines("devices.named")).toEqual(["ok: every device of --devices is there: eth0"]);
    expect(lines("devices.pods")).toEqual([expect.stringMatching(/^ok: [1-9]\d* pod devices?: /)]);
    expect(lines("devices.forwarding")).toEqual(["ok: forwarding is on for IPv4 and IPv6"]);
    expect(lines("objects.read")).toEqual([
      expect.stringMatching(/^ok: read: [1-9]\d* Services?, [1-9]\d* endpoints?, 2 Nodes$/),
    ]);
    expect(lines("ranges.overlap")).toEqual([expect.stringMatching(/^ok: no two overlap: Services 10\.96\.0\.0\/12/)]);
    // A lab's node is a part of the machine's cgroups, without a kubelet's below.
    expect(lines("cgroup.directory")).toEqual([expect.stringMatching(/^warning: .* is a part of the hierarchy:/)]);
  });

  it("finds what is broken on it", async () => {
    expect((await inNode(["sysctl", "-w", "net.ipv6.conf.all.forwarding=0"])).status).toBe(0);
    const { ran, lines } = await doctor();
    expect(lines("devices.forwarding")).toEqual([expect.stringMatching(/^error: forwarding is off: IPv6 on /)]);
    expect(ran.status).toBe(1);
  });
});
