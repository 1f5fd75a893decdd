// What tests need of a kernel, found by trying: features of the agent's, abilities of test runs, and modules. A test whose kernel lacks
// one is skipped under a name that says so, also under REQUIRE_KERNEL=1: an older kernel is a kernel.
import { it, TestRunner } from "vitest";
import { BpfProgram, destroySet, errnoName, type FeatureName, feature } from "../../src/libbpf/mod.ts";
import { genericFamily } from "../../src/libbpf/network.ts";
import { exit, loadTiny, moveImmediate } from "../../src/libbpf/tiny-program.ts";

/** A test run of XDP takes a context (5.15), one of tc an ingress_ifindex (5.13). */
type RunAbility = "xdp_run_context" | "run_ingress_ifindex";
/** IP Virtual Server, sets of addresses. */
type Module = "ip_vs" | "ip_set";
export type Need = FeatureName | RunAbility | Module;

const ETH_FRAME = 64;
/** Fields of xdp_md and __sk_buff. */
const DATA_END = 4;
const INGRESS_IFINDEX = 36;

const ABILITIES: Readonly<Record<RunAbility | Module, () => boolean>> = {
  xdp_run_context() {
    const context = new Uint8Array(24);
    new DataView(context.buffer).setUint32(DATA_END, ETH_FRAME, true);
    return takes("xdp", context);
  },
  run_ingress_ifindex() {
    const context = new Uint8Array(192);
    new DataView(context.buffer).setUint32(INGRESS_IFINDEX, 1, true);
    return takes("sched_cls", context);
  },
  ip_vs: () => genericFamily("IPVS") !== undefined,
  // Of a kernel that has sets: there is none of this name.
  ip_set: () => errnoName(destroySet("millrace-none")) === "ENOENT",
};

const isAbility = (need: Need): need is keyof typeof ABILITIES => Object.hasOwn(ABILITIES, need);

/** Whether a program that does nothing can be test-run with this context. */
function takes(type: "xdp" | "sched_cls", context: Uint8Array): boolean {
  const fd = loadTiny({ type, instructions: [moveImmediate(0, 2), exit] });
  if (fd < 0) throw new Error(`could not load a probe of ${type}: errno ${-fd}`);
  using program = new BpfProgram(fd, { name: "probe", ownsFd: true });
  try {
    program.testRun({ data: new Uint8Array(ETH_FRAME), context });
    return true;
  } catch {
    return false;
  }
}

const known = new Map<RunAbility | Module, boolean>();

function has(need: Need): boolean {
  if (!isAbility(need)) {
    const { available, overridden } = feature(need);
    // What the environment takes away is there to be tested.
    return available || overridden;
  }
  let found = known.get(need);
  if (found === undefined) {
    found = ABILITIES[need]();
    known.set(need, found);
  }
  return found;
}

/** "this kernel lacks tcx"; undefined when it lacks none of these. */
export function lackOf(needs: readonly Need[]): string | undefined {
  const missing = needs.filter((need) => !has(need));
  return missing.length === 0 ? undefined : `this kernel lacks ${missing.join(", ")}`;
}

/** it(), for tests that need these; it.each() too. */
export function itWith(
  ...needs: readonly Need[]
): Pick<typeof it, "each"> & ((name: string, body: () => unknown) => void) {
  const lack = lackOf(needs);
  if (lack === undefined) return it;
  const skipped = (name: string): void => it.skip(`${name} (${lack})`, () => {});
  const each = (cases: readonly unknown[]) => (name: string) => it.skip.each(cases)(`${name} (${lack})`, () => {});
  return Object.assign(skipped, { each }) as unknown as ReturnType<typeof itWith>;
}

/** Skips the test that runs at the moment when the kernel lacks one of these. */
export function skipWithout(...needs: readonly Need[]): void {
  const lack = lackOf(needs);
  if (lack === undefined) return;
  const test = TestRunner.getCurrentTest();
  if (test === undefined) throw new Error(lack);
  test.context.skip(lack);
}

/** The machine is slow, and long tests are thinned there: each says what it leaves out. */
export const IS_THIN = process.env["MILLRACE_THIN"] === "1";
/** How many cases of a long table are run on such a machine: each is a case of its own elsewhere. */
const THIN_TO = 60;

/** A skipped test that says how many of a test's repetitions were left out, when some were. */
export function tellLeftOut(count: number, what: string): void {
  if (count > 0) it.skip(`${count.toLocaleString("en")} ${what} (left out on a slow machine)`, () => {});
}

/** The cases, or under MILLRACE_THIN=1 some of them, evenly spread; a skipped test then says how many were left out. */
export function thinned<T>(cases: readonly T[]): readonly T[] {
  if (!IS_THIN || cases.length <= THIN_TO) return cases;
  const kept = cases.filter(
    (_, at) => Math.floor((at * THIN_TO) / cases.length) !== Math.floor(((at - 1) * THIN_TO) / cases.length),
  );
  it.skip(`${cases.length - kept.length} of ${cases.length} cases (left out on a slow machine)`, () => {});
  return kept;
}
