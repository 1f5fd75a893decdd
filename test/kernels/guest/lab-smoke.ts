// In a guest: a lab of two nodes, in which every path of packets is taken once, over a restart of the agent, and which leaves
// nothing behind. Sockets are translated on nodes only, so that pods' packets take the programs at their devices.
import { spawn } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import type { LabSession } from "../../../src/lab/lab-session.ts";
import { hasFeature } from "../../../src/libbpf/mod.ts";
import { downLab, millrace, tracesOf, upLab } from "../../lab/lab-fixture.ts";
import type { Smoke } from "./smoke.ts";

const LAB = "smoke";
const NODE_ADDRESS = { 4: "192.168.122.11", 6: "fd00:192:168:122::11" } as const;
const POD_PORT = 8080;

const pod = (name: string, node: string): unknown => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, labels: { app: name } },
  spec: { nodeName: node, containers: [{ name: "server", image: "any", ports: [{ containerPort: POD_PORT }] }] },
});

const service = (name: string, firstNodePort: number): unknown => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name },
  spec: {
    type: "NodePort",
    ipFamilyPolicy: "RequireDualStack",
    selector: { app: name },
    ports: [
      { name: "tcp", protocol: "TCP", port: 80, targetPort: POD_PORT, nodePort: firstNodePort },
      { name: "udp", protocol: "UDP", port: 80, targetPort: POD_PORT, nodePort: firstNodePort + 1 },
    ],
  },
});

/** The backend of `near` is on node1, that of `far` on node2; `none` has none. Whom a Service is asked through is always node1. */
const NODE_PORTS = { near: 30100, far: 30200, none: 30300 } as const;
type ServiceName = keyof typeof NODE_PORTS;

const OBJECTS = [
  pod("near", "node1"),
  pod("far", "node2"),
  pod("caller", "node1"),
  ...Object.entries(NODE_PORTS).map(([name, nodePort]) => service(name, nodePort)),
];

/** Who asks, and how that way is called. */
const ASKERS = { node1: "socket", caller: "pod", client1: "uplink" } as const;
type Asker = keyof typeof ASKERS;

async function askAll(lab: LabSession, smoke: Smoke): Promise<void> {
  for (const asker of Object.keys(ASKERS) as Asker[]) {
    for (const family of [4, 6] as const) {
      for (const via of ["tcp", "udp"] as const) {
        for (const name of ["near", "far"] as const) {
          await smoke.check(`${ASKERS[asker]}: ${name}, ${via}, IPv${family}`, async () => {
            const { host, port } = await addressOf(lab, name, asker, family, via);
            const { pods, errors } = await lab.probe(asker, { via, host, port });
            return pods.join() === name ? undefined : `answered by '${pods.join()}', ${errors.join() || "no error"}`;
          });
        }
      }
      await smoke.check(`${ASKERS[asker]}: a Service without backends refuses, IPv${family}`, async () => {
        const { host, port } = await addressOf(lab, "none", asker, family, "tcp");
        const { errors } = await lab.probe(asker, { via: "tcp", host, port });
        // Without bpf_set_retval a socket program can only refuse with EPERM, or send the call to a closed port.
        const expected = asker === "node1" && !hasFeature("set_retval") ? ["ECONNREFUSED", "EPERM"] : ["ECONNREFUSED"];
        return expected.includes(errors.join()) ? undefined : `the error is '${errors.join()}'`;
      });
    }
  }
}

async function addressOf(
  lab: LabSession,
  name: ServiceName,
  asker: Asker,
  family: 4 | 6,
  via: "tcp" | "udp",
): Promise<{ host: string; port: number }> {
  if (asker === "client1") return { host: NODE_ADDRESS[family], port: NODE_PORTS[name] + (via === "udp" ? 1 : 0) };
  const { spec } = await lab.service(`default/${name}`);
  const host = spec.clusterIPs?.find((address) => address.includes(":") === (family === 6));
  if (host === undefined) throw new Error(`${name} has no IPv${family} address`);
  return { host, port: 80 };
}

