// Loading without the event loop, one object after another.
import { type Loaded, type LoadOptions, loadSteps } from "../../../src/datapath/load.ts";

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
