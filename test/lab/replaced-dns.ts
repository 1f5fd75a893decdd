// In a lab that is up: a process of the host, as kubelet is one, and a pod keep asking a DNS Service while its only pod is replaced by
// another one, and a pod of nobody gets the old address. The servers answer with their names, which no DNS server does.
import { expect } from "vitest";
import type { ResolverReport } from "./traffic/resolver.ts";
import { type Program, show, TestLab, until } from "./traffic/test-lab.ts";
import { udpPod, udpService } from "./traffic/udp-objects.ts";

const PORT = 53;
const VIP = "10.96.81.53";
/** Told to be at once: so much is left to a busy machine, and an attempt that comes to nothing takes longer. */
const AT_ONCE_MS = 3_000;
const ENOUGH = 50;

const pod = (name: string, app: string, address: string, nodeName: string): string =>
  udpPod(name, app, address, nodeName, PORT);
const SERVICE = udpService("resolved", VIP, PORT);

/** `goneFrom`: the node of the pod that is replaced; who asks is on node1. @throws when something is not as it must be */
export async function replaceDns(name: string, title: string, goneFrom: "node1" | "node2"): Promise<void> {
  const lab = new TestLab(name);
  const old = goneFrom === "node1" ? "10.244.1.187" : "10.244.2.187";
  const first = pod("dns-first", "resolved", old, goneFrom);
  const second = pod("dns-second", "resolved", "10.244.2.188", "node2");
  const stranger = pod("dns-stranger", "nobody", old, goneFrom);
  const asker = pod("dns-asker", "nobody", "10.244.1.186", "node1");
  const apply = (file: string, text: string): Promise<string> => lab.lab("apply", "-f", lab.file(`${file}.yaml`, text));
  const resolvers: [string, Program][] = [];
  type Reports = Record<string, ResolverReport>;
  const reports = async (): Promise<Reports> =>
    Object.fromEntries(
      await Promise.all(
        resolvers.map(async ([who, program]) => [who, (await program.report<ResolverReport>())["resolver"]!] as const),
      ),
    );
  const mark = (): void => {
    for (const [, program] of resolvers) program.say("mark");
  };
  const allAnswered = (by: string): Promise<Reports> =>
    until(`every question to be answered by ${by}`, async () => {
      const now = await reports();
      return Object.values(now).every(({ pods }) => (pods[by] ?? 0) >= ENOUGH) ? now : undefined;
    });
  try {
    await apply("dns", `${SERVICE}${first}${asker}`);
    for (const [who, where] of [
      ["host", "node1"],
      ["pod", "dns-asker"],
    ] as const)
      resolvers.push([who, await lab.program(where, "resolver.ts", { host: VIP, port: PORT })]);
    await allAnswered("dns-first");
    mark();
    await apply("dns-second", second);
    await lab.lab("delete", "-f", lab.file("dns-gone.yaml", first));
    const during = await reports();
    mark();
    const after = await allAnswered("dns-second");
    await apply("dns-stranger", stranger);
    mark();
    const beside = await allAnswered("dns-second");
    const row = ({ pods, longestMs, failedAttempts, unanswered }: ResolverReport) => ({
      answered: Object.values(pods).reduce((sum, count) => sum + count, 0),
      "longest ms": longestMs,
      "failed attempts": Object.entries(failedAttempts).join(" "),
      unanswered,
    });
    const rows = { "while it changes": during, "in force": after, "beside a stranger": beside };
    show(
      `\nquestions to a DNS Service whose pod on ${goneFrom} was replaced: ${title}`,
      Object.fromEntries(
        Object.entries(rows).flatMap(([when, all]) =>
          Object.entries(all).map(([who, report]) => [`${who}, ${when}`, row(report)]),
        ),
      ),
    );
    for (const [when, all] of Object.entries({ after, beside })) {
      for (const [who, { pods, failedAttempts, unanswered, longestMs }] of Object.entries(all)) {
        expect
          .soft({ from: Object.keys(pods), failedAttempts, unanswered }, `${who}, ${when}`)
          .toEqual({ from: ["dns-second"], failedAttempts: {}, unanswered: 0 });
        expect.soft(longestMs, `${who}, ${when}`).toBeLessThan(AT_ONCE_MS);
      }
    }
    for (const [who, { pods, unanswered }] of Object.entries(during)) {
      expect
        .soft(
          Object.keys(pods).filter((one) => one !== "dns-first" && one !== "dns-second"),
          who,
        )
        .toEqual([]);
      expect.soft(unanswered, who).toBe(0);
    }
    expect.soft(await lab.datagramsIn("dns-stranger"), "what the stranger received").toBe(0);
  } finally {
    await Promise.all(resolvers.map(([, program]) => program.end()));
    await lab.lab("delete", "-f", lab.file("dns-mine.yaml", `${SERVICE}${second}${stranger}${asker}`));
    lab.forget();
  }
}
