// Loading without the event loop, one object after another.
import { LAYOUT } from "../../../src/datapath/layout.gen.ts";
import { configure, giveMap, type Loaded, type LoadOptions, loadSteps } from "../../../src/datapath/load.ts";
import { type ObjectName, objectPath } from "../../../src/datapath/objects.ts";
import { type BpfProgram, type FeatureName, hasFeature, openObject } from "../../../src/libbpf/mod.ts";

/** Loads every object. Throws VerifierError, KernelError, or Failure "conflict" when pins of another build are in the way. */
export function loadDataplane(options: LoadOptions): Loaded {
  const steps = loadSteps(options);
  for (let step = steps.next(); ; step = steps.next()) {
    if (step.done) return step.value;
    try {
      for (const object of step.value) object.load();
    } catch (error) {
      steps.throw(error);
    }
  }
}

/** What the dataplane itself runs: loaded at once. */
const ITS_OWN = ["tc_send", "tc_renew", "tc_clocks", "tc_empty"];
/** What programs have a fallback for, or an object of their own. */
const ASKED: readonly FeatureName[] = ["csum_ipv6", "fib_mtu", "set_retval", "netns_cookie", "ct_lookup"];

/**
 * Makes the maps as loadDataplane() does, but loads a program of packets when it is first asked for, those of sockets together: the
 * verifier takes seconds for each on a slow machine, and a test uses few. What the kernel can do is what it can now. Its own
 * loadL3() and reloadTc() know nothing of those programs.
 */
export function loadOnUse(options: LoadOptions): Loaded {
  const loaded = loadDataplane({ ...options, only: ITS_OWN });
  const can = new Map(ASKED.map((name) => [name, hasFeature(name)]));
  const tc: ObjectName = can.get("ct_lookup") ? "tc_conntrack" : "tc";
  const programs = new Map<string, BpfProgram>();
  const load = (wanted: string): void => {
    const isSocket = wanted.startsWith("sock_");
    using object = openObject(objectPath(isSocket ? "sock" : wanted.startsWith("xdp_") ? "xdp" : tc));
    configure(object, (name) => can.get(name) ?? hasFeature(name));
    const names = object.programs().filter((name) => isSocket || name === wanted);
    for (const name of object.programs()) object.setAutoload(name, names.includes(name));
    // What is in no layout is of the programs alone.
    for (const name of object.maps())
      if (LAYOUT.maps[name] !== undefined) giveMap(object, name, loaded.dataplane.map(name));
    object.load();
    for (const name of names) programs.set(name, object.program(name).duplicate());
  };
  return {
    ...loaded,
    dataplane: {
      ...loaded.dataplane,
      program(name) {
        if (ITS_OWN.includes(name)) return loaded.dataplane.program(name);
        if (!programs.has(name)) load(name);
        return programs.get(name) ?? loaded.dataplane.program(name);
      },
    },
    close() {
      for (const program of programs.values()) program.close();
      loaded.close();
    },
  };
}
