// How the lab says no, and what is wrong: failures "could not VERB SUBJECT: REASON" and notices, in one line each.
import { Failure, type FailureCode } from "../lib/errors.ts";
import type { Notice } from "../model/objects.ts";

export function cannot(code: FailureCode, verb: string, subject: string, reason: string, cause?: unknown): Failure {
  return new Failure(code, subject, `could not ${verb} ${subject}: ${reason}`, { cause });
}

/** "is none", "is a", "are a, b": what there is instead. */
export function are(names: readonly string[]): string {
  return names.length === 0 ? "is none" : `${names.length === 1 ? "is" : "are"} ${names.join(", ")}`;
}

export function labNotice(
  about: { readonly object: string; readonly file?: string; readonly field?: string },
  reason: string,
  message: string,
  severity: Notice["severity"] = "warning",
): Notice {
  return { file: "", field: "", ...about, reason, message, severity };
}

/** Each once. */
export function unique(notices: readonly Notice[]): Notice[] {
  return [
    ...new Map(notices.map((one) => [[one.object, one.field, one.reason, one.message].join("\0"), one])).values(),
  ];
}

export const counted = (count: number, word: string): string => `${count} ${word}${count === 1 ? "" : "s"}`;
