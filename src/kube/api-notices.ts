// What is wrong with the API itself, as notices: one for each thing that is wrong, however many resources it befalls.
import type { Notice } from "../model/objects.ts";
import type { Problem } from "./resource-record.ts";

const API = "Kubernetes API";
/** How long before its end a client certificate is spoken of. */
const SOON_MS = 3_600_000;

/** Those that pass by themselves, or that wait for a second look. */
const WARNINGS: ReadonlySet<Problem["reason"]> = new Set([
  "list-held",
  "events-dropped",
  "throttled",
  "gone",
  "version-too-large",
  "out-of-order",
  "silent",
  "truncated",
]);

function apiNotice(reason: string, message: string, severity: Notice["severity"]): Notice {
  return { object: API, file: "", field: "", reason, message, severity };
}

/** `expiresAt`: the end of our client certificate, seconds since the epoch; undefined without one. */
function certificateNotices(expiresAt: number | undefined, nowMs: number): readonly Notice[] {
  if (expiresAt === undefined || expiresAt * 1000 - nowMs > SOON_MS) return [];
  const end = new Date(expiresAt * 1000).toISOString();
  return expiresAt * 1000 <= nowMs
    ? [
        apiNotice(
          "certificate-expired",
          `our client certificate expired at ${end}: renew it; it is read again by itself`,
          "error",
        ),
      ]
    : [apiNotice("certificate-expires", `our client certificate expires at ${end}: renew it`, "warning")];
}

export function apiNotices(
  problems: readonly Problem[],
  expiresAt: number | undefined,
  nowMs: number,
): readonly Notice[] {
  const byMessage = new Map(problems.map((problem) => [problem.message, problem]));
  return [
    ...[...byMessage.values()].map(({ reason, message }) =>
      apiNotice(reason, message, WARNINGS.has(reason) ? "warning" : "error"),
    ),
    ...certificateNotices(expiresAt, nowMs),
  ];
}