/** Every hook of node1's programs saw packets or calls, and the programs are attached as this kernel can have them. */
async function checkHooks(lab: LabSession, smoke: Smoke): Promise<void> {
  await smoke.check("every hook translated something", async () => {
    const { stdout } = await lab.exec("node1", ["curl", "-s", "http://127.0.0.1:10249/metrics"]);
    const hooks = new Set(
      [...stdout.matchAll(/^millrace_packets_total\{hook="([^"]+)".*\} [1-9]/gm)].map(([, hook]) => hook!),
    );
    const wanted = ["connect", "sendmsg", "pod_ingress", "uplink_ingress", "uplink_egress"];
    const missing = wanted.filter((name) => ![...hooks].some((hook) => hook.toLowerCase().includes(name)));
    return missing.length === 0 ? undefined : `nothing at ${missing.join(", ")}; there was ${[...hooks].join(", ")}`;
  });
  const filters = !hasFeature("tcx");
  await smoke.check(filters ? "filters of clsact, as there is no tcx" : "links of tcx, no filters", async () => {
    const { stdout } = await lab.exec("node1", [
      "sh",
      "-c",
      "for d in $(ls /proc/sys/net/ipv4/conf); do tc filter show dev $d ingress; done 2>&1",
    ]);
    return /\bbpf\b/.test(stdout) === filters ? undefined : `tc says: ${stdout.trim() || "nothing"}`;
  });
}

/** A stream of lines goes on while the agent is killed and started again, and new connections are served without it. */
async function checkRestart(lab: LabSession, smoke: Smoke): Promise<void> {
  const url = `http://${NODE_ADDRESS[4]}:${NODE_PORTS.far}/stream?lines=100000&every=100`;
  const [file, ...args] = await lab.command("client1", ["curl", "-sS", "--no-buffer", url]);
  const stream = spawn(file, args, { stdio: ["ignore", "pipe", "inherit"] });
  let lines = 0;
  let ended = false;
  stream.stdout.on("data", (part: Buffer) => {
    lines += part.toString().split("\n").length - 1;
  });
  stream.on("exit", () => {
    ended = true;
  });
  const goesOn = async (): Promise<string | undefined> => {
    const before = lines;
    for (let tries = 0; tries < 300 && !ended && lines < before + 5; tries++) await delay(100);
    return lines >= before + 5 ? undefined : `no line came after ${before}${ended ? ", it ended" : ""}`;
  };
  const asked = async (): Promise<string | undefined> => {
    const question = { via: "tcp", host: NODE_ADDRESS[6], port: NODE_PORTS.far } as const;
    const { pods, errors } = await lab.probe("client1", question);
    return pods.join() === "far" ? undefined : `answered by '${pods.join()}', ${errors.join() || "no error"}`;
  };
  try {
    await smoke.check("a connection is open", goesOn);
    await smoke.check("without the agent: it goes on", async () => {
      await lab.killAgent("node1");
      return goesOn();
    });
    await smoke.check("without the agent: a new one is served", asked);
    await smoke.check("with a new agent: it goes on", async () => {
      await lab.startAgent("node1");
      return goesOn();
    });
    await smoke.check("with a new agent: a new one is served", asked);
  } finally {
    stream.kill();
  }
}

export async function labSmoke(smoke: Smoke): Promise<void> {
  const before = smoke.machine();
  let lab: LabSession | undefined;
  try {
    await smoke.check("the lab comes up", async () => {
      lab = upLab(LAB, ["--nodes", "2", "--ipv6", "--sockets", "host-only"]);
      await lab.apply(lab.manifest(OBJECTS));
      return undefined;
    });
    if (lab === undefined) return;
    await askAll(lab, smoke);
    await checkHooks(lab, smoke);
    await checkRestart(lab, smoke);
    await smoke.check("nothing is wrong by the lab's own word", async () => {
      const { status, stdout } = millrace(["lab", "status", "--name", LAB]);
      return status === 0 ? undefined : stdout.trim().split("\n").slice(-3).join("; ");
    });
  } finally {
    lab?.close();
    await smoke.check("it leaves nothing behind", async () => {
      downLab(LAB);
      return [...tracesOf(LAB), ...(await smoke.leftSince(before))].join(", ") || undefined;
    });
  }
}
