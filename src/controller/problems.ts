// What is wrong now, by what it is about. Pure but for the log.
import type { Log } from "../lib/log.ts";

export interface Problems {
  /** `message`: why, logged when it is another than before; undefined: it is over. */
  note(about: string, message: string | undefined): void;
  about(): readonly string[];
  messages(): readonly string[];
}

export function createProblems(log: Pick<Log, "warn">): Problems {
  const problems = new Map<string, string>();
  return {
    note(about, message) {
      if (message === undefined) problems.delete(about);
      else if (problems.get(about) !== message) {
        problems.set(about, message);
        log.warn(message);
      }
    },
    about: () => [...problems.keys()],
    messages: () => [...problems.values()],
  };
}
