// Asks the kernel what it can do, by small programs and by a trial load of this build's. Nothing of it stays.
import { release } from "node:os";
import { trialLoad } from "../../datapath/trial-load.ts";
import { features, isConntrackLoaded } from "../../libbpf/mod.ts";
import { degradedFeatures } from "../degraded.ts";
import { REQUIRED_FEATURES } from "../machine.ts";
import { realtimeProblem } from "../realtime.ts";
import type { KernelFacts, Trial } from "./kernel.ts";
import { kernelVersion, textOf } from "./machine-reading.ts";

/** `mayTry`: this process has the rights to load programs. `findsModules`: it has SYS_ADMIN. Never rejects for what the kernel refuses. */
export async function readKernel(mayTry: boolean, findsModules: boolean): Promise<KernelFacts> {
  const jit = textOf("/proc/sys/net/core/bpf_jit_enable").trim();
  const common = {
    release: release(),
    version: kernelVersion(),
    jit: jit === "" ? undefined : Number(jit),
    isConntrackLoaded: isConntrackLoaded(),
    realtime: realtimeProblem(),
    findsModules,
  };
  if (!mayTry) return { ...common, required: [], degraded: [], trial: undefined, asksConntrack: true };
  const trial = await tryPrograms();
  // Where not even a probe may be loaded, the trial says why.
  const all = tryFeatures();
  const required = REQUIRED_FEATURES.flatMap((name) => {
    const feature = all?.[name];
    return feature === undefined || feature.available ? [] : { feature: name, since: feature.since };
  });
  return {
    ...common,
    required,
    degraded: all === undefined ? [] : degradedFeatures(),
    trial,
    asksConntrack: all?.ct_lookup.available ?? true,
  };
}

function tryFeatures(): ReturnType<typeof features> | undefined {
  try {
    return features();
  } catch {
    return undefined;
  }
}

async function tryPrograms(): Promise<Trial> {
  const began = performance.now();
  try {
    const programs = await trialLoad();
    return { programs, ms: performance.now() - began, problem: "" };
  } catch (error) {
    const [problem = ""] = (error as Error).message.split("\n", 1);
    return { programs: 0, ms: performance.now() - began, problem };
  }
}
