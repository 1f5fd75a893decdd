// What tests ask of traffic that must not have noticed anything.
import { expect } from "vitest";
import type { Cluster } from "../cluster.ts";
import {
  compareSides,
  type Flow,
  type FlowReport,
  lostToBackend,
  type NewReport,
  type Outcome,
} from "./numbered-traffic.ts";

const isHeld = ({ kind }: Flow): boolean => !kind.startsWith("new");

/** Every line and datagram of the held flows came, each way, once, from one address, and of each more than `least`. */
export function expectIntact(flows: readonly Flow[], outcome: Outcome, least = 1000): void {
  for (const flow of flows.filter(isHeld)) {
    const { found, expected } = compareSides(flow, outcome);
    expect.soft((outcome.clients[flow.name] as FlowReport).sent, `${flow.name}: traffic`).toBeGreaterThan(least);
    expect.soft(found, flow.name).toEqual(expected);
  }
}

/** Every new connection was answered, and there were some during each of `marks`. Questions over UDP: `expectLossesCounted`. */
export function expectNewAnswered(flows: readonly Flow[], outcome: Outcome, marks: readonly string[]): void {
  for (const { name, kind } of flows.filter((flow) => !isHeld(flow))) {
    const { tried, answered, errors, byMark } = outcome.clients[name] as NewReport;
    if (kind === "new-tcp") expect.soft({ errors, answered }, name).toEqual({ errors: [], answered: tried });
    for (const mark of marks) expect.soft(byMark[mark] ?? 0, `${name} during '${mark}'`).toBeGreaterThan(5);
  }
}

/** No datagram to a pod was lost, but those that its own full socket counts. A flow's name holds its pod's. */
export function expectLossesCounted(flows: readonly Flow[], outcome: Outcome, overflows: Overflows): void {
  for (const [pod, overflow] of Object.entries(overflows)) {
    const lost = flows
      .filter(({ name, kind }) => kind.includes("udp") && name.includes(pod))
      .map(({ name }) => lostToBackend(name, outcome));
    expect.soft([pod, lost.reduce((sum, one) => sum + one, 0)]).toEqual([pod, overflow]);
  }
}

/** By pod: datagrams that found the socket of its own program full, since the pod began. The machine may be slow. */
export type Overflows = Readonly<Record<string, number>>;

export async function receiveOverflows(cluster: Cluster, pods: readonly string[]): Promise<Overflows> {
  const counted = async (pod: string): Promise<number> => {
    const options = { tools: "machine" } as const;
    const { stdout } = await cluster.execPod("default", pod, ["cat", "/proc/self/net/snmp"], options);
    const [names = "", values = ""] = stdout.split("\n").filter((line) => line.startsWith("Udp:"));
    return Number(values.split(" ")[names.split(" ").indexOf("RcvbufErrors")]);
  };
  return Object.fromEntries(await Promise.all(pods.map(async (pod) => [pod, await counted(pod)] as const)));
}
