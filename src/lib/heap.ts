// When the engine collects what is no longer used: while an agent starts and its heaps only grow, as the engine thinks best; from then
// on as the launcher asked. The flag is the process': it is for all threads.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const FLAG = "--heap-growing-percent=";
/** Of the engine: by what lives and how fast it grows. */
const BY_THE_ENGINE = `${FLAG}0`;

/** Collects this thread's heap and gives its free pages back to the kernel, at once: two to four milliseconds for a megabyte that lives. */
export function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as (how: { readonly type: "major"; readonly flavor: "last-resort" }) => void;
  // Otherwise the engine keeps free pages for eight seconds.
  collect({ type: "major", flavor: "last-resort" });
}

/**
 * Lifts the launcher's limit (scripts/node-flags.ts), by which a heap is collected whenever a tenth was added to what lives.
 * Returns what puts it back and collects this thread's heap. Neither does anything in a process that was started without it.
 */
export function growFreely(execArgv: readonly string[] = process.execArgv): () => void {
  const asked = execArgv.findLast((flag) => flag.startsWith(FLAG));
  if (asked === undefined) return () => {};
  setFlagsFromString(BY_THE_ENGINE);
  return () => {
    setFlagsFromString(asked);
    collectGarbage();
  };
}
