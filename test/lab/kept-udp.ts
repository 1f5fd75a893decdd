// In a lab that is up: connected UDP sockets in a pod and on a node keep asking a Service while its only endpoint dies, another one
// comes, and a pod of nobody gets the old address.
import { expect } from "vitest";
import type { Client, KeptReport } from "./traffic/keeper.ts";
import { type Program, show, TestLab, until } from "./traffic/test-lab.ts";
import { udpPod, udpService } from "./traffic/udp-objects.ts";

const PORT = 8125;
const VIP = "10.96.81.25";
/** Told to be one second: three are left to a busy machine, and ten to silences that may have begun before. */
const AFTER_CHANGE_MS = 3_000;
const GAP_MS = 10_000;

const pod = (name: string, app: string, address: string, nodeName: string): string =>
  udpPod(name, app, address, nodeName, PORT);
const SERVICE = udpService("kept", VIP, PORT);

/** `deadOn`: the node of the endpoint that dies; the clients are on node1. @throws when something is not as it must be */
export async function keepUdp(name: string, title: string, deadOn: "node1" | "node2"): Promise<void> {
  const lab = new TestLab(name);
  const old = deadOn === "node1" ? "10.244.1.177" : "10.244.2.177";
  const apply = (file: string, text: string): Promise<string> => lab.lab("apply", "-f", lab.file(`${file}.yaml`, text));
  const programs: Program[] = [];
  const reports = async (): Promise<Record<string, KeptReport>> =>
    Object.assign({}, ...(await Promise.all(programs.map((program) => program.report<KeptReport>()))));
  const allServedBy = (served: readonly string[], by: string): Promise<true> =>
    until(`${served.join(", ")} to be answered by ${by}`, async () => {
      const now = await reports();
      return served.every((client) => (now[client]?.pods[by] ?? 0) > 2) ? true : undefined;
    });
  try {
    await apply(
      "first",
      `${SERVICE}${pod("kept-first", "kept", old, deadOn)}${pod("keeper", "none", "10.244.1.176", "node1")}`,
    );
    for (const where of ["keeper", "node1"]) {
      const clients = [true, false].map(
        (opensAnew): Client => ({
          name: `${where === "node1" ? "host" : "pod"} that ${opensAnew ? "opens anew" : "never does"}`,
          ...{ host: VIP, port: PORT, opensAnew },
        }),
      );
      programs.push(await lab.program(where, "keeper.ts", { clients }));
    }
    const all = Object.keys(await reports());
    await allServedBy(all, "kept-first");
    for (const program of programs) program.say("mark");
    await apply("second", pod("kept-second", "kept", "10.244.2.178", "node2"));
    const beganMs = Date.now();
    // When the agent of the clients' node had it in force first that this endpoint ends: the rest of its end comes later.
    const [inForceMs] = await Promise.all([
      until("the change to be in force", async () => {
        const { atMs } = (await lab.status("node1")).lastApply;
        return atMs >= beganMs ? atMs : undefined;
      }),
      lab.lab("delete", "-f", lab.file("gone.yaml", pod("kept-first", "kept", old, deadOn))),
    ]);
    const lasting = all.filter((client) => client !== "host that never does");
    await allServedBy(lasting, "kept-second");
    const served = await reports();
    /** 0: it had found the other one before that. */
    const waitedMs = (client: string): number =>
      Math.max(0, (served[client]?.firstMs["kept-second"] ?? Number.POSITIVE_INFINITY) - inForceMs);
    await apply("stranger", pod("kept-stranger", "nobody", old, deadOn));
    for (const program of programs) program.say("mark");
    await allServedBy(lasting, "kept-second");
    const beside = await reports();
    show(
      `\nconnected UDP sockets whose backend on ${deadOn} died: ${title}`,
      Object.fromEntries(
        Object.entries(served).map(([client, { longestGapMs, errors }]) => [
          client,
          {
            "served after the change ms": lasting.includes(client) ? waitedMs(client) : "never",
            "longest gap ms": longestGapMs,
            errors: Object.entries(errors).join(" "),
          },
        ]),
      ),
    );
    for (const client of lasting) {
      expect.soft(waitedMs(client), client).toBeLessThan(AFTER_CHANGE_MS);
      expect.soft(served[client]?.longestGapMs, client).toBeLessThan(GAP_MS);
      expect.soft(beside[client]?.longestGapMs, `${client}, beside a stranger`).toBeLessThan(GAP_MS);
    }
    expect.soft(beside["pod that never does"]?.errors).toEqual({});
    expect.soft(Object.values(beside["host that never does"]?.errors ?? {})).not.toEqual([]);
    for (const [client, { pods, strangeNames }] of Object.entries(beside)) {
      expect.soft(Object.keys(pods), client).toEqual(lasting.includes(client) ? ["kept-second"] : []);
      expect.soft(strangeNames, client).toEqual([]);
    }
    expect.soft(await lab.datagramsIn("kept-stranger"), "what the stranger received").toBe(0);
  } finally {
    await Promise.all(programs.map((program) => program.end()));
    const mine = `${SERVICE}${["kept-second", "kept-stranger", "keeper"].map((one) => pod(one, "x", "", "node1")).join("")}`;
    await lab.lab("delete", "-f", lab.file("mine.yaml", mine.replaceAll(", annotations: {millrace.io/pod-ip: }", "")));
    lab.forget();
  }
}
