// Loads every program of this build beside whatever runs, over small maps of its own, and throws all of it away: does the kernel take
// them?
import { configure, openForLoad, sizesOf } from "./load.ts";
import { OBJECTS } from "./objects.ts";

const SMALL = sizesOf({ mapSizes: { services: 64, frontends: 64, backends: 64, slots: 64, flows: 64, openings: 64 } });

/** How many programs were loaded. Nothing is pinned or attached. Rejects with VerifierError, KernelError or Failure. */
export async function trialLoad(): Promise<number> {
  let programs = 0;
  for (const name of OBJECTS) {
    using object = openForLoad(name);
    configure(object);
    for (const map of object.maps()) {
      const size = SMALL[map];
      if (size !== undefined) object.setMaxEntries(map, size);
    }
    await object.loadAsync();
    programs += object.programs().length;
  }
  return programs;
}
