// What is said of the kernel. Pure.
import { error, type Finding, ok, someOf, warning } from "./finding.ts";

export interface KernelFacts {
  readonly release: string;
  readonly version: readonly [major: number, minor: number];
  /** What the kernel lacks and an agent cannot do without, with the version that it came with. */
  readonly required: readonly { readonly feature: string; readonly since: string }[];
  /** What it lacks, and what is done instead. */
  readonly degraded: readonly { readonly feature: string; readonly needs: string; readonly instead: string }[];
  /** net.core.bpf_jit_enable; undefined where it cannot be read (a network namespace has none). */
  readonly jit: number | undefined;
  /** undefined: not tried. */
  readonly trial: Trial | undefined;
  readonly isConntrackLoaded: boolean;
  readonly asksConntrack: boolean;
  /** SYS_ADMIN is there, without which a module's functions cannot be found. */
  readonly findsModules: boolean;
  /** One sentence, "": none. */
  readonly realtime: string;
}

/** All programs loaded into maps that are thrown away. */
export interface Trial {
  readonly programs: number;
  readonly ms: number;
  /** What the kernel said, "" when it took all. */
  readonly problem: string;
}

export function judgeKernel(facts: KernelFacts): Finding[] {
  return [version(facts), ...features(facts), ...jit(facts), ...programs(facts), conntrack(facts), realtime(facts)];
}

function version({ release, version: [major, minor] }: KernelFacts): Finding {
  return major > 5 || (major === 5 && minor >= 10)
    ? ok("kernel.version", `Linux ${release}`)
    : error("kernel.version", `Linux ${release} is too old`, "use Linux 5.10 or later");
}

function features({ required, degraded }: KernelFacts): Finding[] {
  if (required.length > 0) {
    const names = required.map(({ feature, since }) => `${feature} (Linux ${since})`);
    return [error("kernel.features", `this kernel lacks ${someOf(names)}`, "use Linux 5.10 or later")];
  }
  // Conntrack that is not loaded has a line of its own.
  const felt = degraded.filter(({ feature }) => feature !== "ct_lookup");
  if (felt.length === 0) return [ok("kernel.features", "every feature that is used is there")];
  return felt.map(({ feature, needs, instead }) =>
    ok("kernel.features", `without ${feature} (Linux ${needs}): ${instead}`),
  );
}

function jit({ jit: state }: KernelFacts): Finding[] {
  if (state === undefined) return [];
  return state > 0
    ? [ok("kernel.jit", "BPF programs are compiled")]
    : [
        warning(
          "kernel.jit",
          "BPF programs are interpreted: packets cost several times as much",
          "set net.core.bpf_jit_enable=1",
        ),
      ];
}

function programs({ trial }: KernelFacts): Finding[] {
  if (trial === undefined) return [];
  return trial.problem === ""
    ? [ok("kernel.programs", `all ${trial.programs} programs load, in ${(trial.ms / 1000).toFixed(1)} s`)]
    : [
        error(
          "kernel.programs",
          `programs cannot be loaded: ${trial.problem}`,
          "see machine.rights and machine.security; where the verifier refuses one, report it with this line and the kernel's version",
        ),
      ];
}

function conntrack({ isConntrackLoaded, asksConntrack, findsModules, version: [major, minor] }: KernelFacts): Finding {
  const check = "kernel.conntrack";
  if (asksConntrack) return ok(check, "programs may ask conntrack whose an answer is");
  if (!isConntrackLoaded) return ok(check, "conntrack is not loaded: nobody on this node translates by it");
  const isNewEnough = major > 5 || (major === 5 && minor >= 18);
  if (isNewEnough && !findsModules) {
    return warning(
      check,
      "programs may not ask conntrack: where it is a module, its functions are found with SYS_ADMIN alone",
      "grant SYS_ADMIN where connections that kube-proxy opened are to go on when Millrace takes over",
    );
  }
  const why = isNewEnough ? "this kernel was built without it" : "Linux 5.18 is the first that can";
  return warning(
    check,
    `programs may not ask conntrack, ${why}: connections that kube-proxy opened end when Millrace takes over`,
    "use Linux 5.18 or later, with BTF, where that matters",
  );
}

function realtime({ realtime: problem }: KernelFacts): Finding {
  if (problem === "")
    return ok("kernel.realtime", "not a kernel with PREEMPT_RT that lacks the lock of packet programs");
  const [says = "", todo = ""] = problem.split("; ");
  return error("kernel.realtime", says, todo);
}
