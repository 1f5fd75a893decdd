// `millrace lab demo`: every example on three nodes. Verdicts on standard output, one line each; all else on standard error.
import { relative } from "node:path";
import { bringUp, labConfig } from "./bring-up.ts";
import { checkedLab } from "./checked-lab.ts";
import { LabSession } from "./lab-session.ts";
import type { Cni } from "./network.ts";
import { examplesDirectory } from "./programs.ts";
import { cannot } from "./refusals.ts";
import { runSeeds, verdictLine } from "./seed-checks.ts";
import { labExists, tearDown } from "./teardown.ts";

export interface DemoOptions {
  readonly lab: string;
  readonly cni: Cni;
  readonly ipv6: boolean;
  /** Take the lab down after the last line instead of waiting for Ctrl-C. */
  readonly once: boolean;
}

/** Resolves with the exit status: 0 when every example is ok, 130 when it was interrupted before. Nothing is left behind, whatever happens. */
export async function runDemo({ lab, cni, ipv6, once }: DemoOptions): Promise<number> {
  const onTerminal = process.stdout.isTTY && !process.env["NO_COLOR"];
  const say = (text: string) => process.stderr.write(`${text}\n`);
  if (labExists(lab))
    throw cannot("conflict", "start lab", lab, `there is one already; \`millrace lab down --name ${lab}\` removes it`);
  const interrupted = Promise.withResolvers<void>();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => interrupted.resolve());
  using session = new LabSession(lab);
  let status = 130;
  const show = async (): Promise<void> => {
    say(`lab ${lab}: three nodes`);
    await bringUp(labConfig({ lab, cni, ipv6, nodes: 3 }), [], { progress: (text) => say(`  ${text}`) });
    const verdicts = await runSeeds({
      cluster: checkedLab(session),
      examples: examplesDirectory(),
      dualStack: ipv6,
      progress: (text) => say(`  ${text}`),
      verdict: (verdict) => process.stdout.write(`${verdictLine(verdict, onTerminal)}\n`),
    });
    const failed = verdicts.filter((verdict) => verdict.failure !== "").length;
    status = failed === 0 ? 0 : 1;
    if (once) return;
    const all = verdicts.length;
    say(failed === 0 ? `\nAll ${all} examples work.` : `\n${failed} of ${all} examples failed.`);
    say(whatToTry(lab));
    // A signal's listener alone does not keep the process alive.
    const alive = setInterval(() => {}, 60_000);
    await interrupted.promise.finally(() => clearInterval(alive));
  };
  const showing = show();
  // Interrupted, it fails as its lab goes: nobody is to hear of that.
  showing.catch(() => {});
  try {
    await Promise.race([showing, interrupted.promise]);
  } finally {
    say(`taking lab ${lab} down`);
    await tearDown(lab);
  }
  return status;
}

/** Each line can be typed as it stands, from the directory that the demo was started in. */
export function whatToTry(lab: string, program = launcher()): string {
  const name = ` --name ${lab}`;
  return `The lab stays up until Ctrl-C. Try, in another terminal:
  ${program} lab status${name}
  ${program} lab apply${name} -f deploy/examples/05-deployment.yaml -f deploy/examples/10-nodeport-30001.yaml
  ${program} lab exec${name} client1 -- curl -s http://192.168.122.11:30001/
  ${program} lab scale${name} deployment/nginx-deployment 5
  ${program} services${name}
  ${program} backends${name} --node node2
  ${program} lab kill${name} node3
  ${program} flows${name}
`;
}

/** How this very program is started from here. */
function launcher(): string {
  const module = process.argv[1] ?? "";
  const path = relative(process.cwd(), module.endsWith(".mjs") ? module.replace(/\.mjs$/, "") : module);
  return module.endsWith(".ts") ? `node ${path}` : path.includes("/") ? path : `./${path}`;
}
